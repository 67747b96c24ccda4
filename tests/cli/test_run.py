from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command
from safetensors.torch import save_file
from small_exports import LATENT, write_recipe

from edgekit.cli.output import parse_inputs
from edgekit.errors import UsageError


@pytest.fixture
def arrays(place: Path) -> Path:
    """Input files, sound and not."""
    latent = np.random.default_rng(1).standard_normal(LATENT)
    np.save(place / "latent.npy", latent.astype(np.float32))
    np.save(place / "double.npy", latent)
    np.save(place / "integers.npy", np.ones(LATENT, np.int64))
    np.save(place / "wide.npy", np.ones((1, 4, 2, 2, 4), np.float32))
    np.save(place / "flat.npy", np.ones(48, np.float32))
    np.save(place / "text.npy", np.array(["a"]))
    np.save(place / "complex.npy", np.ones(LATENT, np.complex64))
    np.save(place / "objects.npy", np.array([{}], dtype=object))
    np.savez(place / "several.npz", a=latent)
    (place / "words.npy").write_text("no array")
    (place / "empty.npy").touch()
    (place / "cut.npy").write_bytes((place / "latent.npy").read_bytes()[:150])
    return place


@pytest.mark.parametrize("format", ["onnx", "coreml"])
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["latnt=latent.npy"], "latnt"),
        (["words.npy"], "words.npy is no .npy file"),
        ([""], "is not NAME=FILE.npy"),
        (["=latent.npy"], "is not NAME=FILE.npy"),
        (["latent="], "is not NAME=FILE.npy"),
        (["latent=latent.npy", "latent=double.npy"], "The input 'latent' is given twice."),
        (["latent.npy", "double.npy"], "The input 'latent' is given twice."),
        (["latent=latent.npy", "pipeline_latent=latent.npy"], "not both"),
        (["latent=latent.npy", "other=latent.npy"], "other"),
        (["latent=wide.npy"], "latent"),
        (["latent=flat.npy"], "latent"),
        (["pipeline_latent=flat.npy"], "five axes, N C T H W"),
        (["latent=text.npy"], "text.npy holds <U1; models take real numbers."),
        (["latent=complex.npy"], "complex.npy holds complex64"),
        (["latent=objects.npy"], "objects.npy is no .npy array that can be read"),
        (["latent=several.npz"], "several.npz is an archive of arrays"),
        (["latent=words.npy"], "words.npy is no .npy file"),
        (["latent=empty.npy"], "empty.npy is no .npy file"),
        (["latent=cut.npy"], "cut.npy is no .npy array that can be read"),
        (["latent=none.npy"], "No such file or directory."),
        (["latent=."], "Is a directory."),
    ],
)
def test_an_input_that_cannot_be_used_is_named(
    edgekit: Command, arrays: Path, exported: Path, format: str, inputs: list[str], words: str
) -> None:
    options = [part for item in inputs for part in ("--input", item)]
    result = edgekit("run", exported / format, *options, "-o", "results")
    assert result.code == 2
    assert result.is_one_sentence(), result
    assert words in result.err
    assert not (arrays / "results").exists()


@pytest.mark.parametrize("format", ["onnx", "coreml"])
def test_other_real_types_are_cast(
    edgekit: Command, arrays: Path, exported: Path, format: str
) -> None:
    for name in ("double", "integers"):
        result = edgekit("run", exported / format, "--input", f"latent={name}.npy", "--json")
        assert result.code == 0
        assert result.json()["outputs"]["video"]["shape"] == [1, 3, 2, 16, 24]


def test_results_are_written_as_arrays_and_a_picture(
    edgekit: Command, arrays: Path, exported: Path
) -> None:
    from PIL import Image

    result = edgekit("run", exported / "onnx", "--input", "latent=latent.npy", "-o", "r", "--json")
    assert result.code == 0
    assert result.json()["files"] == ["r/video.npy", "r/video.png"]
    assert np.load("r/video.npy").shape == (1, 3, 2, 16, 24)
    assert Image.open("r/video.png").size == (48, 16)


def test_the_only_input_needs_no_name(edgekit: Command, arrays: Path, exported: Path) -> None:
    for given, folder in (("latent.npy", "bare"), ("latent=latent.npy", "named")):
        assert edgekit("run", exported / "onnx", "--input", given, "-o", folder).code == 0
    np.testing.assert_array_equal(np.load("bare/video.npy"), np.load("named/video.npy"))


def test_one_of_several_inputs_needs_its_name() -> None:
    with pytest.raises(UsageError, match="the bundle's inputs are picture, token"):
        parse_inputs(["x.npy"], ["picture", "token"])


def test_without_inputs_the_golden_one_runs(edgekit: Command, exported: Path) -> None:
    result = edgekit("run", exported / "onnx")
    assert result.code == 0
    assert "\nvideo 1x3x2x16x24 float32:" in result.out


def test_pipeline_latents_are_scaled_as_the_recipe_says(
    edgekit: Command, arrays: Path, exported: Path
) -> None:
    latent = np.load("latent.npy")
    np.save("pipeline.npy", latent * np.float32(0.5))  # the recipe's divisor
    edgekit("run", exported / "onnx", "--input", "latent=latent.npy", "-o", "raw")
    edgekit("run", exported / "onnx", "--input", "pipeline_latent=pipeline.npy", "-o", "scaled")
    np.testing.assert_array_equal(np.load("raw/video.npy"), np.load("scaled/video.npy"))


@pytest.fixture(scope="module")
def without_statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose recipe leaves its per-channel statistics to the teacher's file, as LTX does."""
    from edgekit.cli.main import run_command

    folder = tmp_path_factory.mktemp("ltx")
    recipe = write_recipe(
        folder, divisor='missing = "the teacher keeps them; give its file with --statistics"'
    )
    assert run_command(["export", str(recipe), "--target", "coreml", "-o", str(folder / "b")]) == 0
    return folder / "b"


def test_statistics_come_from_the_teachers_file(
    edgekit: Command, arrays: Path, without_statistics: Path
) -> None:
    pipeline = ["run", without_statistics, "--input", "pipeline_latent=latent.npy"]
    refused = edgekit(*pipeline)
    assert refused.code == 2
    assert refused.is_one_sentence()
    assert "the teacher keeps them" in refused.err
    assert "--statistics" in refused.err
    mean, std = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 2.0, 0.5, 1.5])
    save_file({"vae.latents_mean": mean, "vae.latents_std": std}, "vae.safetensors")
    assert edgekit(*pipeline, "--statistics", "vae.safetensors", "-o", "scaled").code == 0
    raw = np.load("latent.npy") * std.view(1, 4, 1, 1, 1).numpy() + mean.view(1, 4, 1, 1, 1).numpy()
    np.save("raw.npy", raw)
    edgekit("run", without_statistics, "--input", "latent=raw.npy", "-o", "raw")
    np.testing.assert_allclose(np.load("raw/video.npy"), np.load("scaled/video.npy"), atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"other": torch.ones(4)}, "holds no latents_mean"),
        ({"latents_mean": torch.ones(4)}, "holds no latents_std"),
        ({"latents_mean": torch.ones(3), "latents_std": torch.ones(3)}, "4 channels and its statistics have 3"),
        ({"latents_mean": torch.zeros(4), "latents_std": torch.ones(4)}, "placeholders of a student's file"),
        ({"latents_mean": torch.ones(4), "latents_std": torch.zeros(4)}, "deviations above zero"),
        ({"latents_mean": torch.full((4,), torch.nan), "latents_std": torch.ones(4)}, "must be finite"),
    ],
)  # fmt: skip
def test_statistics_that_do_not_fit_are_refused(
    edgekit: Command,
    arrays: Path,
    without_statistics: Path,
    tensors: dict[str, torch.Tensor],
    words: str,
) -> None:
    save_file(tensors, "vae.safetensors")
    options = ["--input", "pipeline_latent=latent.npy", "--statistics", "vae.safetensors"]
    result = edgekit("run", without_statistics, *options)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert words in result.err


def test_statistics_are_refused_where_the_recipe_has_its_whole_scaling(
    edgekit: Command, arrays: Path, exported: Path
) -> None:
    save_file({"latents_mean": torch.ones(4), "latents_std": torch.ones(4)}, "vae.safetensors")
    options = ["--input", "pipeline_latent=latent.npy", "--statistics", "vae.safetensors"]
    result = edgekit("run", exported / "onnx", *options)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "leave --statistics away" in result.err


def test_nested_statistics_of_a_training_file_are_found(
    edgekit: Command, arrays: Path, without_statistics: Path
) -> None:
    inner = {"vae.latents_mean": torch.ones(4), "vae.latents_std": torch.full((4,), 2.0)}
    torch.save({"epoch": 3, "state_dict": inner}, "vae.pth")
    pipeline = ["--input", "pipeline_latent=latent.npy", "--statistics", "vae.pth"]
    assert edgekit("run", without_statistics, *pipeline).code == 0


def test_nan_outputs_are_counted_in_strict_json(
    edgekit: Command, arrays: Path, exported: Path
) -> None:
    np.save("nan.npy", np.full_like(np.load("latent.npy"), np.nan))
    result = edgekit("run", exported / "onnx", "--input", "latent=nan.npy", "--json")
    assert result.code == 0
    facts = json.loads(result.out)["outputs"]["video"]
    assert facts["mean"] is None
    assert facts["not_finite"] == 1 * 3 * 2 * 16 * 24


def test_statistics_need_a_pipeline_latent(edgekit: Command, arrays: Path, exported: Path) -> None:
    result = edgekit("run", exported / "onnx", "--statistics", "vae.safetensors")
    assert (result.code, result.is_one_sentence()) == (2, True)


def test_a_model_without_a_latent_takes_no_pipeline_latent(edgekit: Command, arrays: Path) -> None:
    assert edgekit("export", "factories:make", "--target", "coreml", "-o", "plain").code == 0
    result = edgekit("run", "plain", "--input", "pipeline_latent=latent.npy")
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "has no latent" in result.err


def test_a_file_within_a_bundle_gets_the_folders_name(edgekit: Command, exported: Path) -> None:
    result = edgekit("verify", exported / "onnx" / "small-mini.onnx")
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert f"is a file of the bundle {exported / 'onnx'}; give that folder." in result.err


@pytest.mark.parametrize("verb", ["run", "verify"])
@pytest.mark.parametrize("path", ["none", ".", "small.toml"])
def test_what_is_no_bundle_is_refused(edgekit: Command, place: Path, verb: str, path: str) -> None:
    result = edgekit(verb, path)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "is no bundle" in result.err


def test_results_below_a_file_are_an_environment_error(
    edgekit: Command, arrays: Path, exported: Path
) -> None:
    result = edgekit("run", exported / "onnx", "-o", "small.toml/below")
    assert (result.code, result.is_one_sentence()) == (4, True)
