"""A teacher's boxes on pictures and videos as annotations that a student trains on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.box_contract import Boxes
from edgekit.contract import TensorSpec
from edgekit.detection.coco_annotations import read_annotations
from edgekit.detection.detector import Detector
from edgekit.detection.labelling import LabelOptions, label
from edgekit.distillation.detectors import annotated
from edgekit.distillation.pictures import FROM_THE_MIDDLE
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract

SIDE = 32
NAMES = ("red", "green", "blue")


def brightest(image: np.ndarray) -> dict[str, np.ndarray]:
    """A teacher: around all pixels of one colour, which scores as far as it reaches."""
    boxes, scores = np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 3), np.float32)
    for colour in range(3):
        rows, columns = np.nonzero(image[0, colour] > 0.5)
        if rows.size:
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            boxes[0, colour] = corners
            scores[0, colour, colour] = image[0, colour].max()
    return {"boxes": boxes, "scores": scores}


CONTRACT = Boxes(
    3, NAMES, strides=(SIDE,), per_cell=(3,), resize="stretch", score=0.3, iou=0.6, limit=10
)
IMAGE = ImageContract(SIDE, SIDE, 1, "RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CONTRACT)
TEACHER = Detector(
    "colours", TensorSpec("image", (1, 3, SIDE, SIDE), axes="NCHW"), IMAGE, CONTRACT, brightest
)


def painted(colour: int, left: int, strength: int = 255) -> Image.Image:
    """64x32 with a square of 8 pixels."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[8:16, left : left + 8, colour] = strength
    return Image.fromarray(pixels)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    (folder / "more").mkdir(parents=True)
    painted(0, 16).save(folder / "a.png")
    painted(2, 40).save(folder / "more" / "a.png")
    painted(1, 8, 150).save(folder / "dim.png")
    painted(1, 8, 0).save(folder / "nothing.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames whose red square moves by two pixels each."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate = 64, 32, 4_000_000
        for number in range(10):
            frame = av.VideoFrame.from_image(painted(0, 8 + 2 * number))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_video_that_is_stored_turned_is_labelled_as_it_is_shown(
    tmp_path: Path, degrees: int
) -> None:
    av = pytest.importorskip("av")
    shown = painted(0, 16)
    stored = shown.rotate(-degrees, expand=True)  # to be turned by so much against the clock
    with av.open(str(tmp_path / "phone.mov"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = stored.size
        stream.bit_rate = 4_000_000
        stream.set_display_rotation(degrees)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_image(stored)))
        container.mux(stream.encode())
    (path,) = label(TEACHER, tmp_path / "phone.mov", tmp_path / "out").annotations
    image, box = told(path)["images"][0], told(path)["annotations"][0]
    assert (image["width"], image["height"]) == shown.size
    assert np.allclose(box["bbox"], [16, 8, 8, 8], atol=2)
    picture = Image.open(tmp_path / "out" / "pictures" / str(image["file_name"]))
    difference = np.asarray(picture).astype(float) - np.asarray(shown)
    assert np.abs(difference).mean() < 10


def told(path: Path) -> dict[str, list[dict[str, object]]]:
    return json.loads(path.read_text())


def test_boxes_lie_where_the_teacher_found_them_in_pixels_of_the_picture(
    pictures: Path, tmp_path: Path
) -> None:
    written = label(TEACHER, pictures, tmp_path / "out", LabelOptions(score=0.9))
    (path,) = written.annotations
    found = told(path)
    sources = [(image["source"], image["frame"]) for image in found["images"]]
    assert sources == [("a.png", None), ("dim.png", None), ("more/a.png", None), ("nothing.png", None)]  # fmt: skip
    assert [(box["image_id"], box["category_id"]) for box in found["annotations"]] == [(1, 1), (3, 3)]  # fmt: skip
    assert np.allclose(found["annotations"][0]["bbox"], [16, 8, 8, 8], atol=2)
    assert np.allclose(found["annotations"][1]["bbox"], [40, 8, 8, 8], atol=2)
    assert all(box["score"] > 0.9 for box in found["annotations"])
    assert written.boxes == ({"red": 1, "blue": 1},)


def test_a_lower_score_writes_more_boxes(pictures: Path, tmp_path: Path) -> None:
    written = label(TEACHER, pictures, tmp_path / "out", LabelOptions(score=0.5))
    assert written.boxes == ({"red": 1, "green": 1, "blue": 1},)


def test_the_evaluator_and_the_training_read_what_was_written(
    pictures: Path, tmp_path: Path
) -> None:
    (path,) = label(TEACHER, pictures, tmp_path / "out").annotations
    truth = read_annotations(path, path.parent / "pictures")
    assert len(truth.images) == 4
    assert truth.notes == ()
    items = annotated(tmp_path / "out", SIDE, FROM_THE_MIDDLE)
    assert items.categories == NAMES
    assert int(items[0]["labels"][0]) == 0


def test_classes_are_those_asked_for_in_the_order_asked_for(pictures: Path, tmp_path: Path) -> None:
    options = LabelOptions(score=0.9, classes=("blue", "red"))
    (path,) = label(TEACHER, pictures, tmp_path / "out", options).annotations
    found = told(path)
    assert [(entry["id"], entry["name"]) for entry in found["categories"]] == [(1, "blue"), (2, "red")]  # fmt: skip
    assert [box["category_id"] for box in found["annotations"]] == [2, 1]


def test_of_a_video_one_frame_in_so_many_is_taken(video: Path, tmp_path: Path) -> None:
    options = LabelOptions(every=4)
    (path,) = label(TEACHER, video, tmp_path / "out", options).annotations
    found = told(path)
    assert [image["frame"] for image in found["images"]] == [0, 4, 8]
    lefts = [box["bbox"][0] for box in found["annotations"]]
    assert np.allclose(lefts, [8, 16, 24], atol=3)


def test_the_held_out_share_is_the_end_of_each_video(video: Path, tmp_path: Path) -> None:
    options = LabelOptions(every=2, held_out=0.4)
    written = label(TEACHER, video.parent, tmp_path / "out", options)
    train, held_out = written.annotations
    assert train == tmp_path / "out" / "train" / "annotations.json"
    assert held_out == tmp_path / "out" / "held-out" / "annotations.json"
    assert [image["frame"] for image in told(train)["images"]] == [0, 2, 4]
    assert [image["frame"] for image in told(held_out)["images"]] == [6, 8]
    assert len(list((held_out.parent / "pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (LabelOptions(score=1.5), "score of 1.5 is none"),
        (LabelOptions(score=0.999), r"no box of the classes .* above 0\.999 .*4 pictures"),
        (LabelOptions(classes=("bleu",)), "no class 'bleu'; did you mean 'blue'"),
        (LabelOptions(classes=("red", "red")), "'red' is given twice"),
        (LabelOptions(every=0), "Every 0 frames is none"),
        (LabelOptions(held_out=1.0), "held-out share of 1 is none"),
        (LabelOptions(held_out=0.1), "no frame for 'held-out'"),
        (LabelOptions(held_out=0.9), "no frame for 'train'"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence_and_leave_nothing(
    options: LabelOptions, sentence: str, pictures: Path, tmp_path: Path
) -> None:
    dull = replace(TEACHER, run=lambda image: brightest(0.99 * image))
    with pytest.raises(UsageError, match=sentence):
        label(dull, pictures, tmp_path / "out", options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given"]


def test_data_that_is_missing_empty_or_damaged_is_one_sentence(
    pictures: Path, video: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with pytest.raises(UsageError, match="no file or folder"):
        label(TEACHER, tmp_path / "nowhere", output)
    with pytest.raises(UsageError, match="holds no pictures and no videos"):
        label(TEACHER, pictures / "notes.txt", output)
    (pictures / "whole.mp4").write_bytes(video.read_bytes())
    (pictures / "cut.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    with pytest.raises(UsageError, match=r"cut\.mp4.*\. Remove them\.$"):
        label(TEACHER, pictures, output)
    (pictures / "cut.mp4").unlink()
    (pictures / "b.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    with pytest.raises(UsageError, match=r"b\.png"):
        label(TEACHER, pictures, output)
    assert not output.exists()


def test_a_folder_that_exists_is_left_as_it_is(pictures: Path) -> None:
    with pytest.raises(UsageError, match="exists; choose another place"):
        label(TEACHER, pictures, pictures)


def test_a_teacher_whose_boxes_are_not_finite_writes_nothing(
    pictures: Path, tmp_path: Path
) -> None:
    def broken(image: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value * np.float32("nan") for name, value in brightest(image).items()}

    with pytest.raises(UsageError, match="NaN or infinite"):
        label(replace(TEACHER, run=broken), pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()
