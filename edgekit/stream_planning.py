"""A video model as a stream, as a report: what a step takes, gives, keeps and needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.model import Model
from edgekit.plan.choose import in_units, parse_grid, require_frames
from edgekit.plan.network import network_of
from edgekit.plan.path import Tiling
from edgekit.plan.plan import Plan
from edgekit.plan.stages import planned
from edgekit.plan.streamed import require_stream, streamed
from edgekit.program.capture import capture, without_torch_warnings
from edgekit.report import aligned


@dataclass(frozen=True)
class StreamPlan:
    """What a stream of one model at one size is."""

    plan: Plan
    frames: int
    """Input frames a step."""
    first_needs: int
    """Input frames that the first output frame needs."""
    kept_bytes: int
    """Most bytes of kept lines between two steps."""
    output_bytes: int
    """Of the peak: the output of the whole clip, which a stream's reader need not hold."""

    def to_json(self) -> dict[str, Any]:
        (stage,) = self.plan.stages
        return {
            "whole_peak_bytes": self.plan.whole_peak_bytes,
            "peak_bytes": self.plan.peak_bytes,
            "output_bytes": self.output_bytes,
            "kept_bytes": self.kept_bytes,
            "mac_overhead": self.plan.mac_overhead,
            "steps": len({window.write for window in stage.windows}),
            "programs": len(stage.models),
            "frames": self.frames,
            "first_needs": self.first_needs,
            "lengths": self._lengths,
        }

    @property
    def _lengths(self) -> dict[str, int] | None:
        """Clips of `shortest` + n·`step` frames stream with the same files."""
        repeat = self.plan.stages[0].repeat
        if repeat is None:
            return None
        planned = self.plan.tensors[self.plan.stages[0].source].shape[repeat.dim]
        shortest = planned - repeat.times * repeat.read_by
        return {"shortest": shortest or repeat.read_by, "step": repeat.read_by}

    def text(self) -> str:
        (stage,) = self.plan.stages
        whole, peak = self.plan.whole_peak_bytes, self.plan.peak_bytes
        steps = len({window.write for window in stage.windows})
        rows = [
            ("live activations", "fp32", "beside the input"),
            ("whole", in_units(whole), ""),
            ("stream", in_units(peak), f"{whole / max(1, peak):.1f} times less"),
            ("", in_units(peak - self.output_bytes), "where frames go on as they come"),
            ("kept between steps", in_units(self.kept_bytes), ""),
            (
                "steps",
                str(steps),
                f"of {self.frames} input frames, in {len(stage.models)} programs",
            ),
            ("the first frame", str(self.first_needs), "input frames must have arrived"),
            ("extra work", f"{self.plan.mac_overhead:.1%}", ""),
        ]
        if (lengths := self._lengths) is not None:
            rows.append(
                ("clips of", f"{lengths['shortest']} + n·{lengths['step']}", "input frames stream")
            )
        else:
            rows.append(("clips of", "this length", "only: no step repeats another one"))
        return aligned(rows)


def stream_plan(model: Model, frames: int, tiles: str | None = None) -> StreamPlan:
    """Plan a loaded Model as `export --stream` writes it. Raises UsageError where it cannot stream."""
    require_frames(frames)
    grid = Tiling(*parse_grid(tiles)) if tiles is not None else None
    with without_torch_warnings():
        program = capture(model.module, model.example_inputs, model.inputs, model.outputs).program
        network = network_of(program)
        found = streamed(network, frames, grid)
        plan = planned(network, found, program, "").plan
    (stage,) = plan.stages
    return StreamPlan(
        plan,
        frames,
        int(require_stream(network, frames).needed[0]),
        max(sum(port.nbytes for port in model.after) for model in stage.models),
        plan.tensors[stage.result].nbytes,
    )
