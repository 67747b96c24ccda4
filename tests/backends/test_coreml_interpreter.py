"""Whole programs through the reference interpreter: agreement with torch, and clear refusals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import ct, get_new_symbol, mb, save_block, save_module
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.backends.coreml.load import load
from edgekit.errors import ConversionError, UsageError

X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)


class Classifier(nn.Module):
    """The operators of MobileNetV3: strides, depthwise, hardswish, squeeze-and-excite, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 5, 1, 2, groups=8), nn.ReLU6())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        return torch.softmax(self.head((x * self.gate(x)).mean((2, 3))), -1)


class Detector(nn.Module):
    """Two levels, distribution decode, top-k and gather."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.boxes, self.classes = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 5, 1)
        self.bins = nn.Buffer(torch.arange(4.0).reshape(1, 1, 4, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = F.silu(self.low(x))
        low = low + F.interpolate(F.max_pool2d(F.silu(self.high(low)), 3, 1, 1), scale_factor=2)
        distances = self.boxes(low).flatten(2).reshape(1, 4, 4, -1).softmax(2).mul(self.bins).sum(2)
        scores = self.classes(low).flatten(2).sigmoid().amax(1)
        best, where = scores.topk(6, 1)
        return distances.gather(2, where.unsqueeze(1).expand(-1, 4, -1)), best


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + F.gelu(self.out(mixed))


class Upsampler(nn.Module):
    """Transposed convolutions, pixel shuffle, bilinear resize, group norm, reflected edges."""

    def __init__(self) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(4, 8, 3, 2, 1, output_padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.conv = nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.conv(F.leaky_relu(self.norm(self.deconv(x)), 0.1)), 2)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False).tanh()


class VideoBlock(nn.Module):
    """Edge frames repeated, Conv3d, RMS norm over channels, LayerNorm, frame shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = (
            nn.Conv3d(4, 8, 3, padding=(0, 1, 1)),
            nn.Conv3d(8, 8, 1, groups=8),
        )
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2))
        x = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-8)
        x = self.norm(self.depthwise(x).movedim(1, -1)).movedim(-1, 1)
        n, _, t, _, _ = x.shape
        frames = F.pixel_shuffle(x.transpose(1, 2).flatten(0, 1), 2)
        return frames.unflatten(0, (n, t)).transpose(1, 2)[:, :, 1:]


NETWORKS = {
    Classifier: (1, 3, 16, 16),
    Detector: (1, 3, 16, 16),
    Attention: (1, 7, 16),
    Upsampler: (1, 4, 5, 6),
    VideoBlock: (1, 4, 3, 4, 5),
}


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_converted_network_computes_what_torch_computes(
    tmp_path: Path, network: type[nn.Module], half: bool
) -> None:
    torch.manual_seed(0)
    module, x = network().eval(), torch.rand(NETWORKS[network])
    program = load(save_module(tmp_path, module, (x,), half=half))
    with torch.no_grad():
        expected = module(x)
    got = program.run({"in0": x.numpy()})
    for i, tensor in enumerate(expected if isinstance(expected, tuple) else (expected,)):
        # Half has 11 bits: about 5e-4 per operator, and these nets are some ten operators deep.
        scale = float(tensor.abs().max())
        tolerance = scale * (1e-2 if half else 1e-5)
        np.testing.assert_allclose(got[f"out{i}"], tensor.numpy(), rtol=0, atol=tolerance)
        if half:
            assert np.abs(got[f"out{i}"] - tensor.numpy()).max() > scale * 1e-7
    precision = "(float16 emulated)" if half else "(float32)"
    assert program.reference == f"edgekit ML Program reference interpreter {precision}"


class Times(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * 1000) / 1000


def test_a_value_beyond_the_half_range_becomes_infinite(tmp_path: Path) -> None:
    package = save_module(tmp_path, Times(), (torch.zeros(2),), half=True)
    x = {"in0": np.float32([65, 66])}
    assert load(package).run(x)["out0"].tolist() == [pytest.approx(65, rel=1e-3), np.inf]
    exact = load(package, emulate_half=False)
    np.testing.assert_allclose(exact.run(x)["out0"], x["in0"], rtol=1e-3)
    assert exact.reference.endswith("(float32)")


def test_every_half_value_is_a_half_number(tmp_path: Path) -> None:
    x = np.float16([[0.1, 0.2], [0.3, 4.0]])

    def build(x: Any) -> Any:
        return mb.softmax(x=mb.transpose(x=mb.exp(x=x), perm=[1, 0]), axis=0)

    program = save_block(tmp_path, build, {"x": x})
    exp, moved, softmax = (value for _, _, value in program.trace({"x": x}))
    np.testing.assert_array_equal(exp, np.exp(x.astype(np.float32)).astype(np.float16))
    np.testing.assert_array_equal(moved, exp.T)
    assert softmax.dtype == np.float16
    weights = np.exp(moved.astype(np.float32))
    np.testing.assert_array_equal(softmax, (weights / weights.sum(0)).astype(np.float16))


def test_a_trace_gives_every_operator_in_execution_order(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        low, high = mb.split(x=x, axis=1, split_sizes=[1, 2], name="halves")
        total = mb.add(x=low, y=high, name="total")
        return mb.relu(x=total, name="positive")

    program = save_block(tmp_path, build, {"x": X})
    trace = list(program.trace({"x": X}))
    assert [op for _, op, _ in trace] == ["split", "split", "add", "relu"]
    assert [name for name, _, _ in trace][2:] == ["total", "positive"]
    np.testing.assert_array_equal(trace[0][2], X[:, :1])
    np.testing.assert_array_equal(trace[2][2], X[:, :1] + X[:, 1:])
    np.testing.assert_array_equal(trace[3][2], program.run({"x": X})["positive"])


def test_a_trace_can_stop_early_and_leaves_gradients_as_they_were(tmp_path: Path) -> None:
    program = save_block(tmp_path, lambda x: mb.exp(x=mb.relu(x=x)), {"x": X})
    trace = program.trace({"x": X})
    next(trace)
    assert not torch.is_inference_mode_enabled()
    trace.close()
    assert not torch.is_inference_mode_enabled()


def test_a_value_is_dropped_after_its_last_reader(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        a = mb.exp(x=x, name="a")
        b = mb.relu(x=a, name="b")
        return mb.add(x=mb.mul(x=a, y=b, name="c"), y=x, name="d")

    steps = save_block(tmp_path, build, {"x": X}).program.steps
    assert [step.finished for step in steps] == [(), (), ("a", "b"), ("x", "c")]


def test_outputs_are_not_views_of_inputs(tmp_path: Path) -> None:
    program = save_block(tmp_path, lambda x: mb.identity(x=x, name="same"), {"x": X})
    given = X.copy()
    out = program.run({"x": given})["same"]
    given[:] = 0
    np.testing.assert_array_equal(out, X)


def test_integers_and_constants_can_be_outputs(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.add(x=x, y=np.int32(2), name="sum"), mb.const(val=X, name="fixed")

    program = save_block(tmp_path, build, {"x": np.int32([1, 2])})
    out = program.run({"x": np.array([1, 2])})
    assert out["sum"].dtype == np.int32
    assert out["sum"].tolist() == [3, 4]
    np.testing.assert_array_equal(out[program.program.outputs[1].name], X)


def test_image_scale_and_bias_are_part_of_the_program(tmp_path: Path) -> None:
    image = ct.ImageType(name="in0", shape=(1, 3, 4, 4), scale=1 / 255, bias=[-0.5, 0, 0.5])
    package = save_module(tmp_path, nn.ReLU(), (torch.zeros(1, 3, 4, 4),), inputs=[image])
    pixels = np.arange(48).reshape(1, 3, 4, 4) * 5
    expected = np.maximum(pixels / 255 + np.float32([-0.5, 0, 0.5]).reshape(3, 1, 1), 0)
    np.testing.assert_allclose(load(package).run({"in0": pixels})["out0"], expected, atol=1e-6)


def test_a_flexible_size_is_accepted_as_it_comes(tmp_path: Path) -> None:
    program = mb.program(
        input_specs=[mb.TensorSpec(shape=(1, get_new_symbol(), 4))], opset_version=ct.target.iOS17
    )(lambda x: mb.reduce_sum(x=x, axes=[1], name="sum"))
    model = ct.convert(
        program,
        inputs=[ct.TensorType(name="x", shape=(1, ct.RangeDim(1, 9), 4))],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "flexible.mlpackage"))
    loaded = load(tmp_path / "flexible.mlpackage")
    assert loaded.run({"x": np.ones((1, 7, 4))})["sum"].tolist() == [[7, 7, 7, 7]]
    with pytest.raises(UsageError, match=r"shape 1x7x5, but the program takes 1x\?x4"):
        loaded.run({"x": np.ones((1, 7, 5))})


def test_wrong_inputs_are_refused_in_a_sentence(tmp_path: Path) -> None:
    program = save_block(tmp_path, lambda x, y: mb.add(x=x, y=y), {"x": X, "y": X})
    with pytest.raises(UsageError, match="Input y is missing; the inputs are x, y"):
        program.run({"x": X})
    with pytest.raises(UsageError, match="Input y has shape 3, but the program takes 2x3"):
        program.run({"x": X, "y": X[0]})
    with pytest.raises(UsageError, match="no input z; its inputs are x, y"):
        list(program.trace({"x": X, "y": X, "z": X}))


def test_an_unknown_operator_names_itself_and_its_output(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.add(x=x, y=mb.random_normal(shape=[2, 3], name="noise"))

    with pytest.raises(ConversionError, match=r"Operator random_normal \(output noise\) is not"):
        save_block(tmp_path, build, {"x": X})


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with weights in a file of their own."""
    return save_module(tmp_path, nn.Linear(64, 64), (torch.zeros(1, 64),))


@pytest.mark.parametrize("kept", [0, 100, 9000])
def test_a_truncated_weight_file_is_a_sentence(package: Path, kept: int) -> None:
    weights = package / "Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"model.mlpackage cannot be read .*export it again"):
        load(package)


def test_packages_that_are_not_there_or_not_whole_are_sentences(package: Path) -> None:
    with pytest.raises(UsageError, match="There is no Core ML package at"):
        load(package.with_name("absent.mlpackage"))
    (package / "Manifest.json").unlink()
    with pytest.raises(UsageError, match="is not a readable Core ML package"):
        load(package)
    noise = package.with_name("noise.mlmodel")
    noise.write_bytes(b"not a protobuf")
    with pytest.raises(UsageError, match="is not a readable Core ML package"):
        load(noise)


def test_a_neural_network_is_not_an_ml_program(tmp_path: Path) -> None:
    spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 4
    spec.neuralNetwork.SetInParent()
    path = tmp_path / "old.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(UsageError, match="type neuralNetwork, but only ML Programs"):
        load(path)


def test_functions_of_one_package_are_opened_by_name(tmp_path: Path) -> None:
    packages = []
    for factor in (2, 3):
        folder = tmp_path / str(factor)
        folder.mkdir()
        module = nn.Linear(64, 64)
        with torch.no_grad():
            module.weight.copy_(torch.eye(64) * factor)
            module.bias.zero_()
        packages.append(save_module(folder, module, (torch.zeros(1, 64),), target=ct.target.iOS18))
    both = ct.utils.MultiFunctionDescriptor()
    both.add_function(str(packages[0]), src_function_name="main", target_function_name="double")
    both.add_function(str(packages[1]), src_function_name="main", target_function_name="triple")
    both.default_function_name = "double"
    path = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(both, str(path))
    shutil.rmtree(packages[0])

    x = np.ones((1, 64), np.float32)
    for name, factor in (("double", 2), ("triple", 3)):
        np.testing.assert_array_equal(load(path, name).run({"in0": x})["out0"], x * factor)
    with pytest.raises(UsageError, match="has no function main; it has double, triple"):
        load(path)


def test_importing_coremltools_is_silent() -> None:
    code = "from edgekit.backends.coreml.quiet import import_coremltools; import_coremltools()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr + done.stdout == ""
