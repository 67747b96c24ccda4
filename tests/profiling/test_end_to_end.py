"""All steps from a picture's file to boxes or classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import small_detector
import torch
from PIL import Image

import edgekit
from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle, open_bundle
from edgekit.contract import TensorSpec
from edgekit.detection.detector import detector_of_bundle
from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits
from edgekit.profiling.end_to_end import measure_end_to_end, pass_through
from edgekit.profiling.opened import Opened, Sessions, open_for_measuring
from edgekit.profiling.pipeline import input_pixels, steps_of


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A detector of 64 x 96."""
    folder = tmp_path_factory.mktemp("detector")
    with pytest.MonkeyPatch.context() as patch:
        small_detector.register(patch)
        torch.manual_seed(0)
        model = edgekit.load(str(small_detector.write_detector(folder)))
        edgekit.export(model, target="onnx", output=folder / "bundle", simplify=False, verify=False)
    return open_for_measuring(open_bundle(folder / "bundle"), Sessions(1))


def photograph(folder: Path, *, orientation: int = 1, name: str = "photo.jpg") -> Path:
    """800 x 600, soft."""
    random = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(random).resize((800, 600))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(folder / name, exif=exif)
    return folder / name


def test_each_step_has_its_time_and_the_shares_are_all(opened: Opened, tmp_path: Path) -> None:
    found = measure_end_to_end(opened, photograph(tmp_path), 0.1)
    assert [(p.path, p.callers) for p in found.passages] == [
        ("full decode", 1), ("reduced decode", 1), ("full decode", 4), ("reduced decode", 4),
    ]  # fmt: skip
    steps = ["read", "decode", "colour", "resize", "normalise", "network", "suppress", "draw"]
    for passage in found.passages:
        assert list(passage.steps) == steps
        assert sum(passage.share(step) for step in steps) == pytest.approx(1)
        assert passage.pictures_per_s > 0
    assert found.input_psnr_db is not None
    assert found.input_psnr_db > 30
    assert "the network is not what takes longest" in found.text()


def test_the_boxes_are_those_that_run_finds(opened: Opened, tmp_path: Path) -> None:
    file = photograph(tmp_path, orientation=6)
    steps = steps_of(opened.bundle, opened.runnable, file, reduced=False)
    value = None
    for step in steps[:-1]:
        value = step.run(value)
    found, picture = value
    detector = detector_of_bundle(opened.bundle)
    expected = detector(read_picture(file), detector.thresholds_for())
    assert picture.size == (600, 800)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_decode_is_smaller_and_looks_the_same(
    opened: Opened, tmp_path: Path, orientation: int
) -> None:
    file = photograph(tmp_path, orientation=orientation)
    full, reduced = (
        steps_of(opened.bundle, opened.runnable, file, reduced=choice) for choice in (False, True)
    )
    assert len(pass_through(reduced)) == len(reduced)
    data = reduced[0].run(None)
    smaller = reduced[2].run(reduced[1].run(data))
    assert smaller.width * smaller.height < 800 * 600
    difference = np.abs(input_pixels(full).astype(float) - input_pixels(reduced))
    assert difference.mean() < 0.1  # of values whose deviation is about 1


def test_other_formats_have_one_way_to_be_decoded(opened: Opened, tmp_path: Path) -> None:
    found = measure_end_to_end(opened, photograph(tmp_path, name="photo.png"), 0.05)
    assert {passage.path for passage in found.passages} == {"full decode"}
    assert found.input_psnr_db is None


def test_what_is_no_picture_is_one_sentence(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "none.jpg"):
        with pytest.raises(UsageError, match="cannot be read"):
            measure_end_to_end(opened, tmp_path / name, 0.05)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photograph(tmp_path).read_bytes()[:2000])
    with pytest.raises(UsageError, match="no picture that Pillow reads"):
        measure_end_to_end(opened, cut, 0.05)


def test_a_network_that_takes_no_pictures_is_refused(small: Path, tmp_path: Path) -> None:
    opened = open_for_measuring(open_bundle(small), Sessions(1))
    with pytest.raises(UsageError, match="neither a detector nor a classifier"):
        measure_end_to_end(opened, photograph(tmp_path), 0.05)


class BrightestColumn:
    """Stands for a classifier: of three classes the one whose third of the picture is brightest."""

    reference, rounds_to_half = "a stub", False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        thirds = np.array_split(inputs["image"].astype(np.float32), 3, axis=-1)
        return {"logits": np.array([[part.mean() for part in thirds]], np.float32)}

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:  # noqa: ARG002
        yield from ()


def test_a_classifier_s_steps_end_with_its_top_classes(tmp_path: Path) -> None:
    image = TensorSpec("image", (1, 3, 32, 48), axes="NCHW")
    contract = ImageContract(32, 48, 1, "RGB", (0.5,) * 3, (0.2,) * 3, Logits(3))
    bundle = Bundle(tmp_path, {"inputs": [image.to_json()], **contract.declared()})
    pixels = np.full((64, 96, 3), 20, np.uint8)
    pixels[:, 64:] = 220
    Image.fromarray(pixels).save(tmp_path / "right.jpg")
    opened = Opened(bundle, None, BrightestColumn(), {})
    steps = steps_of(bundle, opened.runnable, tmp_path / "right.jpg", reduced=True)
    value = None
    for step in steps:
        value = step.run(value)
    assert steps[-1].name == "top 5"
    assert value is not None
    assert value[0] == 2
    found = measure_end_to_end(opened, tmp_path / "right.jpg", 0.05)
    assert list(found.passages[0].steps)[-2:] == ["network", "top 5"]
