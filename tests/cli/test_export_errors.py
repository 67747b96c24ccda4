from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command, leftovers
from small_exports import write_recipe

from edgekit.backends.registry import OnnxBackend

SMALL = "small.toml"


def refused(edgekit: Command, place: Path, *arguments: object, code: int = 2) -> str:
    """Export to ./out, check the manner of the refusal, return its sentence."""
    before = {path.name for path in place.iterdir()}
    result = edgekit("export", *arguments)
    assert result.code == code, result
    assert result.is_one_sentence(), result
    after = {path.name for path in place.iterdir()} - {"__pycache__"}
    assert after == before - {"__pycache__"}
    assert leftovers(place) == []
    return result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["turbo-vaed-mni", "--target", "onnx"], "did you mean 'turbo-vaed-mini'"),
        ([SMALL, "--target", "onx"], "did you mean 'onnx'?"),
        (["zzz", "--target", "onnx"], "There is no model 'zzz'; `edgekit list` shows all."),
        (["my/nets.py", "--target", "onnx"], "as my.nets:make_net."),
        ([SMALL], "Missing option '--target'."),
        (["--target", "onnx"], "Missing argument"),
        ([SMALL, "--target", "onnx", "--bogus"], "No such option"),
        ([SMALL, "--target", "onnx", "--precision", "int8"], "it writes fp32, fp16."),
        ([SMALL, "--target", "onnx", "--frames", "many"], "--frames"),
        (["none.toml", "--target", "onnx"], "The recipe none.toml cannot be read"),
        ([SMALL, "--target", "none.toml"], "The target none.toml cannot be read"),
        ([".", "--target", "onnx"], "There is no model '.', and what is there is no recipe"),
        ([SMALL, "--target", "onnx", "--weights", "hub"], "small-mini is not on the hub"),
    ],
)
def test_an_unusable_word_on_the_command_line_is_named(
    edgekit: Command, place: Path, arguments: list[str], words: str
) -> None:
    assert words in refused(edgekit, place, *arguments)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("32", "is not HEIGHTxWIDTH"),
        ("32x", "is not HEIGHTxWIDTH"),
        ("x", "is not HEIGHTxWIDTH"),
        ("-8x16", "is not HEIGHTxWIDTH"),
        ("16x24x8", "is not HEIGHTxWIDTH"),
        ("1.5x16", "is not HEIGHTxWIDTH"),
        ("²x16", "is not HEIGHTxWIDTH"),
        ("17x24", "height 17 is no multiple of the latent stride 8; the nearest that is: 16"),
        ("16x30", "width 30 is no multiple of the latent stride 8; the nearest that is: 32"),
        ("0x24", "height 0 is no multiple"),
        ("4x24", "the nearest that is: 8"),
    ],
)
def test_an_impossible_size_is_explained(
    edgekit: Command, place: Path, size: str, words: str
) -> None:
    assert words in refused(edgekit, place, SMALL, "--target", "onnx", "--size", size)
    assert words in edgekit("info", SMALL, "--size", size).err


@pytest.mark.parametrize(
    ("model", "frames", "nearest"),
    [
        (SMALL, 0, 1),
        (SMALL, -3, 1),
        ("turbo-vaed-ltx", 0, 1),
        ("turbo-vaed-ltx", 16, 17),
        ("turbo-vaed-ltx", 8, 9),
        ("turbo-vaed-dc", 17, 16),
    ],
)
def test_an_impossible_number_of_frames_names_the_nearest(
    edgekit: Command, place: Path, model: str, frames: int, nearest: int
) -> None:
    said = refused(edgekit, place, model, "--target", "onnx", "--frames", frames)
    assert f"cannot produce {frames} frames" in said
    assert f"the nearest is {nearest}." in said
    assert said == edgekit("info", model, "--frames", frames).err


def test_a_size_beyond_the_memory_is_an_environment_error(edgekit: Command, place: Path) -> None:
    size = ["--size", "8000000x8000000"]
    assert "not enough memory" in refused(edgekit, place, SMALL, "--target", "onnx", *size, code=4)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (":", "is not package.module:factory"),
        ("factories:", "is not package.module:factory"),
        ("my/nets.py:make", "as Python imports it: my.nets:make, from the folder that holds my."),
        ("../nets.py:make", "as Python imports it: nets:make, from the folder that holds nets."),
        (":make", "is not package.module:factory"),
        ("no_such.module:make", "The module 'no_such' of 'no_such.module:make' cannot be found."),
        ("factories:nothing", "The module 'factories' has no 'nothing'."),
        ("factories:needs", "missing 1 required positional argument: 'argument'."),
        ("factories:fails", "factories.py:60 in fails)."),
        ("factories:leaves", "raised SystemExit: 0 ("),
        ("factories:wrong", "must be a function that returns (module, example_inputs)"),
        ("factories:module", "must be a function that returns (module, example_inputs)"),
        ("factories:not_a_factory", "raised TypeError: 'int' object is not callable."),
        ("factories:without_inputs", "A module needs example_inputs"),
        ("factories:numbers", "An example input is of type int"),
        ("broken:make", "importing it raised SyntaxError"),
        ("raising:make", "importing it raised RuntimeError: at import ("),
        ("importing:make", "The module 'surely_not_installed' of 'importing:make' cannot be found"),
    ],
)
def test_a_factory_that_cannot_be_used_is_named_with_the_reason(
    edgekit: Command, place: Path, reference: str, words: str
) -> None:
    (place / "broken.py").write_text("def make(:\n")
    (place / "raising.py").write_text("raise RuntimeError('at import\\nsecond line')\n")
    (place / "importing.py").write_text("import surely_not_installed\n")
    assert words in refused(edgekit, place, reference, "--target", "onnx")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("factories:wrong_size", "Linear fails on its example inputs (1x4 float32)"),
        (
            "factories:out_of_range",
            "factories.py:27 in forward, module 'table' (Embedding) raised IndexError",
        ),
        ("factories:dictionary", "forward returns a dict"),
    ],
)
def test_a_module_that_cannot_be_captured_is_a_conversion_error(
    edgekit: Command, place: Path, reference: str, words: str
) -> None:
    assert words in refused(edgekit, place, reference, "--target", "coreml", code=1)


@pytest.mark.parametrize("option", [["--weights", "a.pth"], ["--size", "8x8"], ["--frames", "1"], ["--frames", "0"]])  # fmt: skip
def test_options_of_recipes_are_refused_for_a_factory(
    edgekit: Command, place: Path, option: list[str]
) -> None:
    said = refused(edgekit, place, "factories:make", "--target", "onnx", *option)
    assert "belong to models with a recipe" in said


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_an_operator_that_the_target_lacks_is_named_with_its_line_before_conversion(
    edgekit: Command, place: Path, target: str
) -> None:
    said = refused(edgekit, place, "factories:bessel", "--target", target, code=1)
    assert "aten.special_bessel_j0.default" in said
    assert "factories.py:13 in forward" in said
    listed = edgekit("export", "factories:bessel", "--target", target, "--dry-run")
    assert listed.code == 1
    assert "special_bessel_j0" in listed.out
    assert "cannot be converted" in listed.out
    facts = edgekit("export", "factories:bessel", "--target", target, "--dry-run", "--json")
    assert facts.code == 1
    assert facts.json()["convertible"] is False
    source = facts.json()["findings"][0]["source"]
    assert source.endswith("factories.py:13 in forward")


def test_a_model_that_gives_nan_itself_is_a_parity_error_that_says_so(
    edgekit: Command, place: Path
) -> None:
    said = refused(edgekit, place, "factories:nan", "--target", "coreml", code=3)
    assert "NaN or infinite in the model itself" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "name = "}, "is no valid TOML"),
        ({"name": ""}, "name"),
        ({"name": 'name = "a/b"'}, "which names files"),
        ({"name": 'name = ".."'}, "which names files"),
        ({"name": "name = 3"}, "'name' is 3 and must be of type str"),
        ({"family": 'family = "vae"'}, "names the family 'vae'; there are turbo-vaed"),
        ({"latent_channels": "channels_of_latent = 4"}, "unexpected keyword argument"),
        ({"widths": "widths = [8, 8]"}, "does not fit"),
        ({"widths": "widths = 8"}, "does not fit"),
        ({"widths": "widths = [0, 0, 0]"}, "does not fit"),
        ({"widths": 'widths = ["a", "b", "c"]'}, "does not fit"),
        ({"stride": 'stride = "8"'}, "'stride' is '8' and must be of type int"),
        ({"stride": "stride = 0"}, "'stride' must be at least 1"),
        ({"frame_stride": "frame_stride = 0"}, "'frame_stride' must be at least 1"),
        ({"lead_frame": "lead_frame = 0"}, "'lead_frame' is 0 and must be of type bool"),
        ({"low": ""}, "low"),
        ({"height": ""}, "has no 'height'"),
        ({"height": 'height = "tall"'}, "'height' is 'tall' and must be of type int"),
        ({"divisor": "divisor = 'half'"}, "'divisor' is 'half' and must be of type float"),
        ({"divisor": "shift = 1.0"}, "unexpected keyword argument 'shift'"),
    ],
)
def test_a_recipe_of_the_users_own_is_checked_field_by_field(
    edgekit: Command, place: Path, changes: dict[str, str], words: str
) -> None:
    write_recipe(place, "mine.toml", **changes)
    said = refused(edgekit, place, "mine.toml", "--target", "onnx")
    assert words in said
    assert "mine.toml" in said


@pytest.mark.parametrize("table", ["architecture", "weights", "latent", "scaling", "size"])
def test_a_recipe_without_a_table_says_which(edgekit: Command, place: Path, table: str) -> None:
    text = (place / SMALL).read_text().replace(f"[{table}]", f"[{table}-not]")
    (place / "mine.toml").write_text(text)
    assert f"has no '{table}'" in refused(edgekit, place, "mine.toml", "--target", "onnx")


def test_a_recipe_whose_network_gives_another_shape_is_refused(
    edgekit: Command, place: Path
) -> None:
    write_recipe(place, "mine.toml", stride="stride = 4", height="height = 8")
    said = refused(edgekit, place, "mine.toml", "--target", "coreml")
    assert "whose architecture and contract differ" in said


TARGET = """
name = "mine"
format = "onnx"
summary = "A target of the user's own"
precisions = ["fp32"]
opset = 18
ir_version = 10
[gates]
fp32 = 100.0
[lints]
max_rank = 5
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "mine"', "name = ", "is no valid TOML"),
        ('format = "onnx"', 'format = "tflite"', "There is no backend for 'tflite' files"),
        ('["fp32"]', '["fp8"]', "'precisions' is a choice of fp32, fp16"),
        ('["fp32"]', "[]", "'precisions' is a choice of"),
        ('["fp32"]', '["fp32", "fp16"]', "has no 'fp16'"),
        ("opset = 18", "", "has no 'opset'"),
        ("opset = 18", 'opset = "18"', "'opset' is '18' and must be of type int"),
        ("fp32 = 100.0", 'fp32 = "high"', "the gate of fp32 must be a number"),
        ("max_rank = 5", "", "has no 'max_rank'"),
        ("max_rank = 5", 'max_rank = "5"', "'max_rank' is '5' and must be of type int"),
        ("opset = 18", "opset = 18\ncolour = 1", "unexpected keyword argument 'colour'"),
    ],
)
def test_a_target_of_the_users_own_is_checked_field_by_field(
    edgekit: Command, place: Path, old: str, new: str, words: str
) -> None:
    (place / "mine.toml").write_text(TARGET.replace(old, new, 1))
    assert words in refused(edgekit, place, SMALL, "--target", "mine.toml")


def test_an_unknown_minimum_os_names_the_known_ones(edgekit: Command, place: Path) -> None:
    text = TARGET.replace('"onnx"', '"coreml"').replace("opset = 18", 'minimum_os = "iOS3"')
    (place / "mine.toml").write_text(text)
    said = refused(edgekit, place, "factories:make", "--target", "mine.toml")
    assert "iOS17" in said


def test_a_target_of_the_users_own_is_used(edgekit: Command, place: Path) -> None:
    (place / "mine.toml").write_text(TARGET)
    result = edgekit("export", "factories:make", "--target", "mine.toml", "--no-simplify", "--json")
    assert result.code == 0
    assert result.json()["target"] == "mine"
    assert (place / "make-mine-fp32.bundle" / "make.onnx").is_file()


def test_an_existing_output_is_refused_before_anything_is_loaded(
    edgekit: Command, place: Path
) -> None:
    for name in ("here", "small-mini-onnx-fp32.bundle"):
        (place / name).mkdir()
    for options in (["-o", "here"], []):
        said = refused(edgekit, place, SMALL, "--target", "onnx", "--weights", "none", *options)
        assert "exists; choose another place with -o, or replace it with --force." in said


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"name": "a web page", "icons": []}'])
def test_force_never_replaces_what_is_no_bundle(
    edgekit: Command, place: Path, content: str | None
) -> None:
    (place / "folder").mkdir()
    if content is not None:
        (place / "folder" / "manifest.json").write_text(content)
    said = refused(edgekit, place, SMALL, "--target", "onnx", "-o", "folder", "--force")
    assert "is no bundle, so --force does not replace it" in said
    said = refused(edgekit, place, SMALL, "--target", "onnx", "-o", SMALL, "--force")
    assert "is no bundle, so --force does not replace it" in said


def test_a_failed_export_with_force_leaves_the_old_bundle(
    edgekit: Command, place: Path, onnx_copy: Path
) -> None:
    before = (onnx_copy / "manifest.json").read_bytes()
    arguments = ["factories:nan", "--target", "coreml", "-o", onnx_copy, "--force"]
    refused(edgekit, place, *arguments, code=3)
    assert (onnx_copy / "manifest.json").read_bytes() == before
    assert edgekit("verify", onnx_copy).code == 0


def test_force_replaces_a_bundle(edgekit: Command, place: Path, onnx_copy: Path) -> None:
    arguments = ["factories:make", "--target", "coreml", "-o", onnx_copy, "--force"]
    assert edgekit("export", *arguments).code == 0
    assert {path.name for path in onnx_copy.iterdir()} == {
        "make.mlpackage", "manifest.json", "golden.safetensors",
    }  # fmt: skip
    assert leftovers(place) == []


def test_a_place_below_a_file_is_an_environment_error(edgekit: Command, place: Path) -> None:
    arguments = ["factories:make", "--target", "coreml", "-o", f"{SMALL}/below/it"]
    assert "small.toml is a file" in refused(edgekit, place, *arguments, code=4)


def test_a_place_that_cannot_be_made_is_an_environment_error(edgekit: Command, place: Path) -> None:
    arguments = ["factories:make", "--target", "coreml", "-o", "/proc/edgekit/here"]
    assert "cannot be written" in refused(edgekit, place, *arguments, code=4)


def test_folders_made_for_an_export_that_fails_are_removed(edgekit: Command, place: Path) -> None:
    arguments = ["factories:nan", "--target", "coreml", "-o", "new/folder/bundle"]
    refused(edgekit, place, *arguments, code=3)
    assert not (place / "new").exists()


def test_a_disk_that_fills_up_while_writing_is_an_environment_error(
    edgekit: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: OnnxBackend, program: object, path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OnnxBackend, "write", full)
    said = refused(edgekit, place, "factories:make", "--target", "onnx", "-o", "x", code=4)
    assert "No space left on device; choose another place with -o." in said


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_full_disk_leaves_nothing(
    edgekit: Command, place: Path, full_disk: Path, target: str
) -> None:
    result = edgekit("export", SMALL, "--target", target, "-o", full_disk / "x", "--no-simplify")
    assert result.code == 4, result
    assert result.is_one_sentence(), result
    assert list(full_disk.iterdir()) == []


def test_weights_from_an_unreachable_hub_are_an_environment_error(
    edgekit: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    arguments = ["turbo-vaed-cog", "--target", "onnx", "--weights", "hub"]
    assert "--weights FILE" in refused(edgekit, place, *arguments, code=4)
