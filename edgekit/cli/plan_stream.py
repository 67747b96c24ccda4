"""edgekit plan --stream"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.output import print_json, progress
from edgekit.errors import UsageError
from edgekit.report import IDENTICAL_DB, aligned

if TYPE_CHECKING:
    from edgekit.chunking import OverlapError
    from edgekit.model import Model


def print_stream(
    model: Model, frames: int, tiles: str | None, overlaps: bool, clip: Path | None, json: bool
) -> None:
    """The stream that keeps lines, which is exact, and on request what overlaps would cost."""
    from edgekit.stream_planning import stream_plan

    if clip is not None and not overlaps:
        raise UsageError("--input belongs to --overlaps.")
    if overlaps and tiles is not None:
        raise UsageError("--overlaps belongs to a stream without tiles.")
    with progress("plan") as show:
        show("search")
        found = stream_plan(model, frames, tiles)
    errors = _errors(model, frames, clip) if overlaps else []
    if json:
        written = {"model": model.name, **found.to_json()}
        if overlaps:
            written["overlaps"] = [
                {**vars(e), "psnr_db": e.psnr_db if math.isfinite(e.psnr_db) else IDENTICAL_DB}
                for e in errors
            ]
        print_json(written)
        return
    print(found.text())
    if overlaps:
        rows = [("overlap", "frames read", "PSNR dB", "max abs")]
        for error in errors:
            psnr = f"{error.psnr_db:.1f}" if math.isfinite(error.psnr_db) else "identical"
            rows.append(
                (str(error.overlap), f"{error.read:.2f} times", psnr, f"{error.max_abs:.2g}")
            )
        on = f"{clip.name}" if clip is not None else "the example input"
        print(
            f"\nInstead of kept lines, chunks of {frames} frames with an overlap (--overlap), on {on}:"
        )
        print(aligned(rows))


def _errors(model: Model, frames: int, clip: Path | None) -> list[OverlapError]:
    import torch

    from edgekit.arrays import read_array
    from edgekit.chunking import overlap_errors

    given = None
    if clip is not None:
        array = read_array(clip)
        expected = tuple(model.example_inputs[0].shape)
        if array.ndim != len(expected):
            raise UsageError(f"{clip} has the shape {array.shape}; the model takes {expected}.")
        given = torch.from_numpy(array).float()
    with progress("plan") as show:
        show("compare chunks with an overlap")
        return list(overlap_errors(model, frames, given))
