from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor, nn

from edgekit.backends.runnable import Runnable
from edgekit.errors import UsageError
from edgekit.parity.bisect import Divergence, first_divergence
from edgekit.program.program import Program
from edgekit.zoo.layers import ChannelRMSNorm

Programs = Callable[..., Program]
Files = Callable[..., Runnable]


class Small(nn.Module):
    """Three convolutions, of which the second stands beside a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = ChannelRMSNorm(1e-5)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y: Tensor = self.last(x + self.second(nn.functional.silu(self.norm(x))))
        return y


EXAMPLE = torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(0))
INPUTS = {"in0": EXAMPLE.numpy()}


@pytest.fixture(scope="module")
def program(program_of: Programs) -> Program:
    torch.manual_seed(0)
    return program_of(Small(), EXAMPLE)


def find(program: Program, file: Runnable, threshold: float = 1e-3) -> Divergence:
    divergence = first_divergence(program, file, INPUTS, threshold)
    assert divergence is not None
    return divergence


def test_a_faithful_file_has_no_divergence(program: Program, fake_file: Files) -> None:
    assert first_divergence(program, fake_file(program), INPUTS, 1e-6) is None


def test_the_corrupted_operator_is_named_with_its_line_and_module(
    program: Program, fake_file: Files
) -> None:
    found = find(program, fake_file(program, {"rsqrt": lambda y: y * 1.1}))
    assert (found.value, found.node, found.operator) == ("rsqrt", "rsqrt", "rsqrt")
    assert found.last_agreeing == "add"
    assert found.error_before == 0.0
    assert found.error.relative == pytest.approx(0.1, rel=1e-4)
    assert re.fullmatch(r"edgekit/zoo/layers\.py:\d+ in forward", found.source)
    assert found.module == "norm"
    assert found.unseen == ()


def test_the_line_of_a_torch_layer_is_the_line_that_calls_it(
    program: Program, fake_file: Files
) -> None:
    found = find(program, fake_file(program, {"conv2d_1": lambda y: y + 1}))
    assert "test_bisect.py" in found.source
    assert found.module == "second"


def test_names_of_core_ml_values_are_read_without_their_suffixes(
    program: Program, fake_file: Files
) -> None:
    file = fake_file(program, {"silu": torch.relu}, lambda name: f"{name}_cast_fp16_1")
    found = find(program, file)
    assert (found.value, found.node) == ("silu_cast_fp16_1", "silu")


def test_values_that_the_file_does_not_show_are_listed_as_unseen(
    program: Program, fake_file: Files
) -> None:
    shown = {"conv2d", "mul", "conv2d_2"}
    file = fake_file(program, {"silu": torch.relu}, lambda n: n if n in shown else None)
    found = find(program, file)
    assert found.node == "conv2d_2"
    assert found.last_agreeing == "mul"
    assert found.unseen == ("silu", "conv2d_1", "add_1")
    assert "unseen in between: silu, conv2d_1, add_1" in found.sentence()


def test_renumbered_values_are_recognised_by_what_they_hold(
    program: Program, fake_file: Files
) -> None:
    """An exporter that splits silu makes `mul` the value of `silu`, and `conv2d` shifts by one."""
    shifted = {"mul": "mul_9", "silu": "mul", "conv2d": "conv2d_1", "conv2d_1": "conv2d_2"}
    shifted |= {"conv2d_2": "conv2d_3"}

    def rename(name: str) -> str:
        return shifted.get(name, name)

    assert first_divergence(program, fake_file(program, rename=rename), INPUTS, 1e-3) is None
    found = find(program, fake_file(program, {"conv2d_1": torch.zeros_like}, rename))
    assert (found.last_agreeing, found.node) == ("silu", "add_1")
    assert found.unseen == ("conv2d_1",)


def test_a_wrong_namesake_whose_followers_agree_is_no_divergence(
    program: Program, fake_file: Files
) -> None:
    class WithDecoy(fake_file):  # type: ignore[misc, valid-type]
        def trace(self, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
            for name, op, value in super().trace(inputs):
                yield name, op, value * 3 if name == "mul" else value

    assert first_divergence(program, WithDecoy(program), INPUTS, 1e-3) is None


def test_an_activation_that_the_file_skips_is_not_mistaken_for_its_input(
    program_of: Programs, fake_file: Files
) -> None:
    skipping = program_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 4, 1)), EXAMPLE)
    conv: list[Tensor] = []

    def keep(y: Tensor) -> Tensor:
        conv.append(y)
        return y

    found = find(skipping, fake_file(skipping, {"conv2d": keep, "silu": lambda _: conv[-1]}))
    assert found.node == "silu"


def test_nan_in_the_file_is_an_infinite_error_and_null_in_json(
    program: Program, fake_file: Files
) -> None:
    found = find(program, fake_file(program, {"rsqrt": lambda y: y * math.nan}))
    assert found.node == "rsqrt"
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["error"] is None
    assert data["node"] == "rsqrt"


def test_errors_within_the_threshold_pass_and_are_reported_as_the_error_before(
    program: Program, fake_file: Files
) -> None:
    corrupt = {"conv2d": lambda y: y * 1.001, "conv2d_1": lambda y: y * 2}
    found = find(program, fake_file(program, corrupt), threshold=0.01)
    assert found.node == "conv2d_1"
    assert 0 < found.error_before < 0.01


def test_an_output_is_found_under_its_declared_name(program: Program, fake_file: Files) -> None:
    file = fake_file(program, {"conv2d_2": torch.neg}, {"conv2d_2": "out0"}.get)
    found = find(program, file)
    assert (found.value, found.node, found.last_agreeing) == ("out0", "conv2d_2", "x")


def test_values_in_another_layout_are_passed_over(program: Program, fake_file: Files) -> None:
    class ChannelsLast(fake_file):  # type: ignore[misc, valid-type]
        def trace(self, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
            for name, op, value in super().trace(inputs):
                yield name, op, value.transpose(0, 2, 3, 1) if name == "silu" else value

    assert first_divergence(program, ChannelsLast(program), INPUTS, 1e-3) is None


def test_a_missing_input_is_named(program: Program, fake_file: Files) -> None:
    with pytest.raises(UsageError, match="needs an input 'in0'; given: image"):
        first_divergence(program, fake_file(program), {"image": EXAMPLE.numpy()}, 1e-3)


def test_an_input_of_another_shape_is_named_with_both(program: Program, fake_file: Files) -> None:
    with pytest.raises(UsageError, match=r"\(2, 2\); the program takes \(1, 3, 12, 10\)"):
        first_divergence(program, fake_file(program), {"in0": np.ones((2, 2))}, 1e-3)


class OnnxFile:
    """An ONNX model with every value as an output."""

    reference = "onnxruntime CPU"

    def __init__(self, model: onnx.ModelProto) -> None:
        outputs = {value.name for value in model.graph.output}
        self.ops = {name: node.op_type for node in model.graph.node for name in node.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in self.ops if n not in outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def trace(self, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
        entry = self.session.get_inputs()[0].name
        values = dict(
            zip(self.ops, self.session.run(list(self.ops), {entry: inputs["in0"]}), strict=True)
        )
        yield from ((name, self.ops[name], value) for name, value in values.items())


@pytest.fixture(scope="module")
def exported(program: Program) -> onnx.ModelProto:
    result = torch.onnx.export(program.exported, dynamo=True, opset_version=18, verbose=False)
    assert result is not None
    return result.model_proto


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_a_real_onnx_file_agrees_everywhere(program: Program, exported: onnx.ModelProto) -> None:
    assert first_divergence(program, OnnxFile(copy_of(exported)), INPUTS, 1e-4) is None


def test_a_damaged_weight_in_a_real_onnx_file_is_traced_to_its_layer(
    program: Program, exported: onnx.ModelProto
) -> None:
    model = copy_of(exported)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "second.weight")
    values = onnx.numpy_helper.to_array(weight) + np.float32(0.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    found = find(program, OnnxFile(model))
    assert (found.op_type, found.node, found.module) == ("Conv", "conv2d_1", "second")
    assert found.last_agreeing == "silu"


def test_a_replaced_operator_in_a_real_onnx_file_is_found(
    program: Program, exported: onnx.ModelProto
) -> None:
    model = copy_of(exported)
    sigmoid = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    sigmoid.op_type = "Tanh"
    found = find(program, OnnxFile(model))
    assert (found.node, found.last_agreeing) == ("silu", "mul")


def test_an_epsilon_that_the_exporter_drops_is_found_between_the_mean_and_the_root(
    program_of: Programs,
) -> None:
    """torch.onnx takes + 1e-8 for + 0 and removes it, in single precision too."""
    x = EXAMPLE.clone()
    x[:, :, 4, 4] = 0.0
    norm = program_of(ChannelRMSNorm(1e-8), x)
    result = torch.onnx.export(norm.exported, dynamo=True, opset_version=18, verbose=False)
    assert result is not None
    if any(node.op_type == "Add" for node in result.model_proto.graph.node):
        pytest.skip("this version of torch keeps the epsilon")
    found = first_divergence(norm, OnnxFile(result.model_proto), {"in0": x.numpy()}, 1e-3)
    assert found is not None
    assert (found.node, found.last_agreeing, found.unseen) == ("rsqrt", "mean", ("add",))
    assert found.source.startswith("edgekit/zoo/layers.py:")
