"""list, info, inspect, doctor."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command


def test_list_gives_what_scripts_rely_on(edgekit: Command) -> None:
    models = {model["name"]: model for model in edgekit("list", "--json").json()}
    assert {"name", "family", "parameters", "weights"} <= set(models["turbo-vaed-ltx"])
    assert models["turbo-vaed-ltx"]["parameters"] == 41_896_023
    assert models["turbo-vaed-ltx"]["weights"] == "hub"
    assert models["turbo-vaed-mini"]["weights"] == "bundled"
    text = edgekit("list").out
    assert all(name in text for name in models)


@pytest.mark.parametrize("name", ["turbo-vaed", "turbo-vaed-ltx", "turbo-vaed-dc", "turbo-vaed-hunyuan", "turbo-vaed-cog"])  # fmt: skip
def test_info_counts_what_the_recipe_states(edgekit: Command, name: str) -> None:
    facts = edgekit("info", name, "--json").json()
    stated = [m for m in edgekit("list", "--json").json() if name in (m["name"], *m["aliases"])]
    assert facts["parameters"] == stated[0]["parameters"]
    assert facts["macs"] > 0
    assert facts["inputs"][0]["axes"] == "NCTHW"


def test_info_of_a_recipe_of_the_users_own(edgekit: Command, place: Path) -> None:
    result = edgekit("info", "small.toml", "--size", "32x48", "--frames", "3")
    assert result.code == 0
    assert "latent NCTHW 1x4x3x4x6" in result.out
    assert "weights     none\n" in result.out


def test_info_of_a_factory_counts_its_module_as_captured(edgekit: Command, place: Path) -> None:
    facts = edgekit("info", "factories:make", "--json").json()
    assert facts["parameters"] == 4 * 3 * 9 + 4
    assert facts["macs"] == 4 * 3 * 9 * 4 * 4
    assert (facts["inputs"][0]["shape"], facts["outputs"][0]["shape"]) == (
        [1, 3, 6, 6],
        [1, 4, 4, 4],
    )
    assert "output      output 1x4x4x4 float32\n" in edgekit("info", "factories:make").out
    refused = edgekit("info", "factories:make", "--card")
    assert (refused.code, refused.is_one_sentence()) == (2, True)


@pytest.mark.parametrize("words", [["compress", "--data", "x"], ["distill", "--data", "x"]])
def test_verbs_that_need_a_recipe_say_so(edgekit: Command, place: Path, words: list[str]) -> None:
    result = edgekit(words[0], "factories:make", *words[1:])
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert "has no recipe, which is needed here; give a model of `edgekit list`" in result.err


def test_inspect_reads_bundles_and_bare_files(edgekit: Command, exported: Path) -> None:
    for path in ("onnx", "onnx/small-mini.onnx", "coreml", "coreml/small-mini.mlpackage"):
        facts = edgekit("inspect", exported / path, "--json").json()
        assert sum(facts["operators"].values()) == facts["nodes"] > 10
        assert facts["max_rank"] == 5
        assert ("manifest" in facts) == ("/" not in path)
        assert edgekit("inspect", exported / path).code == 0


@pytest.mark.parametrize("path", ["none", ".", "small.toml", "none.onnx", "empty.onnx", "text.onnx", "hollow.mlpackage"])  # fmt: skip
def test_what_cannot_be_inspected_is_one_sentence(edgekit: Command, place: Path, path: str) -> None:
    (place / "empty.onnx").touch()
    (place / "text.onnx").write_text("no model")
    (place / "hollow.mlpackage").mkdir()
    result = edgekit("inspect", path)
    assert (result.code, result.is_one_sentence()) == (2, True), result


def test_doctor_is_content_here(edgekit: Command) -> None:
    assert edgekit("doctor", "--json").json()["passed"] is True
    assert "torch" in edgekit("doctor").out


def test_doctor_says_what_to_install(edgekit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    version = importlib.metadata.version

    def without(package: str) -> str:
        if package == "onnx":
            raise importlib.metadata.PackageNotFoundError(package)
        return "2.4.0" if package == "numpy" else version(package)

    monkeypatch.setattr(importlib.metadata, "version", without)
    result = edgekit("doctor", "--json")
    assert result.code == 4
    failed = {check["what"].split()[0]: check for check in result.json()["checks"] if not check["passed"]}  # fmt: skip
    assert set(failed) == {"onnx", "numpy"}
    assert failed["onnx"]["remedy"].startswith("pip install 'onnx")
