"""Time and memory of `edgekit export turbo-vaed-ltx --target coreml` at 128x192, 9 frames.

    python benchmarks/export_ltx.py [--precision fp16]

Runs the command in a fresh process, verification included, and prints wall seconds and the
process's peak resident memory (ru_maxrss of the child).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--target", default="coreml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "edgekit", "export", "turbo-vaed-ltx"),
            *("--target", arguments.target, "--precision", arguments.precision),
            *("--size", "128x192", "--frames", "9", "-o", str(Path(folder) / "ltx.bundle")),
        ]
        started = time.perf_counter()
        done = subprocess.run(command, check=False)
        seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.returncode)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit_bytes / 2**30
    print(f"{seconds:.1f} s, peak resident memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
