"""LPIPS: a learned distance between pictures, on weights that the user has.

R. Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
The network's weights are torchvision's file for it (alexnet-owt-7be5be79.pth, vgg16-397923af.pth); the
few weights of the distance itself come with torchmetrics. torchvision is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.checkpoint import read_checkpoint
from edgekit.errors import UsageError

Net = Literal["alex", "vgg"]
WIDTHS: dict[Net, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
}
ENDS: dict[Net, tuple[int, ...]] = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}
"""Behind which layer of the network each of its five features is taken."""


def layers(net: Net) -> nn.Sequential:
    """The convolutions, up to the last feature, numbered as in torchvision's files."""
    if net == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
    made: list[nn.Module] = []
    channels = 3
    for width, count in zip(WIDTHS["vgg"], (2, 2, 3, 3, 3), strict=True):
        if made:
            made.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            made += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
    return nn.Sequential(*made)


class Lpips(nn.Module):
    """Frozen. Pictures N 3 H W, of the range [-1, 1] that the distance was learned on."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.features = layers(net)
        self.heads = nn.ModuleList(nn.Conv2d(w, 1, 1, bias=False) for w in WIDTHS[net])
        self._ends = ENDS[net]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, pictures: Tensor, reference: Tensor, *, as_map: bool = False) -> Tensor:
        """A distance per picture, or with `as_map` one per pixel, N 1 H W, whose mean differs a little."""
        total = pictures.new_zeros(())
        for head, one, other in zip(
            self.heads, self._unit(pictures), self._unit(reference), strict=True
        ):
            distance = head((one - other).square())
            if as_map:
                distance = F.interpolate(distance, pictures.shape[2:], mode="bilinear")
            else:
                distance = distance.mean((1, 2, 3))
            total = total + distance
        return total

    def _unit(self, pictures: Tensor) -> list[Tensor]:
        """Features of length 1 over channels."""
        x = (pictures - self.shift) / self.scale
        found, begin = [], 0
        for end in self._ends:
            x = self.features[begin:end](x)
            begin = end
            found.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found


def load_lpips(weights: Path, net: Net = "alex") -> Lpips:
    """With the network's weights from torchvision's file. Raises UsageError if they do not fit."""
    import torchmetrics.functional.image.lpips as shipped

    lpips = Lpips(net)
    saved = read_checkpoint(weights)
    own = lpips.features.state_dict()
    missing = [key for key in own if f"features.{key}" not in saved]
    if missing:
        raise UsageError(
            f"{weights} is not torchvision's file for {net}: it has no 'features.{missing[0]}'."
        )
    lpips.features.load_state_dict({key: saved[f"features.{key}"] for key in own})
    heads = Path(str(shipped.__file__)).parent / "lpips_models" / f"{net}.pth"
    learned = torch.load(heads, map_location="cpu", weights_only=True)
    for number, head in enumerate(lpips.heads):
        head.load_state_dict({"weight": learned[f"lin{number}.model.1.weight"]})
    return lpips.eval()
