"""Every model to every target and precision: parity, size of the file, seconds.

    python benchmarks/all_variants.py [leyolo-large codenet-e ...]

Weights are the bundled ones or random ones (parity of a file does not depend on training); sizes
are the smallest with more than one latent step, and 64x64 for images, so that this takes minutes. Of
several outputs the worst is shown, and of detectors the boxes of the model that the file has too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import edgekit
from edgekit.errors import ConversionError, ParityError
from edgekit.exporting import ExportOptions, export_model
from edgekit.image_contract import ImageContract
from edgekit.model import Model
from edgekit.recipe import all_recipes, find_recipe
from edgekit.target import find_target
from edgekit.video_latent import VideoContract


def small_size(contract: VideoContract | ImageContract) -> tuple[int, int | None]:
    """Side in pixels and frames."""
    if isinstance(contract, ImageContract):
        return 64, None
    latent = contract.latent
    steps = 2 if latent.frame_stride > 1 else 5
    lead = 1 if latent.lead_frame else 0
    side = latent.stride * (2 if latent.stride > 8 else 4)
    return side, latent.frame_stride * (steps - lead) + lead


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all models")
    names = parser.parse_args().names
    print("| model | target | precision | PSNR dB | max abs | boxes | file MB | s |")
    print("|---|---|---|---|---|---|---|---|")
    for recipe in [find_recipe(name) for name in names] or all_recipes():
        side, frames = small_size(recipe.contract)
        model = edgekit.load(recipe.name, height=side, width=side, frames=frames)
        for target in ("coreml", "onnx"):
            for precision in ("fp32", "fp16"):
                cells = " | ".join(exported(model, target, precision))
                print(f"| {recipe.name} | {target} | {precision} | {cells} |", flush=True)


def exported(model: Model, target: str, precision: str) -> list[str]:
    """What stands in the row; of a file that is not what it should be, why."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        options = ExportOptions(precision, simplify=False)
        try:
            bundle, report = export_model(model, find_target(target), Path(folder) / "b", options)
        except (ConversionError, ParityError) as error:
            return ["failed", str(error), "", "", ""]
        seconds = time.perf_counter() - started
        assert report is not None
        worst = min(report.outputs, key=lambda output: output.psnr_db)
        seen = report.detections
        boxes = f"{seen.matched} of {seen.expected}" if seen else "-"
        files = [path for path in bundle.model_file.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files or [bundle.model_file]) / 1e6
    return [
        f"{worst.psnr_db:.1f}", f"{worst.max_abs:.1e}", boxes, f"{size:.1f}", f"{seconds:.0f}"
    ]  # fmt: skip


if __name__ == "__main__":
    main()
