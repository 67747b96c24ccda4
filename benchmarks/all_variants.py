"""Every model to every target and precision: parity, size of the file, seconds.

    python benchmarks/all_variants.py

Weights are the bundled ones or random ones (parity of a file does not depend on training); sizes
are the smallest with more than one latent step, and 64x64 for images, so that this takes minutes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import edgekit
from edgekit.exporting import ExportOptions, export_model
from edgekit.image_contract import ImageContract
from edgekit.recipe import all_recipes
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
    print("| model | target | precision | PSNR dB | max abs | file MB | s |")
    print("|---|---|---|---|---|---|---|")
    for recipe in all_recipes():
        side, frames = small_size(recipe.contract)
        model = edgekit.load(recipe.name, height=side, width=side, frames=frames)
        for target in ("coreml", "onnx"):
            for precision in ("fp32", "fp16"):
                with tempfile.TemporaryDirectory() as folder:
                    started = time.perf_counter()
                    options = ExportOptions(precision, simplify=False)
                    bundle, report = export_model(
                        model, find_target(target), Path(folder) / "b", options
                    )
                    seconds = time.perf_counter() - started
                    assert report is not None
                    (output,) = report.outputs
                    files = [path for path in bundle.model_file.rglob("*") if path.is_file()]
                    size = sum(path.stat().st_size for path in files or [bundle.model_file]) / 1e6
                print(
                    f"| {recipe.name} | {target} | {precision} | {output.psnr_db:.1f} "
                    f"| {output.max_abs:.1e} | {size:.1f} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
