"""A network in two parts with a bottleneck between them: a head for a device, tails for a server."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from edgekit.data_folder import suggestion
from edgekit.errors import UsageError
from edgekit.zoo.split.gdn import fold_gdn
from edgekit.zoo.split.quantisers import CalibratedQuantiser, Quantiser, require_calibrated

MAIN = "main"
Part = TypeVar("Part", bound=nn.Module)


class SplitHead(nn.Module):
    """Image N 3 H W to what is coded, N C h w: int32 symbols, uint8 codes or float32 values."""

    def __init__(self, stem: nn.Module, encoder: nn.Module, quantiser: Quantiser) -> None:
        super().__init__()
        self.stem = stem
        self.encoder = encoder
        self.quantiser = quantiser

    def latent(self, image: Tensor) -> Tensor:
        latent: Tensor = self.encoder(self.stem(image))
        return latent

    def forward(self, image: Tensor) -> Tensor:
        return self.quantiser.sent(self.latent(image))


class SplitTail(nn.Module):
    """Dequantised latents N C h w, zero in channels that did not arrive, to what the network makes."""

    def __init__(self, decoder: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.rest = rest

    def forward(self, values: Tensor) -> Tensor:
        made: Tensor = self.rest(self.decoder(values))
        return made


class TailDrop(nn.Module):
    """Which channels arrive: in training the first k of each image, k uniform from `least` to all.

    "Nested dropout" of the last channels: information gathers in the first ones, and one head serves
    many rates (ProgDTD, CVPRW 2023).
    """

    def __init__(self, channels: int, least: int | None) -> None:
        super().__init__()
        if least is not None and not 1 <= least <= channels:
            raise ValueError(f"at least 1 to {channels} channels can be kept, not {least}")
        self.channels = channels
        self.least = least

    def forward(self, latent: Tensor, keep: int | None) -> Tensor | None:
        """A mask N C 1 1 or 1 C 1 1; None: all arrive."""
        places = torch.arange(self.channels, device=latent.device)[None, :, None, None]
        if keep is not None:
            return (places < keep).to(latent)
        if not self.training or self.least is None:
            return None
        shape = (len(latent), 1, 1, 1)
        kept = torch.randint(self.least, self.channels + 1, shape, device=latent.device)
        return (places < kept).to(latent)


class Rate(nn.Module):
    """Likelihoods N C h w and a mask to the bits of each image, N. A module, so that it can be tapped."""

    def forward(self, likelihoods: Tensor, mask: Tensor | None) -> Tensor:
        bits = -likelihoods.log2()
        return (bits if mask is None else bits * mask).sum((1, 2, 3))


class SplitNetwork(nn.Module):
    """Head and tails in one graph: what the server answers for what the device sees.

    `rate` runs while a quantiser trains that knows likelihoods.
    """

    def __init__(
        self, head: SplitHead, tails: Mapping[str, SplitTail], least_kept: int | None = None
    ) -> None:
        super().__init__()
        self.head = head
        self.tails = nn.ModuleDict(tails)
        self.drop = TailDrop(head.quantiser.channels, least_kept)
        self.rate = Rate()

    def forward(self, image: Tensor, keep: int | None = None, tail: str = MAIN) -> Tensor:
        """Of the first `keep` channels (None: all; in training, a random number if tails are dropped)."""
        made: Tensor = self.tails[tail](self.values(image, keep))
        return made

    def values(self, image: Tensor, keep: int | None = None) -> Tensor:
        """What a tail gets, N C h w; several tails can share it."""
        latent = self.head.latent(image)
        mask = self.drop(latent, keep)
        # Before as well as after: the dynamic range is that of what is sent.
        values: Tensor = self.head.quantiser(latent if mask is None else latent * mask)
        if self.head.quantiser.training:
            found = self.head.quantiser.likelihoods(values)
            if found is not None:
                self.rate(found, mask)
        return values if mask is None else values * mask

    def head_for_device(self) -> SplitHead:
        """A copy in eval mode, with GDN folded to constants. Raises UsageError if it cannot quantise yet."""
        if isinstance(self.head.quantiser, CalibratedQuantiser):
            require_calibrated(self.head.quantiser)
        return _ready(self.head)

    def tail_for_server(self, name: str = MAIN) -> SplitTail:
        """The same of one tail. Raises UsageError for a name that there is not."""
        if name not in self.tails:
            raise UsageError(f"There is no tail '{name}'; {suggestion(name, list(self.tails))}")
        tail = self.tails[name]
        assert isinstance(tail, SplitTail)
        return _ready(tail)


def _ready(part: Part) -> Part:
    copied = copy.deepcopy(part).eval()
    fold_gdn(copied)
    return copied.requires_grad_(False)
