"""A bottleneck put into a network at named layers."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.cutting import cut
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.network import MAIN, SplitHead, SplitNetwork, SplitTail
from edgekit.zoo.split.quantisers import (
    LARGEST,
    CalibratedQuantiser,
    DynamicQuantiser,
    Quantiser,
)

QUANTISERS: dict[str, type[Quantiser]] = {
    kind.kind: kind for kind in (FactorisedPrior, CalibratedQuantiser, DynamicQuantiser)
}


def attach(
    network: nn.Module,
    bottleneck: Bottleneck,
    *,
    ends: str,
    begins: str = "",
    quantiser: str = "entropy",
    least_kept: int | None = None,
) -> SplitNetwork:
    """The network with the bottleneck in the place of its layers behind `begins` up to `ends`.

    Both are paths, such as "features.6"; without `begins` the encoder takes the image. The network is
    copied, so that it can teach what was made of it. Raises UsageError for layers it cannot be cut at.
    """
    network = copy.deepcopy(network)
    stem = cut(network, begins).front if begins else nn.Identity()
    head = SplitHead(stem, bottleneck.encoder, quantiser_of(quantiser, bottleneck.channels))
    tail = SplitTail(bottleneck.decoder, cut(network, ends).back)
    return SplitNetwork(head, {MAIN: tail}, least_kept)


def split_at(network: nn.Module, layer: str, example: Tensor) -> SplitNetwork:
    """The network as it is, with the output of `layer` sent in 8 bits of a dynamic range.

    Raises UsageError if it cannot be cut there, or gives something else than N C h w there.
    """
    front, back = cut(network, layer)
    channels = features(front, example, layer).shape[1]
    head = SplitHead(front, nn.Identity(), DynamicQuantiser(channels))
    return SplitNetwork(head, {MAIN: SplitTail(nn.Identity(), back)})


@torch.no_grad()
def features(front: nn.Module, example: Tensor, layer: str) -> Tensor:
    """What the layer gives for an example. Raises UsageError if that is not N C h w."""
    was_training = front.training
    found = front.eval()(example)
    front.train(was_training)
    if not isinstance(found, Tensor) or found.ndim != 4:
        gives = f"a tensor of {found.ndim} axes" if isinstance(found, Tensor) else "several tensors"
        raise UsageError(f"The layer '{layer}' gives {gives}; a cut needs features N C H W.")
    return found


def quantiser_of(kind: str, channels: int) -> Quantiser:
    if kind not in QUANTISERS:
        raise UsageError(f"There is no quantiser '{kind}'; there are {', '.join(QUANTISERS)}.")
    return QUANTISERS[kind](channels)


@torch.no_grad()
def calibrate(network: SplitNetwork, images: Iterable[Tensor]) -> SplitNetwork:
    """Give the network a calibrated quantiser with the ranges of its latents over batches of images.

    Raises UsageError without images, or if latents are not finite.
    """
    network.eval()
    quantiser = CalibratedQuantiser(network.head.quantiser.channels)
    low = high = torch.zeros(quantiser.channels)
    seen = 0
    for image in images:
        latent = network.head.latent(image)
        low = torch.minimum(low, latent.amin((0, 2, 3)))
        high = torch.maximum(high, latent.amax((0, 2, 3)))
        seen += len(image)
    if not seen:
        raise UsageError("A calibration needs at least one picture.")
    span = high - low
    if not span.isfinite().all():
        raise UsageError("Latents of the head are not finite; it cannot be calibrated.")
    quantiser.scales.copy_(torch.where(span > 0, span / LARGEST, torch.ones_like(span)))
    quantiser.zero_points.copy_((-low / quantiser.scales).clamp(0, LARGEST).round())
    network.head.quantiser = quantiser.eval()
    return network
