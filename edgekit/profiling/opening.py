"""How long a bundle takes from a fresh process to its first result.

python -m edgekit.profiling.opening BUNDLE THREADS     prints one JSON object, times in milliseconds
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import UsageError, first_line


@dataclass(frozen=True)
class Opening:
    """Milliseconds in a fresh process, after its imports."""

    cold_ms: float
    """The first time, with the files out of the system's cache where `is_cold`."""
    first_run_ms: float
    warm_ms: float
    """Once more, in the same process."""
    is_cold: bool
    """Whether this system can be asked to forget files; files that are open elsewhere it keeps."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_opening(bundle: Bundle, threads: int) -> Opening:
    """Raises UsageError if the process ends before it has answered."""
    command = [sys.executable, "-m", __name__, str(bundle.path.resolve()), str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(
            f"The process that opened {bundle.path.name} ended with code {done.returncode}: {last.rstrip('.')}."
        )
    return Opening(**json.loads(done.stdout.splitlines()[-1]))


def _evict(folder: Path) -> bool:
    """Asks the system to forget the files, so that opening them reads the disk."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def main(folder: str, threads: str) -> None:
    from edgekit.profiling.opened import Sessions, open_for_measuring

    bundle = open_bundle(Path(folder))
    inputs = bundle.golden_inputs()
    is_cold = _evict(bundle.path)
    started = time.perf_counter()
    opened = open_for_measuring(bundle, Sessions(int(threads)), inputs)
    cold = time.perf_counter()
    opened.run()
    ran = time.perf_counter()
    open_for_measuring(bundle, Sessions(int(threads)), inputs)
    warm = time.perf_counter()
    print(  # noqa: T201  # the answer
        json.dumps(
            asdict(Opening((cold - started) * 1e3, (ran - cold) * 1e3, (warm - ran) * 1e3, is_cold))
        )
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UsageError as error:
        sys.exit(first_line(error))
