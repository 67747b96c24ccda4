"""Accuracy against bytes on Fashion-MNIST: one tail-drop head, heads trained apart, JPEG and WebP.

    python tests/fetch_assets.py fashion_mnist
    python benchmarks/split_curve.py --run runs/fashion

Trains a small classifier, the teacher, on the 60,000 pictures; then, through a bottleneck in the place of its
first layers, one head that may be cut behind any channel and one for each number of channels in SEPARATE.
All are measured on the test pictures: the bytes of real payloads and packets, mean and 95th
percentile, and the accuracy of what the tail makes of the decoded payload. JPEG and WebP files of the same
pictures go through the teacher; "tables shared" is JPEG without what is the same in all files. A run that
was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgekit.distillation import AdamW, Cosine, Loss, Stage, Tapped
from edgekit.distillation.loop import distill
from edgekit.distillation.split_stages import (
    CrossEntropy,
    HeadDistillation,
    OnImages,
    TailTuning,
    train_split,
)
from edgekit.split.codec import Sizes
from edgekit.split.of_network import codec_of
from edgekit.split.packet import write_packet
from edgekit.zoo.split.attach import attach
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.network import SplitNetwork

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

CHANNELS = 8
SEPARATE = (2, 4, 8)
KEPT = (1, 2, 3, 4, 6, 8)
QUALITIES = {"JPEG": (1, 5, 15, 30, 50, 75, 95), "WebP": (0, 10, 25, 50, 75, 95)}
CUT = "features.4"
BATCH = 64
LOST_POINTS, FEWER_BYTES = 0.6, 0.771
"""The aim: at most so much below the teacher, with so many fewer bytes than its JPEG."""


@dataclass(frozen=True)
class Point:
    name: str
    bytes_mean: float
    bytes_p95: float
    packet_mean: float
    """With the header, where there is one."""
    accuracy: float
    """Percent."""


class Clothes(Dataset[Mapping[str, Tensor]]):
    """Grey pictures 1 28 28 in [-1, 1] and their classes."""

    def __init__(self, folder: Path, name: str, most: int | None = None) -> None:
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
            self.pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[
                :most
            ]
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        self.images = as_images(self.pictures)
        self.labels = torch.from_numpy(labels[:most].astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return {"image": self.images[index], "label": self.labels[index]}


def as_images(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures.astype(np.float32))[:, None] / 127.5 - 1


class Classifier(nn.Module):
    """1.9 MMAC."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *conv(1, 16, 2), *conv(16, 32), nn.MaxPool2d(2), *conv(32, 64)
        )
        self.classes = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x).mean((2, 3)))


def conv(given: int, made: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    kernel = nn.Conv2d(given, made, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(made)), nn.ReLU6()


def small_bottleneck(channels: int) -> Bottleneck:
    """Depthwise-separable, stride 4: latents `channels` 7 7, and 32 features in their place."""
    encoder = nn.Sequential(
        *conv(1, 24, 2),
        *conv(24, 24, groups=24), nn.Conv2d(24, 48, 1), nn.BatchNorm2d(48), nn.ReLU6(),
        *conv(48, 48, 2, groups=48), nn.Conv2d(48, 64, 1), nn.BatchNorm2d(64), nn.ReLU6(),
        nn.Conv2d(64, channels, 1),
    )  # fmt: skip
    decoder = nn.Sequential(*conv(channels, 48), *conv(48, 32)[:1], nn.ReLU())
    return Bottleneck(encoder, decoder, channels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("split-curve.run"))
    parser.add_argument("--teacher-steps", type=int, default=6000)
    parser.add_argument(
        "--steps", type=int, default=9000, help="of a head; a third of it tunes the tail"
    )
    parser.add_argument("--beta", type=float, default=1.0, help="squared feature errors for a bit")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate of the bottleneck")
    parser.add_argument("--test", type=int, default=10_000, help="pictures to measure on")
    parser.add_argument("--separate", type=int, nargs="*", default=list(SEPARATE))
    asked = parser.parse_args()
    folder = asset("fashion_mnist")
    if folder is None:
        raise SystemExit("Fashion-MNIST is not here: python tests/fetch_assets.py fashion_mnist")
    training, test = Clothes(folder, "train"), Clothes(folder, "t10k", asked.test)
    teacher = trained_teacher(training, asked)
    best = accuracy(teacher, test.images, test.labels)
    print(f"teacher: {best:.2f} % of {len(test)}", flush=True)
    pictures = {kind: codec_points(kind, teacher, test) for kind in QUALITIES}
    points = [point for kind in pictures.values() for point in kind]
    print(table(points), flush=True)
    one = head_points(teacher, training, test, CHANNELS, asked, least_kept=1)
    print(table(one), flush=True)
    apart = []
    for channels in asked.separate:
        apart += head_points(teacher, training, test, channels, asked, least_kept=None)
        print(table(apart[-1:]), flush=True)
        print("\n".join(verdicts(best, one, apart, pictures)), flush=True)
        result = {"teacher": best, "points": [asdict(p) for p in (*one, *apart, *points)]}
        (asked.run / "curve.json").write_text(json.dumps(result, indent=1) + "\n")


def trained_teacher(training: Clothes, asked: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    stage = Stage(
        "classes", [Loss("classes", CrossEntropy())], asked.teacher_steps, ema=None,
        optimiser=AdamW(2e-3, (0.9, 0.99), 1e-2, 1e-8), rate=Cosine(100), batch_size=BATCH,
    )  # fmt: skip
    student = Tapped(Classifier(), forward=OnImages())
    done = distill(
        student, None, training, [stage], run=asked.run / "teacher", resume=True, log_every=400,
        progress=show,
    )  # fmt: skip
    return done.model.module


def head_points(
    teacher: nn.Module, training: Clothes, test: Clothes, channels: int, asked: argparse.Namespace,
    least_kept: int | None,
) -> list[Point]:  # fmt: skip
    torch.manual_seed(1)
    network = attach(
        teacher, small_bottleneck(channels), ends=CUT, quantiser="entropy", least_kept=least_kept
    )
    name = "one" if least_kept else f"separate-{channels}"
    tuned = asked.steps // 3
    done = train_split(
        network, teacher, CUT, training,
        HeadDistillation(asked.steps - tuned, ("features.6",), asked.beta, BATCH, (0.5, 0.8), asked.rate),
        TailTuning(tuned, "kd-frozen", BATCH, learning_rate=1e-2),
        run=asked.run / name, resume=True, progress=show,
    )  # fmt: skip
    trained = done.model.module
    assert isinstance(trained, SplitNetwork)
    kept = KEPT if least_kept else (channels,)
    label = "one head, keep" if least_kept else "trained apart,"
    return [measured(trained, test, k, f"{label} {k}") for k in kept]


@torch.no_grad()
def measured(network: SplitNetwork, test: Clothes, keep: int, name: str) -> Point:
    """Through bytes and back."""
    codec = codec_of(network)
    head, tail = network.head_for_device(), network.tail_for_server()
    payloads, packets, right = [], [], 0
    for images, labels in batches(test):
        symbols = head(images).numpy()
        values = []
        for one in symbols:
            payload = codec.encode(one, keep)
            sizes = Sizes(keep, *one.shape[1:])
            values.append(codec.decode(payload, sizes, whole=True).values)
            payloads.append(len(payload))
            packets.append(len(write_packet(codec, one, keep)))
        right += int((tail(torch.from_numpy(np.stack(values))).argmax(1) == labels).sum())
    return Point(
        name, float(np.mean(payloads)), float(np.percentile(payloads, 95)),
        float(np.mean(packets)), 100 * right / len(test),
    )  # fmt: skip


def codec_points(kind: str, teacher: nn.Module, test: Clothes) -> list[Point]:
    points = []
    shared = len(encoded(np.zeros((28, 28), np.uint8), "JPEG", 50)) if kind == "JPEG" else 0
    for quality in QUALITIES[kind]:
        files = [encoded(picture, kind, quality) for picture in test.pictures]
        sizes = [len(file) for file in files]
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("L")) for f in files])
        found = accuracy(teacher, as_images(decoded), test.labels)
        mean, p95 = float(np.mean(sizes)), float(np.percentile(sizes, 95))
        points.append(Point(f"{kind} {quality}", mean, p95, mean, found))
        if shared:
            points.append(
                Point(f"JPEG {quality}, tables shared", mean - shared, p95 - shared, mean, found)
            )
    return points


def encoded(picture: np.ndarray, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    options = {"optimize": False} if kind == "JPEG" else {"method": 4}
    Image.fromarray(picture).save(file, kind, quality=quality, **options)
    return file.getvalue()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    right = [
        network(part).argmax(1) == own for part, own in zip(images.split(500), labels.split(500))
    ]
    return 100 * float(torch.cat(right).float().mean())


def batches(test: Clothes) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(test.images.split(500), test.labels.split(500))


def verdicts(
    best: float,
    one: Sequence[Point],
    apart: Sequence[Point],
    pictures: Mapping[str, Sequence[Point]],
) -> list[str]:
    lines = []
    for point in apart:
        own = at_bytes(one, point.bytes_mean)
        lines.append(
            f"{point.name}: {point.accuracy:.2f} % at {point.bytes_mean:.1f} B; one head there {own:.2f} % "
            f"({own - point.accuracy:+.2f} points)"
        )
    for points in pictures.values():
        for file in points:
            own = [p for p in one if p.packet_mean <= file.packet_mean]
            ours = f"{max(p.accuracy for p in own):.2f} %" if own else "nothing"
            lines.append(
                f"{file.name}: {file.accuracy:.2f} % for {file.bytes_mean:.1f} B; one head, with its "
                f"header, {ours} for no more"
            )
    jpegs = [p for p in pictures["JPEG"] if "shared" not in p.name]
    needed = [p for p in jpegs if p.accuracy >= best - LOST_POINTS]
    good = [p for p in one if p.accuracy >= best - LOST_POINTS]
    own = min(good, key=lambda p: p.packet_mean) if good else max(one, key=lambda p: p.accuracy)
    if needed:
        jpeg = min(needed, key=lambda p: p.packet_mean)
        fewer = 1 - own.packet_mean / jpeg.packet_mean
        lines.append(
            f"within {LOST_POINTS} points of the teacher's {best:.2f} %: {jpeg.name} takes {jpeg.packet_mean:.1f} B; "
            f"{own.name} has {own.accuracy - best:+.2f} points at {own.packet_mean:.1f} B with its header, "
            f"{fewer:.1%} fewer (aim {-LOST_POINTS} points, {FEWER_BYTES:.1%})"
        )
    return lines


def at_bytes(curve: Sequence[Point], size: float) -> float:
    """Accuracy of a curve at a mean size, by the logarithm of bytes between its points."""
    row = sorted((np.log(p.bytes_mean), p.accuracy) for p in curve)
    return float(np.interp(np.log(size), *zip(*row)))


def table(points: Sequence[Point]) -> str:
    lines = [
        "| what is sent | bytes mean | p95 | with header | accuracy % |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.name} | {p.bytes_mean:.1f} | {p.bytes_p95:.0f} | {p.packet_mean:.1f} | {p.accuracy:.2f} |"
        for p in points
    ]
    return "\n".join(lines)


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
