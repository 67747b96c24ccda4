"""Activation memory: which storages are alive at each step, whole or for the tiles of a grid.

Bytes are those of live tensors: views share their input's storage, and an operator of single
elements overwrites an input that nobody reads afterwards. Weights and a runtime's work buffers are
not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import getitem
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import Pointwise
from edgekit.plan.network import Network
from edgekit.program.source import op_name, origin

aten = torch.ops.aten
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

VIEWS = {
    aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints,
    aten.unflatten.int, aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.alias.default, aten.detach.default, aten.dropout.default,
    aten.clone.default, aten.contiguous.default, aten.lift_fresh_copy.default, getitem,
}  # fmt: skip


WRITTEN_OUT = {
    getattr(aten, name).default for name in ("silu", "gelu", "hardswish", "mish", "log_sigmoid")
}  # fmt: skip
"""Activations that files spell with several operators, which read the input more than once."""


@dataclass(frozen=True)
class MemoryModel:
    """What is counted, and how large an element is."""

    element_bytes: int = 4
    """Of a floating-point value as the file stores it: 4, 2, or 1 for int8 arithmetic."""
    depthwise_in_place: bool = False
    """As TinyEngine runs it: channel by channel over its own input."""
    adds_in_place: bool = False
    """A convolution whose result is only added to something accumulates onto that: ONNX Runtime's
    fused Conv and Add, and what published per-layer peaks (input + output) take for granted."""
    input_counted: bool = True
    """False where the network's input is read piece by piece, as MCUNetV2 and msf-CNN assume: tiles
    count their own piece of it."""
    output_counted: bool = True
    windows_copied: bool = True
    """A tile's input and output are arrays of their own beside the whole ones, as in a host loop."""

    def bytes_per_element(self, node: Node) -> int:
        value = node.meta["val"]
        first = value[0] if isinstance(value, tuple | list) else value
        return self.element_bytes if first.dtype.is_floating_point else int(first.element_size())


@dataclass(frozen=True)
class Storages:
    """Memory of a run of nodes: who owns a storage, from which step to which it is alive."""

    nodes: tuple[Node, ...]
    owner: tuple[int, ...]
    """Per node: the storage that holds its value."""
    first: tuple[int, ...]
    """Per storage: the step that writes it."""
    last: tuple[int, ...]
    """Per storage: the last step that reads it."""

    def live_bytes(
        self, during: Floats, before: Floats | None = None, after: Floats | None = None
    ) -> Floats:
        """Bytes alive at each step, steps x tiles, from the bytes of each node's value, nodes x tiles.

        `before` and `after` are what a stream keeps of each before its first step and after its last.
        """
        live: Floats = self.alive @ self.largest(during)
        if before is not None and after is not None:
            live += self.coming @ self.largest(before) + self.gone @ self.largest(after)
        return live

    def largest(self, sizes: Floats) -> Floats:
        """Per storage: the largest of its nodes' values."""
        largest: Floats = np.maximum.reduceat(sizes[self.by_owner], self.starts, axis=0)
        return largest

    @cached_property
    def by_owner(self) -> Counts:
        return np.argsort(np.array(self.owner), kind="stable")

    @cached_property
    def starts(self) -> Counts:
        """Where each storage's nodes begin in `by_owner`."""
        return np.searchsorted(np.array(self.owner)[self.by_owner], np.arange(len(self.first)))

    @cached_property
    def coming(self) -> Floats:
        """Steps x storages: 1 before a storage's first step. As floats, for their matrix product."""
        return (self._steps < np.array(self.first)).astype(np.float64)

    @cached_property
    def gone(self) -> Floats:
        return (self._steps > np.array(self.last)).astype(np.float64)

    @cached_property
    def alive(self) -> Floats:
        return 1.0 - self.coming - self.gone

    @property
    def _steps(self) -> Counts:
        return np.arange(len(self.nodes))[:, None]


def storages(
    network: Network,
    nodes: Sequence[Node],
    kept: Collection[Node],
    model: MemoryModel,
    persisting: Collection[Node] = (),
) -> Storages:
    """Assign storages to `nodes`, in order. Those of `kept` are alive to the end.

    Of `persisting` nodes a stream keeps lines: nothing is written over them.
    """
    step = {node: index for index, node in enumerate(nodes)}
    final = len(nodes) - 1
    last_read = {
        node: final if node in kept else max(
            (step[reader] for reader in network.readers[node] if reader in step), default=step[node]
        )
        for node in nodes
    }  # fmt: skip
    owner: list[int] = []
    first: list[int] = []
    last: list[int] = []
    closed: set[int] = set()
    for index, node in enumerate(nodes):
        shared = _reused(node, index, step, owner, last, model, closed)
        if shared is None:
            shared = len(first)
            first.append(index)
            last.append(last_read[node])
        else:
            last[shared] = max(last[shared], last_read[node])
        owner.append(shared)
        if node in persisting:
            closed.add(shared)
    return Storages(tuple(nodes), tuple(owner), tuple(first), tuple(last))


def _reused(
    node: Node, index: int, step: Mapping[Node, int], owner: list[int], last: list[int],
    model: MemoryModel, closed: Collection[int],
) -> int | None:  # fmt: skip
    """The storage of an input that this node's value can live in, if there is one."""
    if model.adds_in_place and (number := _added_to(node, step, owner, last)) is not None:
        return None if number in closed else number
    inputs = [source for source in node.all_input_nodes if step.get(source, index) < index]
    inputs = [source for source in inputs if owner[step[source]] not in closed]
    if node.target in VIEWS or _is_folded(node):
        return owner[step[inputs[0]]] if inputs else None
    elementwise = isinstance(map_of(node), Pointwise) and node.target not in WRITTEN_OUT
    if not elementwise and not (model.depthwise_in_place and is_depthwise(node)):
        return None
    for source in inputs:
        number = owner[step[source]]
        if last[number] <= index and prod(shape(source)) >= prod(shape(node)):
            return number
    return None


def _is_folded(node: Node) -> bool:
    """Whether a runtime makes the padding the next convolution's own: onnxruntime at every level."""
    if node.target is not aten.constant_pad_nd.default:
        return False
    pads: Any = node.args[1]
    value: Any = node.args[2] if len(node.args) > 2 else 0
    convolutions = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
    is_image = len(pads) <= 2 * (len(shape(node)) - 2)
    return bool(
        value == 0
        and min(pads) >= 0
        and is_image
        and node.users
        and all(user.target in convolutions for user in node.users)
    )


def _added_to(
    node: Node, step: Mapping[Node, int], owner: list[int], last: list[int]
) -> int | None:
    """The storage of what a convolution's result is added to and that nobody reads afterwards."""
    if not str(node.target).startswith("aten.conv") or len(node.users) != 1:
        return None
    (reader,) = node.users
    if reader.target is not aten.add.Tensor or reader not in step or reader.kwargs:
        return None
    others = [source for source in reader.all_input_nodes if source is not node]
    if len(others) != 1 or shape(others[0]) != shape(node):
        return None
    (other,) = others
    if step.get(other, len(owner)) >= len(owner):
        return None
    number = owner[step[other]]
    return number if last[number] == step[reader] else None


def is_depthwise(node: Node) -> bool:
    if not str(node.target).startswith("aten.conv") or "transpose" in str(node.target):
        return False
    weight: Any = node.args[1]
    groups = node.args[6] if len(node.args) > 6 else 1
    return bool(groups == shape(weight)[0] and shape(weight)[1] == 1 and groups != 1)


def macs_per_element(node: Node) -> int:
    """Multiply-accumulates for one element of the node's value."""
    name = str(node.target)
    if name.startswith("aten.conv"):
        weight: Any = node.args[1]
        sizes = shape(weight)
        if "transpose" not in name:
            return prod(sizes[1:])
        strides: Any = node.args[3] if len(node.args) > 3 else [1]
        groups: Any = node.args[6] if len(node.args) > 6 else 1
        sides = [int(side) for side in strides]
        stride = prod(sides) if len(sides) > 1 else sides[0] ** (len(sizes) - 2)
        return max(1, sizes[0] // int(groups) * prod(sizes[2:]) // int(stride))
    if node.target is aten.linear.default:
        weight = node.args[1]
        return shape(weight)[1]
    if node.target in (aten.matmul.default, aten.bmm.default):
        left: Any = node.args[0]
        return shape(left)[-1]
    if node.target is aten.scaled_dot_product_attention.default:
        key: Any = node.args[1]
        return 2 * shape(key)[-2]
    return 0


@dataclass(frozen=True)
class Step:
    """One operator, and what is alive while it runs."""

    name: str
    operator: str
    source: str
    shape: tuple[int, ...]
    live_bytes: int
    macs: int


@dataclass(frozen=True)
class Timeline:
    """Live activation bytes over the steps of a whole network."""

    steps: tuple[Step, ...]
    alive_at_peak: tuple[tuple[str, tuple[int, ...], int], ...]
    """Name, shape and bytes of the tensors alive at the peak, largest first."""

    @property
    def peak(self) -> Step:
        return max(self.steps, key=lambda step: step.live_bytes)

    @property
    def peak_bytes(self) -> int:
        return self.peak.live_bytes

    @property
    def macs(self) -> int:
        return sum(step.macs for step in self.steps)


def run_peak_bytes(network: Network, source: Node, result: Node, model: MemoryModel) -> int:
    """Peak of a stretch that runs at once, in a model of its own: its input is held to the end."""
    nodes = network.nodes[network.position[source] : network.position[result] + 1]
    sizes = [prod(shape(node)) * model.bytes_per_element(node) for node in nodes]
    if _is_left_out(source, network, model):
        sizes[0] = 0
    live = storages(network, nodes, (source, result), model).live_bytes(np.array(sizes)[:, None])
    return int(live.max())


def timeline(network: Network, model: MemoryModel) -> Timeline:
    """Liveness of the whole network, operator by operator."""
    nodes = network.nodes
    sizes = np.array(
        [
            [
                0
                if _is_left_out(node, network, model)
                else prod(shape(node)) * model.bytes_per_element(node)
            ]
            for node in nodes
        ],
        dtype=np.float64,
    )
    held = storages(network, nodes, network.outputs, model)
    live = held.live_bytes(sizes)[:, 0].astype(np.int64)
    peak = int(np.argmax(live))
    largest: dict[int, tuple[str, tuple[int, ...], int]] = {}
    for index, node in enumerate(nodes[: peak + 1]):
        number = held.owner[index]
        if held.first[number] <= peak <= held.last[number]:
            entry = (node.name, shape(node), int(sizes[index, 0]))
            if number not in largest or entry[2] >= largest[number][2]:
                largest[number] = entry
    steps = tuple(
        Step(
            node.name, "input" if node.op == "placeholder" else op_name(node), origin(node), shape(node), int(bytes_),
            prod(shape(node)) * macs_per_element(node),
        )
        for node, bytes_ in zip(nodes, live, strict=True)
    )  # fmt: skip
    return Timeline(steps, tuple(sorted(largest.values(), key=lambda entry: -entry[2])))


def _is_left_out(node: Node, network: Network, model: MemoryModel) -> bool:
    return (node in network.inputs and not model.input_counted) or (
        node in network.outputs and not model.output_counted
    )
