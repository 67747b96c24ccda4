"""Turbo-VAED-LTX, 17 frames at 1280x736, decoded by a memory plan in onnxruntime.

    edgekit export turbo-vaed-ltx --target onnx --size 736x1280 --frames 17 --memory-budget 480MiB -o ltx.bundle
    python benchmarks/plan_ltx.py ltx.bundle

Prints the high-water mark of this whole process (Python, onnxruntime, weights, windows, the decoded
clip), and the difference to the model's own decode that the export put into the bundle, read afterwards.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open

from edgekit.bundle import GOLDEN, open_bundle
from edgekit.plan.runner import open_runnable


def high_water_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    bundle = open_bundle(parser.parse_args().bundle)
    with safe_open(str(bundle.path / GOLDEN), "np") as golden:
        latent = golden.get_tensor("input.latent")
        file = open_runnable(bundle)
        print(f"models open: {high_water_mib():.0f} MiB")
        started = time.perf_counter()
        video = file.run({"latent": latent})["video"]
        seconds = time.perf_counter() - started
        print(f"decoded {video.shape} in {seconds:.1f} s: process peak {high_water_mib():.0f} MiB")
        difference = float(np.abs(video - golden.get_tensor("output.video")).max())
    print(f"largest difference to the model in eager torch: {difference:.1e}")


if __name__ == "__main__":
    main()
