"""Split networks by name: which bottleneck goes into which backbone, and where."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from edgekit.zoo.split import bottlefit
from edgekit.zoo.split.attach import attach, features
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.crbq import crbq
from edgekit.zoo.split.cutting import cut
from edgekit.zoo.split.entropic_student import entropic_student, entropic_student_regnet
from edgekit.zoo.split.mobile import mobile
from edgekit.zoo.split.network import SplitNetwork

PUBLISHED: Mapping[str, Callable[[int], Bottleneck]] = {
    "bottlefit-resnet": bottlefit.resnet,
    "bottlefit-resnet-pooled": bottlefit.resnet_pooled,
    "bottlefit-resnet-deep": bottlefit.resnet_deep,
    "bottlefit-densenet": bottlefit.densenet,
    "bottlefit-inception-v3": bottlefit.inception_v3,
    "bottlefit-mobilenet-v2": bottlefit.mobilenet_v2,
    "crbq": crbq,
    "entropic-student": entropic_student,
    "entropic-student-regnet": entropic_student_regnet,
}
MOBILE = "mobile"
PROBE_PX = 256


@dataclass(frozen=True)
class SplitConfig:
    backbone: str
    """Name of its recipe."""
    encoder: str
    """"mobile" for any layer, or one of PUBLISHED, whose decoder gives what its own backbone takes there."""
    channels: int
    """Of the latent."""
    ends: str
    """The layer of the backbone whose output the decoder stands in for."""
    begins: str = ""
    """The last layer of the backbone that stays on the device; empty: the encoder takes the image."""
    quantiser: str = "entropy"
    """"entropy", "calibrated" or "dynamic"."""
    least_kept: int | None = None
    """Tails are dropped in training down to so many channels; without, all are always sent."""


def split_network(config: SplitConfig, backbone: nn.Module) -> SplitNetwork:
    """Raises ValueError for an encoder that there is not, UsageError for layers."""
    if config.encoder == MOBILE:
        bottleneck = _mobile(config, backbone)
    elif config.encoder in PUBLISHED:
        bottleneck = PUBLISHED[config.encoder](config.channels)
    else:
        raise ValueError(
            f"the encoder {config.encoder!r} is none of {', '.join((MOBILE, *PUBLISHED))}"
        )
    return attach(
        backbone, bottleneck, ends=config.ends, begins=config.begins, quantiser=config.quantiser,
        least_kept=config.least_kept,
    )  # fmt: skip


def _mobile(config: SplitConfig, backbone: nn.Module) -> Bottleneck:
    """With the channels and the stride that the layer is found to have."""
    if config.begins:
        raise ValueError("the mobile encoder takes the image, so 'begins' must be left away")
    front = copy.deepcopy(cut(backbone, config.ends).front).to("meta")
    image = torch.empty(1, 3, PROBE_PX, PROBE_PX, device="meta")
    found = features(front, image, config.ends).shape
    return mobile(config.channels, found[1], PROBE_PX // found[2])
