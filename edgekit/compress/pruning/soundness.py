"""Whether a group of channels is understood: the pruned network must compute what the whole one does
when all that reads those channels reads zeros.

Both are compared in double precision with random weights. Statistics over channels (layer norms and their
like) change with the number of channels, so that they are left out of both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from edgekit.compress.pruning.channels import ChannelGroup, Place
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.removal import remove_channels
from edgekit.errors import first_line

TOLERANCE = 1e-6
"""Of the largest output; double precision leaves 1e-12, and a wrong channel about 1."""


@dataclass(frozen=True)
class Kept:
    """A group that stays whole."""

    name: str
    reason: str


def sentences(kept: Sequence[Kept]) -> list[str]:
    """One for each reason, with all that it keeps."""
    names: dict[str, list[str]] = {}
    for group in kept:
        names.setdefault(group.reason, []).append(f"'{group.name}'")
    return [f"Kept whole: {', '.join(listed)}, since {reason}." for reason, listed in names.items()]


def sound_groups(
    network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup]
) -> tuple[list[ChannelGroup], list[Kept]]:
    """Those that can be pruned, alone and together, and why others cannot."""
    trial = _Trial(network, inputs)
    refused: list[Kept] = []
    sound = _sound(trial, list(groups), refused)
    # Two groups may each be sound, and not both: then they go one by one.
    while sound and (reason := trial.why_not(sound)) is not None:
        refused.append(Kept(sound.pop().name, f"together with others, {reason}"))
    return sound, refused


def _sound(trial: _Trial, groups: list[ChannelGroup], refused: list[Kept]) -> list[ChannelGroup]:
    reason = trial.why_not(groups) if groups else None
    if reason is None:
        return groups
    if len(groups) == 1:
        refused.append(Kept(groups[0].name, reason))
        return []
    middle = len(groups) // 2
    return _sound(trial, groups[:middle], refused) + _sound(trial, groups[middle:], refused)


class _Trial:
    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        torch.manual_seed(0)
        self._network = copy.deepcopy(network).eval().requires_grad_(False).double()
        for parameter in self._network.parameters():
            _fill(parameter)
        self._inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)

    def why_not(self, groups: Sequence[ChannelGroup]) -> str | None:
        removed = {group.name: range(0, group.atoms - 1, 2) for group in groups}
        try:
            with unread(self._network, groups, removed):
                expected = self._run(self._network)
        except IndexError:  # of a reshape between them the library makes channels that no layer has
            return "which of these channels reach which layer is not understood"
        try:
            pruned = remove_channels(copy.deepcopy(self._network), groups, removed)
        except Exception as error:  # the library's functions assert, and index out of range
            return f"the library cannot cut it ({first_line(error)})"
        try:
            found = self._run(pruned)
        except Exception as error:  # whatever a forward raises on a width that it does not expect
            return f"the network does not run with fewer ({first_line(error)})"
        if [x.shape for x in found] != [x.shape for x in expected]:
            return "the shape of the network's output would be another"
        for left, right in zip(found, expected):
            scale = right.abs().max().clamp_min(1e-30)
            if not ((left - right).abs().max() / scale < TOLERANCE):
                return "how these channels reach the layers that read them is not understood"
        return None

    def _run(self, network: nn.Module) -> list[Tensor]:
        with torch.no_grad(), _NoStatistics():
            return tensors_of(network(*self._inputs))


def _fill(parameter: nn.Parameter) -> None:
    """Random, at a size that keeps the signal's."""
    fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
    with torch.no_grad():
        parameter.normal_(std=fan**-0.5) if fan > 1 else parameter.uniform_(0.5, 1.5)


@contextmanager
def unread(
    network: nn.Module, groups: Sequence[ChannelGroup], removed: Mapping[str, Any]
) -> Iterator[None]:
    """Within the block, all layers read zeros where the removed atoms are."""
    before: dict[str, Tensor] = {}
    try:
        for group in groups:
            for place in group.readers:
                weight = network.get_submodule(place.path).get_parameter("weight")
                before.setdefault(place.path, weight.detach().clone())
                for atom in removed[group.name]:
                    _read_zeros(network, place, group.members[place][atom])
        yield
    finally:
        for path, kept in before.items():
            network.get_submodule(path).get_parameter("weight").data.copy_(kept)


def _read_zeros(network: nn.Module, place: Place, channels: tuple[int, ...]) -> None:
    for part in read_parts(network.get_submodule(place.path), channels):
        part.zero_()


def read_parts(module: nn.Module, channels: tuple[int, ...]) -> list[Tensor]:
    """Views of the weights that these input channels are multiplied with."""
    weight: Tensor = module.get_parameter("weight").detach()
    if getattr(module, "transposed", False):
        return [weight[channel] for channel in channels]
    blocks = getattr(module, "groups", 1)
    if blocks == 1:
        return [weight[:, c] for c in channels]
    wide, rows = weight.shape[1], weight.shape[0] // blocks
    return [weight[c // wide * rows : (c // wide + 1) * rows, c % wide] for c in channels]


class _NoStatistics(TorchFunctionMode):
    """Norms over channels only scale and shift; means and variances over axis 1 are ones."""

    REDUCTIONS = frozenset({"mean", "var", "std", "sum"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.layer_norm:
            return _affine(args, kwargs, axis=-1)
        if func is F.group_norm:
            return _affine(args, kwargs, axis=1)
        made = func(*args, **kwargs)
        if getattr(func, "__name__", "") in self.REDUCTIONS and _over_channels(args, kwargs):
            return torch.ones_like(made)
        return made


def _over_channels(args: Any, kwargs: Mapping[str, Any]) -> bool:
    axes = kwargs.get("dim", args[1] if len(args) > 1 else None)
    given = args[0] if args else kwargs["input"]
    axes = axes if isinstance(axes, list | tuple) else (axes,)
    return kwargs.get("keepdim", False) is True and any(
        axis is not None and axis % given.ndim == 1 for axis in axes
    )


def _affine(args: Any, kwargs: Mapping[str, Any], axis: int) -> Tensor:
    x, _, weight, bias = (*args, *[None] * 4)[:4]
    weight, bias = kwargs.get("weight", weight), kwargs.get("bias", bias)
    shape = [1] * x.ndim
    shape[axis] = -1
    x = x if weight is None else x * weight.view(shape)
    made: Tensor = x if bias is None else x + bias.view(shape)
    return made
