"""Split bundles: written, proven, run, and found out when they are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from split_models import CLASSES, SIDE, Classifier, classifier, networks
from torch import nn

import edgekit
from edgekit import api
from edgekit.backends.registry import backend_for
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import PacketError, ParityError, UsageError
from edgekit.split.bundle import GOLDEN_PACKET, SplitBundle
from edgekit.split.codec import EntropyCodec
from edgekit.split.early_exit import EarlyExit, ExitHead
from edgekit.split.of_network import codec_of
from edgekit.split.packet import Limits, read_header, read_packet, write_packet
from edgekit.split.tables import Tables
from edgekit.split_exporting import SplitOptions, export_split, split_network
from edgekit.split_parity import before_rounding, near, split_report
from edgekit.target import find_target
from edgekit.zoo.split.attach import split_at
from edgekit.zoo.split.network import SplitTail

CASES = {
    "entropy onnx": ("entropy", "onnx", None),
    "entropy coreml": ("entropy", "coreml", "fp16"),
    "calibrated coreml": ("calibrated", "coreml", "fp32"),
    "calibrated onnx": ("calibrated", "onnx", "fp16"),
    "dynamic onnx": ("dynamic", "onnx", None),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Bundle]:
    folder = tmp_path_factory.mktemp("split")
    made = networks()
    written = {}
    for name, (kind, target, precision) in CASES.items():
        options = SplitOptions(precision, simplify=False)
        layer = "bottleneck" if kind == "entropy" else "first"
        written[name], report = export_split(
            classifier(), made[kind], layer, find_target(target), folder / name, options
        )
        assert report is not None
        assert report.passed
    return written


@pytest.mark.parametrize("case", CASES)
def test_head_tail_and_both_are_proven_and_the_golden_packet_is_made_again(
    bundles: Mapping[str, Bundle], case: str
):
    report = edgekit.verify(open_bundle(bundles[case].path))
    names = [output.name for output in report.outputs]
    symbols = "values" if "dynamic" in case else "symbols"
    output = bundles[case].outputs[0].name
    assert names == [f"head: {symbols}", "golden packet", f"tail: {output}", f"both: {output}"]
    assert report.passed
    assert report.outputs[1].psnr_db == np.inf
    assert report.outputs[2].psnr_db > 100
    assert report.outputs[3].psnr_db > 30
    assert "golden packet" in report.notes[0]


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_holds_integers_for_the_wire_and_all_that_a_phone_needs(
    bundles: Mapping[str, Bundle], case: str
):
    kind, target, _ = CASES[case]
    bundle = bundles[case]
    files = {name.partition("/")[0] for name in bundle.manifest["files"]}
    numbers = {"entropy": {"tables.json"}, "calibrated": {"calibration.json"}, "dynamic": set()}[kind]  # fmt: skip
    head = "head.onnx" if target == "onnx" else "head.mlpackage"
    expected = {head, "tail.onnx", "packet.json", GOLDEN_PACKET, "golden.safetensors"}
    assert files == expected | numbers
    split = SplitBundle(bundle)
    made = split.head.run(bundle.golden()[0])[split.facts.head_output]
    asked = {"entropy": "int32", "calibrated": "int32" if target == "coreml" else "uint8"}
    assert made.dtype == asked.get(kind, "float32")
    schema = json.loads((bundle.path / "packet.json").read_text())
    header, _ = read_header((bundle.path / GOLDEN_PACKET).read_bytes(), Limits())
    assert header.digest.hex() == schema["hash"]
    assert header.codec == schema["coding"]
    sizes = (header.sizes.channels, header.sizes.height, header.sizes.width)
    assert sizes == (schema["channels"][1], schema["height"], schema["width"]) == (made.shape[1:])
    if kind != "dynamic":
        assert made.max() - made.min() > 10  # a golden packet of zeros would prove nothing


@pytest.mark.parametrize("case", CASES)
def test_running_it_is_what_the_network_computes_in_one_graph(
    bundles: Mapping[str, Bundle], case: str
):
    kind, _, precision = CASES[case]
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    (found,) = edgekit.run(bundles[case], image.numpy())
    with torch.inference_mode():
        wanted = networks()[kind](image).numpy()
    assert found.shape == (1, CLASSES)
    # A symbol at the border of two may go either way in half precision.
    assert np.abs(found - wanted).max() < (0.1 if precision == "fp16" else 2e-2)


def test_fewer_channels_are_what_the_network_computes_with_fewer(bundles: Mapping[str, Bundle]):
    split = SplitBundle(bundles["entropy onnx"])
    inputs = split.bundle.golden()[0]
    image = torch.from_numpy(next(iter(inputs.values())))
    network = networks()["entropy"]
    sizes = []
    for keep in (2, 3, 5):
        packet = split.packet(inputs, keep)
        sizes.append(len(packet))
        (found,) = split.outputs(split.arrived(packet).values).values()
        with torch.inference_mode():
            wanted = network(image, keep=keep).numpy()
        assert np.abs(found - wanted).max() < 2e-2
    assert sizes == sorted(sizes)
    assert split.tail().fewest_channels == 2


class Off:
    """A file that computes something else."""

    reference = "off"
    rounds_to_half = False

    def __init__(self, file, by: float) -> None:
        self.file, self.by = file, by

    def run(self, inputs):
        return {name: value + np.asarray(self.by, value.dtype) for name, value in self.file.run(inputs).items()}  # fmt: skip

    def trace(self, inputs) -> Iterator[tuple[str, str, np.ndarray]]:
        return self.file.trace(inputs)


def failed(split: SplitBundle) -> list[str]:
    report = split_report(split)
    assert report.passed == (not report.reasons)
    return [output.name.partition(":")[0] for output in report.outputs if not output.passed]


def test_a_head_or_a_tail_that_computes_something_else_is_found_out(bundles: Mapping[str, Bundle]):
    head = SplitBundle(bundles["entropy onnx"])
    assert failed(head) == []
    head.head = Off(head.head, 2)  # type: ignore[misc]
    assert failed(head)[:2] == ["head", "golden packet"]
    tail = SplitBundle(bundles["entropy onnx"])
    tail.tails = {"main": Off(tail.tails["main"], 1e-3)}  # type: ignore[misc]
    assert failed(tail) == ["tail"]
    tail.tails = {"main": Off(tail.tails["main"], 3)}  # type: ignore[misc]
    assert failed(tail) == ["tail", "both"]


def test_another_golden_packet_is_found_out(bundles: Mapping[str, Bundle], tmp_path: Path):
    folder = Path(shutil.copytree(bundles["entropy onnx"].path, tmp_path / "copy"))
    split = SplitBundle(open_bundle(folder))
    symbols = split.bottleneck(split.bundle.golden()[0])
    symbols[0, 0, 0] += 1
    (folder / GOLDEN_PACKET).write_bytes(write_packet(split.codec, symbols))
    with pytest.raises(UsageError, match=r"golden.packet of copy is not the file"):
        api.verify(folder)
    report = split_report(split)
    assert not report.passed
    assert "1 of" in report.outputs[1].reason


def test_other_numbers_than_those_that_were_exported_are_refused(
    bundles: Mapping[str, Bundle], tmp_path: Path
):
    folder = Path(shutil.copytree(bundles["entropy onnx"].path, tmp_path / "copy"))
    tables = Tables.read(folder / "tables.json")
    tables.pick([1, 0, 2, 3, 4]).write(folder / "tables.json")
    with pytest.raises(UsageError, match="other numbers than it was exported with"):
        SplitBundle(open_bundle(folder))


def test_dynamic_heads_of_as_many_channels_refuse_each_others_packets():
    torch.manual_seed(1)
    image = torch.randn(1, 3, SIDE, SIDE)
    heads = [
        split_at(classifier().module, "first.0", image),
        split_at(classifier().module, "first.1", image),  # no tensor more
        split_at(Classifier(), "first.0", image),
    ]
    codecs = [codec_of(head) for head in heads]
    packet = write_packet(codecs[0], np.zeros((6, 8, 8), np.float32))
    assert read_packet(codec_of(split_at(classifier().module, "first.0", image)), packet).is_whole
    for other in codecs[1:]:
        with pytest.raises(PacketError, match="of another head"):
            read_packet(other, packet)


@pytest.mark.parametrize("damage", [None, {}, {"layer": 1}, []])
def test_a_damaged_manifest_gets_a_sentence(
    bundles: Mapping[str, Bundle], tmp_path: Path, damage: object
):
    folder = Path(shutil.copytree(bundles["dynamic onnx"].path, tmp_path / "copy"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["split"] = damage
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"damaged|holds a whole network"):
        SplitBundle(open_bundle(folder))


def test_a_file_that_fails_its_proof_leaves_no_bundle(tmp_path: Path):
    with pytest.raises(ParityError, match=r"both: .* is below the gate of 500 dB"):
        export_split(
            classifier(), networks()["calibrated"], "first", find_target("onnx"), tmp_path / "b",
            SplitOptions("fp16", simplify=False, gate_db=500),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_two_tails_answer_one_packet(tmp_path: Path):
    network = networks()["entropy"]
    main = network.tails["main"]
    assert isinstance(main, SplitTail)
    network.tails["other"] = SplitTail(main.decoder, nn.Flatten())
    bundle, report = export_split(
        classifier(), network.eval(), "bottleneck", find_target("onnx"), tmp_path / "b",
        SplitOptions(simplify=False),
    )  # fmt: skip
    assert report is not None
    assert report.passed
    assert {"tail-main.onnx", "tail-other.onnx"} <= set(bundle.manifest["files"])
    made = api.run_named(bundle, bundle.golden()[0])
    assert [name.partition(".")[0] for name in made] == ["main", "other"]
    assert len({value.size for value in made.values()}) == 2


def test_a_head_with_an_early_exit_answers_what_it_is_sure_of(tmp_path: Path):
    model = classifier()
    early = EarlyExit("first.0", ExitHead(6, CLASSES), 0.5)
    bundle, report = export_split(
        model, split_network(model, "first", None), "first", find_target("onnx"), tmp_path / "b",
        SplitOptions(simplify=False, early=early),
    )  # fmt: skip
    assert report is not None
    assert [output.name for output in report.outputs][:3] == ["head: values", "golden packet", "head: exit"]  # fmt: skip
    operators = backend_for("onnx").describe(bundle.path / "head.onnx").operators
    assert operators["Conv"] == 1  # what head and exit share is computed once
    image = torch.randn(1, 3, SIDE, SIDE)
    seen = SplitBundle(bundle).head_outputs({bundle.inputs[0].name: image.numpy()})
    wanted = early.answers(model.module, [image])
    for threshold in (wanted.confidence[0] - 1e-3, wanted.confidence[0] + 1e-3):
        split = SplitBundle(bundle)
        split.facts = replace(
            split.facts, exit={**(split.facts.exit or {}), "threshold": threshold}
        )
        answer = split.early_answer(seen)
        assert (answer is None) == (threshold > wanted.confidence[0])
        assert answer is None or int(answer.argmax()) == wanted.classes[0]
    with pytest.raises(UsageError, match="no layer 'last'"):
        export_split(
            model, split_network(model, "first", None), "first", find_target("onnx"), tmp_path / "c",
            SplitOptions(early=EarlyExit("last", ExitHead(7, CLASSES), 0.5)),
        )  # fmt: skip


def test_layers_that_cannot_be_used_get_a_sentence():
    with pytest.raises(UsageError, match="no layer 'frist' to cut at; the nearest: first"):
        split_network(classifier(), "frist", None)
    split = edgekit.model.model_of_module(networks()["entropy"], torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(UsageError, match="give --split bottleneck, not 'first'"):
        split_network(split, "first", None)
    with pytest.raises(UsageError, match="leave --calibrate away"):
        split_network(split, "bottleneck", [])


@given(st.floats(-50, 50, width=32), st.floats(-2, 2, width=32), st.floats(-1, 1, width=32))
def test_rounded_numbers_are_judged_as_far_off_as_what_was_rounded(latent, error, median):
    codec = EntropyCodec(Tables((median,), (0,), ((0, 5),)))
    u = np.full((1, 1, 1), latent, np.float32)
    whole = codec.tables.symbols(u + np.float32(error))
    judged = near(codec, u, whole)
    off = float(np.abs(judged - before_rounding(codec, u)).max())
    assert off <= abs(error) + 1e-4
    assert off >= abs(error) - 1 - 1e-4
