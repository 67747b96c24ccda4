"""The 3-D PatchGAN critic of Turbo-VAED, which is that of Open-Sora-Plan."""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.2


class PatchCritic(nn.Module):
    """Video N 3 T H W to a score for each patch: about T/4 x H/16 x W/16 of them.

    The first two layers halve time, height and width, the next two height and width.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        strides = ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
        layers: list[nn.Module] = []
        channels = 3
        for index, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            # The first has no norm: it would take the pictures' brightness and contrast away.
            layers += _layer(channels, width, stride, normed=index > 0)
            channels = width
        layers += _layer(channels, channels, (1, 1, 1), normed=True)
        layers.append(nn.Conv3d(channels, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, video: Tensor) -> Tensor:
        return self.layers(video)


def _layer(
    channels_in: int, channels: int, stride: tuple[int, int, int], *, normed: bool
) -> list[nn.Module]:
    conv = nn.Conv3d(channels_in, channels, 3, stride, padding=1, bias=not normed)
    norm = [nn.BatchNorm3d(channels)] if normed else []
    return [conv, *norm, nn.LeakyReLU(SLOPE)]
