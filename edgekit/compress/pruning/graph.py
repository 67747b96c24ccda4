"""Which channels of a network depend on one another: Torch-Pruning's graph, and what it does not know.

The library traces autograd and propagates channel indices from layer to layer. Added here: a pixel
shuffle, whose r² channels become one; CoDeNet's depthwise convolution; which axis of a lone parameter
holds channels. Whatever the graph still gets wrong, `soundness` finds out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning._helpers import UnwrappedParameters, _HybridIndex
from torch_pruning.dependency.shape_infer import infer_out_channels_recursively
from torch_pruning.pruner.function import BasePruningFunc

from edgekit.zoo.square_deform import SquareDepthwise

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
"""Layers that read every channel they are given, and so can do without some."""
Indices = Sequence[int]


class ShuffleStep(nn.Module):
    """Stands in the graph for a pixel shuffle: `ratio` neighbouring channels become one."""

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.made = 0


class ShufflePruner(BasePruningFunc):  # type: ignore[misc]
    """Counts channels behind the shuffle, so that a concatenation there finds its place."""

    TARGET_MODULES = ShuffleStep

    def prune_out_channels(self, layer: nn.Module, idxs: Indices) -> nn.Module:
        assert isinstance(layer, ShuffleStep)
        layer.made -= len(idxs)
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        assert isinstance(layer, ShuffleStep)
        return layer.made

    get_in_channels = get_out_channels


class FirstAxisPruner(BasePruningFunc):  # type: ignore[misc]
    """Of a module with a weight C ..., a filter for each channel."""

    TARGET_MODULES = SquareDepthwise

    def prune_out_channels(self, layer: nn.Module, idxs: Indices) -> nn.Module:
        weight = layer.get_parameter("weight")
        kept = [index for index in range(len(weight)) if index not in set(idxs)]
        layer.weight = self._prune_parameter_and_grad(weight, kept, 0)
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        return len(layer.get_parameter("weight"))

    get_in_channels = get_out_channels


class ToOne:
    """Channels before a shuffle to those behind it."""

    def __init__(self, ratio: int) -> None:
        self.ratio = ratio

    def __call__(self, indices: Sequence[_HybridIndex]) -> list[_HybridIndex]:
        found = {i.idx // self.ratio: i.root_idx for i in reversed(indices)}
        return [_HybridIndex(idx=index, root_idx=root) for index, root in sorted(found.items())]


class ToMany:
    """Channels behind a shuffle to those before it."""

    def __init__(self, ratio: int) -> None:
        self.ratio = ratio

    def __call__(self, indices: Sequence[_HybridIndex]) -> list[_HybridIndex]:
        return [
            _HybridIndex(idx=i.idx * self.ratio + part, root_idx=i.root_idx)
            for i in indices
            for part in range(self.ratio)
        ]


class ChannelGraph(tp.DependencyGraph):  # type: ignore[misc]
    """The library's graph of `network`, with shuffles and lone parameters understood."""

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self._last: list[Any] = []
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            self.build_dependency(
                network,
                example_inputs=inputs,
                forward_fn=lambda module, given: module(*given),
                output_transform=self._note_last,
                unwrapped_parameters=_lone_parameters(network),
                customized_pruners={
                    SquareDepthwise: FirstAxisPruner(),
                    ShuffleStep: ShufflePruner(),
                },
                verbose=False,
            )
        for module, node in self.module2node.items():
            if isinstance(module, ShuffleStep):
                self._connect_shuffle(node, module.ratio)

    def _note_last(self, output: Any) -> list[Tensor]:
        tensors = tensors_of(output)
        self._last = [tensor.grad_fn for tensor in tensors]
        return tensors

    def output_layers(self) -> set[str]:
        """Paths of weighted layers whose channels, with no other such layer behind, are what the network gives."""
        waiting = [node for node in self.module2node.values() if node.grad_fn in self._last]
        seen, found = set(waiting), set()
        while waiting:
            node = waiting.pop()
            if isinstance(node.module, WEIGHTED):
                found.add(self.path_of(node.module))
                continue
            waiting += [source for source in node.inputs if source not in seen]
            seen.update(node.inputs)
        return found

    def path_of(self, module: nn.Module) -> str:
        return str(self._module2name.get(module, ""))

    def name_of(self, parameter: nn.Parameter) -> str:
        return str(self._param_to_name[parameter])

    def _build_dependency(self, module2node: dict[Any, Any]) -> None:
        for module, node in list(module2node.items()):
            name = getattr(node.grad_fn, "name", str)()
            if name.startswith("PixelShuffle") and not isinstance(module, ShuffleStep):
                step = ShuffleStep(node.grad_fn._saved_upscale_factor**2)
                node.module, node.type = step, tp.ops.OPTYPE.CUSTOMIZED
                module2node[step] = module2node.pop(module)
            # The library looks for channels on every path from a reshape, of which sums make very many.
            elif node.type == tp.ops.OPTYPE.RESHAPE and not _is_beside_linear(node):
                node.type = tp.ops.OPTYPE.ELEMENTWISE
        super()._build_dependency(module2node)
        shuffles = [module for module in module2node if isinstance(module, ShuffleStep)]
        for _ in shuffles:  # one may lie behind another
            for step in shuffles:
                for source in module2node[step].inputs:
                    given = infer_out_channels_recursively(self, source, [0])
                    step.made = (given or 0) // step.ratio

    @staticmethod
    def _connect_shuffle(node: Any, ratio: int) -> None:
        for source in node.inputs:
            for edge in source.dependencies:
                if edge.target is node:
                    edge.index_mapping[1] = ToOne(ratio)
            for edge in node.dependencies:
                if edge.target is source:
                    edge.index_mapping[0] = ToMany(ratio)


def _is_beside_linear(node: Any) -> bool:
    """Whether the next weighted layer before or behind is a linear one: channels may be counted anew there."""
    for direction in ("inputs", "outputs"):
        waiting, seen = list(getattr(node, direction)), {node}
        while waiting:
            other = waiting.pop()
            if isinstance(other.module, nn.Linear):
                return True
            if other not in seen and not isinstance(other.module, WEIGHTED):
                waiting += getattr(other, direction)
            seen.add(other)
    return False


def tensors_of(output: Any) -> list[Tensor]:
    """All floating-point tensors of what a network gives, in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in tensors_of(part)]
    return []


def _lone_parameters(network: nn.Module) -> list[UnwrappedParameters]:
    """With the axis of their channels: 1 C ... and C ... are as images have them, 1 N C as tokens do."""
    known = tuple(tp.ops.type2class(kind) for kind in tp.pruner.function.PrunerBox)
    found = []
    for module in network.modules():
        if isinstance(module, (*known, SquareDepthwise)):
            continue
        for parameter in module.parameters(recurse=False):
            wide = [axis for axis, size in enumerate(parameter.shape) if size > 1]
            if wide:
                tokens = parameter.ndim == 3 and parameter.shape[0] == 1
                found.append(UnwrappedParameters(parameter, wide[-1] if tokens else wide[0]))
    return found
