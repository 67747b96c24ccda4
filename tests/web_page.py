"""The page of export/web/, built once for all tests that open it, and a browser that opens it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "export" / "web"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LEAST_NODE = 20
SECONDS = 300


def needed(*names: str) -> str:
    """The first of these programs that is there; else skips, but not where CI must have it."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"{names[0]} is not installed, which the page in the browser is tested with"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found


def installed() -> Path:
    """The folder with what `npm ci` installs, once for each lock file."""
    npm = needed("npm")
    said = subprocess.run([needed("node"), "--version"], capture_output=True, text=True).stdout
    if int(said.removeprefix("v").partition(".")[0]) < LEAST_NODE:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"the page needs Node {LEAST_NODE}, not {said.strip()}"
        )
    stamp = SOURCE / "node_modules" / ".installed"
    lock = (SOURCE / "package-lock.json").read_text()
    if not stamp.is_file() or stamp.read_text() != lock:
        _run([npm, "ci", "--no-audit", "--no-fund"])
        stamp.write_text(lock)
    return SOURCE


def built() -> Path:
    """The page, of the sources as they are now."""
    npm("run", "build")
    return SOURCE / "dist"


def npm(*arguments: str, **environment: str) -> str:
    """What it printed. Raises AssertionError with that where it failed."""
    return _run([needed("npm"), *arguments], installed(), environment)


@contextmanager
def served(bundle: Path, *arguments: str) -> Iterator[str]:
    """The address of `edgekit serve BUNDLE` in a process of its own."""
    command = [sys.executable, "-m", "edgekit", "serve", str(bundle)]
    command += ["--no-browser", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"http://\S+/", said)
            assert found, said
            yield found[0]
        finally:
            process.terminate()


def browsed(address: str, *arguments: str) -> dict[str, Any]:
    """What the page reports in a fresh browser, which has no memory of others."""
    script = str(SOURCE / "browse.mjs")
    chromium = needed(*CHROMIUM)
    out = _run([needed("node"), script, address, "--chromium", chromium, *arguments])
    report: dict[str, Any] = json.loads(out)
    return report


def _run(
    command: Sequence[str], folder: Path = SOURCE, environment: dict[str, str] | None = None
) -> str:
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, text=True,
        capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{' '.join(command)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
