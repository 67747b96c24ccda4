"""Bits of layers: what single layers do to the outputs, the integer programme, and files within a budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_quantised import ALL, inputs, small
from torch import nn

import edgekit
from edgekit import UsageError
from edgekit.backends.onnx.packed import bits_needed, packed_bytes
from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.bit_allocation import Search, export_within
from edgekit.compress.bit_budget import Budget, parse_budget
from edgekit.compress.bit_programme import Choice, Limits, allocate
from edgekit.compress.decided import LayerCodes
from edgekit.compress.error_feedback import ErrorFeedback
from edgekit.compress.layer_results import computed
from edgekit.compress.output_error import Judge, OutputError, angle, divergence, lost_structure
from edgekit.compress.places import layers
from edgekit.compress.quantise import codes_of, prepare, quantize, ready_program
from edgekit.compress.sensitivity import LayerSensitivity, Sensitivity, sensitivity
from edgekit.compress.statistics_restored import restored
from edgekit.exporting import ExportOptions
from edgekit.model import model_of_module
from edgekit.program.editing import GraphEditor
from edgekit.target import find_target


def layer(name: str, errors: dict[int, float], values: tuple[str, ...] = ()) -> LayerSensitivity:
    found = {bits: OutputError(error, error) for bits, error in errors.items()}
    return LayerSensitivity(name, 10, (4, 2), 4, found, frozenset(values))


def test_the_programme_finds_what_trying_all_finds() -> None:
    random = np.random.default_rng(0)
    bits = (3, 4, 6)
    layers = [layer(f"l{n}", {b: float(random.random() * 4.0**-b) for b in bits}) for n in range(5)]
    choices = {
        one.name: [Choice(b, True, float(b * random.integers(10, 90))) for b in bits]
        for one in layers
    }
    found = Sensitivity(tuple(layers), {})
    every = [
        (
            sum(choice.cost for choice in taken),
            sum(one.errors[choice.bits or 0].noise for one, choice in zip(layers, taken)),
        )
        for taken in product(*(choices[one.name] for one in layers))
    ]
    limit = sorted(noise for _, noise in every)[len(every) // 2]
    cheapest = allocate(found, choices, Limits(noise=limit))
    assert cheapest is not None
    assert cheapest.cost == pytest.approx(min(cost for cost, noise in every if noise <= limit))
    nearest = allocate(found, choices, Limits(cost=cheapest.cost))
    assert nearest is not None
    assert nearest.error.noise == pytest.approx(
        min(noise for cost, noise in every if cost <= cheapest.cost)
    )
    assert allocate(found, choices, Limits(noise=0.0)) is None


def test_a_value_costs_its_error_once_and_only_while_a_layer_reads_it_as_codes() -> None:
    layers = [layer("a", {4: 0.0}, ("x", "y")), layer("b", {4: 0.0}, ("y",))]
    found = Sensitivity(tuple(layers), {"x": OutputError(1.0, 0.0), "y": OutputError(0.1, 0.0)})
    choices = {name: [Choice(4, True, 1.0), Choice(None, False, 5.0)] for name in "ab"}
    both = allocate(found, choices, Limits(noise=2.0))
    one = allocate(found, choices, Limits(noise=0.5))
    none = allocate(found, choices, Limits(noise=0.05))
    assert both is not None
    assert one is not None
    assert none is not None
    assert both.error.noise == pytest.approx(1.1)
    assert (one.choices["a"].bits, one.choices["b"].bits) == (None, 4)
    assert none.cost == 10
    half = allocate(found, choices, Limits(noise=2.0, float_share=0.5))
    assert half is not None
    assert half.cost == 2


def test_sensitivity_is_the_error_of_a_network_with_that_layer_alone_in_codes() -> None:
    model, given = small(16), inputs(3, 16)
    program = ready_program(model)
    prepared = prepare(program, given, ALL)
    judge = Judge.of(model)
    found = sensitivity(prepared, (3, 6), judge, ALL, 2, lambda _: None)
    assert {one.name for one in found.layers} == {one.name for one in prepared.layers}
    assert all(one.errors[3].noise > 4 * one.errors[6].noise for one in found.layers)
    last = prepared.layers[-1]
    conv = nn.Conv2d(8, 4, 3, 1, 1)
    conv.load_state_dict(model.module.end.state_dict())
    with torch.no_grad():
        read = []
        hook = model.module.end.register_forward_hook(lambda _m, x, _y: read.append(x[0]))
        wanted = [model.module(x) for x in given[:2]]
        hook.remove()
        codes = restored(last, codes_of(prepared.edit, last, 3, ALL), read, wanted)
        got = [torch.conv2d(x, codes.weight.values(), codes.bias, 1, 1) for x in read]
    expected = judge([[y] for y in wanted], [[y] for y in got])
    assert found.layers[-1].errors[3].noise == pytest.approx(expected.noise, rel=1e-3)
    assert set().union(*(one.values for one in found.layers)) <= set(found.values)


def test_distances_are_nothing_between_equals_and_grow() -> None:
    torch.manual_seed(0)
    for distance, one in (
        (divergence, torch.randn(1, 9)),
        (lost_structure, torch.rand(1, 3, 16, 16)),
        (angle, torch.randn(1, 4, 5)),
    ):
        near, far = (distance(one, one + size * torch.randn_like(one)) for size in (0.05, 0.5))
        assert distance(one, one) == pytest.approx(0, abs=1e-6)
        assert 0 < near < far


@pytest.mark.parametrize(("outputs", "side", "groups"), [(8, 3, 1), (6, 3, 6), (8, 1, 1)])
def test_feedback_makes_good_where_inputs_go_together(outputs: int, side: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, outputs, side, 2, side // 2, groups=groups)
    wide = torch.nn.functional.avg_pool2d(torch.randn(4, 2, 17, 17), 3, 1)
    mixed = torch.einsum("oi,nihw->nohw", torch.randn(6, 2), wide) + 0.1 * torch.randn(4, 6, 15, 15)
    given = list(mixed.split(1))
    edit = GraphEditor(ready_program(model_of_module(nn.Sequential(conv, nn.Tanh()), given[0])))
    (one,) = layers(edit)
    codes = codes_of(edit, one, 3, ALL)
    wanted = [conv(x).detach() for x in given]
    stated = restored(one, codes, given, wanted)
    fed = ErrorFeedback({one.name: conv.weight.detach()})(one, codes, given, wanted)

    def error(made: LayerCodes) -> float:
        results = [computed(one, x, made.weight.values(), made.bias) for x in given]
        return sum(float((a - b).square().mean()) for a, b in zip(results, wanted))

    assert error(fed) < 0.9 * error(stated)


@pytest.mark.parametrize("bits", [2, 3, 5, 7])
def test_packed_weights_take_their_bits_and_run_as_the_same_integer_kernels(
    tmp_path: Path, bits: int
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 61, 3), nn.ReLU(), nn.Conv2d(61, 64, 3))
    given = torch.randn(1, 8, 9, 9)
    coded = quantize(model_of_module(net, given), [given], replace(ALL, weight_bits=bits))
    whole, small_ = (
        edgekit.export(coded, output=tmp_path / str(packed), packed=packed, simplify=False)
        for packed in (False, True)
    )
    np.testing.assert_array_equal(*(edgekit.run(one, given.numpy())[0] for one in (whole, small_)))
    counts = [8 * 61 * 9, 61 * 64 * 9]
    saved = sum(count - packed_bytes(count, bits) for count in counts)
    sizes = [one.model_file.stat().st_size for one in (whole, small_)]
    assert sizes[0] - sizes[1] == pytest.approx(saved, abs=2000)
    settings = session_settings(SessionOptions(1))
    settings.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(small_.model_file), settings)
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("QLinearConv") == 2
    assert "BitShift" not in operators


def test_the_bits_that_codes_need() -> None:
    assert [
        bits_needed(np.array([-most, most], np.int8)) for most in (0, 1, 3, 7, 63, 127)
    ] == [2, 2, 3, 4, 7, 8]  # fmt: skip


@pytest.mark.slow
def test_files_keep_within_their_budget(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 1)
    )
    model = model_of_module(net, torch.randn(1, 4, 16, 16), "three")
    torch.manual_seed(1)
    data = [torch.randn(1, 4, 16, 16) for _ in range(5)]
    target, plain = find_target("onnx"), ExportOptions(simplify=False)
    split = (data[:3], data[3:])
    within, chosen = export_within(
        model, target, tmp_path / "a", split, ALL, plain, parse_budget("size=31kB", None)
    )
    assert within.report is not None
    assert within.report.passed
    assert within.quality.file_bytes <= 31_000
    assert chosen.cost == within.quality.file_bytes
    assert min(one.choice.bits or 32 for one in chosen.layers) < 8
    assert within.bundle.manifest["codes"]["layer_bits"]
    assert chosen.table().count("\n") == 3

    floor = parse_budget("size", 25.0)
    least, _ = export_within(model, target, tmp_path / "b", split, ALL, plain, floor)
    assert least.quality.outputs[0].psnr_db >= 25
    assert least.quality.file_bytes <= within.quality.file_bytes
    with pytest.raises(UsageError, match="No bits of the layers meet a size"):
        export_within(
            model, target, tmp_path / "c", split, ALL, plain, parse_budget("size=5kB", None)
        )
    assert not (tmp_path / "c").exists()


def test_layers_are_timed_in_floats_and_in_codes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 64, 3), nn.ReLU6(), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 4, 1))
    model = model_of_module(net, torch.randn(1, 4, 24, 24), "three")
    data = [torch.randn(1, 4, 24, 24)]
    timed = Search(model, find_target("onnx"), (data, data), ALL, Budget("latency", None, 20.0))
    floats, codes = (
        {name: choices[place].cost for name, choices in timed.choices.items()} for place in (0, 1)
    )
    assert list(floats) == ["0", "2", "3"]
    assert max(floats, key=floats.__getitem__) == max(codes, key=codes.__getitem__) == "2"
    assert min(floats.values()) > 0


def test_what_is_no_budget_is_refused() -> None:
    assert parse_budget("size=1MB", None).most == 1_000_000
    assert parse_budget("latency=5ms", 30.0) == Budget("latency", 5.0, 30.0)
    for text in ("speed=3", "size=", "size=x", "latency=0ms", "size"):
        with pytest.raises(UsageError):
            parse_budget(text, None)
    with pytest.raises(UsageError, match="onnxruntime"):
        export_within(
            small(), find_target("coreml"), Path("never"), ([], []), ALL, ExportOptions(),
            parse_budget("latency=5ms", None),
        )  # fmt: skip
    with pytest.raises(UsageError, match="floats"):
        edgekit.export(small(), output="never", packed=True)
