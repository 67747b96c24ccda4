"""Bundles: a folder with model file(s), `manifest.json` and a golden input/output pair."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.contract import TensorSpec
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.report import Gate
from edgekit.video_latent import LatentScaling

Array = npt.NDArray[np.generic]
MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
GOLDEN_INPUT, GOLDEN_OUTPUT = "input.", "output."


@dataclass(frozen=True)
class Bundle:
    """An exported model on disk, with what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def model_file(self) -> Path:
        return self.path / str(self.manifest["model"])

    @property
    def format(self) -> str:
        return str(self.manifest["format"])

    @property
    def gate(self) -> Gate:
        return Gate(float(self.manifest["gate_psnr_db"]))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec.from_json(spec) for spec in self.manifest["inputs"])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec.from_json(spec) for spec in self.manifest["outputs"])

    @property
    def scaling(self) -> LatentScaling | None:
        data = self.manifest.get("latent_scaling")
        return LatentScaling.from_json(data) if data is not None else None

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Inputs and eager float32 outputs of the model that was exported, by name."""
        from safetensors.numpy import load_file

        tensors = load_file(self.path / GOLDEN)
        return (
            {key.removeprefix(GOLDEN_INPUT): value for key, value in tensors.items() if key.startswith(GOLDEN_INPUT)},
            {key.removeprefix(GOLDEN_OUTPUT): value for key, value in tensors.items() if key.startswith(GOLDEN_OUTPUT)},
        )  # fmt: skip

    def changed_files(self) -> list[str]:
        """Files that are missing or are not the ones that were exported."""
        files: Mapping[str, str] = self.manifest["files"]
        return [
            name
            for name, digest in files.items()
            if not (self.path / name).is_file() or sha256(self.path / name) != digest
        ]


def open_bundle(path: Path) -> Bundle:
    """Raises UsageError if there is no bundle, or its manifest cannot be read."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise UsageError(f"{path} is no bundle: it has no {MANIFEST}; `edgekit export` writes one.")
    try:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        bundle = Bundle(path, data)
        _ = (
            bundle.model_file,
            bundle.format,
            bundle.gate,
            bundle.inputs,
            bundle.outputs,
            data["files"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{manifest} is damaged ({error}); export the model again.") from error
    return bundle


@contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A folder to write in, renamed to `target` at the end; nothing is left if writing fails.

    Raises:
        UsageError: `target` exists and `force` is false, or is not a bundle that may be replaced.
        MissingEnvironmentError: the disk is full or the place cannot be written.
    """
    require_free(target, force=force)
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    except OSError as error:
        raise MissingEnvironmentError(
            f"{target} cannot be written: {error.strerror or error}; choose another place with -o."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_free(target: Path, *, force: bool) -> None:
    """Raise UsageError unless a bundle may be written at `target`."""
    if not target.exists():
        return
    if not force:
        raise UsageError(
            f"{target} exists; choose another place with -o, or replace it with --force."
        )
    if not (target / MANIFEST).is_file():
        raise UsageError(
            f"{target} is no bundle, so --force does not replace it; choose another -o."
        )


def write_golden(folder: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    from safetensors.numpy import save_file

    tensors = {GOLDEN_INPUT + name: np.ascontiguousarray(value) for name, value in inputs.items()}
    tensors |= {
        GOLDEN_OUTPUT + name: np.ascontiguousarray(value) for name, value in outputs.items()
    }
    save_file(tensors, folder / GOLDEN)


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write `fields` and the hashes of all files in `folder`; returns what was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {str(path.relative_to(folder).as_posix()): sha256(path) for path in files}
    manifest = {**fields, "files": hashes}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
