"""edgekit export --split"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.output import print_json, progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from edgekit.model import Model
    from edgekit.split_exporting import SplitOptions
    from edgekit.target import Target

MOST_PICTURES = 256
"""Ranges of a channel hardly grow after some dozens."""


@dataclass(frozen=True)
class SplitRequest:
    layer: str
    calibrate: Path | None
    """Folder of pictures."""
    options: SplitOptions


def export_split_model(
    model: Model, target: Target, folder: Path, request: SplitRequest, *, json: bool
) -> None:
    """Write the bundle and print what was proven. Raises as `export_split` does."""
    from edgekit.split_exporting import export_split, split_network

    started = time.perf_counter()
    with progress("export") as show:
        show("cut")
        pictures = _pictures(model, request.calibrate) if request.calibrate else None
        network = split_network(model, request.layer, pictures)
        bundle, report = export_split(
            model, network, request.layer, target, folder, request.options, show
        )
    seconds = time.perf_counter() - started
    facts = bundle.manifest["split"]
    if json:
        print_json(
            {
                "bundle": str(folder),
                "target": target.name,
                "precision": bundle.manifest["precision"],
                "files": bundle.manifest["files"],
                "parity": report.to_json() if report else None,
                "weights": model.weights,
                "split": facts,
                "seconds": round(seconds, 2),
            }
        )
        return
    print(report.table() if report else "not verified (--no-verify)")
    for warning in bundle.manifest["warnings"]:
        print(f"warning: {warning}")
    sizes = {name: (folder / name).stat().st_size for name in bundle.manifest["files"]}
    device = sum(size for name, size in sizes.items() if name.startswith("head"))
    server = sum(size for name, size in sizes.items() if name.startswith("tail"))
    print(
        f"wrote {folder}: head {device / 1e6:.2f} MB for the device, tail {server / 1e6:.2f} MB for the server, "
        f"in {seconds:.1f} s"
    )


def _pictures(model: Model, folder: Path) -> Iterator[Tensor]:
    """As the model takes them, one at a time."""
    from edgekit.detection.picture_file import picture_files, read_picture
    from edgekit.split.picture import seen
    from edgekit.split_pictures import inputs_of, required_contract

    contract = required_contract(model)
    for path in picture_files(folder)[:MOST_PICTURES]:
        yield from inputs_of([seen(read_picture(path), contract).pixels], contract)
