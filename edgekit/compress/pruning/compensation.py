"""Without training: what removed channels gave on average, and statistics of norms as the narrower network has them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.removal import Removed, remove_channels
from edgekit.compress.pruning.sensitivity import Error

NORMS = nn.modules.batchnorm._BatchNorm


def narrowed(
    network: nn.Module, groups: Sequence[ChannelGroup], removed: Removed, data: Sequence[Batch]
) -> nn.Module:
    """A copy without the removed channels; of it plain, with means, with statistics or both, what is nearest to the
    whole on the data. Without data, plain."""
    plain = remove_channels(copy.deepcopy(network), groups, removed)
    if not data:
        return plain
    meant = copy.deepcopy(network)
    add_means(meant, groups, removed, data)
    return nearest(network, [plain, remove_channels(meant, groups, removed)], data)


def nearest(whole: nn.Module, made: Sequence[nn.Module], data: Sequence[Batch]) -> nn.Module:
    """Of networks as they are, and with statistics that the data gives their norms, what is most like the whole.

    Of several batches every other one judges, so that statistics of few inputs do not judge themselves.
    """
    candidates = list(made)
    if any(isinstance(module, NORMS) for module in whole.modules()):
        candidates += [with_statistics_of(one, data[::2]) for one in made]
    return min(candidates, key=Error(whole, data[1::2] or data, None))


@torch.no_grad()
def add_means(
    network: nn.Module, groups: Sequence[ChannelGroup], removed: Removed, data: Sequence[Batch]
) -> None:
    """To biases of the layers that read them: each removed channel's mean over the data, as if it were constant.

    The network is the whole one, before its channels go. Exact but for the zeros around a picture.
    """
    means = _input_means(network, groups, data)
    for group in groups:
        for place in group.readers:
            module: Any = network.get_submodule(place.path)
            is_plain = (
                not getattr(module, "transposed", False) and getattr(module, "groups", 1) == 1
            )
            if module.bias is None or not is_plain:
                continue
            weight = module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight
            gone = [c for atom in removed[group.name] for c in group.members[place][atom]]
            module.bias += weight[:, gone] @ means[place.path][gone]


def _input_means(
    network: nn.Module, groups: Sequence[ChannelGroup], data: Sequence[Batch]
) -> Mapping[str, Tensor]:
    sums: dict[str, list[Tensor]] = {}

    def look(path: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0]
            axis = x.ndim - 1 if isinstance(module, nn.Linear) else 1
            others = [other for other in range(x.ndim) if other != axis]
            sums.setdefault(path, []).append(x.mean(others))

        return hook

    paths = {place.path for group in groups for place in group.readers}
    hooks = [network.get_submodule(path).register_forward_pre_hook(look(path)) for path in paths]
    try:
        for batch in data:
            network(*batch)
    finally:
        for handle in hooks:
            handle.remove()
    return {path: torch.stack(seen).mean(0) for path, seen in sums.items()}


@torch.no_grad()
def with_statistics_of(network: nn.Module, data: Sequence[Batch]) -> nn.Module:
    """A copy whose BatchNorms have the means and variances that the data gives them."""
    copied = copy.deepcopy(network)
    with _estimating(copied):
        for batch in data:
            copied(*batch)
    return copied


@contextmanager
def _estimating(network: nn.Module) -> Iterator[None]:
    norms = [
        module
        for module in network.modules()
        if isinstance(module, NORMS) and module.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
            norm.eval()
