"""Quantised models: eager, in files of both kinds, in tiles, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_quantised import ALL, inputs, small
from torch import Tensor, nn

import edgekit
from edgekit import Bundle, UsageError
from edgekit.backends.coreml.describe import describe
from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.compress.adaquant import AdaQuant
from edgekit.compress.calibration import histograms
from edgekit.compress.decided import LayerCodes
from edgekit.compress.low_rank import with_branch
from edgekit.compress.places import layers, quantised_values
from edgekit.compress.quantise import quantize, ready_program
from edgekit.compress.statistics_restored import restored
from edgekit.compress.weight_codes import weight_codes
from edgekit.model import Model, model_of_module
from edgekit.parity.compare import psnr_db
from edgekit.program.affine import Affine
from edgekit.program.editing import GraphEditor


def against(model: Model, other: Model, given: Tensor) -> float:
    return psnr_db(*(m(given).double().numpy() for m in (model, other)))


@pytest.fixture(scope="module")
def model() -> Model:
    return small()


@pytest.fixture(scope="module")
def quantised(model: Model) -> Model:
    return quantize(model, inputs(4), ALL)


@pytest.fixture(scope="module")
def bundle(quantised: Model, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return edgekit.export(
        quantised, output=tmp_path_factory.mktemp("q") / "int8", gate_db=50.0, simplify=False
    )


def test_eight_bits_stay_near_the_float_model(model: Model, quantised: Model) -> None:
    assert against(model, quantised, inputs(5)[-1]) > 35
    codes = quantised.codes
    assert codes is not None
    assert (codes.label, codes.layers, codes.of_layers) == ("w8a8", 6, 6)
    stored = {value.dtype for value in quantised.module.buffers()}
    assert torch.int8 in stored


def test_the_onnx_file_holds_codes_and_computes_what_the_eager_form_does(bundle: Bundle) -> None:
    report = edgekit.verify(bundle)
    assert report.passed
    file = onnx.load(bundle.model_file)
    weights = [
        t
        for t in file.graph.initializer
        if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    ]
    assert len(weights) == 6
    assert bundle.manifest["codes"]["weight_bits"] == 8
    assert "x64quantprecision" in {p.key: p.value for p in file.metadata_props}["edgekit.session"]


def test_onnxruntime_runs_every_layer_as_an_integer_kernel(bundle: Bundle, tmp_path: Path) -> None:
    settings = session_settings(SessionOptions(1))
    settings.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(bundle.model_file), settings)
    operators = [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("QLinearConv") == 6
    assert {"Conv", "Pad", "Add", "Sigmoid", "Relu"} & set(operators) == set()
    assert {"QLinearAdd", "QLinearConcat", "QLinearSigmoid", "QLinearMul"} <= set(operators)


def test_tiles_have_the_scales_of_the_whole(
    quantised: Model, bundle: Bundle, tmp_path: Path
) -> None:
    tiled = edgekit.export(
        quantised, output=tmp_path / "tiled", tiles="2x2", gate_db=50.0, simplify=False
    )
    given = inputs(1)[0].numpy()
    whole, parts = (edgekit.run(one, given)[0] for one in (bundle, tiled))
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize(("target", "gate"), [("coreml", 40.0), ("coreml-ios18", 40.0)])
def test_core_ml_packages_compute_what_the_eager_form_does(
    quantised: Model, tmp_path: Path, target: str, gate: float
) -> None:
    written = edgekit.export(
        quantised, output=tmp_path / "b", target=target, gate_db=gate, simplify=False
    )
    operators = describe(written.model_file)
    assert {"quantize", "dequantize"} <= set(operators.operators)
    assert any("int8" in name and "constexpr" in name for name in operators.weight_bytes)


def test_four_bits_of_weights_alone_take_half_a_byte_each_in_core_ml(
    model: Model, tmp_path: Path
) -> None:
    options = replace(ALL, weight_bits=4, activation_bits=None)
    light = quantize(model, inputs(2), options)
    written = edgekit.export(light, output=tmp_path / "b", target="coreml-ios18")
    facts = describe(written.model_file)
    stored = next(path for path in written.path.rglob("weight.bin"))
    count = sum(
        layer.weight.numel() for layer in model.module.modules() if isinstance(layer, nn.Conv2d)
    )
    assert stored.stat().st_size < 0.7 * count
    assert "quantize" not in facts.operators


def test_statistics_bring_four_bits_nearer(model: Model) -> None:
    given, four = inputs(5), replace(ALL, weight_bits=4)
    plain = quantize(model, given[:4], replace(four, repair="nothing"))
    mended = quantize(model, given[:4], four)
    assert against(model, mended, given[4]) > against(model, plain, given[4]) + 1


def test_restored_statistics_are_those_in_floats() -> None:
    edit, layer = one_layer()
    weight, bias = layer_weight(edit)
    given = [torch.randn(1, 8, 6, 6) for _ in range(3)]
    wanted = [torch.nn.functional.conv2d(x, weight, bias) for x in given]
    codes = LayerCodes(weight_codes(weight, 0, 4, "largest"), bias)
    mended = restored(layer, codes, given, wanted)
    results = [torch.nn.functional.conv2d(x, mended.weight.values(), mended.bias) for x in given]
    for statistic in (torch.mean, torch.std):
        made, wished = (statistic(torch.cat(r), dim=(0, 2, 3)) for r in (results, wanted))
        torch.testing.assert_close(made, wished, rtol=1e-3, atol=1e-4)
    assert torch.equal(mended.weight.codes, codes.weight.codes)


def test_adaquant_is_never_worse_than_its_beginning() -> None:
    edit, layer = one_layer()
    weight, bias = layer_weight(edit)
    given = [torch.randn(1, 8, 6, 6) for _ in range(3)]
    wanted = [torch.nn.functional.conv2d(x, weight, bias) for x in given]
    codes = LayerCodes(weight_codes(weight, 0, 4, "largest"), bias)

    def error(found: LayerCodes) -> float:
        return sum(
            float(
                (torch.nn.functional.conv2d(x, found.weight.values(), found.bias) - y)
                .square()
                .mean()
            )
            for x, y in zip(given, wanted, strict=True)
        )

    fitted = AdaQuant({layer.name: weight}, 60)(layer, codes, given, wanted)
    assert error(fitted) <= error(restored(layer, codes, given, wanted))
    assert error(fitted) < error(codes)


def test_a_branch_of_low_rank_takes_the_outliers(model: Model) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 24) * 0.1 + 3 * torch.outer(torch.randn(16), torch.randn(24))
    plain = weight_codes(weight, 0, 4, "largest").values()
    codes, branch = with_branch(weight, 2, lambda w: weight_codes(w, 0, 4, "largest"))
    whole = codes.values() + branch.up @ branch.down
    assert (whole - weight).norm() < 0.1 * (plain - weight).norm()

    given = inputs(2)
    options = replace(ALL, weight_bits=4, activation_bits=None, repair="nothing")
    light, branched = (quantize(model, given[:1], replace(options, rank=rank)) for rank in (0, 4))
    assert against(model, branched, given[1]) > against(model, light, given[1]) + 3


def test_decoding_of_few_multiplications_stays_in_floats() -> None:
    edit = GraphEditor(ready_program(small()))
    names = [layer.name for layer in layers(edit)]
    options = replace(ALL, float_layers=(names[-1],))
    codes = quantize(small(), inputs(1), options).codes
    assert codes is not None
    assert codes.layers == len(names) - 1
    thin = replace(ALL, least_channels=4)
    found = quantize(small(), inputs(1), thin).codes
    assert found is not None
    assert found.layers == len(names) - 1  # the stem reads three colours


def test_what_only_moves_values_keeps_their_scale() -> None:
    edit = GraphEditor(ready_program(small()))
    roots = quantised_values(edit.graph, layers(edit))
    moving = [node for node in roots if "shuffle" in node.name or "max_pool" in node.name]
    assert len(moving) == 2
    assert all(roots[node] is roots[node.args[0]] for node in moving)  # type: ignore[index]


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    conv = nn.Conv2d(8, 4, 1)
    with torch.no_grad():
        conv.weight[1] = 0
        conv.bias[1] = 3  # type: ignore[index]
    given = torch.randn(1, 8, 5, 5)
    quantised = quantize(model_of_module(conv, given), [given], ALL)
    assert float((quantised(given)[:, 1] - 3).abs().max()) < 0.05


def test_a_range_over_zero_has_zero_as_a_code() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 4.0), (-2.0, -1.0), (0.0, 0.0)):
        affine = Affine.of_range(low, high, signed=False)
        assert affine.rounded(torch.zeros(1)).item() == 0.0
        assert 0 <= affine.zero <= 255


def test_data_that_becomes_infinite_and_no_data_are_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="NaN or infinity"):
        quantize(model, [torch.full((1, 3, 32, 32), float("inf"))], ALL)
    with pytest.raises(UsageError, match="no data"):
        quantize(model, [], ALL)
    with pytest.raises(UsageError, match="no layer 'x'"):
        quantize(model, inputs(1), replace(ALL, float_layers=("x",)))
    with pytest.raises(UsageError, match="9 and activations"):
        replace(ALL, weight_bits=9)


def test_calibration_goes_through_the_data_once(model: Model) -> None:
    edit = GraphEditor(ready_program(model))
    data = inputs(3)
    watched = [node for node in edit.graph.nodes if node.name == "relu6" or "hardtanh" in node.name]
    seen = histograms(edit.module, watched, iter(data))
    assert all(histogram.counts.sum() == 3 * 8 * 16 * 16 for histogram in seen.values())


def one_layer() -> tuple[GraphEditor, object]:
    torch.manual_seed(1)
    model = model_of_module(nn.Sequential(nn.Conv2d(8, 6, 1), nn.Tanh()), torch.randn(1, 8, 6, 6))
    edit = GraphEditor(ready_program(model))
    return edit, layers(edit)[0]


def layer_weight(edit: GraphEditor) -> tuple[Tensor, Tensor]:
    node = layers(edit)[0].node
    weight, bias = (edit.constant_value(node.args[index]) for index in (1, 2))
    assert weight is not None
    assert bias is not None
    return weight, bias
