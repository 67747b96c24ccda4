from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from small_exports import Norm, mixture
from torch import Tensor, nn

from edgekit.backends.onnx import write as writing
from edgekit.backends.onnx.describe import describe
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.operators import unsupported_operators
from edgekit.backends.onnx.write import OnnxOptions, write
from edgekit.errors import ConversionError, UsageError
from edgekit.program.capture import capture
from edgekit.program.program import Program


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    return capture(module, inputs).program


def written(folder: Path, module: nn.Module, *inputs: Tensor, half: bool = False) -> Path:
    path = folder / "net.onnx"
    write(program_of(module, *inputs), path, OnnxOptions(half=half))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The mixture of layers, by half."""
    module, inputs = mixture()
    return {
        half: written(tmp_path_factory.mktemp("onnx"), module, *inputs, half=half)
        for half in (False, True)
    }


@pytest.mark.parametrize("half", [False, True])
def test_opset_ir_and_one_file(files: dict[bool, Path], half: bool) -> None:
    model = onnx.load(files[half])
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    assert model.ir_version <= 10
    assert [path.name for path in files[half].parent.iterdir()] == ["net.onnx"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


@pytest.mark.parametrize("half", [False, True])
def test_the_contract_stands_in_the_metadata(files: dict[bool, Path], half: bool) -> None:
    model = onnx.load(files[half])
    contract = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert [spec["name"] for spec in contract["edgekit.inputs"]] == ["picture", "token"]
    assert contract["edgekit.inputs"][0]["shape"] == [1, 3, 6, 6]
    assert [spec["dtype"] for spec in contract["edgekit.outputs"]] == [
        "float32", "float32", "int64",
    ]  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
def test_doors_are_float32_and_whole_numbers(files: dict[bool, Path], half: bool) -> None:
    graph = onnx.load(files[half]).graph
    doors = {door.name: door.type.tensor_type.elem_type for door in (*graph.input, *graph.output)}
    assert doors == {
        "picture": TensorProto.FLOAT, "token": TensorProto.INT64, "output_0": TensorProto.FLOAT,
        "output_1": TensorProto.FLOAT, "output_2": TensorProto.INT64,
    }  # fmt: skip


def test_half_precision_stores_half_the_bytes(files: dict[bool, Path]) -> None:
    single, half = describe(files[False]).weight_bytes, describe(files[True]).weight_bytes
    assert half["float16"] * 2 == pytest.approx(single["float"], rel=0.02)
    assert half.get("float", 0) == 0


@pytest.mark.parametrize("half", [False, True])
def test_the_same_bytes_each_time(tmp_path: Path, files: dict[bool, Path], half: bool) -> None:
    module, inputs = mixture()
    again = written(tmp_path, module, *inputs, half=half)
    assert again.read_bytes() == files[half].read_bytes()


def test_a_small_epsilon_stays_in_single_precision(tmp_path: Path) -> None:
    file = load(written(tmp_path, Norm(), torch.randn(1, 4, 2)))
    still = file.run({"x": np.zeros((1, 4, 2), np.float32)})["output"]
    np.testing.assert_array_equal(still, 0)


def test_a_file_beyond_protobufs_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PROTOBUF_LIMIT_BYTES", 100)
    with pytest.raises(ConversionError, match="protobuf stops at 2 GiB; export with --precision"):
        written(tmp_path, nn.Linear(8, 8), torch.ones(1, 8))
    assert list(tmp_path.iterdir()) == []


def test_an_opset_that_the_exporter_changes_is_refused(tmp_path: Path) -> None:
    model = onnx.helper.make_model(
        onnx.GraphProto(), opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    with pytest.raises(ConversionError, match="Opset 18 was asked for and the exporter wrote 20"):
        writing._require_opset(model, 18)


def test_operators_without_an_onnx_form_are_known_beforehand() -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x).int() + 1

    program = program_of(Bessel(), torch.ones(3))
    assert unsupported_operators(program) == ["aten.special_bessel_j0.default"]
    module, inputs = mixture()
    assert unsupported_operators(program_of(module, *inputs)) == []


def test_operators_that_only_decompose_into_onnx_are_supported(tmp_path: Path) -> None:
    class Composite(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.huber_loss(x, x.cos(), reduction="none")

    example = torch.rand(1, 5)
    assert unsupported_operators(program_of(Composite(), example)) == []
    file = load(written(tmp_path, Composite(), example))
    got = file.run({file.session.get_inputs()[0].name: example.numpy()})["output"]
    np.testing.assert_allclose(got, Composite()(example).numpy(), atol=1e-6)


def test_input_names_and_shapes_are_checked(files: dict[bool, Path]) -> None:
    file = load(files[False])
    picture, token = np.ones((1, 3, 6, 6), np.float32), np.array([1])
    with pytest.raises(UsageError, match="has no input 'photo'; its inputs are picture, token"):
        file.run({"photo": picture, "token": token})
    with pytest.raises(UsageError, match="needs the input 'token'"):
        file.run({"picture": picture})
    with pytest.raises(UsageError, match=r"has shape \(1, 3, 6, 6\), but \(1, 3, 6, 5\)"):
        file.run({"picture": picture[..., :5], "token": token})


def test_the_trace_shows_every_value_and_ends_in_the_outputs(files: dict[bool, Path]) -> None:
    file = load(files[False])
    inputs = {"picture": np.ones((1, 3, 6, 6), np.float32), "token": np.array([1])}
    seen = {name: value for name, _, value in file.trace(inputs)}
    for name, value in file.run(inputs).items():
        np.testing.assert_allclose(seen[name], value, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_what_is_no_model_is_named_without_its_folder(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.onnx is no ONNX model that onnxruntime runs"):
        load(path)
    with pytest.raises(UsageError, match="is no ONNX model that can be read"):
        describe(path)
    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "none.onnx")
