"""A training of a tiny detector with two classes, from annotated pictures of 64×64."""

from __future__ import annotations

from pathlib import Path

from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.hardware import Hardware

RECIPE = """
name = "tiny"
family = "leyolo"
summary = "two kinds"
source = "this test"
parameters = 68326

[architecture]
width = 0.25
blocks = [1, 1, 1]
neck_blocks = 3
wiring = "released"
classes = 2

[weights]

[image]
height = 64
width = 64
stride = 32
order = "RGB"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[image.boxes]
classes = 2
names = ["red", "green"]
strides = [8, 16, 32]
per_cell = [1, 1, 1]
resize = "letterbox"
"""
NUMBERS = """
steps = 4
batch_size = 2
learning_rate = 1e-3
weight_decay = 0.0
warmup = 1
ema = 0.5
clip_norm = 10.0
flip = 0.5
validate_every = 2
"""


def asked(
    tmp_path: Path, pictures: Path, recipe: str = RECIPE, numbers: str = NUMBERS
) -> FromFiles:
    (tmp_path / "tiny.toml").write_text(recipe)
    (tmp_path / "numbers.toml").write_text(numbers)
    return FromFiles(
        data=pictures, teacher=tmp_path, run=tmp_path / "run", progress=lambda _: None,
        hardware=Hardware("cpu"), validation=pictures, workers=0, model=str(tmp_path / "tiny.toml"),
        numbers=tmp_path / "numbers.toml",
    )  # fmt: skip
