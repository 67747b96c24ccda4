from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

from edgekit.bundle import sha256
from edgekit.data_folder import data_folder


def test_json_has_the_promised_fields(edgekit: Command, exported: Path) -> None:
    facts = edgekit("verify", exported / "coreml", "--json").json()
    assert facts["passed"] is True
    assert {"name", "psnr_db", "max_abs", "mean_abs", "cosine"} <= set(facts["outputs"][0])
    assert "reference interpreter" in facts["reference"]


@pytest.mark.parametrize("name", ["small-mini.onnx", "golden.safetensors"])
@pytest.mark.parametrize("change", ["edited", "truncated", "removed"])
def test_a_changed_file_is_named(edgekit: Command, onnx_copy: Path, name: str, change: str) -> None:
    file = onnx_copy / name
    data = file.read_bytes()
    if change == "removed":
        file.unlink()
    else:
        file.write_bytes(data[:-50] if change == "truncated" else data[:-1] + b"x")
    result = edgekit("verify", onnx_copy)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert f"{name} of copy is not the file that was exported" in result.err
    assert edgekit("verify", onnx_copy, "--bisect", "--json").code == 2


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "{}", '"text"', "\xff", *(f"-{field}" for field in (
        "name", "model", "format", "target", "precision", "files", "inputs", "outputs",
        "gate", "rewrites", "family", "schema",
    )), "model=3", "files=[]", 'inputs=[{"name": "x"}]', 'inputs=3', 'gate={"psnr_db": "high"}',
     'latent_scaling={"shift": 1}', "latent_scaling=3", 'outputs=[{"name": "x", "shape": 3}]'],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["run", "verify", "inspect"])
def test_a_damaged_manifest_is_one_sentence(
    edgekit: Command, onnx_copy: Path, verb: str, damage: str
) -> None:
    manifest = onnx_copy / "manifest.json"
    data = json.loads(manifest.read_text())
    if damage.startswith("-"):
        del data[damage[1:]]
    elif "=" in damage:
        field, _, value = damage.partition("=")
        data[field] = json.loads(value)
    text = json.dumps(data) if damage.startswith("-") or "=" in damage else damage
    manifest.write_bytes(text.encode("latin-1"))
    result = edgekit(verb, onnx_copy)
    assert result.code == 2, result
    assert result.is_one_sentence(), result
    assert "manifest.json is damaged" in result.err


def test_a_format_that_nothing_reads_is_named(edgekit: Command, onnx_copy: Path) -> None:
    manifest = onnx_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": "onnx"', '"format": "tflite"'))
    result = edgekit("verify", onnx_copy)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "There is no backend for 'tflite' files" in result.err


def test_a_file_that_is_no_model_is_one_sentence(edgekit: Command, onnx_copy: Path) -> None:
    file = onnx_copy / "small-mini.onnx"
    file.write_bytes(b"no model")
    manifest = onnx_copy / "manifest.json"
    data = json.loads(manifest.read_text())
    data["files"]["small-mini.onnx"] = sha256(file)
    manifest.write_text(json.dumps(data))
    for verb in ("run", "verify", "inspect"):
        result = edgekit(verb, onnx_copy)
        assert (result.code, result.is_one_sentence()) == (2, True), result
        assert "small-mini.onnx is no ONNX model" in result.err


def test_a_missing_golden_pair_is_one_sentence(edgekit: Command, onnx_copy: Path) -> None:
    (onnx_copy / "golden.safetensors").unlink()
    result = edgekit("run", onnx_copy)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "golden.safetensors is missing or damaged" in result.err


def test_bisect_and_audit_rebuild_the_model(edgekit: Command, place: Path, exported: Path) -> None:
    options = ["--bisect", "--half-audit", "--model", place / "small.toml"]
    result = edgekit("verify", exported / "onnx", *options)
    assert result.code == 0, result
    assert "No operator's error reaches an output." in result.out
    facts = edgekit("verify", exported / "onnx", *options, "--json").json()
    assert facts["divergence"] is None
    assert "half_audit" in facts


def test_bisect_finds_the_operator_whose_weights_were_changed(
    edgekit: Command, place: Path, exported: Path, onnx_copy: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    file = onnx_copy / "small-mini.onnx"
    model = onnx.load(file)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    (weight,) = (w for w in model.graph.initializer if w.name == convolutions[-1].input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    onnx.save(model, file)
    manifest = onnx_copy / "manifest.json"
    data = json.loads(manifest.read_text())
    data["files"]["small-mini.onnx"] = sha256(file)
    manifest.write_text(json.dumps(data))
    options = ["--bisect", "--model", place / "small.toml", "--json"]
    result = edgekit("verify", onnx_copy, *options)
    assert result.code == 3
    assert result.json()["passed"] is False
    assert result.json()["divergence"]["operator"] == "conv2d"
    assert "turbo_vaed_mini.py" in result.json()["divergence"]["source"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "small.toml"], "belong to --bisect or --half-audit"),
        (["--weights", "w.pth"], "belong to --bisect or --half-audit"),
        (["--bisect"], "'small-mini' is no model of the zoo; name its recipe"),
        (["--bisect", "--model", "turbo"], "did you mean 'turbo-vaed'"),
        (["--bisect", "--model", "none:make"], "cannot be found"),
        (["--bisect", "--model", "factories:make"], "does not compute the golden output"),
        (["--bisect", "--model", "factories:make", "--weights", "w.pth"], "--weights belongs to"),
        (["--half-audit", "--model", "small.toml", "--weights", "w.pth"], "w.pth does not exist"),
    ],
)
def test_a_model_that_cannot_be_rebuilt_is_explained(
    edgekit: Command, place: Path, exported: Path, options: list[str], words: str
) -> None:
    result = edgekit("verify", exported / "onnx", *options)
    assert result.code == 2, result
    assert result.is_one_sentence(), result
    assert words in result.err


def test_a_factorys_bundle_is_rebuilt_with_the_same_random_weights(
    edgekit: Command, place: Path
) -> None:
    assert edgekit("export", "factories:make", "--target", "coreml", "-o", "plain").code == 0
    result = edgekit("verify", "plain", "--bisect", "--model", "factories:make")
    assert result.code == 0, result
    nameless = edgekit("verify", "plain", "--bisect")
    assert "name its factory: --model package.module:factory" in nameless.err
    other = edgekit("verify", "plain", "--bisect", "--model", "small.toml")
    assert "is no latent N C T H W" in other.err
    assert (nameless.code, other.code) == (2, 2)


def test_a_bundle_for_a_users_own_target_is_rebuilt_with_its_file(
    edgekit: Command, place: Path
) -> None:
    own = (data_folder("export") / "onnx.toml").read_text().replace('"onnx"\n', '"mine"\n', 1)
    (place / "mine.toml").write_text(own)
    assert edgekit("export", "factories:make", "--target", "mine.toml", "-o", "owned").code == 0
    rebuild = ["verify", "owned", "--bisect", "--model", "factories:make"]
    unnamed = edgekit(*rebuild)
    assert (unnamed.code, unnamed.is_one_sentence()) == (2, True)
    assert "name its file: --target FILE.toml" in unnamed.err
    other = edgekit(*rebuild, "--target", "onnx")
    assert "was exported for 'mine', not 'onnx'" in other.err
    assert edgekit(*rebuild, "--target", "mine.toml").code == 0
