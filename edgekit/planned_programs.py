"""The plan that somebody asks for, and the programs of its model files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.chunking import chunk_plan, chunk_program
from edgekit.errors import UsageError
from edgekit.model import Model
from edgekit.plan.choose import Request, choose, in_units, search_for
from edgekit.plan.joined import divided, joined
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import Found
from edgekit.plan.plan import Plan
from edgekit.plan.stages import one_file_plan, planned
from edgekit.plan.streamed import streamed
from edgekit.plan.unrolled import unrolled
from edgekit.program.program import Program

MOST_SEARCHES = 4
"""For a budget that the written plan must keep."""
Written = tuple[Plan, dict[str, Program]]
"""A plan, and the programs of its model files by name."""


def planned_programs(
    model: Model, program: Program, request: Request, name: str, *, one_file: bool
) -> Written:
    """`name` is that of the model's file where it is a single one.

    Raises UsageError where the network, or the budget, allows no such plan.
    """
    if request.overlap is not None:
        if one_file:
            raise UsageError("Chunks with an overlap are one file already; leave --one-file away.")
        frames = request.stream_frames or 1
        chunk = chunk_program(model, program, frames, request.overlap)
        return chunk_plan(program, chunk, name, frames, request.overlap), {name: chunk}
    if request.stream_frames is not None:
        network = network_of(program)
        found = streamed(network, request.stream_frames, request.tiles)
        return _written(network, program, found, name, one_file=one_file)
    return _within_budget(program, request, name, one_file=one_file)


def _within_budget(program: Program, request: Request, name: str, *, one_file: bool) -> Written:
    """Search again with a smaller budget while what is written needs more than was asked for.

    The search knows stretches; a model of several, or one file of all tiles, holds a little more.
    """
    single, columns = joined(program)
    network = network_of(single)
    search, budget = search_for(network, request), request.budget_bytes
    asked = budget
    for _ in range(MOST_SEARCHES):
        found = choose(search, asked)
        plan, parts = _written(network, single, found, name, one_file=one_file)
        if columns:
            plan = replace(plan, columns=columns)
            if one_file:
                parts = {name: divided(parts[name], columns, program.outputs)}
        if budget is None or plan.peak_bytes <= budget:
            return plan, parts
        asked = int(0.98 * found.peak_bytes * budget / plan.peak_bytes)
    form = "one file of all tiles" if one_file else "these stretches"
    raise UsageError(
        f"A plan within {in_units(budget or 0)} needs {in_units(plan.peak_bytes)} once written as {form}; "
        "give a larger --memory-budget" + (", or leave --one-file away." if one_file else ".")
    )


def _written(
    network: Network, program: Program, found: Found, name: str, *, one_file: bool
) -> Written:
    if one_file:
        whole = unrolled(network, found, program)
        return one_file_plan(whole, found, name), {name: whole}
    built = planned(network, found, program, Path(name).suffix)
    parts = {
        model.file: part
        for stage in built.stages
        for model, part in zip(stage.stage.models, stage.programs, strict=True)
    }
    return built.plan, parts
