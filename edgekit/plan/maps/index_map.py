"""What an index map answers, and the map of operators that need the whole of their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from torch import Tensor
from torch.fx import Node

from edgekit.plan.region import Region, hull, whole
from edgekit.program.affine import DEQUANTIZE_CHANNELS


class Tape(Protocol):
    """Where emitted operators go: into a graph, or straight to torch."""

    def operand(self, node: Node, region: Region) -> Any:
        """A part of a value emitted before, or of a constant."""
        ...

    def call(self, operator: Any, *arguments: Any, **options: Any) -> Any: ...

    def sizes(self, value: Any) -> tuple[int, ...]:
        """Shape of an emitted value."""
        ...


class IndexMap:
    """Of one kind of operator. Its methods speak of boxes of one output tensor."""

    def applies(self, node: Node) -> bool:
        """Whether this call is one that the map knows; others are computed whole."""
        return True

    def computed(self, node: Node, region: Region) -> Region:
        """What is computed if `region` is asked for: itself, or more where it cannot be less."""
        return region

    def cell(self, node: Node, dim: int) -> int:
        """How many elements along `dim`, -2 or -1, come from one and are cropped if less is asked for."""
        return 1

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        """Boxes of the inputs that computing `region` reads; weights are left out."""
        raise NotImplementedError

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        """The operator on those boxes; its result is `region` exactly."""
        raise NotImplementedError


class Whole(IndexMap):
    """Everything for anything: the map of operators that look at the whole image, or unknown ones."""

    def computed(self, node: Node, region: Region) -> Region:
        return whole(shape(node))

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        return {source: whole(shape(source)) for source in activations(node)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        return tape.call(node.target, *filled(node.args, tape), **filled(node.kwargs, tape))


def shape(node: Node) -> tuple[int, ...]:
    """Of the value, or of the first of several."""
    value = node.meta["val"]
    first = value[0] if isinstance(value, tuple | list) else value
    return tuple(int(size) for size in first.shape) if isinstance(first, Tensor) else ()


def is_constant(node: Node) -> bool:
    """Whether it is stored, as it is or in codes."""
    return node.op == "get_attr" or (
        node.target is DEQUANTIZE_CHANNELS
        and all(source.op == "get_attr" for source in node.all_input_nodes)
    )


def is_batched(node: Node) -> bool:
    """Whether an operator of 1, 2 or 3 image dimensions has a batch and channels before them."""
    name = str(node.target).split(".")[1]
    return any(name.endswith(f"{n}d") and len(shape(node)) == n + 2 for n in (1, 2, 3))


def has_constant_parameters(node: Node) -> bool:
    """Whether everything but the first argument is stored: weights may be computed as well."""
    rest = [*node.args[1:], *node.kwargs.values()]
    return all(is_constant(value) for value in rest if isinstance(value, Node))


def activations(node: Node) -> Iterator[Node]:
    """Inputs that are computed, each once."""
    return (source for source in node.all_input_nodes if not is_constant(source))


def filled(value: Any, tape: Tape) -> Any:
    """Arguments with every node replaced by its whole value."""
    if isinstance(value, Node):
        return tape.operand(value, whole(shape(value)))
    if isinstance(value, tuple | list):
        return type(value)(filled(item, tape) for item in value)
    if isinstance(value, dict):
        return {key: filled(item, tape) for key, item in value.items()}
    return value


def with_full(region: Region, node: Node, dims: set[int]) -> Region:
    """`region` with the whole extent of some dimensions."""
    sizes = shape(node)
    return tuple((0, sizes[dim]) if dim in dims else span for dim, span in enumerate(region))


def with_parameters(node: Node, region: Region, tape: Tape) -> Any:
    """The operator on `region` of its first argument, with its stored parameters whole."""
    source, *rest = node.args
    assert isinstance(source, Node)
    options = filled(node.kwargs, tape)
    return tape.call(node.target, tape.operand(source, region), *filled(rest, tape), **options)


def hulls(boxes: Iterable[tuple[Node, Region]]) -> dict[Node, Region]:
    """One box for each computed tensor, around all that is read of it."""
    found: dict[Node, Region] = {}
    for source, box in boxes:
        if not is_constant(source):
            found[source] = hull([found[source], box]) if source in found else box
    return found
