"""Weights of networks whose layers are numbered in the order in which TensorFlow made them.

Keys are conv000.weight (and .bias where there is one) and bn000.weight, .bias, .running_mean and
.running_var for the norm behind convolution 000.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from edgekit.weight_matching import match_weights

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


def load_in_creation_order(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    file: str | Path,
    *,
    tensorflow_layout: bool = False,
) -> None:
    """Fill the network's convolutions and norms, or change nothing.

    With `tensorflow_layout` kernels are height, width, input, output, and those of depthwise
    convolutions height, width, channels, 1. `file` names the source in errors. Raises UsageError
    for tensors that are missing, left over, of another shape or not finite.
    """
    names = dict(_numbered(network))
    own = network.state_dict()
    if tensorflow_layout:
        depthwise = {
            f"{key}.weight"
            for key, module in network.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups > 1
        }
        tensors = {
            key: value.permute(*((2, 3, 0, 1) if names.get(key) in depthwise else (3, 2, 0, 1)))
            if value.ndim == 4
            else value
            for key, value in tensors.items()
        }
    expected = {number: own[name].shape for number, name in names.items()}
    matched = match_weights(tensors, expected, file)
    for number, value in matched.state.items():
        own[names[number]].copy_(value)


def _numbered(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The numbered key of each tensor, and its own."""
    index = -1
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            index += 1
            yield f"conv{index:03d}.weight", f"{name}.weight"
            if module.bias is not None:
                yield f"conv{index:03d}.bias", f"{name}.bias"
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in NORM_TENSORS:
                yield f"bn{index:03d}.{tensor}", f"{name}.{tensor}"
