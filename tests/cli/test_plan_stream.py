"""edgekit plan --stream"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Command

CLIP = ("plan", "turbo-vaed-mini", "--size", "32x32", "--frames", "24")


def test_a_stream_is_described(edgekit: Command, tmp_path: Path) -> None:
    latent = np.random.default_rng(0).standard_normal((1, 32, 24, 4, 4), np.float32)
    np.save(tmp_path / "latent.npy", latent)
    overlaps = ("--overlaps", "--input", str(tmp_path / "latent.npy"))
    found = edgekit(*CLIP, "--stream", "4", *overlaps, "--json").json()
    assert found["peak_bytes"] < found["whole_peak_bytes"]
    assert (found["steps"], found["programs"], found["first_needs"]) == (4, 3, 9)
    assert found["lengths"] == {"shortest": 16, "step": 4}
    assert [error["overlap"] for error in found["overlaps"]][:2] == [0, 1]
    text = edgekit(*CLIP, "--stream", "4", *overlaps).out
    assert "kept between steps" in text
    assert "16 + n·4" in text
    assert "frames read" in text


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--overlaps",), "belong to --stream"),
        (("--stream", "4", "--max-overhead", "10%"), "--stream plans the whole network"),
        (("--stream", "4", "--input", "x.npy"), "belongs to --overlaps"),
        (("--stream", "0"), "1 or more frames"),
        (("--stream", "4", "--overlaps", "--tiles", "2x2"), "without tiles"),
        (("--stream", "4", "--overlaps", "--input", "missing.npy"), "missing.npy"),
    ],
)
def test_mistakes_get_a_sentence(edgekit: Command, options: tuple[str, ...], why: str) -> None:
    done = edgekit(*CLIP, *options)
    assert done.code == 2
    assert why in done.err
    assert done.is_one_sentence()
