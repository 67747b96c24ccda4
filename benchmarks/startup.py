"""How long `edgekit --help` takes, and what `import edgekit` loads.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

HEAVY = ("torch", "coremltools", "onnx", "onnxruntime", "numpy")


def main() -> None:
    seconds = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edgekit", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    print(f"edgekit --help: median {statistics.median(seconds):.3f} s of {len(seconds)}")
    script = f"import edgekit, sys; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    print(f"import edgekit loads of {', '.join(HEAVY)}: {loaded.stdout.strip()}")


if __name__ == "__main__":
    main()
