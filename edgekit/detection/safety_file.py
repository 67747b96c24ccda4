"""A detector's filters as data beside it: tables in a safetensors file, numbers in the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edgekit.bundle import MANIFEST, Bundle, new_folder, write_manifest
from edgekit.detection.filter_logits import Energy, MaxLogit
from edgekit.detection.filter_mahalanobis import Mahalanobis
from edgekit.detection.filter_neighbours import Neighbours
from edgekit.detection.safety import Calibrated, Filter, Safety
from edgekit.errors import UsageError

FILE = "safety.safetensors"
ENTRY = "safety"
COUNTS = ("classes", "features", "pictures", "boxes")
WITHOUT_TABLES: Mapping[str, type[Energy | MaxLogit]] = {"energy": Energy, "max-logit": MaxLogit}

Array = npt.NDArray[np.generic]


def write_safety(bundle: Bundle, safety: Safety) -> Bundle:
    """Into the bundle, in place of such filters as it has.

    Raises MissingEnvironmentError where it cannot be written; it then stays as it was.
    """
    fields = {name: value for name, value in bundle.manifest.items() if name != "files"}
    entry = {
        **{name: getattr(safety, name) for name in (*COUNTS, "acceptance", "score")},
        "filters": {
            name: {"threshold": one.threshold, **_numbers(one.filter)}
            for name, one in safety.filters.items()
        },
    }
    with new_folder(bundle.path, force=True) as partial:
        shutil.copytree(bundle.path, partial, dirs_exist_ok=True)
        (partial / MANIFEST).unlink()
        try:
            save_file(_tables(safety), partial / FILE)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        manifest = write_manifest(partial, {**fields, ENTRY: entry})
    return Bundle(bundle.path, manifest)


def read_safety(bundle: Bundle) -> Safety:
    """Raises UsageError if it has none, or they are damaged or those of another detector."""
    entry = bundle.manifest.get(ENTRY)
    if entry is None:
        raise UsageError(
            f"{bundle.path.name} has no filters; make them of marked pictures with: edgekit calibrate "
            f"{bundle.path} ANNOTATIONS IMAGES."
        )
    path = bundle.path / FILE
    try:
        safety = _safety(entry, load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path}, or what the manifest says of it, is missing or damaged; run `edgekit calibrate` again."
        ) from error
    found = bundle.boxes.classes if bundle.boxes is not None else 0
    if safety.classes != found:
        raise UsageError(
            f"The filters in {bundle.path.name} are those of a detector with {safety.classes} classes, and it "
            f"has {found}; run `edgekit calibrate` again."
        )
    return safety


def _numbers(made: Filter) -> dict[str, object]:
    return {"k": made.k} if isinstance(made, Neighbours) else {}


def _tables(safety: Safety) -> dict[str, Array]:
    tables: dict[str, Array] = {}
    for name, one in safety.filters.items():
        if isinstance(one.filter, Mahalanobis):
            tables |= {f"{name}.means": one.filter.means, f"{name}.precision": one.filter.precision}
        elif isinstance(one.filter, Neighbours):
            tables[f"{name}.bank"] = one.filter.bank
    return {name: np.ascontiguousarray(table) for name, table in tables.items()}


def _safety(entry: Mapping[str, Any], tables: Mapping[str, Array]) -> Safety:
    """Raises KeyError, TypeError or ValueError."""
    counts = {name: int(entry[name]) for name in COUNTS}
    size = counts["features"]

    def table(name: str, rows: int | None = None) -> npt.NDArray[np.float32]:
        values = tables[name]
        shape = (values.shape[0] if rows is None else rows, size)
        if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
            raise ValueError(f"{name} has the shape {values.shape}")
        return values.astype(np.float32)

    filters = {}
    for name, told in entry["filters"].items():
        made: Filter
        if name == "mahalanobis":
            made = Mahalanobis(table(f"{name}.means"), table(f"{name}.precision", size))
        elif name == "knn":
            made = Neighbours(table(f"{name}.bank"), int(told["k"]))
            if not 1 <= made.k <= len(made.bank):
                raise ValueError(f"k is {made.k}")
        else:
            made = WITHOUT_TABLES[name]()
        filters[name] = Calibrated(made, float(told["threshold"]))
    return Safety(
        filters, acceptance=float(entry["acceptance"]), score=float(entry["score"]), **counts
    )
