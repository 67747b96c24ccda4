"""A detector from its recipe to boxes on a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from command_line import Command
from PIL import Image
from safetensors.torch import save_file
from small_detector import SmallDetector, register, write_detector

import edgekit as api
from edgekit.backends.coreml.load import read_spec
from edgekit.bundle import open_bundle
from edgekit.cli.main import run_command
from edgekit.detection.letterbox import normalised
from edgekit.detection.suppress_op import suppress
from edgekit.detection.suppression import suppressed


def _furnish(folder: Path) -> None:
    """A recipe, weights and a picture of 200x100 pixels."""
    torch.manual_seed(7)
    save_file(SmallDetector(8, 3).state_dict(), folder / "weights.safetensors")
    noise = np.random.default_rng(0).integers(0, 255, (10, 20, 3), np.uint8)
    Image.fromarray(noise).resize((200, 100), Image.Resampling.BICUBIC).save(folder / "street.png")
    write_detector(folder)


@pytest.fixture
def detector(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register(monkeypatch)
    _furnish(place)
    return place


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of the detector, not to be changed."""
    folder = tmp_path_factory.mktemp("detectors")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        patch.chdir(folder)
        _furnish(folder)
        options = ["--weights", "weights.safetensors", "--no-simplify"]
        for name, more in BUNDLES.items():
            arguments = ["export", "detector.toml", *more, *options, "-o", name]
            assert run_command(arguments) == 0
    return folder


BUNDLES = {
    "d.bundle": ["--target", "onnx"],
    "coreml.bundle": ["--target", "coreml"],
    "nms.bundle": ["--target", "onnx", "--nms", "--score", "0.4", "--limit", "10"],
    "pixels.bundle": ["--target", "onnx", "--bake-preprocessing"],
    "camera.bundle": ["--target", "coreml", "--bake-preprocessing", "--nms", "--precision", "fp32"],
}


@pytest.fixture
def bundle(once: Path, detector: Path) -> Path:
    """The current folder with all the bundles in it."""
    for name in BUNDLES:
        shutil.copytree(once / name, detector / name)
    return detector


def test_info_names_both_outputs(edgekit: Command, detector: Path) -> None:
    facts = edgekit("info", "detector.toml", "--json").json()
    assert [made["shape"] for made in facts["outputs"]] == [[1, 120, 4], [1, 120, 3]]
    assert facts["image"]["output"]["names"] == ["person", "car", "traffic light"]
    text = edgekit("info", "detector.toml").out
    assert "boxes NAX 1x120x4" in text
    assert "scores NAC 1x120x3 in [0, 1]" in text
    assert "above 0.3, IoU up to 0.6, at most 20; 3 classes: person, car, traffic light" in text


def test_boxes_of_a_bundle_are_printed_and_drawn(edgekit: Command, bundle: Path) -> None:
    result = edgekit("run", "d.bundle", "--image", "street.png", "--json")
    assert result.code == 0, result
    told = result.json()
    assert told["image"] == {"width": 200, "height": 100}
    assert told["files"] == ["street-boxes.png"]
    assert 0 < len(told["boxes"]) <= 20
    for box in told["boxes"]:
        left, top, right, bottom = box["box"]
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 100
        assert box["score"] > 0.3
        assert box["class"] == ["person", "car", "traffic light"][box["label"]]
    scores = [box["score"] for box in told["boxes"]]
    assert scores == sorted(scores, reverse=True)
    drawn = np.asarray(Image.open("street-boxes.png"))
    assert drawn.shape == (100, 200, 3)
    assert (drawn != np.asarray(Image.open("street.png"))).any()


def test_a_bundle_and_its_model_find_the_same_as_by_hand(edgekit: Command, bundle: Path) -> None:
    by_name = edgekit(
        "run", "detector.toml", "--weights", "weights.safetensors", "--image", "street.png",
        "-o", "named.png", "--json",
    )  # fmt: skip
    by_file = edgekit("run", "d.bundle", "--image", "street.png", "-o", "filed.png", "--json")
    assert by_name.json()["boxes"] == by_file.json()["boxes"]
    # 200x100 in 96x64: 96x48, eight rows free above; BGR; by hand
    picture = Image.open("street.png").resize((96, 48), Image.Resampling.BILINEAR)
    canvas = np.full((64, 96, 3), 114, np.float32)
    canvas[8:56] = np.asarray(picture)
    values = (canvas[..., ::-1] / 255 - [0.4, 0.5, 0.45]) / [0.2, 0.25, 0.3]
    image = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
    boxes, scores = api.load("detector.toml", "weights.safetensors")(image)
    found = suppressed(boxes[0].numpy(), scores[0].numpy(), 0.3, 0.6, 20)
    told = by_file.json()["boxes"]
    assert [box["label"] for box in told] == found.labels.tolist()
    back = (found.boxes - [0, 8, 0, 8]) * (200 / 96)
    wanted = back.clip(0, [200, 100, 200, 100])
    np.testing.assert_allclose([box["box"] for box in told], wanted, atol=0.01)


def test_a_threshold_leaves_what_is_above_it(edgekit: Command, bundle: Path) -> None:
    run = ["run", "d.bundle", "--image", "street.png", "--force", "--json"]
    all_ = edgekit(*run).json()["boxes"]
    middle = all_[len(all_) // 2]["score"]
    some = edgekit(*run, "--score", str(middle)).json()["boxes"]
    assert 0 < len(some) < len(all_)
    assert edgekit(*run, "--iou", "0.1").json()["boxes"] != all_
    none = edgekit("run", "d.bundle", "--image", "street.png", "--force", "--score", "1")
    assert "no box with a score above 1\nwrote street-boxes.png" in none.out


def test_a_rotated_picture_has_boxes_of_the_upright_one(edgekit: Command, bundle: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("street.png").transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    upright = edgekit("run", "d.bundle", "--image", "street.png", "--json").json()
    turned = edgekit("run", "d.bundle", "--image", "turned.png", "--json").json()
    assert turned["image"] == upright["image"]
    assert turned["boxes"] == upright["boxes"]


def test_a_reduced_decode_has_boxes_in_the_file_s_own_pixels(
    edgekit: Command, bundle: Path
) -> None:
    Image.open("street.png").resize((1600, 800)).save("street.jpg", quality=95)
    run = ["run", "d.bundle", "--image", "street.jpg", "--force", "--json"]
    whole, told = edgekit(*run).json(), edgekit(*run, "--reduced-decode").json()
    assert told["image"] == {"width": 1600, "height": 800}
    assert whole["decoded"] == told["image"]
    assert told["decoded"] == {"width": 200, "height": 100}
    assert max(box["box"][2] for box in told["boxes"]) > 400
    assert np.asarray(Image.open("street-boxes.png")).shape == (800, 1600, 3)
    text = edgekit(*run[:-1], "--reduced-decode").out
    assert "decoded at 200 x 100" in text


def test_a_picture_of_one_pixel_runs(edgekit: Command, bundle: Path) -> None:
    Image.new("L", (1, 1), 7).save("dot.png")
    result = edgekit("run", "d.bundle", "--image", "dot.png")
    assert result.code == 0, result
    assert Image.open("dot-boxes.png").size == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["d.bundle", "--image", "none.png"], "There is no picture none.png"),
        (["d.bundle", "--image", "detector.toml"], "is no picture that Pillow reads"),
        (
            ["d.bundle", "--image", "street.png", "-o", "street.png"],
            "street.png is the picture itself",
        ),
        (["d.bundle", "--image", "street.png", "-o", "out.npy"], "is no name of a picture"),
        (["d.bundle", "--image", "street.png", "-o", "taken.png"], "or replace it with --force"),
        (["d.bundle", "--image", "street.png", "--score", "2"], "A score of 2 is none"),
        (["d.bundle", "--image", "street.png", "--iou", "0"], "An IoU of 0 is none"),
        (
            ["d.bundle", "--image", "street.png", "--weights", "w"],
            "Weights belong to a model's name",
        ),
        (["no.bundle", "--image", "street.png"], "no.bundle is no bundle"),
        (["mobilnet-v2", "--image", "street.png"], "did you mean 'mobilenet-v2'"),
        (["detector.toml", "--image", "street.png"], "random ones find nothing"),
        (["small.toml", "--image", "street.png"], "has no recipe of a detector"),
        (["d.bundle", "--score", "0.5"], "belong to --image"),
        (["d.bundle", "--reduced-decode"], "belong to --image"),
        (["d.bundle", "--image", "street.png", "--reduced-decode"], "only a JPEG can be decoded"),
        (["d.bundle", "--image", "street.png", "--input", "image=a.npy"], "are for arrays"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    edgekit: Command, bundle: Path, arguments: list[str], words: str
) -> None:
    Path("taken.png").write_bytes(b"")
    result = edgekit("run", *arguments)
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert words in result.err


def test_a_network_that_finds_no_boxes_is_no_detector(
    edgekit: Command, exported: Path, detector: Path
) -> None:
    result = edgekit("run", exported / "onnx", "--image", "street.png")
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert "is no detector" in result.err


def test_outputs_that_are_not_finite_are_one_sentence(edgekit: Command, detector: Path) -> None:
    weights = SmallDetector(8, 3).state_dict()
    weights["heads.0.bias"][:] = torch.nan
    save_file(weights, "bad.safetensors")
    result = edgekit(
        "run", "detector.toml", "--weights", "bad.safetensors", "--image", "street.png"
    )
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert "are NaN or infinite" in result.err


def test_the_manifest_declares_names_and_thresholds(bundle: Path) -> None:
    declared = json.loads((bundle / "d.bundle/manifest.json").read_text())["image"]["output"]
    assert declared["names"] == ["person", "car", "traffic light"]
    assert (declared["score"], declared["iou"], declared["limit"]) == (0.3, 0.6, 20)


def test_verify_matches_boxes(edgekit: Command, bundle: Path) -> None:
    told = edgekit("verify", "d.bundle", "--json").json()
    assert told["passed"]
    assert [output["name"] for output in told["outputs"]] == ["boxes", "scores"]
    found = told["detections"]
    assert (found["expected"], found["matched"], found["missing"], found["extra"]) == (20, 20, 0, 0)
    assert told["gate"]["detections"]["matched"] == 0.99
    assert "20 of 20 matched, 0 near ties, 0 missing, 0 extra" in edgekit("verify", "d.bundle").out


@pytest.mark.parametrize("name", ["d.bundle", "coreml.bundle"])
def test_the_model_file_itself_holds_names_and_thresholds(bundle: Path, name: str) -> None:
    opened = open_bundle(bundle / name)
    if opened.format == "onnx":
        metadata = {p.key: p.value for p in onnx.load(opened.model_file).metadata_props}
    else:
        metadata = dict(read_spec(opened.model_file).description.metadata.userDefined)
    assert json.loads(metadata["edgekit.image"]) == opened.manifest["image"]
    assert '"traffic light"' in metadata["edgekit.image"]


def test_a_bundle_and_its_model_are_evaluated(edgekit: Command, bundle: Path) -> None:
    pytest.importorskip("pycocotools")
    told = edgekit("run", "d.bundle", "--image", "street.png", "--json").json()
    truth = [
        {"image_id": 1, "category_id": box["label"] + 1, "bbox": [x, y, right - x, bottom - y]}
        for box in told["boxes"]
        for x, y, right, bottom in [box["box"]]
    ]
    categories = [
        {"id": 1, "name": "person"},
        {"id": 2, "name": "car"},
        {"id": 3, "name": "Traffic Light"},
    ]
    images = [{"id": 1, "file_name": "street.png", "width": 200, "height": 100}]
    coco = {"images": images, "categories": categories, "annotations": truth}
    Path("truth.json").write_text(json.dumps(coco))
    arguments = ["evaluate", "d.bundle", "truth.json", "."]
    assert edgekit(*arguments, "--score", "0.3", "--json").json()["ap"] == 1
    by_file = edgekit(*arguments, "--json").json()
    by_name = edgekit(
        "evaluate", "detector.toml", *arguments[2:], "--weights", "weights.safetensors", "--json"
    ).json()
    for told in (by_file, by_name):
        assert told.pop("seconds_per_image") > 0
    assert by_file == by_name
    assert "mAP 50-95" in edgekit(*arguments).out
    assert api.evaluate("d.bundle", "truth.json", ".").ap == by_file["ap"]


def test_a_file_that_suppresses_by_itself_shows_the_same(edgekit: Command, bundle: Path) -> None:
    run = ["--image", "street.png", "--force", "--json"]
    outside = edgekit("run", "d.bundle", *run, "--score", "0.4").json()["boxes"][:10]
    inside = edgekit("run", "nms.bundle", *run).json()
    assert inside["boxes"] == outside
    assert (inside["score"], inside["iou"]) == (0.4, 0.6)
    higher = edgekit("run", "nms.bundle", *run, "--score", "0.595").json()["boxes"]
    assert higher == [box for box in outside if box["score"] > 0.595] != outside
    for option, words in (
        (["--iou", "0.5"], "with an IoU of 0.6"),
        (["--score", "0.3"], "up to 0.4"),
    ):
        refused = edgekit("run", "nms.bundle", "--image", "street.png", "--force", *option)
        assert (refused.code, refused.is_one_sentence()) == (2, True)
        assert words in refused.err


def test_a_file_that_takes_pixels_shows_the_same(edgekit: Command, bundle: Path) -> None:
    run = ["--image", "street.png", "--force", "--json"]
    outside = edgekit("run", "d.bundle", *run).json()["boxes"]
    inside = edgekit("run", "pixels.bundle", *run).json()["boxes"]
    assert [box["class"] for box in inside] == [box["class"] for box in outside]
    np.testing.assert_allclose(
        [box["box"] for box in inside], [box["box"] for box in outside], atol=0.02
    )
    (image,) = open_bundle(bundle / "pixels.bundle").inputs
    assert (image.shape, image.dtype, image.axes) == ((1, 64, 96, 3), "uint8", "NHWC")


def test_a_core_ml_file_takes_an_image_and_shows_boxes(edgekit: Command, bundle: Path) -> None:
    opened = open_bundle(bundle / "camera.bundle")
    (image,) = read_spec(opened.model_file).description.input
    assert image.type.WhichOneof("Type") == "imageType"
    assert (image.type.imageType.height, image.type.imageType.width) == (64, 96)
    run = ["--image", "street.png", "--force", "--json"]
    inside = edgekit("run", "camera.bundle", *run).json()["boxes"]
    # a box under its best class only
    picture = Image.open("street.png").resize((96, 48), Image.Resampling.BILINEAR)
    canvas = np.full((64, 96, 3), 114, np.uint8)
    canvas[8:56] = np.asarray(picture)
    image_ = normalised(canvas, "BGR", (0.4, 0.5, 0.45), (0.2, 0.25, 0.3))
    model = api.load("detector.toml", "weights.safetensors")
    _, scores, labels = suppress(*model(torch.from_numpy(image_)), 0.3, 0.6, 20, True)
    assert [box["label"] for box in inside] == labels[labels >= 0].tolist()
    np.testing.assert_allclose([box["score"] for box in inside], scores[labels >= 0], atol=1e-4)


@pytest.mark.parametrize("name", ["nms.bundle", "pixels.bundle", "camera.bundle"])
def test_what_a_file_does_itself_is_verified_and_rebuilt(
    edgekit: Command, bundle: Path, name: str
) -> None:
    rebuilt = ["--model", "detector.toml", "--weights", "weights.safetensors"]
    result = edgekit("verify", name, "--bisect", "--half-audit", *rebuilt)
    assert result.code == 0, result
    assert "No operator's error reaches an output." in result.out
    assert "missing, 0 extra" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detector.toml", "--target", "onnx", "--score", "0.5"], "belong to --nms"),
        (["detector.toml", "--target", "onnx", "--nms", "--iou", "3"], "An IoU of 3 is none"),
        (["detector.toml", "--target", "coreai", "--nms"], "has no operator that suppresses boxes"),
        (["detector.toml", "--target", "onnx", "--nms", "--tiles", "2x2"], "A plan ends where the"),
        (["mobilenet-v2", "--target", "onnx", "--nms"], "mobilenet-v2 is no detector"),
        (["small.toml", "--target", "onnx", "--bake-preprocessing"], "cannot take pixels"),
        (["factories:make", "--target", "onnx", "--nms"], "belong to models with a recipe"),
    ],
)
def test_work_that_a_file_cannot_do_is_one_sentence(
    edgekit: Command, detector: Path, arguments: list[str], words: str
) -> None:
    result = edgekit("export", *arguments)
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert words in result.err


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_detector_that_takes_pixels_runs_by_a_plan(
    edgekit: Command, detector: Path, target: str
) -> None:
    options = ["--weights", "weights.safetensors", "--no-simplify", "--bake-preprocessing"]
    planned = ["--memory-budget", "60kB", "--precision", "fp32", "-o", "planned.bundle"]
    told = edgekit(
        "export", "detector.toml", "--target", target, *options, *planned, "--json"
    ).json()
    assert told["parity"]["detections"]["missing"] == 0
    found = edgekit("run", "planned.bundle", "--image", "street.png", "--json").json()["boxes"]
    eager = edgekit(
        "run", "detector.toml", *options[:2], "--image", "street.png", "--force", "--json"
    ).json()["boxes"]
    assert [box["class"] for box in found] == [box["class"] for box in eager]
    np.testing.assert_allclose([b["box"] for b in found], [b["box"] for b in eager], atol=0.02)


def test_a_file_that_shows_nothing_is_verified_before_it_suppresses(
    edgekit: Command, detector: Path
) -> None:
    options = ["--weights", "weights.safetensors", "--no-simplify", "-o", "blind.bundle"]
    export = ["export", "detector.toml", "--target", "onnx", "--nms", "--score", "0.99", *options]
    text = edgekit(*export).out
    assert "detections above 0.99: none on either side, so that they prove nothing here" in text
    assert "all candidates before suppression: boxes 1" in text
    assert sorted(path.name for path in detector.glob("*.bundle")) == ["blind.bundle"]
