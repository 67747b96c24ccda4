from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.detection.composites import CompositeOptions, Composites, write_coco
from edgekit.errors import UsageError

PLAIN = CompositeOptions(96, 128, objects=(1, 4), turn_degrees=0.0, quality=(95, 95))


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """Grey photographs; a red disc and a green bar on transparent ground."""
    grey = tmp_path / "grey.png"
    Image.new("L", (300, 200), 128).save(grey)
    y, x = np.mgrid[:80, :80]
    disc = np.zeros((80, 80, 4), np.uint8)
    disc[(x - 40) ** 2 + (y - 40) ** 2 < 900] = (255, 0, 0, 255)
    bar = np.zeros((60, 90, 4), np.uint8)
    bar[20:40, 5:85] = (0, 255, 0, 255)
    stamps = {}
    for name, pixels in (("disc", disc), ("bar", bar)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        stamps[name] = [tmp_path / f"{name}.png"]
    return [grey], stamps


def test_every_box_frames_what_is_seen_of_its_thing(
    files: tuple[list[Path], dict[str, list[Path]]],
) -> None:
    alone = CompositeOptions(96, 128, objects=(1, 1), turn_degrees=0.0, quality=(95, 95))
    composites = Composites(*files, 40, 0, alone)
    for index in range(40):
        made = composites[index]
        pixels = np.asarray(made.picture).astype(int)
        (label,) = made.labels
        other = pixels[..., 1 - label]
        coloured = pixels[..., label] - other > 60  # the background is grey
        rows, columns = np.nonzero(coloured.any(1))[0], np.nonzero(coloured.any(0))[0]
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(made.boxes[0], seen, atol=2)  # JPEG blurs colours by a pixel


def test_the_same_seed_and_index_give_the_same_picture_in_any_order(
    files: tuple[list[Path], dict[str, list[Path]]],
) -> None:
    first, again = Composites(*files, 9, 3, PLAIN), Composites(*files, 9, 3, PLAIN)
    made = [first[index] for index in range(9)]
    for index in reversed(range(9)):
        assert again[index].picture.tobytes() == made[index].picture.tobytes()
        np.testing.assert_array_equal(again[index].boxes, made[index].boxes)
    other = Composites(*files, 9, 4, PLAIN)
    assert other[0].picture.tobytes() != made[0].picture.tobytes()
    assert len({composite.picture.tobytes() for composite in made}) == 9


def test_no_thing_is_hidden_by_more_than_asked(
    files: tuple[list[Path], dict[str, list[Path]]],
) -> None:
    photographs, stamps = files
    crowd = CompositeOptions(
        64, 64, objects=(6, 6), share=(0.4, 0.6), most_hidden=0.3, turn_degrees=0
    )
    composites = Composites(photographs, {"bar": stamps["bar"]}, 30, 0, crowd)
    for index in range(30):
        made = composites[index]
        width, height = (made.boxes[:, 2:] - made.boxes[:, :2]).T
        assert (made.boxes >= 0).all()
        assert (made.boxes <= 64).all()
        # A whole bar is 0.4 to 0.6 of the side long and a quarter as high; 0.7 of it are seen.
        assert (width * height >= 0.7 * (0.4 * 64) * (0.4 * 64 / 4) * 0.8).all()


def test_annotations_are_coco_s_and_tell_the_same(
    tmp_path: Path, files: tuple[list[Path], dict[str, list[Path]]]
) -> None:
    composites = Composites(*files, 5, 0, PLAIN)
    file = write_coco(composites, tmp_path / "set")
    told = json.loads(file.read_text())
    assert [category["name"] for category in told["categories"]] == ["disc", "bar"]
    for index, image in enumerate(told["images"]):
        with Image.open(tmp_path / "set" / "pictures" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (128, 96)
        mine = [a for a in told["annotations"] if a["image_id"] == image["id"]]
        x, y, w, h = np.array([a["bbox"] for a in mine]).T
        np.testing.assert_array_equal(np.stack([x, y, x + w, y + h], 1), composites[index].boxes)
        assert [a["category_id"] - 1 for a in mine] == composites[index].labels.tolist()


def test_what_cannot_be_pasted_is_named(
    tmp_path: Path, files: tuple[list[Path], dict[str, list[Path]]]
) -> None:
    photographs, stamps = files
    flat = tmp_path / "flat.png"
    Image.new("RGB", (20, 20)).save(flat)
    with pytest.raises(UsageError, match=r"flat\.png has no alpha"):
        Composites(photographs, {"flat": [flat]}, 1, 0, PLAIN)
    broken = tmp_path / "broken.png"
    broken.write_bytes(stamps["disc"][0].read_bytes()[:90])
    with pytest.raises(UsageError, match=r"broken\.png is no picture"):
        Composites(photographs, {"broken": [broken]}, 1, 0, PLAIN)
    with pytest.raises(UsageError, match="the class 'cat' has no stamps"):
        Composites(photographs, {**stamps, "cat": []}, 1, 0, PLAIN)


def test_things_of_no_category_have_no_boxes(
    files: tuple[list[Path], dict[str, list[Path]]], tmp_path: Path
) -> None:
    composites = Composites(*files, 3, 0, PLAIN)
    content = json.loads(write_coco(composites, tmp_path / "none", ["cat", "dog"]).read_text())
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    assert content["annotations"] == []
    assert len(content["images"]) == 3
    marked = json.loads(write_coco(composites, tmp_path / "marked").read_text())
    assert len(marked["annotations"]) >= 3


def test_a_stamp_is_stretched_and_its_hues_are_turned_as_far_as_asked_and_no_further(
    files: tuple[list[Path], dict[str, list[Path]]],
) -> None:
    varied = CompositeOptions(
        96, 128, objects=(1, 1), share=(0.5, 0.5), turn_degrees=0.0, stretch=0.5, hue=0.1, most_hidden=0.0,
        quality=(95, 95),
    )  # fmt: skip
    made = [Composites(files[0], {"disc": files[1]["disc"]}, 60, 0, varied)[n] for n in range(60)]
    width, height = np.array([one.boxes[0, 2:] - one.boxes[0, :2] for one in made]).T
    assert 1.35 < (width / height).max() < 1.65
    assert 1.35 < (height / width).max() < 1.65
    assert abs(np.maximum(width, height) - 48).max() <= 3
    centres = [one.boxes[0].reshape(2, 2).mean(0).astype(int) for one in made]
    pixels = [
        one.picture.convert("HSV").getpixel((int(x), int(y))) for one, (x, y) in zip(made, centres)
    ]
    turned = [(hue + 128) % 256 - 128 for hue, _, _ in pixels]  # red is 0
    assert 18 < max(turned) <= 30
    assert -30 <= min(turned) < -18
