"""A run's folder: what was asked for, what was used, what was measured."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distillation.checkpoints import NEWEST, write_whole
from edgekit.errors import UsageError

RECIPE, VERSIONS, METRICS = "recipe.json", "versions.json", "metrics.jsonl"
CURVES, STUDENT = "curves.png", "student.safetensors"
PACKAGES = ("edgekit-vision", "torch", "lightning-fabric", "torchmetrics", "numpy", "av")


def resolved(value: Any) -> Any:
    """As JSON: dataclasses by their fields, functions and classes by name, modules by their sizes.

    It tells two recipes apart and lets a reader see what ran; nothing is ever built from it.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: resolved(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, **named} if named else type(value).__name__
    if isinstance(value, nn.Module):
        count = sum(parameter.numel() for parameter in value.parameters())
        return {"is": type(value).__name__, "parameters": count}
    if isinstance(value, Mapping):
        return {str(key): resolved(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if all(item is None or isinstance(item, str | int | float) for item in value):
            return list(value)
        return [resolved(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__name__


def described_data(data: Any) -> dict[str, Any]:
    """With what decides its items, if the data set tells it: `made_by`, a dataclass or a mapping."""
    made_by = getattr(data, "made_by", None)
    settings = {} if made_by is None else {"made_by": resolved(made_by)}
    return {"is": type(data).__name__, "items": len(data), **settings}


def digest(values: Iterable[object]) -> str:
    """Of what `str` makes of each: a recipe tells long lists apart without holding them."""
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:16]


def fingerprint(module: nn.Module) -> str:
    """Of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def open_folder(folder: Path, recipe: Mapping[str, Any], *, resume: bool) -> None:
    """Make the folder, or find in it a run of the same recipe.

    Raises UsageError where there is a run and none was to be resumed, or one of another recipe.
    """
    path = folder / RECIPE
    if not path.exists():
        if (folder / NEWEST).exists():
            raise UsageError(f"{folder} holds {NEWEST} but no {RECIPE}; give another folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"The folder {folder} cannot be made: {error.strerror}.") from error
        write_whole(path, _json(recipe))
        return
    require_resumed(folder, resume=resume)
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no valid JSON: {error}; give another folder.") from error
    # Through JSON, so that tuples compare as what the file has of them.
    if difference := _difference(there, json.loads(_json(recipe)), ""):
        raise UsageError(
            f"{folder} holds a run of another recipe: {difference}. Give another folder, or what the run "
            "was begun with."
        )


def require_resumed(folder: Path, *, resume: bool) -> None:
    """Raises UsageError where there is a run and none was to be resumed."""
    if not resume and (folder / RECIPE).exists():
        raise UsageError(
            f"{folder} holds a run; resume it (resume=True, --resume) or give another folder."
        )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _difference(there: Any, asked: Any, where: str) -> str:
    """The first one, as a clause; "" if there is none."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in [*there, *(key for key in asked if key not in there)]:
            inner = f"{where}.{key}" if where else key
            if key not in there or key not in asked:
                return f"{inner} is only {'there' if key in there else 'asked for'}"
            if found := _difference(there[key], asked[key], inner):
                return found
        return ""
    if isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        pairs = enumerate(zip(there, asked))
        return next((d for n, (a, b) in pairs if (d := _difference(a, b, f"{where}[{n}]"))), "")
    return "" if there == asked else f"{where} is {_short(there)} there, and {_short(asked)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def write_versions(folder: Path, stage: int, step: int, hardware: Mapping[str, Any]) -> None:
    """Append what computes from here on: a run that moved between versions says so."""
    path = folder / VERSIONS
    sessions = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    begun = {"stage": stage, "step": step}
    write_whole(path, _json([*sessions, {"from": begun, **hardware, "versions": versions}]))


def append_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    with (folder / METRICS).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines but one that a kill cut short."""
    path = folder / METRICS
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def forget_after(folder: Path, stages: Sequence[str], stage: int, step: int) -> None:
    """Drop what was logged after the checkpoint at this place: it will be logged again."""
    kept = [
        record
        for record in read_metrics(folder)
        if (stages.index(record["stage"]), record["step"]) <= (stage, step)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in kept)
    write_whole(folder / METRICS, lines.encode())


def save_student(state: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save

    write_whole(path, save({name: value.contiguous() for name, value in state.items()}))
