"""COCO's mean average precision: known figures, and annotation files as people have them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools")

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.detection.coco_annotations import read_annotations
from edgekit.detection.coco_evaluation import Evaluation, evaluate_detector
from edgekit.detection.detector import Detector
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract

SIDE = 64
NAMES = ("cat", "dog", "unicorn")
CATEGORIES = [{"id": 3, "name": "Dog"}, {"id": 1, "name": "cat"}, {"id": 9, "name": "bus"}]
Row = tuple[float, float, float, float, float, int]


def a_detector(found: Mapping[int, list[Row]], **changes: Any) -> Detector:
    """One that tells pictures apart by their grey value."""
    boxes = Boxes(3, NAMES, (SIDE,), (4,), "stretch")
    contract = ImageContract(SIDE, SIDE, 1, "RGB", (0.0,) * 3, (1.0,) * 3, boxes)

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        rows = found[round(float(image[0, 0, 0, 0]) * 255)]
        corners, scores = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 3), np.float32)
        for place, (*box, score, label) in enumerate(rows):
            corners[0, place] = box
            scores[0, place, label] = score
        return {"boxes": corners, "scores": scores}

    image = TensorSpec("image", (1, 3, SIDE, SIDE), axes="NCHW")
    return Detector("a-detector", image, contract, boxes, run, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for grey in (10, 20, 30):
        Image.new("RGB", (SIDE, SIDE), (grey,) * 3).save(tmp_path / f"{grey}.png")
    return tmp_path


def annotations(folder: Path, boxes: list[dict[str, Any]], **changes: Any) -> Path:
    told = {
        "images": [
            {"id": grey, "file_name": f"{grey}.png", "width": SIDE, "height": SIDE}
            for grey in (10, 20, 30)
        ],
        "categories": CATEGORIES,
        "annotations": boxes,
        **changes,
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(told))
    return path


def marked(
    image: int, category: int, x: float, y: float, w: float, h: float, **more: Any
) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, y, w, h], **more}


def measured(
    folder: Path, found: Mapping[int, list[Row]], boxes: list[dict[str, Any]], **changes: Any
) -> Evaluation:
    path = annotations(folder, boxes, **changes)
    full = {10: [], 20: [], 30: [], **found}
    return evaluate_detector(a_detector(full), path, folder, score=None, iou=None)


def test_right_boxes_score_one(folder: Path) -> None:
    found = {10: [(0, 0, 20, 20, 0.9, 0), (30, 30, 50, 50, 0.8, 1)], 20: [(4, 4, 34, 34, 0.7, 0)]}
    truth = [
        marked(10, 1, 0, 0, 20, 20),
        marked(10, 3, 30, 30, 20, 20),
        marked(20, 1, 4, 4, 30, 30),
    ]
    result = measured(folder, found, truth)
    assert (result.ap, result.ap50, result.ap75, result.recall) == (1, 1, 1, 1)
    assert result.by_class == {"cat": 1, "Dog": 1}
    assert (result.images, result.objects, result.boxes) == (3, 3, 3)
    assert math.isnan(result.ap_large)
    assert result.to_json()["ap_large"] is None


def test_a_wrong_box_between_two_right_ones_costs_what_the_curve_says(folder: Path) -> None:
    """Precision 1 up to recall 0.5, then 2/3: 51 and 50 of COCO's 101 points."""
    found = {10: [(0, 0, 20, 20, 0.9, 0)], 20: [(4, 4, 34, 34, 0.7, 0)], 30: [(0, 0, 9, 9, 0.8, 0)]}
    truth = [marked(10, 1, 0, 0, 20, 20), marked(20, 1, 4, 4, 30, 30)]
    result = measured(folder, found, truth)
    assert result.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_overlap_counts_at_the_thresholds_below_it(folder: Path) -> None:
    """IoU 0.72 passes 0.50 to 0.70, five of ten thresholds."""
    result = measured(folder, {10: [(0, 0, 25, 18, 0.9, 0)]}, [marked(10, 1, 0, 0, 25, 25)])
    assert (result.ap50, result.ap75) == (1, 0)
    assert result.ap == pytest.approx(0.5)


def test_a_box_in_a_crowd_is_neither_right_nor_wrong(folder: Path) -> None:
    found = {10: [(0, 0, 20, 20, 0.9, 0), (40, 40, 60, 60, 0.95, 0)]}
    crowd = marked(10, 1, 38, 38, 26, 26, iscrowd=1)
    result = measured(folder, found, [marked(10, 1, 0, 0, 20, 20), crowd])
    assert result.ap50 == 1
    assert result.objects == 1
    assert measured(folder, found, [marked(10, 1, 0, 0, 20, 20)]).ap50 == pytest.approx(0.5)


def test_a_detector_that_finds_nothing_scores_zero(folder: Path) -> None:
    result = measured(folder, {}, [marked(10, 1, 0, 0, 20, 20)])
    assert (result.ap, result.recall, result.boxes) == (0, 0, 0)


def test_annotations_without_boxes_have_no_figures(folder: Path) -> None:
    result = measured(folder, {10: [(0, 0, 9, 9, 0.9, 0)]}, [])
    assert math.isnan(result.ap)
    assert "-" in result.table()


def test_degenerate_and_outside_boxes_are_left_out_and_told(folder: Path) -> None:
    truth = [
        marked(10, 1, 0, 0, 20, 20),
        marked(10, 1, 5, 5, 0, 20),
        marked(10, 1, 5, 5, 20, -3),
        marked(10, 1, 70, 5, 20, 20),
        marked(20, 1, 50, 50, 40, 40),
        marked(20, 1, 40, 0, 24.5, 20),
    ]
    found = {10: [(0, 0, 20, 20, 0.9, 0)], 20: [(50, 50, 64, 64, 0.9, 0), (40, 0, 64, 20, 0.8, 0)]}
    result = measured(folder, found, truth)
    assert result.ap50 == 1
    assert result.notes == (
        "1 boxes that lie beside their picture were left out",
        "1 boxes that pass their picture's borders were cut there",
        "2 boxes without width or height were left out",
    )


def test_classes_that_the_model_lacks_are_told_and_not_measured(folder: Path) -> None:
    truth = [marked(10, 1, 0, 0, 20, 20), marked(20, 9, 0, 0, 20, 20)]
    result = measured(folder, {10: [(0, 0, 20, 20, 0.9, 0)]}, truth)
    assert result.ap == 1
    assert result.notes == ("not measured, because a-detector has no such class: bus (1 in all)",)


def test_no_shared_class_is_refused(folder: Path) -> None:
    with pytest.raises(
        UsageError, match="share no class: it has cat, dog, unicorn, they have kite"
    ):
        measured(folder, {}, [], categories=[{"id": 1, "name": "kite"}])


def test_pictures_marked_as_stored_and_pictures_marked_upright_are_both_read(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), (10,) * 3).save(tmp_path / "turned.png", exif=exif)
    for width, height in ((20, 40), (40, 20)):
        image = {"id": 1, "file_name": "turned.png", "width": width, "height": height}
        path = annotations(tmp_path, [marked(1, 1, 0, 0, width, height)], images=[image])
        detector = a_detector({10: [(0, 0, SIDE, SIDE, 0.9, 0)]})
        assert evaluate_detector(detector, path, tmp_path, score=None, iou=None).ap == 1


def test_a_picture_of_another_size_than_annotated_is_refused(folder: Path) -> None:
    image = {"id": 1, "file_name": "10.png", "width": 64, "height": 63}
    with pytest.raises(UsageError, match="has 64x64 pixels, and its annotations say 64x63"):
        measured(folder, {}, [marked(1, 1, 0, 0, 9, 9)], images=[image])


def test_a_file_that_suppresses_by_itself_says_what_that_costs(folder: Path) -> None:
    path = annotations(folder, [marked(10, 1, 0, 0, 20, 20)])
    detector = a_detector({}, within=Thresholds(0.3, 0.6, 20))
    rows = {
        "boxes": np.float32([[[0, 0, 20, 20]]]),
        "scores": np.float32([[0.9]]),
        "labels": np.array([[0]]),
    }
    object.__setattr__(detector, "run", lambda image: rows)
    result = evaluate_detector(detector, path, folder, score=None, iou=None)
    assert "drops scores up to 0.3 by itself" in result.notes[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": []}, "names no pictures"),
        ({"images": 3}, "has no list 'images'"),
        ({"images": [{"file_name": "10.png"}]}, r"images\[0\] has no 'id'"),
        (
            {"images": [{"id": "1", "file_name": "10.png"}]},
            "'id' of images.* is '1', not a whole number",
        ),
        ({"images": [{"id": 1, "file_name": "10.png"}] * 2}, "two images have the id 1"),
        (
            {"images": [{"id": 1, "file_name": "no.png"}]},
            "1 of the 1 pictures of boxes.json are missing",
        ),
        ({"categories": [{"id": 1}]}, r"categories\[0\] has no 'name'"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "two categories have the id 1"),
        (
            {"annotations": [marked(7, 1, 0, 0, 1, 1)]},
            "belongs to the image 7, which is not listed",
        ),
        ({"annotations": [marked(10, 7, 0, 0, 1, 1)]}, "has the category 7, which is not listed"),
        ({"annotations": [{**marked(10, 1, 0, 0, 1, 1), "bbox": [0, 0, 1]}]}, "not four numbers"),
        (
            {"annotations": [{**marked(10, 1, 0, 0, 1, 1), "bbox": [0, 0, 1, float("nan")]}]},
            "not four",
        ),
        ({"annotations": ["x"]}, r"annotations\[0\] has no 'image_id'"),
    ],
)
def test_annotations_that_are_not_cocos_are_one_sentence(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    path = annotations(folder, [], **changes)
    with pytest.raises(UsageError, match=words) as caught:
        read_annotations(path, folder)
    assert str(caught.value).endswith(".")


def test_files_that_are_no_annotations_are_one_sentence(tmp_path: Path) -> None:
    for content, words in (
        ("", "is no JSON"),
        ("[1]", "is no object"),
        ("{}", "has no list 'images'"),
    ):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(UsageError, match=words):
            read_annotations(tmp_path / "a.json", tmp_path)
    (tmp_path / "a.json").write_bytes(b"\x89PNG")
    with pytest.raises(UsageError, match="is no JSON: it is no text"):
        read_annotations(tmp_path / "a.json", tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_annotations(tmp_path / "b.json", tmp_path)
