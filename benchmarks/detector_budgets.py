"""Every detector under a memory budget: activations whole and planned, and boxes matched by the planned file.

    python benchmarks/detector_budgets.py [leyolo-nano ...]

Each at its recipe's size. The floor is the least that any plan reaches; the budget lies a quarter of the way
from there to the whole peak, and its ONNX file is verified by matched boxes. Weights are the bundled ones or
random. A plan costs minutes for the deepest of them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from detector_latency import detectors

import edgekit

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all detectors")
    asked = parser.parse_args()
    print("| model | whole MiB | floor MiB | budget MiB | MACs | boxes | what sets the floor |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.names or detectors():
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {' | '.join(measured(name, Path(folder)))} |", flush=True)


def measured(name: str, folder: Path) -> list[str]:
    model = edgekit.load(name)
    least = edgekit.memory_plan(model).trade[-1]
    whole = least.whole_peak_bytes
    budget = least.peak_bytes + (whole - least.peak_bytes) // 4
    plan = edgekit.memory_plan(model, memory_budget=budget)
    cells = [name, *(f"{size / MIB:.2f}" for size in (whole, least.peak_bytes, budget))]
    bundle = edgekit.export(
        model, output=folder / "planned", memory_budget=budget, simplify=False, verify=False
    )
    report = edgekit.verify(bundle)
    boxes = report.detections
    seen = "none" if boxes is None else f"{boxes.matched} of {boxes.expected} matched"
    cells += [f"{plan.overhead:+.1%}", f"{seen}, {'pass' if report.passed else 'FAIL'}"]
    return [*cells, plan.floor.operator if plan.floor else ""]


if __name__ == "__main__":
    main()
