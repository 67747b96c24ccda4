"""From a model to one whose linear layers have whole blocks of zeros; channels that so nothing reads any more go."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.compress.blocks.grid import Block, block_sums, spread
from edgekit.compress.blocks.options import BlockOptions, SecondOrder
from edgekit.compress.blocks.share import (
    Going,
    going_by_distortion,
    going_by_magnitude,
    require_layers,
)
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.layers import Layer, weighted_layers
from edgekit.compress.pruning.pruned import batches_of, recipe_of, within
from edgekit.compress.pruning.quality import Quality, quality
from edgekit.compress.pruning.unread import without_unread
from edgekit.errors import UsageError
from edgekit.model import Model
from edgekit.report import aligned

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerBlocks:
    path: str
    blocks: int
    gone: int
    macs: tuple[int, int]
    """Before, and of the numbers that are no zeros, without channels that nothing reads."""


@dataclass(frozen=True)
class BlockPruned:
    model: Model
    layers: tuple[LayerBlocks, ...]
    options: BlockOptions
    parameters: tuple[int, int]
    """Before, and those that are not zeros."""
    channels_gone: Mapping[str, int]
    """Of groups that had channels which nothing read any more."""
    quality: Quality
    """On the data that blocks were chosen by."""
    steps: int = 0
    """That it was trained for since."""
    untrained: Quality | None = None

    @property
    def macs(self) -> tuple[int, int]:
        return sum(layer.macs[0] for layer in self.layers), sum(
            layer.macs[1] for layer in self.layers
        )

    def table(self) -> str:
        rows = [("layer", "blocks", "zeros", "million MACs")]
        for layer in self.layers:
            before, after = (f"{macs / 1e6:.2f}" for macs in layer.macs)
            share = f"{layer.gone} ({layer.gone / layer.blocks:.0%})"
            rows.append((layer.path, str(layer.blocks), share, f"{before} -> {after}"))
        return aligned(rows)

    def summary(self) -> str:
        before, after = self.macs
        high, wide = self.options.block
        lines = [
            f"blocks of {high}x{wide}: {after / before:.1%} of these layers' multiply-accumulates are left, "
            f"{self.parameters[1]:,} of {self.parameters[0]:,} numbers are not zeros",
            f"against the whole network, untrained: {(self.untrained or self.quality).sentence()}",
        ]
        if self.untrained is not None:
            trained = self.quality.sentence()
            lines.append(f"against the whole network, after {self.steps} steps: {trained}")
        lines += [
            f"Nothing read {count} of '{name}' any more: they are gone."
            for name, count in self.channels_gone.items()
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "block": list(self.options.block),
            "parameters": list(self.parameters),
            "macs": list(self.macs),
            "steps": self.steps,
            "untrained": self.untrained.to_json() if self.untrained else None,
            "quality": self.quality.to_json(),
            "channels_gone": dict(self.channels_gone),
            "layers": [asdict(layer) for layer in self.layers],
        }


def block_prune_model(
    model: Model,
    options: BlockOptions,
    data: Sequence[Tensor | Batch] | None = None,
    progress: Progress = lambda _line: None,
) -> BlockPruned:
    """A copy of the model with zeros in blocks, untrained since.

    Without data, distortion is measured on the model's example, which is noise.
    Raises UsageError for a network without a linear layer that could take part.
    """
    batches = [batch[: len(model.example_inputs)] for batch in batches_of(model, data)]
    layers = candidates(model, options)
    require_layers(layers, model.name, options.block)
    progress("blocks of linear layers")
    if isinstance(options.by, SecondOrder):
        traced = copy.deepcopy(model.module).eval()
        going = going_by_distortion(traced, layers, batches, options, options.by)
    else:
        going = going_by_magnitude(layers, options)
    network = copy.deepcopy(model.module)
    for layer in layers:
        _zero(network, layer, going, options.block)
    progress("channels that nothing reads")
    smaller, channels_gone = without_unread(replace(model, module=network))
    report = tuple(_left(smaller, layer, going, options.block) for layer in layers)
    recipe = recipe_of(model, smaller)
    made = replace(model, module=smaller, recipe=recipe, name=recipe.name if recipe else model.name)
    return BlockPruned(
        made, report, options, (_numbers(model.module), _numbers(smaller, zeros=False)), channels_gone,
        quality(model.module, smaller, batches),
    )  # fmt: skip


def candidates(model: Model, options: BlockOptions) -> list[Layer]:
    """Linear layers of two blocks and more that run on tokens: the last one, which makes a picture's classes, does
    not, and has little to do."""
    paths = [path for path, _ in model.module.named_modules()]
    for path in options.ignored:
        if path not in paths:
            raise UsageError(f"The network has no module '{path}' to leave as it is.")
    found = []
    for layer in weighted_layers(model.module, model.example_inputs).values():
        is_large = layer.makes >= options.block[0] and layer.reads >= options.block[1]
        has_two = layer.makes * layer.reads > options.block[0] * options.block[1]
        if (
            isinstance(layer.module, nn.Linear)
            and len(layer.given) > 2
            and is_large
            and has_two
            and not within(layer.path, options.ignored)
        ):
            found.append(layer)
    return found


@torch.no_grad()
def _zero(network: nn.Module, layer: Layer, going: Going, block: Block) -> None:
    weight = network.get_submodule(layer.path).get_parameter("weight")
    stays = torch.ones_like(block_sums(weight, block))
    stays.view(-1)[going[layer.path]] = 0
    weight.mul_(spread(stays, weight.shape, block))


def _left(smaller: nn.Module, layer: Layer, going: Going, block: Block) -> LayerBlocks:
    whole = layer.module.get_parameter("weight")
    weight = smaller.get_submodule(layer.path).get_parameter("weight")
    left = layer.macs * int(weight.count_nonzero()) // whole.numel()
    blocks = block_sums(torch.ones_like(whole), block).numel()
    return LayerBlocks(layer.path, blocks, len(going[layer.path]), (layer.macs, left))


def _numbers(network: nn.Module, *, zeros: bool = True) -> int:
    counted = (p.numel() if zeros else int(p.count_nonzero()) for p in network.parameters())
    return sum(counted)
