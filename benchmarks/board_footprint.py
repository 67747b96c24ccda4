"""What the runner for boards takes of a machine: import time, resident memory step by step, bytes of the file.

python benchmarks/board_footprint.py BUNDLE [--python PYTHON]

PYTHON is that of an environment with numpy and onnxruntime alone; left out, the one that runs this.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

RUNNER = Path(__file__).parent.parent / "export" / "board" / "edgekit_runner.py"
TIMES = 5
"""Fresh processes; the median of each number is told."""
PROBE = """
import json, sys, time
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
def mark(name):
    told[name] = [(time.perf_counter() - started) * 1e3, time.process_time() * 1e3, resident() / 1024]
told, started = {}, time.perf_counter()
mark("Python alone")
import numpy
mark("numpy imported")
import onnxruntime
mark("onnxruntime imported")
sys.path.insert(0, sys.argv[1])
import edgekit_runner as board
mark("runner imported")
from pathlib import Path
folder = Path(sys.argv[2])
manifest = board.read_manifest(folder)
model = board.Model(folder, manifest, "recommended", board.parsed([str(folder), "--threads", "1"]))
mark("bundle checked and loaded")
found = model.run(board.read_golden(folder, "input."))
mark("golden input run")
told["passed"] = board.golden_check(manifest, board.read_golden(folder, "output."), found)["passed"]
told["versions"] = f"Python {sys.version.split()[0]}, numpy {numpy.__version__}, onnxruntime {onnxruntime.__version__}"
told["packages"] = ", ".join(sorted({name.partition(".")[0] for name in sys.modules if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "")}))
print(json.dumps(told))
"""


def probed(python: Path, bundle: Path) -> dict[str, Any]:
    command = [str(python), "-c", PROBE, str(RUNNER.parent), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the runner did not run there: {done.stderr.strip().splitlines()[-1]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    told = [probed(options.python, options.bundle.resolve()) for _ in range(TIMES)]
    print(f"{told[0]['versions']}; packages loaded: {told[0]['packages']}")
    print(f"{RUNNER.name}: {RUNNER.stat().st_size / 1024:.1f} KiB, {options.bundle.name}")
    print(f"{'until':28} {'ms':>8} {'ms of processor':>16} {'MiB resident':>14}")
    for step in [name for name, value in told[0].items() if isinstance(value, list)]:
        ms, processor_ms, size = (median(numbers) for numbers in zip(*(one[step] for one in told)))
        print(f"{step:28} {ms:8.0f} {processor_ms:16.0f} {size:14.1f}")
    print("golden pair:", "passed" if all(one["passed"] for one in told) else "FAILED")


if __name__ == "__main__":
    main()
