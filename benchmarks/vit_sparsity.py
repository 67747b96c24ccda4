"""Accuracy of a small vision transformer on Fashion-MNIST, with less of it; and the time that DeiT-Tiny's layers take.

    python tests/fetch_assets.py fashion_mnist
    python benchmarks/vit_sparsity.py --run runs/vit
    python benchmarks/vit_sparsity.py --times

Trains the transformer on labels, then leaves out blocks of its linear layers by magnitude and by LPViT's estimate (with
and without power), and heads and hidden units by their effect on the output and by masks that are trained (VIB).
Everything learns again for --again steps from the whole network; masks train for --masks steps before. Accuracy is that on
--test held-out pictures, untrained and trained. With --times: medians of onnxruntime's processor time in turns, one thread,
of two blocks of DeiT-Tiny at 224x224 with blocks of 32x32, dense, with zeros and as bands of blocks; and file sizes, also of
Core ML packages.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.bottleneck_pruning import prune_by_bottleneck
from edgekit.compress.blocks.options import BlockOptions, Magnitude, SecondOrder
from edgekit.compress.blocks.sparse import BlockPruned, block_prune_model
from edgekit.compress.pruning.bottleneck import BottleneckOptions
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import Pruned, prune_model
from edgekit.distillation import AdamW, Cosine, Loss, Outputs, Stage
from edgekit.distillation.loop import distill
from edgekit.distillation.network_inputs import Inputs
from edgekit.distillation.recovery import recover
from edgekit.exporting import ExportOptions, export_model
from edgekit.model import Model, model_of_module
from edgekit.target import Target, find_target
from edgekit.zoo.vision_transformer import VisionTransformer, VisionTransformerConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

SMALL = VisionTransformerConfig(28, 7, 64, 4, 2, 10, colours=1)
TWO_BLOCKS = VisionTransformerConfig(224, 16, 192, 2, 3, 1000)
BATCH = 64
LEARNING = """batch_size = 64
learning_rate = 1e-3
warmup = 10
clip_norm = 1.0
"""
RECOVERY = LEARNING + "weight_decay = 0.0\nema = 0.9\n"
MASKS = LEARNING + "information = 0.05\noverrun = 1.0\n"
RESIDUAL = ("patch_embed",)
"""Channels of all tokens: they pass norms, whose statistics change with them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("vit-sparsity.run"))
    parser.add_argument("--steps", type=int, default=400, help="of the whole network")
    parser.add_argument("--again", type=int, default=60, help="of each smaller one")
    parser.add_argument("--masks", type=int, default=240)
    parser.add_argument("--keep", type=float, nargs="*", default=[0.5, 0.25])
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--turns", type=int, default=40)
    asked = parser.parse_args()
    if asked.times:
        times(asked.keep, asked.turns)
    else:
        accuracies(asked)


def accuracies(asked: argparse.Namespace) -> None:
    images, labels = clothes("train")
    test = tuple(part[: asked.test] for part in clothes("t10k"))
    torch.manual_seed(0)
    stage = Stage(
        "labels", [Loss("labels", cross_entropy)], asked.steps, batch_size=BATCH, clip_norm=1.0,
        optimiser=AdamW(2e-3, (0.9, 0.99), 1e-2, 1e-8), rate=Cosine(40),
    )  # fmt: skip
    items = TensorDataset(images, labels)
    trained = distill(
        VisionTransformer(SMALL), None, items, [stage], run=asked.run / "whole", resume=True
    )
    whole = model_of_module(trained.model.module, images[:1], "whole")
    print(f"whole: {accuracy(whole.module, *test):.2%} of {len(test[1])}", flush=True)
    batches = [images[start : start + 8] for start in range(0, 128, 8)]
    inputs = Inputs(images, lambda stacked: stacked)
    (asked.run / "recovery.toml").write_text(RECOVERY)
    (asked.run / "masks.toml").write_text(MASKS)
    for keep in asked.keep:
        blocks = BlockOptions(keep, (16, 16))
        channels = PruneOptions(keep, round_to=16, ratios="importance", ignored=RESIDUAL)
        masks = BottleneckOptions(asked.masks, keep, 16, ignored=RESIDUAL)
        rows: dict[str, Pruned | BlockPruned] = {
            "blocks, magnitude": block_prune_model(whole, replace(blocks, by=Magnitude()), batches),
            "blocks, LPViT without power": block_prune_model(
                whole, replace(blocks, by=SecondOrder(power=0)), batches
            ),
            "blocks, LPViT": block_prune_model(whole, blocks, batches),
            "channels, output": prune_model(whole, channels, batches),
            "channels, VIB masks": prune_by_bottleneck(
                whole, masks, inputs, batches, run=asked.run / f"masks-{keep}",
                numbers=asked.run / "masks.toml", resume=True,
            ),
        }  # fmt: skip
        for name, found in rows.items():
            run = asked.run / f"{name.replace(', ', '-').replace(' ', '-')}-{keep}"
            learned = recover(
                found.model, whole, inputs, asked.again, run=run, resume=True,
                numbers=asked.run / "recovery.toml", zeros_stay=isinstance(found, BlockPruned),
            )  # fmt: skip
            before, after = (accuracy(model.module, *test) for model in (found.model, learned))
            numbers = sum(int(p.count_nonzero()) for p in learned.module.parameters())
            left = found.macs[1] / found.macs[0]
            print(
                f"keep {keep}: {name:28} {left:.1%} of the work, {numbers:7,} numbers, {before:.2%} untrained, "
                f"{after:.2%} after {asked.again} steps",
                flush=True,
            )


def times(keeps: list[float], turns: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224)
    whole = model_of_module(VisionTransformer(TWO_BLOCKS).eval(), image, "whole")
    models = {"dense": whole}
    for keep in keeps:
        options = BlockOptions(keep, by=Magnitude())
        models[f"blocks, keep {keep}"] = block_prune_model(whole, options, [image]).model
        narrow = PruneOptions(keep, importance="magnitude", ratios="uniform")
        models[f"channels, keep {keep}"] = prune_model(whole, narrow, [image]).model
    with tempfile.TemporaryDirectory() as folder:
        sessions, sizes = {}, {}
        plain = replace(find_target("onnx"), rules=())
        for name, model in models.items():
            forms = {name: find_target("onnx")}
            if name.startswith("blocks"):
                forms[f"{name}, as zeros"] = plain
            for label, target in forms.items():
                file = exported(model, target, Path(folder) / label)
                sizes[label] = file.stat().st_size
                settings = session_settings(SessionOptions(threads=1))
                sessions[label] = onnxruntime.InferenceSession(
                    str(file), settings, providers=["CPUExecutionProvider"]
                )
        taken: dict[str, list[float]] = {label: [] for label in sessions}
        for turn in range(turns + 2):
            for label, session in sessions.items():
                given = {session.get_inputs()[0].name: image.numpy()}
                started = time.process_time()
                session.run(None, given)
                ms = 1e3 * (time.process_time() - started)
                if turn > 1:  # the first two warm up
                    taken[label].append(ms)
        dense = statistics.median(taken["dense"])
        for label, found in taken.items():
            median = statistics.median(found)
            print(
                f"{label:30} {median:6.2f} ms, {median / dense:.2f} of dense, {sizes[label] / 1e6:.2f} MB",
                flush=True,
            )
        for name, model in models.items():
            if not name.startswith("channels"):
                package = exported(model, find_target("coreml"), Path(folder) / f"{name} coreml")
                size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
                print(f"{name:30} Core ML package of {size / 1e6:.2f} MB, verified", flush=True)


def exported(model: Model, target: Target, folder: Path) -> Path:
    bundle, _ = export_model(model, target, folder, ExportOptions(simplify=False))
    return bundle.path / str(bundle.manifest["model"])


def cross_entropy(batch: tuple[Tensor, Tensor], student: Outputs, _teacher: Outputs) -> Tensor:
    return F.cross_entropy(student.output, batch[1])


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    found = torch.cat([network(part).argmax(1) for part in images.split(250)])
    return float((found == labels).float().mean())


def clothes(split: str) -> tuple[Tensor, Tensor]:
    """Pictures N 1 28 28, normalised, and their classes."""
    folder = asset("fashion_mnist")
    if folder is None:
        raise SystemExit("Fashion-MNIST is not here: python tests/fetch_assets.py fashion_mnist")
    pixels = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    classes = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    images = torch.from_numpy(images.astype(np.float32) / 255)
    return (images - 0.286) / 0.353, torch.from_numpy(
        np.frombuffer(classes, np.uint8, offset=8).astype(np.int64)
    )


if __name__ == "__main__":
    main()
