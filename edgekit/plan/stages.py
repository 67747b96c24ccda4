"""From a path through a network to Programs: one per kind of tile, and one per stretch run at once.

A tile's program reads a box of the stretch's source and gives a box of its result. Every layer in it
computes what the next one needs and no more: tiles shrink on the way, borders have their padding and
the inside has none. Tiles of equal geometry share a program, so that a grid of any size has nine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from edgekit.contract import TensorSpec
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, run_peak_bytes, timeline
from edgekit.plan.network import Boxes, Network, boxes, network_of
from edgekit.plan.path import WHOLE, Found, Stretch
from edgekit.plan.plan import Box, Plan, Stage, Tensor, Window
from edgekit.plan.region import Region, whole
from edgekit.plan.tape import GraphTape
from edgekit.plan.tile_sizes import split
from edgekit.program.capture import capture_graph
from edgekit.program.program import Program


@dataclass(frozen=True)
class StagePrograms:
    """A stage whose models are still programs."""

    stage: Stage
    programs: tuple[Program, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, and the programs of its stages."""

    plan: Plan
    stages: tuple[StagePrograms, ...]


def planned(network: Network, found: Found, program: Program, suffix: str) -> Planned:
    """Write the programs of a path. Neighbouring stretches that run at once become one stage.

    `suffix` ends the model files' names, such as ".onnx".
    """
    names = _names(network, program)
    stages = []
    for number, stretch in enumerate(found.runs):
        stages.append(_stage(network, stretch, names, f"stage{number}", suffix))
    tensors = {
        names[node]: Tensor(shape(node), str(node.meta["val"].dtype).removeprefix("torch."))
        for built in found.runs
        for node in (built.source, built.result)
    }
    plan = Plan(
        "serving",
        _arena_bytes(max(stretch.run_bytes for stretch in found.stretches)),
        tensors,
        tuple(built.stage for built in stages),
        found.whole_peak_bytes,
        max([found.peak_bytes, *_runs_at_once(network, found)]),
        round(found.overhead, 6),
    )
    return Planned(plan, tuple(stages))


def _runs_at_once(network: Network, found: Found) -> Iterator[int]:
    model = MemoryModel(input_counted=False)
    for stretch in found.runs:
        if stretch.tiling == WHOLE:
            yield run_peak_bytes(network, stretch.source, stretch.result, model)


def one_file_plan(program: Program, found: Found, file: str) -> Plan:
    """The plan of an unrolled network: one stage, and the peak of the graph as it is written."""
    peak = timeline(network_of(program), MemoryModel(input_counted=False)).peak_bytes
    (given,), (made,) = program.inputs, program.outputs
    boxes_: list[Box] = [tuple((0, size) for size in spec.shape) for spec in (given, made)]
    stage = Stage(
        (file,), given.name, made.name, given.name, made.name, (Window(0, boxes_[0], boxes_[1]),)
    )
    tensors = {spec.name: Tensor(spec.shape, spec.dtype) for spec in (given, made)}
    return Plan(
        "unrolled",
        _arena_bytes(peak),
        tensors,
        (stage,),
        found.whole_peak_bytes,
        peak,
        round(found.overhead, 6),
    )


def _arena_bytes(run_bytes: int) -> int:
    """A first chunk with room to spare: what a run touches is resident, not what is reserved.

    One that a run just fits into breaks up and grows: 63 MiB for a U-Net's 4x4 tiles against 55
    with four times the run's live tensors (onnxruntime 1.32).
    """
    return 4 * run_bytes


def _names(network: Network, program: Program) -> dict[Node, str]:
    """Contract names for inputs and outputs, the graph's own for what lies between."""
    doors = zip(
        (*network.inputs, *network.outputs), (*program.inputs, *program.outputs), strict=True
    )
    return {node: node.name for node in network.nodes} | {node: spec.name for node, spec in doors}


def _stage(
    network: Network, stretch: Stretch, names: dict[Node, str], label: str, suffix: str
) -> StagePrograms:
    programs: list[Program] = []
    kinds: dict[str, int] = {}
    windows = []
    door = (names[stretch.source], names[stretch.over])
    for box in tiles(stretch):
        found = boxes(network, (stretch.source,), {stretch.over: box})
        module, read = tile_module(network, found, stretch, door[0], box)
        kind = _geometry(module)
        if kind not in kinds:
            kinds[kind] = len(programs)
            programs.append(_program(module, door, stretch, read, box))
        averaged = stretch.over is not stretch.result
        write = box if not averaged else whole(shape(stretch.result))
        share = _elements(box) / _elements(whole(shape(stretch.over)))
        windows.append(Window(kinds[kind], _plain(read), _plain(write), share if averaged else 1.0))
    files = tuple(
        f"{label}{suffix}" if len(programs) == 1 else f"{label}-{number}{suffix}"
        for number in range(len(programs))
    )
    stage = Stage(
        files, door[0], names[stretch.result], *door, tuple(windows), stretch.over is not stretch.result
    )  # fmt: skip
    return StagePrograms(stage, tuple(programs))


def tiles(stretch: Stretch) -> Iterator[Region]:
    """Boxes of the tiled tensor, row by row."""
    sizes = shape(stretch.over)
    if stretch.tiling == WHOLE:
        yield whole(sizes)
        return
    lead = whole(sizes[:-2])
    for rows in split(sizes[-2], stretch.tiling.rows):
        for columns in split(sizes[-1], stretch.tiling.columns):
            yield (*lead, rows, columns)


def tile_module(
    network: Network, found: Boxes, stretch: Stretch, name: str, box: Region
) -> tuple[GraphModule, Region]:
    """The operators of one tile as a module, and the box of the source that it reads."""
    read = found.read[stretch.source]
    tape = GraphTape(network.edit)
    sizes = tuple(int(stop) - int(start) for start, stop in read)
    dtype = stretch.source.meta["val"].dtype
    tape.hold(stretch.source, tape.placeholder(name, sizes, dtype), read)
    tape.run(found)
    return tape.finish(tape.operand(stretch.over, box)), read


def _geometry(module: GraphModule) -> str:
    """Operators, arguments and shapes: what tells two tiles' programs apart."""
    return "\n".join(
        f"{node.op} {node.target} {node.args} {node.kwargs} {tuple(shape(node)) if node.op == 'placeholder' else ''}"
        for node in module.graph.nodes
    )


def _program(
    module: GraphModule, door: tuple[str, str], stretch: Stretch, read: Region, box: Region
) -> Program:
    def spec(name: str, node: Node, region: Region) -> TensorSpec:
        sizes = tuple(int(stop) - int(start) for start, stop in region)
        return TensorSpec(name, sizes, str(node.meta["val"].dtype).removeprefix("torch."))

    return capture_graph(
        module, (spec(door[0], stretch.source, read),), (spec(door[1], stretch.over, box),)
    )


def _plain(region: Region) -> Box:
    return tuple((int(start), int(stop)) for start, stop in region)


def _elements(region: Region) -> int:
    count = 1
    for start, stop in region:
        count *= int(stop) - int(start)
    return count
