from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rewritten import Edited, Written
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.program.rules.frames_as_batch import FramesAsBatch
from edgekit.program.rules.time_padding import NameRepeatedFrames, NameRepeatedSlices


def video(frames: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 2, frames, 4, 5, dtype=torch.float64, generator=generator)


def rewritten(forward: Callable[[Tensor], Tensor], x: Tensor) -> Edited:
    edited = Edited(Written(forward), [x], NameRepeatedFrames(), NameRepeatedSlices())
    edited.assert_equal(0)
    return edited


@pytest.mark.parametrize(("before", "after"), [(1, 1), (0, 3), (2, 0), (1, 4)])
@pytest.mark.parametrize("frames", [1, 3])
def test_replicated_frames_become_slices_and_one_cat(before: int, after: int, frames: int) -> None:
    edited = rewritten(
        lambda x: F.pad(x, (0, 0, 0, 0, before, after), mode="replicate"), video(frames)
    )
    assert set(edited.operators) <= {"slice", "cat"}
    assert edited.operators.count("cat") == 1


def test_replication_in_space_as_well_is_a_second_step() -> None:
    edited = rewritten(lambda x: F.pad(x, (1, 0, 2, 3, 1, 1), mode="replicate"), video())
    assert edited.operators[-2:] == ["cat", "pad"]


def test_replicated_video_before_a_convolution_is_padded_frame_by_frame() -> None:
    conv = nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate").double()
    module = Written(lambda x: conv(x), conv=conv)
    edited = Edited(module, [video()], NameRepeatedFrames(), FramesAsBatch())
    edited.assert_equal()
    pad = next(node for node in edited.nodes if node.target is torch.ops.aten.pad.default)
    assert pad.meta["val"].dim() == 4


@pytest.mark.parametrize(
    ("amounts", "reason"),
    [((1, 1, 0, 0, 0, 0), "pads in space only"), ((0, 0, 0, 0, -1, 1), "cuts frames off")],
)
def test_other_replication_is_left_alone_with_the_reason(
    amounts: tuple[int, ...], reason: str
) -> None:
    edited = rewritten(lambda x: F.pad(x, amounts, mode="replicate"), video())
    assert [(decision.applied, decision.reason) for decision in edited.decisions] == [
        (False, reason)
    ]


def test_zeros_in_time_are_no_repeated_frames() -> None:
    edited = rewritten(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), video())
    assert edited.decisions == []


def official(x: Tensor) -> Tensor:
    """Padding in time as hustvl/Turbo-VAED writes it."""
    first = x[:, :, :1].repeat((1, 1, 2, 1, 1))
    last = x[:, :, -1:].repeat((1, 1, 2, 1, 1))
    return torch.cat([first, x, last], dim=2)


def expanded(x: Tensor) -> Tensor:
    first = x[:, :, :1].expand(-1, -1, 3, -1, -1)
    return torch.cat([first, x], dim=-3)


@pytest.mark.parametrize("form", [official, expanded])
def test_repeated_and_expanded_slices_are_named_instead(form: Callable[[Tensor], Tensor]) -> None:
    edited = rewritten(form, video())
    assert set(edited.operators) == {"slice", "cat"}
    assert [decision.rule for decision in edited.decisions] == ["repeated-slices"]


def along_another_axis(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :, :1].repeat(1, 1, 2, 1, 1), x[:, :, :2, :1]], dim=2)


def of_several_frames(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :2].repeat(1, 1, 2, 1, 1), x], dim=2)


def along_two_axes(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :1, :1].expand(-1, -1, 2, 4, -1), x], dim=2)


@pytest.mark.parametrize("form", [along_another_axis, of_several_frames, along_two_axes])
def test_other_repetitions_stay(form: Callable[[Tensor], Tensor]) -> None:
    assert rewritten(form, video()).decisions == []
