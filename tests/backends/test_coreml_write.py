from __future__ import annotations

import json
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from small_exports import Norm, mixture, write_recipe
from torch import Tensor, nn

from edgekit.backends.coreml.describe import describe
from edgekit.backends.coreml.load import load, read_function, read_spec
from edgekit.backends.coreml.write import CoreMLOptions, unsupported_operators, write
from edgekit.contract import Size
from edgekit.errors import ConversionError, UsageError
from edgekit.model import model_of_recipe
from edgekit.program.capture import capture
from edgekit.program.program import Program
from edgekit.program.rule import rewrite
from edgekit.program.rules import rules
from edgekit.recipe import read_recipe

FLOAT32, INT32 = 65568, 131104  # FeatureTypes.proto: ArrayFeatureType.ArrayDataType


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    return capture(module, inputs).program


@pytest.fixture(scope="module")
def video_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The small recipe, rewritten for half precision."""
    recipe = read_recipe(write_recipe(tmp_path_factory.mktemp("recipe")))
    model = model_of_recipe(recipe, None, Size())
    captured = capture(model.module, model.example_inputs, model.inputs, model.outputs)
    return rewrite(captured.program, rules(half=True))[0]


@pytest.fixture(scope="module")
def package(video_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coreml") / "video.mlpackage"
    write(video_program, path, CoreMLOptions())
    return path


def contents(package: Path) -> dict[str, bytes]:
    files = [path for path in package.rglob("*") if path.is_file()]
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in files}


def test_the_same_bytes_each_time(video_program: Program, package: Path, tmp_path: Path) -> None:
    write(video_program, tmp_path / "again.mlpackage", CoreMLOptions())
    assert contents(tmp_path / "again.mlpackage") == contents(package)


def test_the_package_holds_what_a_package_holds_and_no_more(package: Path) -> None:
    assert set(contents(package)) == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }
    manifest = json.loads((package / "Manifest.json").read_text())
    entries = manifest["itemInfoEntries"]
    assert manifest["rootModelIdentifier"] in entries
    assert {entry["path"] for entry in entries.values()} == {
        "com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights",
    }  # fmt: skip


def test_names_doors_and_contract(package: Path) -> None:
    spec = read_spec(package)
    (latent,), (video,) = spec.description.input, spec.description.output
    assert (latent.name, list(latent.type.multiArrayType.shape)) == ("latent", [1, 4, 2, 2, 3])
    assert (video.name, list(video.type.multiArrayType.shape)) == ("video", [1, 3, 2, 16, 24])
    assert latent.type.multiArrayType.dataType == video.type.multiArrayType.dataType == FLOAT32
    assert "NCTHW" in latent.shortDescription
    metadata = spec.description.metadata.userDefined
    assert json.loads(metadata["edgekit.outputs"])[0]["high"] == 1.0
    assert not [key for key in metadata if "date" in key or key.endswith(".source")]


@pytest.mark.parametrize(("system", "version"), [("iOS16", 7), ("iOS17", 8), ("iOS18", 9)])
def test_the_minimum_os_gives_the_specification_version(
    tmp_path: Path, system: str, version: int
) -> None:
    path = tmp_path / "x.mlpackage"
    write(program_of(nn.Linear(3, 2), torch.ones(1, 3)), path, CoreMLOptions(system))
    assert read_spec(path).specificationVersion == version
    assert system in describe(path).kind


def test_nothing_but_doors_and_group_statistics_has_five_axes(package: Path) -> None:
    """coremltools lowers GroupNorm at one rank more; every convolution is one of pictures."""
    statistics = {"reduce_mean", "sub", "square", "add", "sqrt", "real_div", "mul", "rsqrt", "pow"}
    shapes = {"cast", "transpose", "reshape", "expand_dims", "squeeze", "const"}
    operations = read_function(package, "main").operations
    for op in operations:
        if max(len(var.shape or ()) for var in op.outputs) > 4:
            assert op.op_type in shapes | statistics, op
        if op.op_type == "conv":
            assert len(op.weight.shape) == 4
    assert "conv" in {op.op_type for op in operations}


def test_half_precision_stores_half_weights(package: Path) -> None:
    stored = describe(package).weight_bytes
    assert stored["float16"] > 10 * stored.get("float32", 0)


@pytest.mark.parametrize("half", [False, True])
def test_the_file_computes_what_the_program_does(
    video_program: Program, tmp_path: Path, half: bool
) -> None:
    write(video_program, tmp_path / "v.mlpackage", CoreMLOptions(half=half))
    latent = torch.randn(1, 4, 2, 2, 3, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = video_program.exported.module()(latent).numpy()
    got = load(tmp_path / "v.mlpackage").run({"latent": latent.numpy()})["video"]
    # A half has 11 bits: the roundings of twenty layers add up to a few thousandths of the range.
    np.testing.assert_allclose(
        got, expected, atol=(4e-3 if half else 1e-5) * np.abs(expected).max()
    )


def test_whole_numbers_pass_the_doors_as_int32(tmp_path: Path) -> None:
    module, inputs = mixture()
    path = tmp_path / "m.mlpackage"
    write(program_of(module, *inputs), path, CoreMLOptions(half=False))
    spec = read_spec(path)
    doors = {
        door.name: door.type.multiArrayType.dataType
        for door in (*spec.description.input, *spec.description.output)
    }
    assert doors == {
        "picture": FLOAT32, "token": INT32, "output_0": FLOAT32, "output_1": FLOAT32,
        "output_2": INT32,
    }  # fmt: skip
    contract = json.loads(spec.description.metadata.userDefined["edgekit.outputs"])
    assert [door["dtype"] for door in contract] == ["float32", "float32", "int32"]


def test_a_small_epsilon_stays_in_single_precision(tmp_path: Path) -> None:
    path = tmp_path / "n.mlpackage"
    write(program_of(Norm(), torch.randn(1, 4, 2)), path, CoreMLOptions(half=False))
    still = load(path).run({"x": np.zeros((1, 4, 2), np.float32)})["output"]
    np.testing.assert_array_equal(still, 0)


def test_operators_without_a_conversion_are_known_beforehand() -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x) + 1

    found = unsupported_operators(program_of(Bessel(), torch.ones(3)))
    assert found == ["aten.special_bessel_j0.default"]
    module, inputs = mixture()
    assert unsupported_operators(program_of(module, *inputs)) == []


def test_a_refusal_of_coremltools_is_one_sentence(tmp_path: Path) -> None:
    class Grid(nn.Module):
        def forward(self, x: Tensor, grid: Tensor) -> Tensor:
            return nn.functional.grid_sample(x, grid, align_corners=False)

    program = program_of(Grid(), torch.ones(1, 2, 3, 4, 5), torch.zeros(1, 2, 3, 4, 3))
    with pytest.raises(ConversionError, match=r"coremltools refused the graph: .*rank 4"):
        write(program, tmp_path / "g.mlpackage", CoreMLOptions())


def test_an_unknown_minimum_os_names_the_known_ones(tmp_path: Path) -> None:
    program = program_of(nn.Linear(3, 2), torch.ones(1, 3))
    with pytest.raises(UsageError, match=r"'iOS3'; minimum_os is one of .*iOS17, iOS18"):
        write(program, tmp_path / "x.mlpackage", CoreMLOptions("iOS3"))


def test_a_full_disk_is_told_from_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ct, "convert", full)
    with pytest.raises(OSError, match="No space left"):
        write(program_of(nn.Linear(3, 2), torch.ones(1, 3)), tmp_path / "x", CoreMLOptions())
