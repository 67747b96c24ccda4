"""Bundles: a folder with model file(s), `manifest.json` and a golden input/output pair."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.image_contract import ImageContract
from edgekit.report import Gate
from edgekit.video_latent import LatentScaling

Array = npt.NDArray[np.generic]
MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
GOLDEN_INPUT, GOLDEN_OUTPUT, GOLDEN_PART = "input.", "output.", "part."
FIELDS: dict[str, Any] = {
    "schema": int, "name": str, "family": str | None, "model": str, "format": str, "target": str,
    "precision": str, "files": dict, "rewrites": dict,
}  # fmt: skip
"""What every manifest holds beside its contract."""


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
        return Gate.from_json(self.manifest["gate"])

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

    @property
    def image_contract(self) -> ImageContract | None:
        """Of a model with a recipe that takes images, at the size of the file."""
        declared = self.manifest.get("image")
        if declared is None:
            return None
        spec = self.inputs[0]
        height, width = (spec.shape[spec.axes.index(axis)] for axis in "HW")
        return ImageContract.from_manifest(declared, height, width)

    @property
    def boxes(self) -> Boxes | None:
        """Of a detector."""
        contract = self.image_contract
        output = contract.output if contract is not None else None
        return output if isinstance(output, Boxes) else None

    @property
    def takes_pixels(self) -> bool:
        """Whether the file takes colours from 0 to 255 and normalises them itself."""
        return bool(self.manifest.get("takes_pixels", False))

    @property
    def suppression(self) -> Thresholds | None:
        """Of a detector's file that suppresses overlapping boxes itself."""
        data = self.manifest.get("suppression")
        return Thresholds(**data) if data is not None else None

    @property
    def tells_evidence(self) -> bool:
        """Whether a detector's file gives logits and features too, for filters of hallucinations."""
        return bool(self.manifest.get("evidence", False))

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Inputs and eager float32 outputs of the model that was exported, by name.

        Raises UsageError if they cannot be read.
        """
        return self._golden(GOLDEN_INPUT), self._golden(GOLDEN_OUTPUT)

    def golden_parts(self) -> dict[str, Array]:
        """What the parts of a split model compute of the golden input, eager. Raises UsageError."""
        return self._golden(GOLDEN_PART)

    def _golden(self, prefix: str) -> dict[str, Array]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(self.path / GOLDEN)
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"{self.path / GOLDEN} is missing or damaged; export the model again."
            ) from error
        return {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }

    def golden_inputs(self) -> dict[str, Array]:
        """Without the outputs, which can be larger than all else. Raises UsageError."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / GOLDEN, framework="numpy") as file:
                names = [key for key in file.keys() if key.startswith(GOLDEN_INPUT)]  # noqa: SIM118
                return {key.removeprefix(GOLDEN_INPUT): file.get_tensor(key) for key in names}
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"{self.path / GOLDEN} is missing or damaged; export the model again."
            ) from error

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
        if path.is_file() and (path.parent / MANIFEST).is_file():
            raise UsageError(f"{path} is a file of the bundle {path.parent}; give that folder.")
        is_there = "it is a file" if path.is_file() else f"it has no {MANIFEST}"
        why = is_there if path.exists() else "it does not exist"
        raise UsageError(f"{path} is no bundle: {why}; `edgekit export` writes one.")
    try:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        bundle = Bundle(path, data)
        _ = (bundle.gate, bundle.inputs, bundle.outputs, bundle.scaling)
        _ = (bundle.image_contract, bundle.suppression)
        for field, kind in FIELDS.items():
            if not isinstance(data[field], kind):
                raise TypeError(f"'{field}' is {data[field]!r}")
    except KeyError as error:
        raise UsageError(f"{manifest} is damaged (no {error}); export the model again.") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{manifest} is damaged ({error}); export the model again.") from error
    return bundle


@contextmanager
def new_folder(
    target: Path, *, force: bool, ours: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """A folder to write in, renamed to `target` at the end; nothing is left if writing fails.

    Args:
        ours: whether a folder may be replaced by force; None: if it is a bundle.

    Raises:
        UsageError: `target` exists and `force` is false, or is not what may be replaced.
        MissingEnvironmentError: the disk is full or the place cannot be written.
    """
    require_free(target, force=force, ours=ours)
    target = target.absolute()
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    replaced = target.parent / f".{target.name}.replaced-{os.getpid()}"
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        for leftover in (partial, replaced):  # of a killed process that had this number
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        _as_umask_says(partial)
        if target.exists():
            target.replace(replaced)
        partial.replace(target)
    except OSError as error:
        raise _unwritable(target, _reason(error)) from error
    finally:
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        for folder in (partial, replaced):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # it holds the bundle, or was never made
                folder.rmdir()


def _as_umask_says(folder: Path) -> None:
    """Libraries write through private temporary files, which nobody else could then read."""
    masked = os.umask(0)
    os.umask(masked)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod((0o777 if path.is_dir() else 0o666) & ~masked)


def require_free(target: Path, *, force: bool, ours: Callable[[Path], bool] | None = None) -> None:
    """Check that a bundle, or a folder of the kind that `ours` knows, may be written at `target`.

    Raises:
        UsageError: it exists and `force` is false, or it is something else.
        MissingEnvironmentError: its folder cannot be written.
    """
    if not target.exists():
        home = next(folder for folder in target.absolute().parents if folder.exists())
        if not home.is_dir():
            raise _unwritable(target, f"{home} is a file")
        if not os.access(home, os.W_OK | os.X_OK):
            raise _unwritable(target, f"{home} may not be written")
        return
    if not force:
        raise UsageError(
            f"{target} exists; choose another place with -o, or replace it with --force."
        )
    if ours is not None:
        if not ours(target):
            raise UsageError(
                f"{target} is something else than what goes there, so --force does not replace it; choose "
                "another -o."
            )
        return
    try:
        open_bundle(target)  # other programs have a manifest.json too
    except UsageError as error:
        raise UsageError(
            f"{target} is no bundle, so --force does not replace it; choose another -o."
        ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # of a tree: (source, destination, reason) per file
        return str(error.args[0][0][2]).partition(": ")[0]
    return error.strerror or str(error)


def _unwritable(target: Path, reason: str) -> MissingEnvironmentError:
    return MissingEnvironmentError(
        f"{target} cannot be written: {reason}; choose another place with -o."
    )


def write_golden(
    folder: Path,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    parts: Mapping[str, Array] = MappingProxyType({}),
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    kinds = ((GOLDEN_INPUT, inputs), (GOLDEN_OUTPUT, outputs), (GOLDEN_PART, parts))
    tensors = {
        prefix + name: np.ascontiguousarray(value)
        for prefix, arrays in kinds
        for name, value in arrays.items()
    }
    try:
        save_file(tensors, folder / GOLDEN)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error


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
