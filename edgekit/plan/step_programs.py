"""One step of a stream, or one tile, as a Program.

It reads a box of the stretch's source and gives a box of its result. Every layer in it computes what
the next one needs and no more: tiles shrink on the way, borders have their padding and the inside has
none. Lines that a stream keeps come in and go out beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import GraphModule, Node

from edgekit.contract import TensorSpec
from edgekit.plan.network import Network
from edgekit.plan.plan import Port
from edgekit.plan.region import Region
from edgekit.plan.steps import Stream
from edgekit.plan.tape import GraphTape
from edgekit.program.capture import capture_graph
from edgekit.program.program import Program


@dataclass(frozen=True)
class StepModule:
    """A step's operators, with what goes in and out."""

    module: GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    before: tuple[Port, ...]
    after: tuple[Port, ...]

    @property
    def key(self) -> str:
        """Operators, arguments, shapes and states: what tells two steps' programs apart."""
        lines = [f"{self.inputs} {self.outputs} {self.before} {self.after}"]
        lines += [f"{n.op} {n.target} {n.args} {n.kwargs}" for n in self.module.graph.nodes]
        return "\n".join(lines)

    def program(self) -> Program:
        return capture_graph(self.module, self.inputs, self.outputs)


def step_module(
    network: Network, stream: Stream, step: int, door: tuple[str, str], *, goes_on: bool = False
) -> StepModule:
    """`door` names the source's box and the result's. For `goes_on` see Stream.left."""
    tape = GraphTape(network.edit)
    inputs: list[TensorSpec] = []

    def given(node: Node, name: str, box: Region) -> TensorSpec:
        spec = TensorSpec(name, _sizes(box), _dtype(node))
        tape.hold(node, tape.placeholder(name, spec.shape, node.meta["val"].dtype), box)
        inputs.append(spec)
        return spec

    if (read := stream.read(step)) is not None:
        given(stream.source, door[0], read)
    before = [
        _port(node, given(node, f"{node.name}_before", box)) for node, box in stream.carried(step)
    ]
    left = dict(stream.left(step, goes_on=goes_on))
    handed: dict[Node, Node] = {}

    def hand_on(node: Node) -> None:
        # At once, so that what it was joined from, and is, need not be held to the end of the run.
        if node in left:
            handed[node] = tape.operand(node, left[node])

    stream.run(tape, step, hand_on)
    written = stream.written(step)
    results = {
        tape.operand(stream.over, written): TensorSpec(
            door[1], _sizes(written), _dtype(stream.over)
        )
    }
    after = []
    for node, box in left.items():
        # Two tensors may keep the same lines, such as one and a slice of it: one output for both.
        spec = TensorSpec(f"{node.name}_after", _sizes(box), _dtype(node))
        after.append(_port(node, results.setdefault(handed[node], spec)))
    return StepModule(
        tape.finish(*results), tuple(inputs), tuple(results.values()), tuple(before), tuple(after)
    )


def _port(node: Node, spec: TensorSpec) -> Port:
    return Port(spec.shape, spec.dtype, node.name, spec.name)


def _sizes(box: Region) -> tuple[int, ...]:
    return tuple(int(stop) - int(start) for start, stop in box)


def _dtype(node: Node) -> str:
    return str(node.meta["val"].dtype).removeprefix("torch.")
