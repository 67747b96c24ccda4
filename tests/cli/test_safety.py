"""Filters of hallucinations, from an exported detector to a picture with fewer boxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command
from marked_pictures import PICTURES, write_marked_pictures, write_talkative_weights
from PIL import Image
from safetensors.numpy import load_file
from small_detector import register, write_detector
from tiny_detectors import FAMILIES
from tiny_training import RECIPE

import edgekit as api
from edgekit.bundle import MANIFEST, Bundle, open_bundle, write_manifest
from edgekit.cli.main import run_command
from edgekit.detection.detector import detector_of_bundle, detector_of_model
from edgekit.detection.evidence import LOGITS, maps_of
from edgekit.detection.in_the_file import with_evidence
from edgekit.detection.safety import FILTERS
from edgekit.detection.safety_file import FILE, read_safety, write_safety
from edgekit.errors import UsageError


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of a tiny LeYOLO of random weights, and pictures marked with what it finds; not to be changed."""
    folder = tmp_path_factory.mktemp("safety")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("tiny.toml").write_text(RECIPE)
        write_talkative_weights("tiny.toml", Path("weights.safetensors"))
        options = ["tiny.toml", "--weights", "weights.safetensors", "--no-simplify"]
        for target in ("onnx", "coreml"):
            precision = [] if target == "onnx" else ["--precision", "fp32"]
            arguments = ["export", *options, "--target", target, *precision]
            assert run_command([*arguments, "--safety", "-o", f"{target}.bundle"]) == 0
        shutil.copytree("onnx.bundle", "plain.bundle")
        manifest = Path("plain.bundle") / MANIFEST
        manifest.write_text(manifest.read_text().replace('"evidence": true', '"evidence": false'))
        write_marked_pictures(
            "tiny.toml", Path("weights.safetensors"), Path("known.json"), Path("known")
        )
    return folder


@pytest.fixture
def here(once: Path, place: Path) -> Path:
    shutil.copytree(once, place, dirs_exist_ok=True)
    return place


CALIBRATE = ["known.json", "known"]


@pytest.mark.parametrize("name", ["onnx.bundle", "coreml.bundle"])
def test_a_file_tells_the_evidence_of_its_model(here: Path, name: str) -> None:
    opened = open_bundle(here / name)
    shapes = {spec.name: spec.shape for spec in opened.outputs}
    assert shapes["logits"] == (1, 84, 2)
    assert [shapes[f"features_{level}"][2:] for level in range(3)] == [(8, 8), (4, 4), (2, 2)]
    assert opened.manifest["evidence"] is True
    assert opened.manifest["parity"]["passed"] is True
    model = detector_of_model(with_evidence(api.load("tiny.toml", "weights.safetensors")))
    picture = Image.open("known/1.png")
    ours = model(picture, model.thresholds_for())
    theirs = detector_of_bundle(opened)(picture, model.thresholds_for())
    assert ours.evidence is not None
    assert theirs.evidence is not None
    assert len(ours) == len(ours.evidence) > 0
    np.testing.assert_allclose(theirs.evidence.logits, ours.evidence.logits, atol=1e-4)
    np.testing.assert_allclose(theirs.evidence.features, ours.evidence.features, atol=1e-4)
    chances = 1 / (1 + np.exp(-ours.evidence.logits[np.arange(len(ours)), ours.labels]))
    np.testing.assert_allclose(chances, ours.scores, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_logits_are_those_of_its_scores(family: str) -> None:
    torch.manual_seed(0)
    network = FAMILIES[family]().eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        boxes, scores, logits, *maps = network.evidence(image)
        plain = network(image)
    assert torch.equal(plain[0], boxes)
    assert torch.equal(plain[1], scores)
    assert torch.equal(torch.where(scores > 0, logits.sigmoid(), 0.0), scores)
    assert all(values.shape[:1] == (1,) and values.ndim == 4 for values in maps)


@pytest.mark.parametrize("name", ["onnx.bundle", "coreml.bundle"])
def test_a_calibrated_bundle_leaves_out_what_a_filter_rejects(
    edgekit: Command, here: Path, name: str
) -> None:
    told = edgekit("calibrate", name, *CALIBRATE, "--accept", "0.5", "--json").json()
    assert (told["pictures"], told["acceptance"]) == (PICTURES, 0.5)
    assert list(told["thresholds"]) == list(FILTERS)
    assert edgekit("verify", name).code == 0
    run = ["run", name, "--image", "known/2.png", "--force", "--json"]
    everything = edgekit(*run).json()["boxes"]
    left = {kind: edgekit(*run, "--filter", kind).json()["boxes"] for kind in FILTERS}
    for kind, boxes in left.items():
        assert all(box in everything for box in boxes), kind
    assert 0 < sum(map(len, left.values())) < 4 * len(everything)
    assert "filter" in edgekit("calibrate", name, *CALIBRATE).out  # again, in place of the first


def test_filters_are_data_beside_the_model_and_come_back_as_they_were(
    edgekit: Command, here: Path
) -> None:
    golden = (here / "onnx.bundle" / "golden.safetensors").read_bytes()
    made = api.calibrate("onnx.bundle", *CALIBRATE)
    opened = open_bundle(here / "onnx.bundle")
    assert opened.changed_files() == []
    assert FILE in opened.manifest["files"]
    assert (here / "onnx.bundle" / "golden.safetensors").read_bytes() == golden
    assert set(load_file(here / "onnx.bundle" / FILE)) == {
        "knn.bank", "mahalanobis.means", "mahalanobis.precision"
    }  # fmt: skip
    read = read_safety(opened)
    detector = detector_of_bundle(opened)
    found = detector(Image.open("known/3.png"), detector.thresholds_for(0.01))
    assert found.evidence is not None
    for name in FILTERS:
        assert read.filters[name].threshold == made.filters[name].threshold
        ours, theirs = (side.accepts(name, found.evidence) for side in (made, read))
        np.testing.assert_array_equal(ours, theirs)


def test_a_bundle_whose_model_is_another_is_not_calibrated(edgekit: Command, place: Path) -> None:
    folder = place / "net.bundle"
    folder.mkdir()
    for name in ("net.onnx", FILE):
        (folder / name).write_bytes(b"as it was")
    fields = {
        "schema": 1, "name": "net", "family": None, "model": "net.onnx", "format": "onnx", "target": "onnx",
        "precision": "fp32", "rewrites": {}, "gate": {"psnr_db": 100.0, "integers_differ": 0.0},
        "inputs": [], "outputs": [],
    }  # fmt: skip
    write_manifest(folder, fields)
    (folder / FILE).write_bytes(b"damaged")  # which does not matter: it is what is replaced
    assert "is not the file" not in edgekit("calibrate", "net.bundle", *CALIBRATE).err
    (folder / "net.onnx").write_bytes(b"as it was.")
    refused = edgekit("calibrate", "net.bundle", *CALIBRATE)
    assert (refused.code, refused.is_one_sentence()) == (2, True), refused
    assert "net.onnx of net.bundle is not the file that was exported; export again" in refused.err


def test_the_figures_count_what_is_rejected_as_less_sure(edgekit: Command, here: Path) -> None:
    pytest.importorskip("pycocotools")
    api.calibrate("onnx.bundle", *CALIBRATE, acceptance=0.5)
    told = edgekit("evaluate", "onnx.bundle", *CALIBRATE, "--json").json()
    filtered = edgekit("evaluate", "onnx.bundle", *CALIBRATE, "--filter", "knn", "--json").json()
    assert filtered["boxes"] == told["boxes"]
    assert 0 < filtered["ap"] != told["ap"]


def test_a_file_without_filters_or_evidence_is_one_sentence(edgekit: Command, here: Path) -> None:
    picture = ["--image", "known/1.png", "--force"]
    named = ["tiny.toml", "--weights", "weights.safetensors"]
    for arguments, words in (
        (["run", "onnx.bundle", *picture, "--filter", "knn"], "has no filters; make them"),
        (["run", *named, *picture, "--filter", "knn"], "belong to a bundle"),
        (["run", "onnx.bundle", "--filter", "knn"], "belong to --image"),
        (["evaluate", *named[:1], *CALIBRATE, *named[1:], "--filter", "knn"], "belong to a bundle"),
        (["calibrate", "plain.bundle", *CALIBRATE], "export it with --safety"),
        (["calibrate", "onnx.bundle", *CALIBRATE, "--score", "0.999"], "filters need 40"),
        (["calibrate", "onnx.bundle", *CALIBRATE, "--accept", "95"], "An acceptance of 95"),
        (["calibrate", "onnx.bundle", "none.json", "known"], "none.json"),
        (["export", *named, "--target", "onnx", "--safety", "--nms"], "not both"),
        (["export", *named, "--target", "onnx", "--safety", "--tiles", "2x2"], "whole"),
        (["export", "mobilenet-v2", "--target", "onnx", "--safety"], "tells no logits"),
    ):
        result = edgekit(*arguments)
        assert (result.code, result.is_one_sentence()) == (2, True), (arguments, result)
        assert words in result.err, (arguments, result)
    assert MANIFEST in {path.name for path in (here / "onnx.bundle").iterdir()}
    assert edgekit("calibrate", "onnx.bundle", *CALIBRATE).code == 0
    result = edgekit("run", "onnx.bundle", *picture, "--filter", "odin")
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert "There is no filter 'odin'; there are energy" in result.err


def test_a_detector_that_tells_no_evidence_cannot_be_asked_for_it(
    edgekit: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    write_detector(place)
    result = edgekit("export", "detector.toml", "--target", "onnx", "--safety")
    assert result.code == 2, result
    assert "small-detector tells no logits and features" in result.err


def test_damaged_filters_and_those_of_another_detector_are_refused(here: Path) -> None:
    made = api.calibrate("onnx.bundle", *CALIBRATE)
    opened = open_bundle(here / "onnx.bundle")
    told = dict(opened.manifest["safety"])
    for change in ({"features": 3}, {"filters": {"odin": {"threshold": 1}}}, {"boxes": "many"}):
        wrong = Bundle(opened.path, {**opened.manifest, "safety": told | change})
        with pytest.raises(
            UsageError, match="is missing or damaged; run `edgekit calibrate` again"
        ):
            read_safety(wrong)
    more = Bundle(opened.path, {**opened.manifest, "safety": told | {"classes": 9}})
    with pytest.raises(UsageError, match="with 9 classes, and it has 2"):
        read_safety(more)
    (opened.path / FILE).write_bytes(b"none")
    with pytest.raises(UsageError, match="is missing or damaged"):
        read_safety(opened)
    write_safety(opened, made)
    assert read_safety(open_bundle(opened.path)).boxes == made.boxes


def test_maps_are_read_in_the_order_of_their_levels() -> None:
    outputs = {f"features_{level}": np.full((1, 1, 1, 1), level) for level in (2, 0, 1)}
    assert [int(values[0, 0, 0]) for values in maps_of(outputs | {LOGITS: np.zeros(1)})] == [
        0,
        1,
        2,
    ]
