"""Overlapping chunks of a clip: exact with enough overlap, measured with less, refused where impossible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from video_networks import MoreFrames, TimeConv

import edgekit
from edgekit import ParityError, UsageError
from edgekit.chunking import overlap_errors
from edgekit.model import model_of_module
from edgekit.plan.chunks import Clip, chunk_windows

SYMMETRIC = {"causal": False, "zeros": False}


def decoder(*, drop_first: bool = False) -> nn.Module:
    """Frames look at 2 others on each side."""
    torch.manual_seed(0)
    return nn.Sequential(
        TimeConv(4, 4, 3, **SYMMETRIC), MoreFrames(4, drop_first=drop_first, **SYMMETRIC)
    ).eval()


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(1, 4, 13, 6, 6, generator=torch.Generator().manual_seed(0))


@settings(deadline=None)
@given(
    clip_frames=st.integers(2, 60), frames=st.integers(1, 20), overlap=st.integers(0, 8),
    stride=st.integers(1, 8), dropped=st.integers(0, 7),
)  # fmt: skip
def test_chunks_of_equal_length_fill_the_output_once(
    clip_frames: int, frames: int, overlap: int, stride: int, dropped: int
) -> None:
    dropped = min(dropped, stride - 1)
    length = frames + 2 * overlap
    source = Clip((1, 4, clip_frames, 2, 2))
    result = Clip((1, 3, stride * clip_frames - dropped, 2, 2))
    try:
        windows = chunk_windows(source, result, frames, overlap, stride * length - dropped)
    except UsageError as error:
        reason = str(error)
        assert length >= clip_frames or (dropped and not overlap and "overlap of 1" in reason)
        return
    written: list[int] = []
    for window in windows:
        start, stop = window.read[2]
        assert start >= 0
        assert stop - start == length
        assert stop <= clip_frames
        first, last = window.write[2]
        take = window.take[2] if window.take is not None else (0, stride * length - dropped)
        assert take[1] - take[0] == last - first
        # The network gives frames of its first input frame at 0, and drops some before it.
        offset = 0 if start == 0 else dropped
        assert take[0] >= 0
        assert first == take[0] + stride * start
        assert first + offset >= stride * start
        assert take[1] <= stride * length - dropped
        written += range(first, last)
    assert written == list(range(result.frames))


def test_enough_overlap_is_exact_and_less_is_measured(clip: Tensor) -> None:
    model = model_of_module(decoder(), clip)
    errors = list(overlap_errors(model, 3))
    assert [error.overlap for error in errors] == [0, 1, 2]
    assert errors[0].psnr_db < errors[1].psnr_db < 60 < 100 < errors[2].psnr_db
    assert errors[0].max_abs > errors[1].max_abs > 1e-3 > errors[2].max_abs


def test_chunks_export_run_and_take_longer_clips(tmp_path: Path, clip: Tensor) -> None:
    module = decoder(drop_first=True)
    bundle = edgekit.export(
        module, clip, output=tmp_path / "b", stream=3, overlap=2, simplify=False
    )
    assert edgekit.verify(bundle).passed
    longer = torch.randn(1, 4, 25, 6, 6)
    (result,) = edgekit.run(bundle, longer.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(result, module(longer).numpy(), atol=1e-5)
    parts = list(
        edgekit.stream(bundle, (longer[:, :, at : at + 5].numpy() for at in range(0, 25, 5)))
    )
    np.testing.assert_array_equal(np.concatenate(parts, 2), result)


def test_too_little_overlap_fails_unless_a_gate_allows_it(tmp_path: Path, clip: Tensor) -> None:
    with pytest.raises(
        ParityError, match="chunks with an overlap of 1: more comes closer, and --gate"
    ):
        edgekit.export(decoder(), clip, output=tmp_path / "b", stream=3, overlap=1, simplify=False)
    bundle = edgekit.export(
        decoder(), clip, output=tmp_path / "b", stream=3, overlap=1, gate_db=20, simplify=False
    )
    assert edgekit.verify(bundle).passed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"overlap": 1}, "belongs to a stream without tiles"),
        ({"stream": 3, "overlap": 1, "tiles": "2x2"}, "belongs to a stream without tiles"),
        ({"stream": 3, "overlap": -1}, "overlap of 0 or more"),
        ({"stream": 0}, "takes 1 or more frames a step"),
        ({"stream": 5, "overlap": 4}, "as long as the clip of 13"),
        ({"stream": 3, "overlap": 1, "one_file": True}, "one file already"),
        ({"stream": 3, "memory_budget": "1MB"}, "not both"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, int | str | bool], why: str, clip: Tensor
) -> None:
    with pytest.raises(UsageError, match=why):
        edgekit.export(decoder(), clip, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("gate", [float("nan"), float("inf"), 0.0, -3.0])
def test_a_gate_that_is_none_is_refused(gate: float, clip: Tensor) -> None:
    with pytest.raises(UsageError, match="give a number above 0"):
        edgekit.export(decoder(), clip, stream=3, overlap=1, gate_db=gate, simplify=False)


def test_a_network_that_no_chunks_can_be_made_of_says_why(clip: Tensor) -> None:
    strided = TimeConv(4, 4, 3, stride=2, **SYMMETRIC)
    with pytest.raises(UsageError, match="cannot be cut into chunks"):
        list(overlap_errors(model_of_module(strided, clip[:, :, :6]), 5))


class TwoResults(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


def test_chunks_of_two_outputs_are_refused(clip: Tensor) -> None:
    with pytest.raises(UsageError, match="one input and one output"):
        edgekit.export(TwoResults(), clip, stream=3, overlap=1, simplify=False)


def test_chunks_whose_first_frame_gives_fewer_need_an_overlap(clip: Tensor) -> None:
    with pytest.raises(UsageError, match="overlap of 1 or more"):
        edgekit.export(decoder(drop_first=True), clip, stream=3, overlap=0, simplify=False)
    errors = overlap_errors(model_of_module(decoder(drop_first=True), clip), 3)
    assert next(errors).overlap == 1
