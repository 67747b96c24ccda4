from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_exports import Norm, mixture, write_recipe
from torch import Tensor, nn

from edgekit.backends.registry import CoreMLBackend
from edgekit.bundle import open_bundle
from edgekit.contract import Size
from edgekit.errors import ConversionError, ParityError, UsageError
from edgekit.export_proof import golden_pair
from edgekit.exporting import ExportOptions, default_folder, export_model
from edgekit.model import model_of_module, model_of_recipe
from edgekit.prepared import prepare
from edgekit.recipe import read_recipe
from edgekit.target import find_target

COREML = find_target("coreml")


def test_the_default_folder_names_model_target_and_precision() -> None:
    assert default_folder("net", COREML, None) == Path("net-coreml-fp16.bundle")
    assert default_folder("net", COREML, "fp32") == Path("net-coreml-fp32.bundle")


def test_preparing_decides_and_lints_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = prepare(model_of_module(*mixture()), COREML, None)
    assert prepared.precision == "fp16"
    assert prepared.method == "torch.export"
    assert "fold-batch-norm" in {d.rule for d in prepared.decisions if d.applied}
    assert prepared.errors == []
    assert list(tmp_path.iterdir()) == []


def test_every_step_is_announced(tmp_path: Path) -> None:
    steps: list[str] = []
    model = model_of_module(Norm(), torch.ones(1, 4, 2))
    export_model(model, COREML, tmp_path / "b", ExportOptions(), steps.append)
    assert steps == ["capture and rewrite", "convert to coreml", "simplify", "verify"]


def test_an_all_zero_latent_is_finite_in_half_precision(tmp_path: Path) -> None:
    """1e-8 is 0 in half precision: a rule has to save the norm."""
    model = model_of_module(Norm(), torch.zeros(1, 4, 2))
    for target in ("coreml", "onnx"):
        options = ExportOptions(precision="fp16", simplify=False)
        _, report = export_model(model, find_target(target), tmp_path / target, options)
        assert report is not None
        assert report.passed


def test_the_golden_pair_is_the_models_own(tmp_path: Path) -> None:
    module, inputs = mixture()
    bundle, _ = export_model(model_of_module(module, inputs), COREML, tmp_path / "b")
    given, expected = bundle.golden()
    torch.testing.assert_close(torch.from_numpy(given["picture"]), inputs[0])
    assert given["token"].dtype == "int32"
    for name, value in zip(("output_0", "output_1", "output_2"), module(*inputs), strict=True):
        torch.testing.assert_close(torch.from_numpy(expected[name]), value, atol=1e-5, rtol=1e-5)


def test_a_forward_that_writes_into_its_argument_does_not_change_the_examples() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1) * 2

    example = torch.ones(1, 3)
    model = model_of_module(InPlace(), example)
    program = prepare(model_of_module(Norm(), example), COREML, "fp32").program
    inputs, outputs = golden_pair(model, program)
    assert example.tolist() == inputs["x"].tolist() == [[1.0] * 3]
    assert outputs["output"].tolist() == [[4.0] * 3]


def test_a_recipe_whose_network_gives_another_shape_is_named(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, stride="stride = 4", height="height = 8"))
    model = model_of_recipe(recipe, None, Size())
    with pytest.raises(UsageError, match=r"declares 'video' of shape \(1, 3, 2, 8, 24\)"):
        export_model(model, COREML, tmp_path / "b")


def test_a_file_that_cannot_run_here_is_a_conversion_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: CoreMLBackend, path: Path) -> None:
        raise UsageError(f"{path.name} is no model.")

    monkeypatch.setattr(CoreMLBackend, "load", refuse)
    model = model_of_module(Norm(), torch.ones(1, 4, 2))
    with pytest.raises(ConversionError, match=r"cannot be run here: norm.mlpackage is no model"):
        export_model(model, COREML, tmp_path / "b")
    export_model(model, COREML, tmp_path / "kept", ExportOptions(verify=False))
    assert open_bundle(tmp_path / "kept").manifest["parity"] is None
    assert not (tmp_path / "b").exists()


def test_wrong_numbers_are_a_parity_error_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off:
        reference = "a test"

        def run(self, _: object) -> dict[str, object]:
            return {"output": torch.full((1, 4, 2), 0.5).numpy()}

    monkeypatch.setattr(CoreMLBackend, "load", lambda *_: Off())
    with pytest.raises(ParityError, match=r"norm.mlpackage does not compute .* below the gate"):
        export_model(model_of_module(Norm(), torch.ones(1, 4, 2)), COREML, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
