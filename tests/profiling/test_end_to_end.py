"""All steps from a picture's file to boxes or classes."""

from __future__ import annotations

import io
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
from edgekit.detection.reduced_decode import read_reduced
from edgekit.distillation.whole_frames import upright
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits, Picture
from edgekit.profiling.end_to_end import EndToEnd, Source, measure_end_to_end, require_end_to_end
from edgekit.profiling.opened import Opened, Sessions, open_for_measuring
from edgekit.profiling.passages import pass_through
from edgekit.profiling.pipeline import Whole, input_pixels, picture_ways, steps_of
from edgekit.profiling.video_pipeline import Clip


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


def measured(opened: Opened, picture: Path, seconds: float) -> EndToEnd:
    return measure_end_to_end(opened, Source("image", picture), seconds, threads=1)


def test_each_step_has_its_time_and_the_shares_are_all(opened: Opened, tmp_path: Path) -> None:
    found = measured(opened, photograph(tmp_path), 0.1)
    assert [(p.path, p.callers) for p in found.passages] == [
        ("full decode", 1), ("reduced decode", 1), ("full decode", 4), ("reduced decode", 4),
    ]  # fmt: skip
    steps = ["read", "decode", "colour", "resize", "normalise", "network", "suppress", "draw"]
    for passage in found.passages:
        assert list(passage.steps) == steps
        assert sum(passage.share(step) for step in steps) == pytest.approx(1)
        assert passage.passes_per_s > 0
    assert found.input_psnr_db is not None
    assert found.input_psnr_db > 30
    assert "the network is not what takes longest" in found.text()


def test_the_boxes_are_those_that_run_finds(opened: Opened, tmp_path: Path) -> None:
    file = photograph(tmp_path, orientation=6)
    steps = steps_of(Whole(opened.bundle, opened.runnable), file, reduced=False)
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
        steps_of(Whole(opened.bundle, opened.runnable), file, reduced=choice)
        for choice in (False, True)
    )
    assert len(pass_through(reduced)) == len(reduced)
    data = reduced[0].run(None)
    smaller = reduced[2].run(reduced[1].run(data))
    assert smaller.width * smaller.height < 800 * 600
    difference = np.abs(input_pixels(full).astype(float) - input_pixels(reduced))
    assert difference.mean() < 0.1  # of values whose deviation is about 1


def test_other_formats_have_one_way_to_be_decoded(opened: Opened, tmp_path: Path) -> None:
    found = measured(opened, photograph(tmp_path, name="photo.png"), 0.05)
    assert {passage.path for passage in found.passages} == {"full decode"}
    assert found.input_psnr_db is None


def test_what_is_no_picture_is_one_sentence(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "none.jpg"):
        with pytest.raises(UsageError, match="cannot be read"):
            measured(opened, tmp_path / name, 0.05)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photograph(tmp_path).read_bytes()[:2000])
    with pytest.raises(UsageError, match="no picture that Pillow reads"):
        require_end_to_end(opened, Source("image", cut), 1)


def test_a_network_that_takes_no_pictures_is_refused(small: Path, tmp_path: Path) -> None:
    opened = open_for_measuring(open_bundle(small), Sessions(1))
    with pytest.raises(UsageError, match="takes no pictures"):
        measured(opened, photograph(tmp_path), 0.05)


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
    steps = steps_of(Whole(bundle, opened.runnable), tmp_path / "right.jpg", reduced=True)
    value = None
    for step in steps:
        value = step.run(value)
    assert steps[-1].name == "top 5"
    assert value is not None
    assert value[0] == 2
    found = measured(opened, tmp_path / "right.jpg", 0.05)
    assert list(found.passages[0].steps)[-2:] == ["network", "top 5"]


def clip(path: Path, *, frames: int = 6, turned: int = 0) -> Path:
    """160 x 128, soft, of which the second half comes out of the decoder only when the file is over."""
    av = pytest.importorskip("av")
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate, stream.max_b_frames = 160, 128, 4_000_000, 2
        if turned:
            stream.set_display_rotation(turned)
        for _ in range(frames):
            noise = random.integers(0, 255, (4, 5, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((160, 128))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def test_a_video_s_frames_have_their_steps_and_the_network_s_input_is_nearly_the_same(
    opened: Opened, tmp_path: Path
) -> None:
    source = Source("video", clip(tmp_path / "clip.mp4"))
    found = measure_end_to_end(opened, source, 0.05, threads=1)
    steps = ["read", "decode", "colour", "resize", "normalise", "network", "suppress", "draw"]
    assert all(list(passage.steps) == steps for passage in found.passages)
    assert [passage.callers for passage in found.passages] == [1, 1, 4, 4]
    assert found.input_psnr_db is not None
    assert found.input_psnr_db > 25
    assert found.rate == 10
    assert "the video's 10 frames/s" in found.text()
    assert found.to_json()["items"] == "frames"


@pytest.mark.parametrize("turned", [0, 90])
def test_a_video_is_read_over_and_over_and_no_frame_is_left_out(
    tmp_path: Path, turned: int
) -> None:
    file = clip(tmp_path / "clip.mp4", turned=turned)
    frames = Clip(file, 1)
    taken = [frames.decode(frames.read(None)) for _ in range(13)]
    pictures = [np.asarray(upright(frame)).astype(float) for frame in taken]
    assert pictures[0].shape == ((160, 128, 3) if turned else (128, 160, 3))
    for number in range(6, 12):
        assert np.abs(pictures[number] - pictures[number - 6]).max() == 0
    assert np.abs(pictures[1] - pictures[0]).mean() > 10


def test_a_network_that_makes_pictures_ends_with_encoded_ones(tmp_path: Path) -> None:
    class Doubled(BrightestColumn):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {"picture": inputs["image"].repeat(2, axis=2).repeat(2, axis=3)}

    specs = [TensorSpec("image", (1, 3, 32, 48), axes="NCHW"),
             TensorSpec("picture", (1, 3, 64, 96), axes="NCHW", low=0.0, high=1.0)]  # fmt: skip
    contract = ImageContract(32, 48, 1, "RGB", (0.0,) * 3, (1.0,) * 3, Picture(2))
    manifest = {"inputs": [specs[0].to_json()], "outputs": [specs[1].to_json()], **contract.declared()}  # fmt: skip
    opened = Opened(Bundle(tmp_path, manifest), None, Doubled(), {})
    (whole, _) = picture_ways(Whole(opened.bundle, opened.runnable), photograph(tmp_path))
    value = None
    for step in whole.opened():
        value = step.run(value)
    assert value is not None
    assert Image.open(io.BytesIO(value)).size == (96, 64)
    found = measure_end_to_end(opened, Source("video", clip(tmp_path / "clip.mp4")), 0.02, 1)
    steps = list(found.passages[0].steps)
    assert steps[-3:-1] == ["to 8 bits", "colour back"]
    assert steps[-1].startswith("encode ")


def test_a_latent_becomes_an_encoded_video(tmp_path: Path) -> None:
    class Grey(BrightestColumn):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            assert inputs["latent"].dtype == np.float32
            return {"video": np.zeros((1, 3, 5, 32, 48), np.float32)}

    latent = TensorSpec("latent", (1, 4, 2, 4, 6), axes="NCTHW")
    video = TensorSpec("video", (1, 3, 5, 32, 48), axes="NCTHW", low=-1.0, high=1.0)
    manifest = {"inputs": [latent.to_json()], "outputs": [video.to_json()]}
    opened = Opened(Bundle(tmp_path, manifest), None, Grey(), {})
    np.save(tmp_path / "latent.npy", np.zeros(latent.shape))
    np.save(tmp_path / "other.npy", np.zeros((1, 4, 3, 4, 6)))
    found = measure_end_to_end(opened, Source("latent", tmp_path / "latent.npy"), 0.02, 1)
    assert list(found.passages[0].steps)[:4] == ["read", "network", "to 8 bits", "colour back"]
    alone = found.passages[0]
    assert found.per_s(alone) == pytest.approx(5 * alone.passes_per_s)
    assert "5 frames of 48 x 32" in found.text()
    with pytest.raises(UsageError, match="is of shape"):
        measure_end_to_end(opened, Source("latent", tmp_path / "other.npy"), 0.02, 1)


def test_what_is_no_video_is_one_sentence(opened: Opened, tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "none.mp4"):
        with pytest.raises(UsageError, match="cannot be read as a video"):
            measure_end_to_end(opened, Source("video", tmp_path / name), 0.05, 1)
    with pytest.raises(UsageError, match="makes no video of a latent"):
        measure_end_to_end(opened, Source("latent", tmp_path / "l.npy"), 0.05, 1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_of_a_reduced_decode_lie_in_the_file_s_own_pixels(
    opened: Opened, tmp_path: Path, orientation: int
) -> None:
    file = photograph(tmp_path, orientation=orientation)
    detector = detector_of_bundle(opened.bundle)
    thresholds = detector.thresholds_for(score=0.0)
    reduced = read_reduced(file, detector.contract)
    assert (reduced.width, reduced.height) == ((600, 800) if orientation == 6 else (800, 600))
    assert reduced.picture.width < reduced.width / 2
    whole = detector.of_file(file, thresholds)
    found = detector.of_file(file, thresholds, reduced_decode=True)
    assert len(found) > 5
    assert found.boxes.max() > reduced.picture.width
    overlaps = [max(_iou(box, other) for other in whole.boxes) for box in found.boxes]
    assert np.mean(np.array(overlaps) > 0.8) > 0.8
    with pytest.raises(UsageError, match="only a JPEG"):
        read_reduced(photograph(tmp_path, name="photo.png"), detector.contract)


def _iou(one: Array, other: Array) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.clip(high - low, 0, None)))
    either = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - both
    return both / max(either, 1e-9)
