"""What all three losses have to stand, with the networks that they train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tiny_detectors import FAMILIES, Detector
from torch import Tensor

from edgekit.detection.losses_centres import CentreLoss
from edgekit.detection.losses_leyolo import LeYOLOLoss
from edgekit.detection.losses_ssd import SSDLoss
from edgekit.detection.overlap import iou
from edgekit.detection.targets import Target
from edgekit.errors import UsageError

LOSSES: dict[str, Callable[..., Any]] = {
    "mobiledet": SSDLoss(),
    "leyolo": LeYOLOLoss(),
    "codenet": CentreLoss(),
}
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks are so small that threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def target(boxes: list[list[float]], classes: list[int]) -> Target:
    return Target(torch.tensor(boxes).reshape(-1, 4), torch.tensor(classes, dtype=torch.int64))


STRANGE = {
    "no objects": target([], []),
    "no area": target([[10, 10, 10, 40], [20, 30, 20, 30]], [0, 1]),
    "upside down": target([[40, 40, 10, 10]], [0]),
    "far outside": target([[-500, -500, -400, -400], [900, 10, 950, 40]], [0, 1]),
    "larger than the image": target([[-100, -100, 1000, 1000]], [2]),
    "smaller than a cell": target([[30.2, 30.2, 31.3, 31.3]], [1]),
    "not numbers": target([[float("nan"), 0, 20, 20], [0, 0, float("inf"), 20]], [0, 1]),
    "twice the same": target([[8, 8, 40, 40], [8, 8, 40, 40]], [0, 1]),
}


def gradients(network: Detector) -> list[Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", STRANGE)
def test_strange_targets_give_finite_losses_and_gradients(family: str, case: str) -> None:
    torch.manual_seed(0)
    network = FAMILIES[family]().train()
    raw = network.raw(torch.randn(2, 3, *SIZE))
    losses = LOSSES[family](raw, [STRANGE[case], STRANGE["no objects"]], SIZE)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert all(torch.isfinite(term) for term in losses.terms.values())
    found = gradients(network)
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_image_is_learnt(family: str) -> None:
    torch.manual_seed(0)
    network = FAMILIES[family]().train()
    image = torch.zeros(1, 3, *SIZE)
    image[:, 0, 8:40, 12:52] = 2.0
    image[:, 1, 30:60, 60:92] = 2.0
    truth = target([[12, 8, 52, 40], [60, 30, 92, 60]], [0, 2])
    images, truths = torch.cat([image, image.flip(3)]), [truth, target([[44, 8, 84, 40], [4, 30, 36, 60]], [0, 2])]  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    first = None
    for _ in range(45):
        optimiser.zero_grad()
        losses = LOSSES[family](network.raw(images), truths, SIZE)
        losses.total.backward()
        optimiser.step()
        first = first or losses.total.item()
    assert losses.total.item() < 0.25 * first
    boxes, scores = network(images)  # in training mode: norms have seen this batch only
    for image_boxes, image_scores, wanted in zip(boxes, scores, truths):
        for box, kind in zip(wanted.boxes, wanted.classes):
            best = image_boxes[image_scores[:, kind].argmax()]
            assert iou(best, box).item() > 0.6


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_that_do_not_fit_are_refused_in_a_sentence(family: str) -> None:
    raw = FAMILIES[family]().eval().raw(torch.zeros(1, 3, *SIZE))
    loss = LOSSES[family]
    with pytest.raises(UsageError, match="1 images in the batch and 2 targets"):
        loss(raw, [STRANGE["no objects"]] * 2, SIZE)
    with pytest.raises(UsageError, match="classes 3 to 3, and the network has 0 to 2"):
        loss(raw, [target([[0, 0, 9, 9]], [3])], SIZE)
    with pytest.raises(UsageError, match="four numbers for each"):
        loss(raw, [Target(torch.zeros(2, 4), torch.zeros(1, dtype=torch.int64))], SIZE)
