from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_exports import LATENT, mixture, write_recipe
from torch import Tensor, nn

import edgekit
from edgekit.errors import ConversionError, UsageError
from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network


class Written(nn.Module):
    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.written = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.written(*inputs)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_any_module_is_exported_run_and_verified(
    tmp_path: Path, target: str, precision: str
) -> None:
    module, inputs = mixture()
    bundle = edgekit.export(
        module, inputs, target=target, precision=precision, output=tmp_path / "b", simplify=False
    )
    assert bundle.path == tmp_path / "b"
    assert edgekit.verify(bundle).passed
    assert edgekit.verify(str(bundle.path)).passed
    expected = [value.detach().numpy() for value in module(*inputs)]
    given = edgekit.run(bundle, *(value.numpy() for value in inputs))
    tolerance = {"fp32": 1e-4, "fp16": 2e-2}[precision]
    for wanted, got in zip(expected, given, strict=True):
        np.testing.assert_allclose(got, wanted, atol=tolerance)
    assert [spec.name for spec in bundle.inputs] == ["picture", "token"]
    whole = {"onnx": "int64", "coreml": "int32"}[target]
    assert [spec.dtype for spec in bundle.inputs] == ["float32", whole]
    assert [spec.dtype for spec in bundle.outputs] == ["float32", "float32", whole]


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_masks_and_whole_numbers_come_out_equal(tmp_path: Path, target: str) -> None:
    module = Written(lambda x: (x > 0, x.argmax(1), (x * 10).int()))
    inputs = (torch.tensor([[1.0, 2.5, -1.0]]),)
    bundle = edgekit.export(module, inputs, target=target, output=tmp_path / "b", simplify=False)
    mask, index, tens = edgekit.run(bundle, inputs[0].numpy())
    assert mask.astype(bool).tolist() == [[True, True, False]]
    assert index.tolist() == [1]
    assert tens.tolist() == [[10, 25, -10]]


def test_a_picture_of_bytes_goes_in_as_bytes(tmp_path: Path) -> None:
    module = Written(lambda picture: picture.float() / 255)
    picture = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
    bundle = edgekit.export(module, picture, output=tmp_path / "b", simplify=False)
    assert bundle.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(edgekit.run(bundle, picture.numpy())[0], [[0, 128 / 255, 1]])


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_names_of_inputs_buffers_and_outputs_never_meet(tmp_path: Path, target: str) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("result", torch.tensor([2.0]))

        def forward(self, input: Tensor, output: Tensor) -> Tensor:
            return input * self.result + output

    inputs = (torch.ones(1, 3), torch.ones(1, 3))
    bundle = edgekit.export(Named(), inputs, target=target, output=tmp_path / "b", simplify=False)
    assert edgekit.run(bundle, *(value.numpy() for value in inputs))[0].tolist() == [[3.0] * 3]


def test_a_module_of_its_own_class_that_branches_is_traced(tmp_path: Path) -> None:
    module = Written(lambda x: x + 1 if x.sum() > 0 else x * 2)
    bundle = edgekit.export(module, torch.ones(1, 3), target="coreml", output=tmp_path / "b")
    assert bundle.manifest["captured_by"].startswith("trace (branches fixed")


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda x: {"a": x + 1}, "forward returns a dict"),
        (lambda x: (x + 1, (x + 2, x + 3)), "forward returns a nested tuple"),
        (lambda x: (x + 1, None), "NoneType"),
        (lambda x: x, "'output' is an input or a weight as it is"),
        (lambda x: (y := x + 1, y), "'output_1' is 'output_0' once more"),
        (lambda x: x.add_(1) * 2, "writes into 'inputs_0'"),
        (torch.nonzero, "depends on values"),
    ],
)
def test_what_no_file_can_hold_is_a_conversion_error(
    tmp_path: Path, target: str, forward: Any, words: str
) -> None:
    with pytest.raises(ConversionError, match=words):
        edgekit.export(Written(forward), torch.ones(1, 3), target=target, output=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_other_floats_at_the_doors_are_refused_with_the_remedy(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    example = torch.ones(1, 3, dtype=dtype)
    with pytest.raises(
        ConversionError, match=r"float32.*: call module\.float\(\), give inputs of such a type"
    ):
        edgekit.export(Written(lambda x: x * 2), example, output=tmp_path / "b")


def test_a_module_that_counts_its_calls_is_refused(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x + self.calls

    with pytest.raises(ConversionError, match="writes into 'calls', and files keep no state"):
        edgekit.export(Counting(), torch.ones(1, 3), output=tmp_path / "b")


def test_example_inputs_are_checked(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    for wrong in ((), [], 3, "x", None):
        with pytest.raises(UsageError, match="A module needs example_inputs"):
            edgekit.export(module, wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="of type ndarray"):
        edgekit.export(module, (np.ones((1, 3)),))  # type: ignore[arg-type]
    model = edgekit.load(str(write_recipe(tmp_path)))
    with pytest.raises(UsageError, match="has its own example inputs"):
        edgekit.export(model, torch.ones(1, 3))


def test_a_module_is_put_in_eval_mode(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    bundle = edgekit.export(module, torch.ones(1, 3), target="coreml", output=tmp_path / "b")
    assert not module.training
    assert edgekit.verify(bundle).passed


def test_options_are_checked_before_any_work(tmp_path: Path) -> None:
    module, inputs = nn.Linear(3, 2), torch.ones(1, 3)
    with pytest.raises(UsageError, match="did you mean 'coreml'"):
        edgekit.export(module, inputs, target="coremll")
    with pytest.raises(UsageError, match="does not write int8"):
        edgekit.export(module, inputs, precision="int8", output=tmp_path / "b")
    with pytest.raises(UsageError, match="exists; choose another place"):
        edgekit.export(module, inputs, output=tmp_path)


def test_a_loaded_model_is_callable_and_seeded(tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path))
    first, second = edgekit.load(recipe), edgekit.load(recipe, frames=1, height=8, width=16)
    assert first(*first.example_inputs).shape == (1, 3, 2, 16, 24)
    assert second(*second.example_inputs).shape == (1, 3, 1, 8, 16)
    latent = torch.randn(LATENT)
    torch.testing.assert_close(first(latent), edgekit.load(recipe)(latent))


def test_run_wants_every_input_in_order(tmp_path: Path) -> None:
    module = Written(lambda a, b: a - b)
    inputs = (torch.ones(1, 3), torch.zeros(1, 3))
    bundle = edgekit.export(module, inputs, target="coreml", output=tmp_path / "b")
    ones = np.ones((1, 3), np.float32)
    with pytest.raises(UsageError, match=r"takes 2 inputs \(inputs_0, inputs_1\); 1 were given"):
        edgekit.run(bundle, ones)
    assert edgekit.run(bundle, ones, ones * 3)[0].tolist() == [[-2.0] * 3]


def test_what_import_offers_can_be_had() -> None:
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
        _ = edgekit.exprot


def test_an_export_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edgekit.export(nn.ReLU(), torch.randn(1, 4), target="coreml", output=tmp_path / "b")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_file_of_another_teacher_s_decoder_is_told_by_its_projection_heads(
    tmp_path: Path,
) -> None:
    """Hunyuan's and Cog's decoders are alike to the last shape."""
    state = build_network(find_recipe("turbo-vaed-hunyuan")).state_dict()
    state["aligned_feature_projection_heads.0.0.conv.weight"] = torch.zeros(2048, 512, 1, 1, 1)
    torch.save(state, tmp_path / "hunyuan.pth")
    edgekit.load("turbo-vaed-hunyuan", tmp_path / "hunyuan.pth", height=32, width=32, frames=1)
    with pytest.raises(
        UsageError, match="heads of 2048 channels, and those of turbo-vaed-cog have 4096"
    ):
        edgekit.load("turbo-vaed-cog", tmp_path / "hunyuan.pth", height=32, width=32, frames=1)


def test_mobilenet_v2_takes_the_state_dict_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = build_network(find_recipe("mobilenet-v2")).eval()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    assert {"features.0.0.weight", "features.1.conv.0.0.weight", "classifier.1.bias"} <= set(state)
    torch.save(state, tmp_path / "mobilenet_v2.pth")
    model = edgekit.load("mobilenet-v2", weights=tmp_path / "mobilenet_v2.pth", height=32, width=64)
    image = torch.rand(1, 3, 32, 64)
    torch.testing.assert_close(model(image), module(image))
    assert model.weights == "mobilenet_v2.pth (plain state dict)"


def test_a_training_checkpoint_of_real_esrgan_is_unwrapped(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = build_network(find_recipe("realesr-animevideov3-x4")).eval()
    torch.save({"params": module.state_dict()}, tmp_path / "animevideo.pth")
    model = edgekit.load(
        "realesr-animevideov3-x4", weights=tmp_path / "animevideo.pth", height=4, width=6
    )
    picture = torch.rand(1, 3, 4, 6)
    torch.testing.assert_close(model(picture), module(picture))
    assert model(picture).shape == model.outputs[0].shape == (1, 3, 16, 24)


def test_an_image_model_refuses_frames() -> None:
    with pytest.raises(UsageError, match="takes one image and makes no video"):
        edgekit.load("mobilenet-v2", frames=3)
