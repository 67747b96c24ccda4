"""What the page of `edgekit serve` computes and takes in a headless Chromium: python benchmarks/web_host.py [FOLDER]

The difference of a tiled network from Python's run, the memory of WebAssembly whole and in tiles (each in a
fresh browser, since it only grows), and how long a detector's first boxes take once its files are cached.
Needs node, npm and chromium. FOLDER keeps the bundles and the screenshots.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import edgekit
from edgekit.bundle import Bundle, open_bundle
from edgekit.plan.plan import read_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from web_page import browsed, built, served

MIB = 2**20


def exported(folder: Path, model: str, size: tuple[int, int], tiles: str | None = None) -> Bundle:
    """From `folder` if it is there already: an export takes longer than the page."""
    path = folder / f"{model}-{size[0]}{f'-{tiles}' if tiles else ''}.bundle"
    if path.exists():
        return open_bundle(path)
    loaded = edgekit.load(model, height=size[0], width=size[1])
    return edgekit.export(loaded, output=path, tiles=tiles, simplify=False)


def tiles(folder: Path, side: int, tiling: str) -> None:
    whole = exported(folder, "unet-c16", (side, side))
    tiled = exported(folder, "unet-c16", (side, side), tiling)
    reports = {}
    for name, bundle in (("whole", whole), ("tiled", tiled)):
        with served(bundle.path) as address:
            shot = ["--screenshot", str(folder / f"unet-{name}.png")]
            reports[name] = browsed(f"{address}?threads=1&seconds=0", "--outputs", *shot)
    (expected,) = edgekit.run(tiled, next(iter(tiled.golden()[0].values())))
    told = reports["tiled"]["outputs"]["picture"]
    found = np.frombuffer(base64.b64decode(told["base64"]), told["dtype"]).reshape(told["shape"])
    off = float(np.abs(found - expected).max())
    print(f"unet-c16 {side}x{side} in {tiling} tiles, against Python: off by {off:.2g} at most")
    rows = {name: memory_row(report) for name, report in reports.items()}
    for name, row in rows.items():
        print(
            f"  {name}: "
            + ", ".join(f"{what} {count / MIB:.1f} MiB" for what, count in row.items())
        )
    plan = read_plan(tiled.path)
    assert plan is not None
    factors = {what: rows["whole"][what] / max(1, rows["tiled"][what]) for what in rows["whole"]}
    print(f"  planned: {plan.whole_peak_bytes / plan.peak_bytes:.1f} times less; measured:")
    for what in ("WebAssembly's memory", "written to", "activations"):
        print(f"    {what}: {factors[what]:.1f} times less")


def memory_row(report: dict[str, Any]) -> dict[str, int]:
    memory = report["memory_bytes"]
    now, before, host = memory["wasm"], memory["wasm_before"], memory["host_peak_bytes"]
    return {
        "WebAssembly's memory": now["bytes"],
        "written to": now["touched_bytes"],
        "before the first run": before["touched_bytes"],
        "arrays between windows": host,
        "activations": now["touched_bytes"] - before["touched_bytes"] + host,
    }


def detector(folder: Path) -> None:
    bundle = exported(folder, "leyolo-composites", (256, 256))
    picture = folder / "picture.png"
    random = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    Image.fromarray(random).resize((1280, 720), Image.Resampling.BICUBIC).save(picture)
    with served(bundle.path, "--input", str(picture)) as address:
        shot = ["--screenshot", str(folder / "detector.png")]
        report = browsed(f"{address}?threads=1&seconds=3", "--again", *shot)
    first, cached = report["first_visit"], report
    print(
        "leyolo-composites 256x256 of a picture of 1280x720, one thread, since the page was asked for:"
    )
    for name, visit in (("first visit", first), ("cached", cached)):
        steps = (("open", "opened_ms"), ("golden pair", "proved_ms"), ("boxes", "first_result_ms"))
        print(f"  {name}: " + ", ".join(f"{step} {visit[key] / 1000:.2f} s" for step, key in steps))
    latency = {name: round(report["latency_ms"][name], 1) for name in ("p50", "p90", "min")}
    print(f"  network: {json.dumps(latency)} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=1024, help="of the tiled picture, in pixels")
    parser.add_argument("--tiles", default="4x4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        built()
        detector(folder)
        tiles(folder, options.side, options.tiles)


if __name__ == "__main__":
    main()
