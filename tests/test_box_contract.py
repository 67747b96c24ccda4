from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.box_contract import Boxes, Thresholds
from edgekit.detection.class_names import COCO, NAMED, class_names
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract

TABLE: dict[str, Any] = {
    "classes": 80, "names": "coco", "strides": (8, 16, 32), "per_cell": (1, 1, 1), "resize": "letterbox",
}  # fmt: skip
IMAGE: dict[str, Any] = {
    "height": 640, "width": 640, "stride": 32, "order": "RGB", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0),
}  # fmt: skip


def boxes(**changes: object) -> Boxes:
    made = Boxes.from_toml({**TABLE, **changes}, Path())
    made.check()
    return made


def test_candidates_are_those_of_the_published_networks() -> None:
    assert boxes().candidates(640, 640) == 8400
    ssd = boxes(strides=(16, 32, 64, 128, 256, 512), per_cell=(3, 6, 6, 6, 6, 6))
    assert (ssd.candidates(320, 320), ssd.candidates(256, 256)) == (2034, 1284)


def test_a_detector_gives_boxes_and_scores_of_every_candidate() -> None:
    contract = ImageContract.from_toml({**IMAGE, "boxes": TABLE}, Path())
    image, (found, scores) = contract.specs(320, 640, None)
    assert (image.shape, found.shape, scores.shape) == (
        (1, 3, 320, 640),
        (1, 4200, 4),
        (1, 4200, 80),
    )
    assert (found.low, found.high, scores.low, scores.high) == (0, 640, 0, 1)


def test_what_a_manifest_declares_is_read_back() -> None:
    contract = ImageContract.from_toml({**IMAGE, "boxes": TABLE}, Path())
    declared: Any = contract.declared()["image"]
    read = ImageContract.from_manifest(declared, 640, 640)
    assert read.output == contract.output
    assert (read.order, read.mean, read.std) == (contract.order, contract.mean, contract.std)


def test_class_names_are_those_of_the_data_sets() -> None:
    assert (len(COCO), len(NAMED["voc"]), len(NAMED["coco-90"])) == (80, 20, 90)
    by_id = {number: name for number, name in enumerate(NAMED["coco-90"], start=1) if name}
    assert tuple(by_id.values()) == COCO
    assert (by_id[1], by_id[13], by_id[44], by_id[90]) == (
        "person",
        "stop sign",
        "bottle",
        "toothbrush",
    )


def test_names_come_from_a_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("cat\n dog \n")
    assert class_names("mine.txt", tmp_path) == ("cat", "dog")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ("a", "b")}, "'names' has 2 names and 'classes' is 80"),
        ({"names": "none.txt"}, "neither coco, coco-90, voc, nor a list, nor a text file"),
        ({"names": ("a", "a"), "classes": 2}, "'names' has 'a' twice"),
        ({"strides": (8, 0, 32)}, "'strides' must be whole numbers above 0"),
        ({"per_cell": (1,)}, "'strides' has 3 levels and 'per_cell' 1"),
        ({"resize": "crop"}, "'resize' is 'crop' and must be letterbox or stretch"),
        ({"fill": 300}, "'fill' is 300"),
        ({"score": 1.5}, "'score' must be from 0 to 1"),
        ({"iou": 0.0}, "'iou' above 0"),
        ({"limit": 0}, "'limit' must be at least 1"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        boxes(**changes)


@pytest.mark.parametrize("wrong", [(-0.1, 0.5, 1), (0.5, 0.0, 1), (0.5, 1.1, 1), (0.5, 0.5, 0)])
def test_thresholds_that_are_none_are_refused(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(UsageError, match=r"are none|is none"):
        Thresholds(*wrong)
