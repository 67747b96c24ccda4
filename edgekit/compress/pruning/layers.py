"""Weighted layers of a network at one input size, and what they cost at other widths."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgekit.compress.pruning.channels import ChannelGroup, is_depthwise
from edgekit.compress.pruning.graph import WEIGHTED

Widths = Mapping[str, int]
"""Atoms that stay, by group."""


@dataclass(frozen=True)
class Layer:
    path: str
    module: nn.Module
    reads: int
    """Channels, of the whole network, as `makes`."""
    makes: int
    given: tuple[int, ...]
    """Shape of its first input."""
    macs: int
    """Of all its runs."""
    runs: int

    @property
    def is_depthwise(self) -> bool:
        return is_depthwise(self.module)


class LayerCost(Protocol):
    unit: str

    def __call__(self, layer: Layer, reads: int, makes: int) -> float: ...


class Macs:
    unit = "MACs"

    def __call__(self, layer: Layer, reads: int, makes: int) -> float:
        return layer.macs * makes / layer.makes * (1 if layer.is_depthwise else reads / layer.reads)


def weighted_layers(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Layer]:
    """Of those that run, in the order in which they do. Nothing is computed unless it must be."""
    try:
        with torch.device("meta"):
            return _seen(copy.deepcopy(network).to("meta"), [x.to("meta") for x in inputs], network)
    except (
        RuntimeError,
        NotImplementedError,
    ):  # its forward makes tensors elsewhere, or reads values
        return _seen(copy.deepcopy(network), inputs, network)


def _seen(copied: nn.Module, inputs: Iterable[Tensor], network: nn.Module) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    modules = dict(network.named_modules())

    def look(path: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            before = found.get(path)
            reads, makes = channels_of(module)
            once = macs_of(module, given[0].shape, made.shape)
            found[path] = Layer(
                path, modules[path], reads, makes, tuple(given[0].shape),
                once + (before.macs if before else 0), 1 + (before.runs if before else 0),
            )  # fmt: skip

        return hook

    hooks = [
        module.register_forward_hook(look(path))
        for path, module in copied.named_modules()
        if isinstance(module, WEIGHTED)
    ]
    with torch.no_grad():
        copied.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def channels_of(module: nn.Module) -> tuple[int, int]:
    """That it reads and makes."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    assert isinstance(module, nn.modules.conv._ConvNd)
    return module.in_channels, module.out_channels


def macs_of(module: nn.Module, given: torch.Size, made: torch.Size) -> int:
    if isinstance(module, nn.Linear):
        return made.numel() * module.in_features
    assert isinstance(module, nn.modules.conv._ConvNd)
    taps = math.prod(module.kernel_size)
    if module.transposed:
        return given.numel() * taps * module.out_channels // module.groups
    return made.numel() * taps * module.in_channels // module.groups


class Costs:
    """Of a network's layers at any widths of its groups, by one kind of cost."""

    def __init__(
        self, layers: Mapping[str, Layer], groups: Iterable[ChannelGroup], cost: LayerCost
    ) -> None:
        self.cost = cost
        self.unit = cost.unit
        self._layers = layers
        self._groups = {group.name: group for group in groups}
        self._touching: dict[str, list[tuple[ChannelGroup, int, bool]]] = {p: [] for p in layers}
        for group in self._groups.values():
            for place, channels in group.members.items():
                if place.path in layers:
                    reads = place.side == "reads"
                    self._touching[place.path].append((group, len(channels[0]), reads))

    def channels(self, path: str, widths: Widths) -> tuple[int, int]:
        """That the layer reads and makes."""
        layer = self._layers[path]
        reads, makes = layer.reads, layer.makes
        for group, each, is_read in self._touching[path]:
            gone = (group.atoms - widths[group.name]) * each
            if is_read:
                reads -= gone
            else:
                makes -= gone
        return (makes, makes) if layer.is_depthwise else (reads, makes)

    def of_layer(self, path: str, widths: Widths) -> float:
        return self.cost(self._layers[path], *self.channels(path, widths))

    def total(self, widths: Widths) -> float:
        return sum(self.of_layer(path, widths) for path in self._layers)

    def saved(self, group: str, width: int, widths: Widths) -> float:
        """By giving one group another width."""
        changed = {**widths, group: width}
        paths = {place.path for place in self._groups[group].members} & self._layers.keys()
        return sum(self.of_layer(path, widths) - self.of_layer(path, changed) for path in paths)
