"""What the host gives away, by its address: the built page, one bundle, what to begin with, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import MANIFEST, Bundle
from edgekit.data_folder import data_folder
from edgekit.errors import MissingEnvironmentError, UsageError

INDEX = "index.html"
BUNDLE, INPUT, REFERENCE, HOST = "bundle/", "input", "reference", "host.json"
RUNTIME = "ort-"
"""Folders of the page named by the runtime's version: their files never change."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True)
class Served:
    """A file, or bytes, and how long a browser may keep them."""

    content: Path | bytes
    type: str = "application/octet-stream"
    sha256: str | None = None
    """What the address must name for the file to be kept for good; None: it may change."""
    is_fixed: bool = False
    """Whether the address itself is that of one version."""


def page_folder() -> Path:
    """Where the page was built. Raises MissingEnvironmentError if it was not."""
    source = data_folder("export") / "web"
    built = source / "dist"
    if not (built / INDEX).is_file():
        raise MissingEnvironmentError(
            f"The page has not been built here: run `npm ci && npm run build` in {source}, with Node 20 or newer."
        )
    return built


def site(
    page: Path,
    bundle: Bundle,
    split: str | None = None,
    input: Path | None = None,
    reference: Path | None = None,
) -> dict[str, Served]:
    """Every address without its leading slash.

    Args:
        split: where packets are passed on to.
        input: a picture, or an array for a decoder of videos, that the page begins with.
        reference: the video that should come of it, as an array.

    Raises:
        UsageError: the bundle is damaged, no browser runs it, or a file is missing.
    """
    if bundle.format != "onnx":
        raise UsageError(
            f"{bundle.path} is a {bundle.format} bundle and a browser runs ONNX; export it with --target onnx."
        )
    if changed := bundle.changed_files():
        raise UsageError(
            f"{changed[0]} of {bundle.path} is not the file that was exported; export the model again."
        )
    if reference is not None and input is None:
        raise UsageError("--reference is played beside what --input gives; name a latent with it.")
    given = {name: path for name, path in ((INPUT, input), (REFERENCE, reference)) if path}
    for path in given.values():
        if not path.is_file():
            raise UsageError(f"There is no file {path} to begin with.")
    about = {"split": split, **{name: name in given for name in (INPUT, REFERENCE)}}
    return {
        **_page(page),
        **_bundle(bundle),
        HOST: Served(json.dumps(about).encode(), TYPES[".json"]),
        **{name: Served(path) for name, path in given.items()},
    }


def _page(folder: Path) -> dict[str, Served]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            type = TYPES.get(path.suffix, Served.type)
            found[name] = Served(path, type, is_fixed=name.startswith(RUNTIME))
    return {"": found[INDEX], **found}


def _bundle(bundle: Bundle) -> dict[str, Served]:
    """Only what the manifest lists: a folder may hold other things."""
    files = {
        BUNDLE + name: Served(
            bundle.path / name, TYPES.get(Path(name).suffix, Served.type), sha256=digest
        )
        for name, digest in bundle.manifest["files"].items()
    }
    return {BUNDLE + MANIFEST: Served(bundle.path / MANIFEST, TYPES[".json"]), **files}
