"""The steady part of a stream, and the same plan for a longer or shorter input.

A stream's first steps differ, since little is kept yet, and so do its last ones where a network looks
ahead. In between every step runs the same models a bit further on, as often as the input is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from edgekit.errors import UsageError
from edgekit.plan.plan import Box, Plan, Repeat, Stage, Tensor, Window

Shift = tuple[int, int]
"""Dimension, and elements along it."""


MOST_PERIOD = 8
"""Steps until a stream is where it was, such as 2 where steps of 3 frames meet a stride of 2."""


def repeat_of(windows: Sequence[Window]) -> Repeat | None:
    """The longest run of steps that use the same models, each as far behind the one before.

    Or behind the one a period before, where models alternate.
    """
    strips = 1 + max(window.strip for window in windows)
    steps = [windows[at : at + strips] for at in range(0, len(windows), strips)]
    for period in range(1, min(MOST_PERIOD, len(steps) // 2) + 1):
        if (found := _periodic(steps, period)) is not None:
            return found
    return None


def _periodic(steps: Sequence[Sequence[Window]], period: int) -> Repeat | None:
    shifts = [_shift(one, other) for one, other in zip(steps, steps[period:], strict=False)]
    best: Repeat | None = None
    for shift, run in groupby(enumerate(shifts), key=lambda item: item[1]):
        indices = [index for index, _ in run]
        times = (len(indices) + period) // period
        if shift is None or times < 2 or (best is not None and times <= best.times):
            continue
        (dim, read_by), (result_dim, write_by) = shift
        strips = len(steps[0])
        best = Repeat(
            indices[0] * strips, period * strips, times, dim, read_by, result_dim, write_by
        )
    return best


def _shift(step: Sequence[Window], following: Sequence[Window]) -> tuple[Shift, Shift] | None:
    """How much further on a step reads and writes, if it is the same one in all else."""
    found = {
        (_moved(one.read, other.read), _moved(one.write, other.write))
        if (one.model, one.share, one.take) == (other.model, other.share, other.take)
        else (None, None)
        for one, other in zip(step, following, strict=True)
    }
    ((read, write), *others) = found
    return None if others or read is None or write is None else (read, write)


def _moved(one: Box, other: Box) -> Shift | None:
    """Along the single dimension in which the boxes differ, if they are equally large."""
    moves = [
        (dim, after[0] - before[0])
        for dim, (before, after) in enumerate(zip(one, other, strict=True))
        if before != after
    ]
    sizes = [[stop - start for start, stop in box] for box in (one, other)]
    return moves[0] if len(moves) == 1 and sizes[0] == sizes[1] else None


def for_input(plan: Plan, shape: tuple[int, ...]) -> Plan:
    """The plan for an input of another length, as far as its stream goes on.

    Raises UsageError for a shape that no number of repetitions makes.
    """
    stage, repeat = plan.stages[0], plan.stages[0].repeat
    planned = plan.tensors[stage.source].shape
    if shape == planned:
        return plan
    if len(plan.stages) > 1 or repeat is None or len(shape) != len(planned):
        raise UsageError(f"'{stage.source}' has the shape {planned}, but {shape} was given.")
    more, rest = divmod(shape[repeat.dim] - planned[repeat.dim], repeat.read_by)
    same = _longer(planned, repeat.dim, shape[repeat.dim] - planned[repeat.dim]) == shape
    if rest or not same or more < -repeat.times or shape[repeat.dim] < 1:
        shortest = planned[repeat.dim] - repeat.times * repeat.read_by
        form = ", ".join(
            f"{shortest} + n·{repeat.read_by}" if dim == repeat.dim else str(size)
            for dim, size in enumerate(planned)
        )
        raise UsageError(f"'{stage.source}' streams at the shapes ({form}), and {shape} was given.")
    sizes = {
        name: replace(tensor, shape=_longer(tensor.shape, dim, more * by))
        for (name, tensor), (dim, by) in (
            ((stage.source, plan.tensors[stage.source]), (repeat.dim, repeat.read_by)),
            ((stage.result, plan.tensors[stage.result]), (repeat.result_dim, repeat.write_by)),
        )
    }
    tensors: dict[str, Tensor] = {**plan.tensors, **sizes}
    return replace(plan, tensors=tensors, stages=(_repeated(stage, repeat, more),))


def _repeated(stage: Stage, repeat: Repeat, more: int) -> Stage:
    end = repeat.first + repeat.windows * repeat.times
    head, tail = stage.windows[: repeat.first], stage.windows[end:]
    once = stage.windows[repeat.first : repeat.first + repeat.windows]
    times = repeat.times + more
    steady = [further(window, repeat, number) for number in range(times) for window in once]
    behind = [further(window, repeat, more) for window in tail]
    return replace(stage, windows=(*head, *steady, *behind), repeat=replace(repeat, times=times))


def further(window: Window, repeat: Repeat, times: int) -> Window:
    """A window as many repetitions further on."""
    return replace(
        window,
        read=_shifted(window.read, repeat.dim, times * repeat.read_by),
        write=_shifted(window.write, repeat.result_dim, times * repeat.write_by),
    )


def _shifted(box: Box, dim: int, by: int) -> Box:
    start, stop = box[dim]
    return (*box[:dim], (start + by, stop + by), *box[dim + 1 :])


def _longer(shape: tuple[int, ...], dim: int, by: int) -> tuple[int, ...]:
    return (*shape[:dim], shape[dim] + by, *shape[dim + 1 :])
