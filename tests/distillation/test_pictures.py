"""Pictures from folders and COCO's boxes: what is cut out, where boxes go, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from edgekit.distillation.pictures import FROM_THE_MIDDLE, CocoDetection, Cut, Pictures
from edgekit.errors import UsageError


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def test_a_picture_is_cut_from_its_middle_or_at_random(tmp_path: Path) -> None:
    picture = noise(16, 24)
    save(tmp_path / "a.png", picture)
    found = Pictures(tmp_path, 16)[0]
    assert torch.equal(found, torch.from_numpy(picture[:, 4:20].transpose(2, 0, 1)))
    random = Pictures(tmp_path, 16, Cut())
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        item = random[0].permute(1, 2, 0).numpy()
        torch.manual_seed(seed)
        assert np.array_equal(item, random[0].permute(1, 2, 0).numpy())
        seen |= {
            (x, flipped)
            for x in range(9)
            for flipped in (1, -1)
            if np.array_equal(item, picture[:, x : x + 16][:, ::flipped])
        }
    assert {flipped for _, flipped in seen} == {1, -1}
    assert len({x for x, _ in seen}) > 4


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"good{suffix}", noise(64, 64))
    cut = save(tmp_path / f"cut{suffix}", noise(64, 64))
    cut.write_bytes(cut.read_bytes()[:-2000])
    (tmp_path / f"text{suffix}").write_text("no picture")
    with pytest.raises(UsageError, match=r"2 of 3 files cannot be used.*cut.*text.*no picture"):
        Pictures(tmp_path, 16)
    kept = Pictures(tmp_path, 16, on_damage="skip")
    assert [file.name for file in kept.files] == [f"good{suffix}"]
    assert len(kept.skipped) == 2


def test_folders_without_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        Pictures(tmp_path / "absent", 16)
    with pytest.raises(UsageError, match="has no pictures"):
        Pictures(tmp_path, 16)


def coco(folder: Path, boxes: list[tuple[int, list[float], int]], **changes: Any) -> Path:
    """Images 1 and 2, of 32x48 pixels; boxes as (image, bbox, category)."""
    for name in ("one.png", "two.png"):
        save(folder / name, np.zeros((32, 48, 3), np.uint8))
    told = {
        "images": [{"id": 1, "file_name": "one.png"}, {"id": 2, "file_name": "two.png"}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": image, "bbox": box, "category_id": category} for image, box, category in boxes
        ],
    }  # fmt: skip
    path = folder / "boxes.json"
    path.write_text(json.dumps({**told, **changes}))
    return path


def test_boxes_move_with_the_picture(tmp_path: Path) -> None:
    """A white rectangle in the picture is where its box says, after any crop, flip and growth."""
    path = coco(tmp_path, [(1, [20, 8, 10, 16], 7)])
    painted = np.zeros((32, 48, 3), np.uint8)
    painted[8:24, 20:30] = 255
    save(tmp_path / "one.png", painted)
    for size, whole in product((32, 64), ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))):
        data = CocoDetection(path, tmp_path, size, Cut(whole=whole), least_visible=0.01)
        for seed in range(8):
            torch.manual_seed(seed)
            item = data[0]
            mask = item["picture"][0] > 127
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert item["boxes"][0].tolist() == pytest.approx([float(v) for v in found], abs=1)
            assert item["labels"].tolist() == [1]


def test_all_of_a_picture_can_be_kept_with_grey_beside_it(tmp_path: Path) -> None:
    path = coco(tmp_path, [(1, [0, 0, 48, 32], 7)])
    save(tmp_path / "one.png", np.full((32, 48, 3), 255, np.uint8))
    cut = replace(FROM_THE_MIDDLE, whole=(1.0, 1.0), fill=114)
    item = CocoDetection(path, tmp_path, 96, cut)[0]
    assert item["boxes"][0].tolist() == [0, 16, 96, 80]
    picture = item["picture"]
    assert (
        set(picture[:, :16].flatten().tolist()) == set(picture[:, 80:].flatten().tolist()) == {114}
    )
    assert set(picture[:, 16:80].flatten().tolist()) == {255}


def test_items_stack_whatever_their_number_of_boxes(tmp_path: Path) -> None:
    path = coco(tmp_path, [(1, [10, 0, 8, 8], 3), (1, [20, 4, 8, 8], 7), (2, [12, 4, 8, 8], 3)])
    data = CocoDetection(path, tmp_path, 32)
    assert data.categories == ("dog", "cat")
    batch = default_collate([data[0], data[1]])
    assert batch["boxes"].shape == (2, 2, 4)
    assert batch["labels"].tolist() == [[0, 1], [0, -1]]
    assert batch["boxes"][0].tolist() == [[2, 0, 10, 8], [12, 4, 20, 12]]
    assert batch["boxes"][1, 1].tolist() == [0, 0, 0, 0]


def test_boxes_that_are_cut_off_and_crowds_are_left_out(tmp_path: Path) -> None:
    # The middle square is columns 8 to 40: a quarter, and less than that, of these two is in it.
    path = coco(tmp_path, [(1, [5, 0, 4, 8], 3), (1, [4.5, 0, 4, 8], 3)])
    told = json.loads(path.read_text())
    told["annotations"].append(
        {"image_id": 1, "bbox": [12, 0, 4, 4], "category_id": 3, "iscrowd": 1}
    )
    path.write_text(json.dumps(told))
    item = CocoDetection(path, tmp_path, 32)[0]
    assert item["labels"].tolist() == [0, -1]
    assert item["boxes"][0].tolist() == [0, 0, 1, 8]


def test_annotations_that_are_not_cocos_are_named(tmp_path: Path) -> None:
    path = coco(tmp_path, [(1, [0, 0, 1, 1], 99)])
    with pytest.raises(UsageError, match=r"annotations\[0\] has the category 99, which is not"):
        CocoDetection(path, tmp_path, 32)
    with pytest.raises(UsageError, match="names no pictures"):
        CocoDetection(coco(tmp_path, [], images=[]), tmp_path, 32)
    with pytest.raises(UsageError, match="cannot be read"):
        CocoDetection(tmp_path / "absent.json", tmp_path, 32)


def test_pictures_that_are_not_there_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    absent = coco(tmp_path, [(1, [0, 0, 1, 1], 3)])
    (tmp_path / "two.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 files cannot be used.*two\.png: there is no"):
        CocoDetection(absent, tmp_path, 32)
    assert len(CocoDetection(absent, tmp_path, 32, on_damage="skip")) == 1


def test_boxes_that_pass_their_picture_are_cut_there_and_told(tmp_path: Path) -> None:
    sizes = {"width": 48, "height": 32}
    images = [{"id": 1, "file_name": "one.png", **sizes}, {"id": 2, "file_name": "two.png"}]
    boxes: list[Any] = [(1, [20, -10, 10, 20], 3), (1, [20, 4, 0, 9], 3), (1, [70, 0, 9, 9], 3)]
    data = CocoDetection(coco(tmp_path, boxes, images=images), tmp_path, 32)
    assert data[0]["boxes"].tolist() == [[12, 0, 22, 10]]
    assert [note[:2] for note in data.notes] == ["1 ", "1 ", "1 "]


@pytest.mark.parametrize("declared", [(48, 32), (32, 48)])
def test_boxes_are_where_they_were_marked_whichever_way_the_file_turns_its_picture(
    tmp_path: Path, declared: tuple[int, int]
) -> None:
    """EXIF's orientation 6 is stored 48x32 and seen 32x48; tools mark either."""
    width, height = declared
    box = [20, 8, 10, 16] if width == 48 else [8, 20, 16, 10]
    images = [{"id": 1, "file_name": "one.png", "width": width, "height": height}]
    path = coco(tmp_path, [(1, box, 7)], images=images)
    painted = np.zeros((height, width, 3), np.uint8)
    x, y, w, h = box
    painted[y : y + h, x : x + w] = 255
    exif = Image.Exif()
    exif[0x112] = 6
    stored = Image.fromarray(painted)
    if width == 32:
        stored = stored.rotate(90, expand=True)
    stored.save(tmp_path / "one.png", exif=exif)
    item = CocoDetection(path, tmp_path, 32)[0]
    mask = item["picture"][0] > 127
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert item["boxes"][0].tolist() == [float(side) for side in seen]


def test_a_picture_of_another_size_than_annotated_is_damaged(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "one.png"},
        {"id": 2, "file_name": "two.png", "width": 40, "height": 32},
    ]
    path = coco(tmp_path, [(1, [0, 0, 9, 9], 3)], images=images)
    with pytest.raises(UsageError, match=r"two\.png: it has 48x32 .* say 40x32: it is another"):
        CocoDetection(path, tmp_path, 32)
    assert len(CocoDetection(path, tmp_path, 32, on_damage="skip")) == 1
