"""`edgekit::suppress` in both formats keeps the boxes that our own code keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.backends.registry import backend_for
from edgekit.detection.detections import Floats
from edgekit.detection.suppress_op import suppress
from edgekit.detection.suppression import suppressed
from edgekit.program.capture import capture
from edgekit.target import find_target

CANDIDATES, CLASSES = 300, 4


class Suppression(nn.Module):
    def __init__(self, score: float, iou: float, limit: int, best_class_only: bool) -> None:
        super().__init__()
        self.asked = (score, iou, limit, best_class_only)

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return suppress(boxes * 1.0, scores * 1.0, *self.asked)


def crowd(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(1, CANDIDATES, 2, generator=generator) * 60
    size = torch.rand(1, CANDIDATES, 2, generator=generator) * 40 + 1
    scores = torch.rand(1, CANDIDATES, CLASSES, generator=generator) ** 3
    return torch.cat([corner, corner + size], -1), scores


@pytest.mark.parametrize("target", ["onnx", "coreml", "coreml-ios18"])
@pytest.mark.parametrize(
    ("score", "iou", "limit"), [(0.1, 0.5, 40), (0.7, 0.5, 100), (0.0, 1.0, 20), (0.9999, 0.5, 5)]
)
def test_a_file_keeps_what_our_code_keeps(
    tmp_path: Path, target: str, score: float, iou: float, limit: int
) -> None:
    chosen = find_target(target)
    backend = backend_for(chosen.format)
    module = Suppression(score, iou, limit, backend.best_class_only)
    boxes, scores = crowd(0)
    program = capture(module, (boxes, scores)).program
    assert backend.unsupported_operators(program) == []
    path = tmp_path / f"suppression{backend.suffix}"
    backend.write(program, path, chosen, half=False)
    file = backend.load(path)
    names = [spec.name for spec in program.inputs]
    for seed in range(3):
        boxes, scores = crowd(seed)
        given = dict(zip(names, (boxes.numpy(), scores.numpy()), strict=True))
        made = list(file.run(given).values())
        for value, wanted in zip(made, module(boxes, scores), strict=True):
            np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-6)


def test_unused_rows_are_empty_and_bear_no_label() -> None:
    boxes, scores = crowd(0)
    shown, best, labels = suppress(boxes, scores, 0.95, 0.5, 50, False)
    count = int((labels >= 0).sum())
    assert 0 < count < 50
    assert (labels[0, count:] == -1).all()
    assert (shown[0, count:] == 0).all()
    assert (best[0, count:] == 0).all()
    found = suppressed(boxes[0].numpy(), scores[0].numpy(), 0.95, 0.5, 50)
    np.testing.assert_array_equal(shown[0, :count], found.boxes)


def test_with_the_best_class_only_no_box_is_shown_twice() -> None:
    boxes: Floats
    boxes, scores = (value[0].numpy() for value in crowd(1))
    made = suppress(*crowd(1), 0.05, 0.99, 300, True)
    shown = made[0][0, (made[2] >= 0)[0]].numpy()
    assert len(np.unique(shown, axis=0)) == len(shown)
    both = suppressed(boxes, scores, 0.05, 0.99, 300)
    assert len(np.unique(both.boxes, axis=0)) < len(both)
    best = scores.argmax(-1)
    for box, label in zip(shown, made[2][0].tolist(), strict=False):
        row = int(np.flatnonzero((boxes == box).all(-1))[0])
        assert best[row] == label
