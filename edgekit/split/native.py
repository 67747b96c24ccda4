"""The coder in C: built once by the system's compiler, kept in the user's cache, called by ctypes.

The source ships with the package; a phone or a server of another language compiles the same file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.errors import MissingEnvironmentError, UsageError, first_line
from edgekit.split.stream import Decoded, Ending, Symbols, check_channels
from edgekit.split.tables import Tables

SOURCES = ("rans.h", "rans.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
BUILD_SECONDS = 120
RANS_VERSION = 1
ENDINGS = {0: Ending.WHOLE, 1: Ending.CUT, 2: Ending.DAMAGED}
FALLBACK = "the coder in Python serves meanwhile, with the same bytes, 50 to 100 times slower"


class NativeCoder:
    """See `stream.Coder`; its calls leave the interpreter free for other threads."""

    name = "native"

    def __init__(self, library: Path) -> None:
        """Raises MissingEnvironmentError if the library cannot be loaded or is of another version."""
        try:
            self._library = ctypes.CDLL(str(library))
            version = self._library.ek_rans_version()
        except (OSError, AttributeError) as error:
            raise MissingEnvironmentError(
                f"The coder {library} cannot be loaded: {first_line(error)}; delete the file; {FALLBACK}."
            ) from error
        if version != RANS_VERSION:
            raise MissingEnvironmentError(
                f"The coder {library} has version {version}, not {RANS_VERSION}; delete the file."
            )
        self._library.ek_rans_bound.restype = ctypes.c_size_t

    def encode(self, tables: Tables, symbols: Symbols) -> bytes:
        symbols = np.ascontiguousarray(symbols, np.int32)
        channels, plane = symbols.shape
        check_channels(tables, channels)
        # Whoever compresses needs fewer than 4 bytes a symbol; the bound is for escapes alone.
        room = 2 * symbols.size + 64
        written = ctypes.c_size_t()
        while True:
            out = np.empty(room, np.uint8)
            status = self._library.ek_rans_encode(
                ctypes.byref(_struct(tables)), _pointer(symbols),
                ctypes.c_size_t(channels), ctypes.c_size_t(plane),
                _pointer(out), ctypes.c_size_t(room), ctypes.byref(written),
            )  # fmt: skip
            if status == 0:
                return out[: written.value].tobytes()
            bound = self._library.ek_rans_bound(ctypes.c_size_t(symbols.size))
            if status != 4 or room >= bound:
                raise _refusal(status, channels, plane)
            room = bound

    def decode(self, tables: Tables, stream: bytes, channels: int, plane: int) -> Decoded:
        check_channels(tables, channels)
        symbols = np.empty(channels * plane, np.int32)
        decoded = ctypes.c_size_t()
        status = self._library.ek_rans_decode(
            ctypes.byref(_struct(tables)), ctypes.c_char_p(stream),
            ctypes.c_size_t(len(stream)), ctypes.c_size_t(channels), ctypes.c_size_t(plane),
            _pointer(symbols), ctypes.byref(decoded),
        )  # fmt: skip
        if status not in ENDINGS:
            raise _refusal(status, channels, plane)
        return Decoded(symbols[: decoded.value], ENDINGS[status])


def _refusal(status: int, channels: int, plane: int) -> UsageError:
    return UsageError(f"The coder refuses {channels} planes of {plane} symbols (status {status}).")


class _TablesStruct(ctypes.Structure):
    _fields_ = (
        ("lower", ctypes.c_void_p),
        ("lower_count", ctypes.c_size_t),
        ("start", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("channels", ctypes.c_size_t),
    )


def _struct(tables: Tables) -> _TablesStruct:
    """Valid as long as the tables are."""
    flat = tables.flat
    return _TablesStruct(
        flat.lower.ctypes.data, flat.lower.size, flat.start.ctypes.data,
        flat.offset.ctypes.data, tables.channels,
    )  # fmt: skip


def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def build(folder: Path | None = None) -> Path:
    """The compiled coder in `folder` (default: the user's cache), built if it is not there yet.

    Its name holds a hash of source, compiler and machine, so that an update builds its own. Raises
    MissingEnvironmentError if there is no compiler, it fails, or the folder cannot be written.
    """
    compiler = _compiler()
    sources = {
        name: resources.files("edgekit.split").joinpath(name).read_bytes() for name in SOURCES
    }
    key = hashlib.sha256(
        repr((sources, compiler, FLAGS, platform.machine(), sys.platform)).encode()
    )
    folder = folder or cache_folder()
    library = folder / f"rans-{key.hexdigest()[:16]}.so"
    if library.is_file():
        return library
    try:
        # For this user alone: what lies here is loaded and run.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for name, source in sources.items():
                Path(place, name).write_bytes(source)
            _compile(compiler, Path(place))
            # Renamed, so that two processes that build at once both end with a whole file.
            (Path(place) / "rans.so").replace(library)
    except OSError as error:
        raise MissingEnvironmentError(
            f"The coder in C cannot be built in {folder}: {error.strerror or error}; set "
            f"EDGEKIT_CACHE to a folder that can be written; {FALLBACK}."
        ) from error
    return library


def cache_folder() -> Path:
    """EDGEKIT_CACHE, else edgekit/native/ in the cache folder of the system."""
    if own := os.environ.get("EDGEKIT_CACHE"):
        return Path(own)
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise MissingEnvironmentError(
            f"This user has no home folder to keep the coder in C in; set EDGEKIT_CACHE; {FALLBACK}."
        ) from error
    return caches / "edgekit" / "native"


def _compiler() -> list[str]:
    """The command of $CC, or the first compiler on the path."""
    own = os.environ.get("CC", "").split()
    found = shutil.which(own[0]) if own else next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        looked = f"{own[0]} (from $CC)" if own else ", ".join(COMPILERS)
        raise MissingEnvironmentError(
            f"No C compiler was found ({looked}); install gcc or clang, or set CC; {FALLBACK}."
        )
    return [found, *own[1:]]


def _compile(compiler: list[str], place: Path) -> None:
    command = [*compiler, *FLAGS, "rans.c", "-o", "rans.so"]
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, errors="replace",
            timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
    except OSError as error:
        raise MissingEnvironmentError(
            f"{compiler[0]} cannot be started: {error.strerror or error}; set CC to another compiler; {FALLBACK}."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MissingEnvironmentError(
            f"{compiler[0]} did not finish within {BUILD_SECONDS} s; {FALLBACK}."
        ) from error
    if done.returncode or not (place / "rans.so").is_file():
        complaint = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "")
        raise MissingEnvironmentError(
            f"{compiler[0]} cannot compile the coder in C (status {done.returncode}"
            f"{f': {complaint.strip()}' if complaint else ''}); set CC to another compiler; {FALLBACK}."
        )
