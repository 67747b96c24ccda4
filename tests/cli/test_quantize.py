"""edgekit quantize, and palettes of edgekit export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from small_exports import LATENT

from edgekit.backends.coreml.describe import describe
from edgekit.bundle import open_bundle


@pytest.fixture
def latents(place: Path) -> Path:
    random = np.random.default_rng(0)
    (place / "latents").mkdir()
    for index in range(4):
        latent = random.random(LATENT, dtype=np.float32)
        np.save(place / "latents" / f"{index}.npy", latent)
    return place / "latents"


def test_quantize_writes_a_verified_bundle_and_tells_what_the_bits_cost(
    edgekit: Command, place: Path, latents: Path
) -> None:
    result = edgekit("quantize", "small.toml", "--data", latents, "--weights-bits", 7, "--json")
    assert result.code == 0, result.err
    facts = result.json()
    assert facts["bundle"] == "small-mini-onnx-w7a8.bundle"
    assert facts["parity"]["passed"] is True
    assert facts["calibrated_with"] == 3
    assert facts["quality"]["inputs"] == 1
    assert facts["quality"]["agreement"] is None
    assert facts["codes"]["layers"] > 10
    assert edgekit("verify", facts["bundle"]).code == 0
    again = edgekit("verify", facts["bundle"], "--bisect")
    assert again.code == 2
    assert again.is_one_sentence()


@pytest.mark.slow
def test_quantize_gives_layers_their_own_bits_within_a_budget(
    edgekit: Command, place: Path, latents: Path
) -> None:
    result = edgekit(
        "quantize", "small.toml", "--data", latents, "--weights-bits", 7, "--budget", "size",
        "--min-psnr", 30, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    facts = result.json()
    assert facts["bundle"] == "small-mini-onnx-mixed-w7a8.bundle"
    assert facts["parity"]["passed"] is True
    assert facts["quality"]["outputs"][0]["psnr_db"] >= 30
    assert facts["allocation"]["cost"] == facts["quality"]["file_bytes"]
    assert {"name", "bits", "noise", "meaning", "bytes"} <= set(facts["allocation"]["layers"][0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--range", "most"], "largest, percentile, error"),
        (["--repair", "much"], "adaquant"),
        (["--weights-bits", "9"], "bits cannot be had"),
        (["--budget", "speed=1"], "no budget"),
        (["--min-psnr", "30"], "--budget"),
        (["--rank", "4"], "low rank"),
        (["--data", "empty"], "empty"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    edgekit: Command, place: Path, latents: Path, arguments: list[str], word: str
) -> None:
    data = [] if "--data" in arguments else ["--data", latents]
    result = edgekit("quantize", "small.toml", *data, *arguments)
    assert result.code == 2
    assert word in result.err
    assert result.is_one_sentence()


@pytest.mark.parametrize("target", ["coreml", "coreml-ios18"])
def test_palettes_make_a_core_ml_package_of_indices(
    edgekit: Command, place: Path, target: str
) -> None:
    result = edgekit("export", "small.toml", "--target", target, "--palettes", 4, "--json")
    assert result.code == 0, result.err
    bundle = open_bundle(place / result.json()["bundle"])
    assert bundle.manifest["palette_bits"] == 4
    assert bundle.gate.psnr_db == 30
    assert any("constexpr_lut" in name for name in describe(bundle.model_file).weight_bytes)


def test_palettes_are_refused_where_there_are_none(edgekit: Command, place: Path) -> None:
    for target, bits in (("onnx", 4), ("coreml", 5)):
        result = edgekit("export", "small.toml", "--target", target, "--palettes", bits)
        assert result.code == 2
        assert result.is_one_sentence()
