"""Masks that a variational information bottleneck learns: which heads, hidden units and channels the output needs.

After VIBNet (Dai et al., ICML 2018) and VTrans (arXiv 2406.05276): what reads an atom of a group gets it times
z = mu + sigma e with e from the normal distribution; the bottleneck's bound on what passes is log(1 + mu²/sigma²) / 2
nats for each atom. Where little passes, the atom goes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.compress.pruning.channels import ChannelGroup, Place
from edgekit.compress.pruning.layers import Costs, Macs, weighted_layers
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.soundness import read_parts
from edgekit.errors import UsageError

FIRST_LOG_VARIANCE = -5.0
"""At the beginning nearly all passes; from VIBNet's -9 the way is longer."""
WAY_OF_VARIANCES = 12.0
WAY_OF_MULTIPLIERS = 4.0
"""That logarithms may go in a training; means may go 1, from 1 to nothing."""


@dataclass(frozen=True)
class BottleneckOptions:
    steps: int
    """That masks, and the network with them, train for."""
    keep: float = 0.5
    """The most that may be left of the multiply-accumulates: above 0 and below 1."""
    round_to: int = 16
    """Channel counts change by multiples."""
    least: float = 0.125
    """The share of each group that stays in any case."""
    ignored: tuple[str, ...] = ()
    """Paths of modules whose channels stay; one stands for all within it."""
    masks_only: bool = False
    """The network's own weights stay as they are: faster, as Faster-VTrans."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"Masks train for {self.steps} steps; give 1 or more.")
        self.structure  # noqa: B018  refuses what it shares with other pruning

    @property
    def structure(self) -> PruneOptions:
        """What may be cut, and how far; scores come from the masks."""
        return PruneOptions(
            self.keep, round_to=self.round_to, ratios="importance", least=self.least,
            ignored=self.ignored,
        )  # fmt: skip


class Masked(NamedTuple):
    """What a network with masks gives; of a detector, what its heads say."""

    output: Any
    information: Tensor
    """Nats that pass, each atom's weighted with its share of the network's work."""
    overrun: Tensor
    """Of the work over what may be left, with a multiplier that grows where there is any."""


class Mask(nn.Module):
    """Of one group, by atom. `pace` times what a parameter moves in a training is about 1."""

    def __init__(self, atoms: int, pace: float) -> None:
        super().__init__()
        self.pace = pace
        self.moved = nn.Parameter(torch.zeros(atoms))
        self.widened = nn.Parameter(torch.zeros(atoms))
        self.drawn: Tensor = torch.ones(1, atoms)

    @property
    def mean(self) -> Tensor:
        return 1 + self.pace * self.moved

    @property
    def log_variance(self) -> Tensor:
        return FIRST_LOG_VARIANCE + WAY_OF_VARIANCES * self.pace * self.widened

    @property
    def log_ratio(self) -> Tensor:
        """log(mu²/sigma²)."""
        return self.mean.square().clamp_min(1e-12).log() - self.log_variance

    @property
    def information(self) -> Tensor:
        return F.softplus(self.log_ratio) / 2

    def draw(self, items: int) -> None:
        """For each item of a batch, atoms; in eval mode, means."""
        mean = self.mean.expand(items if self.training else 1, -1)
        if self.training:
            mean = mean + (self.log_variance / 2).exp() * torch.randn_like(mean)
        self.drawn = mean


class _AtReader:
    """A hook, so that a layer reads masked channels."""

    def __init__(self, mask: Mask, module: nn.Module, channels: Sequence[Sequence[int]]) -> None:
        self.mask = mask
        self.axis = -1 if isinstance(module, nn.Linear) else 1
        self.others = len(channels)
        self.atoms = {c: atom for atom, each in enumerate(channels) for c in each}
        self.index = torch.empty(0, dtype=torch.long)

    def __call__(self, _module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = given[0]
        drawn = self.mask.drawn
        passing = F.pad(drawn, (0, 1), value=1.0)
        count = x.shape[self.axis]
        if len(self.index) != count:
            self.index = torch.tensor([self.atoms.get(c, self.others) for c in range(count)])
        shape = [1] * x.ndim
        shape[self.axis] = count
        if len(drawn) > 1:  # frames may be items of their own behind their video
            passing = passing.repeat_interleave(len(x) // len(drawn), 0)
            shape[0] = len(x)
        return (x * passing[:, self.index].reshape(shape), *given[1:])


class MaskedNetwork(nn.Module):
    """A copy of the network whose groups have masks."""

    def __init__(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        groups: Sequence[ChannelGroup],
        keep: float,
        pace: float,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.masks = nn.ModuleList(Mask(group.atoms, pace) for group in groups)
        self.multipliers = nn.Parameter(torch.zeros(2))
        self._names = [group.name for group in groups]
        # Without the library's graph, which cannot be copied.
        plain = [replace(group, traced=None) for group in groups]
        self._costs = Costs(weighted_layers(network, inputs), plain, Macs())
        self._keep, self._pace = keep, pace
        full = {group.name: group.atoms for group in groups}
        self._whole = self._costs.total(full)
        self._shares = [
            self._costs.saved(group.name, group.atoms - 1, full) / self._whole for group in groups
        ]
        for group, mask in zip(groups, self._each_mask()):
            for place in group.readers:
                module = self.network.get_submodule(place.path)
                module.register_forward_pre_hook(_AtReader(mask, module, group.members[place]))

    def forward(self, *inputs: Tensor) -> Masked:
        for mask in self._each_mask():
            mask.draw(len(inputs[0]))
        run: Any = getattr(self.network, "raw", self.network)
        output = run(*inputs)
        for mask in self._each_mask():
            mask.drawn = torch.ones(1, len(mask.moved))
        return Masked(output, self.information(), self.overrun())

    def information(self) -> Tensor:
        pairs = zip(self._shares, self._each_mask())
        return torch.stack([share * mask.information.sum() for share, mask in pairs]).sum()

    def left(self) -> Tensor:
        """The share of the work, with atoms counted as far as they are present."""
        widths: Any = {
            name: torch.sigmoid(mask.log_ratio).sum()
            for name, mask in zip(self._names, self._each_mask())
        }
        left: Any = self._costs.total(widths)
        share: Tensor = left / self._whole
        return share

    def overrun(self) -> Tensor:
        """A Lagrangian, whose multipliers climb as the rest descends."""
        gap = F.relu(self.left() - self._keep)
        terms = torch.stack([gap, gap.square()])
        multipliers: Tensor = (WAY_OF_MULTIPLIERS * self._pace * self.multipliers).exp()
        # Its value moves atoms; the gradient of the multipliers has the other sign.
        climbing = (multipliers - multipliers.detach()) * terms.detach()
        total: Tensor = (multipliers.detach() * terms - climbing).sum()
        return total

    def scores(self) -> dict[str, Tensor]:
        """Of each group's atoms: information that passes, weighted as in the loss.

        With its share of the work, so that an allocation by work takes atoms in the order of what passes them.
        """
        triples = zip(self._names, self._shares, self._each_mask())
        return {name: share * mask.information.detach().double() for name, share, mask in triples}

    @torch.no_grad()
    def folded(self, groups: Sequence[ChannelGroup]) -> nn.Module:
        """The network as it computes with means for masks: they are in its weights."""
        network = copy.deepcopy(self.network)
        for module in network.modules():
            hooks = module._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if isinstance(hook, _AtReader)]:
                del hooks[key]
        for group, mask in zip(groups, self._each_mask()):
            for place in group.readers:
                _scale(network, place, group, mask.mean)
        return network.eval().requires_grad_(False)

    def _each_mask(self) -> list[Mask]:
        return [mask for mask in self.masks if isinstance(mask, Mask)]


def _scale(network: nn.Module, place: Place, group: ChannelGroup, means: Tensor) -> None:
    for atom, channels in enumerate(group.members[place]):
        for part in read_parts(network.get_submodule(place.path), channels):
            part.mul_(means[atom])
