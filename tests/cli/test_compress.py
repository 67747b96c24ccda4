"""edgekit compress"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from small_exports import LATENT


@pytest.mark.slow
def test_one_command_prunes_trains_quantises_and_tells_of_each_step(
    edgekit: Command, place: Path
) -> None:
    random = np.random.default_rng(0)
    (place / "latents").mkdir()
    for index in range(4):
        np.save(place / "latents" / f"{index}.npy", random.random(LATENT, dtype=np.float32))
    result = edgekit(
        "compress", "small.toml", "--data", "latents", "--keep", 0.8, "--round-to", 4, "--steps", 2,
        "--weights-bits", 7, "--picture", "steps.png", "-o", "small.bundle", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    facts = result.json()
    steps = {step["name"]: step for step in facts["steps"]}
    assert list(steps) == ["whole", "pruned", "trained again", "quantised"]
    assert steps["quantised"]["macs"] == steps["pruned"]["macs"] <= 0.8 * steps["whole"]["macs"]
    sizes = [step["quality"]["file_bytes"] for step in steps.values()]
    assert sizes[0] > sizes[1] == sizes[2] > sizes[3]
    assert all(step["milliseconds"] > 0 for step in steps.values())
    assert facts["parity"]["passed"] is True
    assert (place / "steps.png").stat().st_size > 1000
    assert edgekit("verify", "small.bundle").code == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--keep", "1", "--weights-bits", "32"), "asks for anything"),
        (("--keep", "1", "--steps", "3"), "belong to what is pruned"),
        (("--inputs", "0"), "--inputs 1 or more"),
    ],
)
def test_what_makes_no_compression_is_said_before_anything_is_read(
    edgekit: Command, place: Path, options: tuple[str, ...], reason: str
) -> None:
    result = edgekit("compress", "small.toml", "--data", "nowhere", *options)
    assert result.code == 2
    assert reason in result.err
