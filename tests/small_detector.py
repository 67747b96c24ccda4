"""A detector of a few convolutions, and its recipe, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.zoo import families

CLASSES = 3
RECIPE = """
name = "small-detector"
family = "small-detector"
summary = "A small detector for tests"
source = "tests"
parameters = {parameters}

[architecture]
width = 8
classes = 3

[weights]

[image]
height = 64
width = 96
stride = 16
order = "BGR"
mean = [0.4, 0.5, 0.45]
std = [0.2, 0.25, 0.3]

[image.boxes]
classes = 3
names = ["person", "car", "traffic light"]
strides = [8, 16]
per_cell = [1, 1]
resize = "letterbox"
fill = 114
score = 0.3
iou = 0.6
limit = 20
"""


class SmallDetector(nn.Module):
    """Two levels of one box a cell: N 3 H W to boxes N A 4 and scores N A 3."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.down = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.ReLU())
        self.heads = nn.ModuleList(nn.Conv2d(2 * width, 4 + classes, 1) for _ in range(2))
        for head in self.heads:
            nn.init.normal_(head.weight, std=2.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(image)
        levels = [head(level) for head, level in zip(self.heads, (fine, self.down(fine)))]
        boxes = [_decoded(level[:, :4], 8 * 2**index) for index, level in enumerate(levels)]
        scores = [level[:, 4:].flatten(2).mT for level in levels]
        return torch.cat(boxes, 1), torch.cat(scores, 1).sigmoid()


def _decoded(distances: Tensor, stride: int) -> Tensor:
    rows, columns = distances.shape[-2:]
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    left, top, right, bottom = (2 * distances.sigmoid()).unbind(1)
    corners = torch.stack([x - left, y - top, x + right, y + bottom], -1)
    return (corners * stride).flatten(1, 2)


def register(monkeypatch) -> None:
    """Let recipes name the family."""
    build = lambda sizes: SmallDetector(**sizes)  # noqa: E731
    monkeypatch.setitem(families.FAMILIES, "small-detector", build)


def write_detector(folder: Path) -> Path:
    parameters = sum(p.numel() for p in SmallDetector(8, CLASSES).parameters())
    path = folder / "detector.toml"
    path.write_text(RECIPE.format(parameters=parameters))
    return path
