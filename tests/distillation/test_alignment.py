"""Heads between features of two grids, and students that begin with their teacher's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.distillation.alignment import AlignmentHead, Spread, head_between, spread_channels
from edgekit.distillation.inheritance import inherit
from edgekit.errors import UsageError


@pytest.mark.parametrize(("time", "space"), [(1, 1), (1, 2), (2, 2), (2, 1), (4, 2)])
def test_channels_go_where_a_loop_over_all_of_them_puts_them(time: int, space: int) -> None:
    x = torch.randn(2, 3 * time * space * space, 3, 2, 4)
    found = spread_channels(x, Spread(time, space, drops_lead=False))
    assert found.shape == (2, 3, 3 * time, 2 * space, 4 * space)
    for c in range(3):
        for t in range(time):
            for dy in range(space):
                for dx in range(space):
                    channel = ((c * time + t) * space + dy) * space + dx
                    placed = found[:, c, t::time, dy::space, dx::space]
                    assert torch.equal(placed, x[:, channel])
    dropped = spread_channels(x, Spread(time, space, drops_lead=True))
    assert torch.equal(dropped, found[:, :, time - 1 :])


def test_without_time_it_is_a_pixel_shuffle_of_each_frame() -> None:
    x = torch.randn(1, 8, 3, 2, 2)
    frames = [nn.functional.pixel_shuffle(frame, 2) for frame in x.unbind(2)]
    assert torch.equal(spread_channels(x, Spread(1, 2)), torch.stack(frames, 2))


@pytest.mark.parametrize(
    ("student", "teacher", "inner"),
    [
        ((256, 5, 16, 16), (512, 5, 16, 16), 512),  # LTX at up1
        ((512, 5, 32, 32), (512, 5, 64, 64), 2048),  # Hunyuan at up0
        ((512, 5, 32, 32), (512, 9, 64, 64), 4096),  # CogVideoX at up0
        ((256, 8, 16, 16), (1024, 8, 16, 16), 1024),  # DC at up1
    ],
)
def test_the_published_heads_follow_from_the_shapes(
    student: tuple[int, ...], teacher: tuple[int, ...], inner: int
) -> None:
    with torch.device("meta"):
        head = head_between("up0", torch.Size((1, *student)), torch.Size((1, *teacher)))
        assert head(torch.empty(1, *student)).shape == (1, *teacher)
    assert [layer.out_channels for layer in head.project] == [inner, inner]


def test_a_coarser_teacher_has_no_head() -> None:
    with pytest.raises(UsageError, match=r"At 'up1' .* 5x8x8 and the teacher's 5x4x4"):
        head_between("up1", torch.Size((1, 4, 5, 8, 8)), torch.Size((1, 4, 5, 4, 4)))


def test_gradients_reach_both_convolutions() -> None:
    head = AlignmentHead(2, 3, Spread(2, 2))
    head(torch.randn(1, 2, 2, 2, 2)).square().mean().backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in head.parameters())  # type: ignore[union-attr]


def test_an_inherited_upsampler_computes_what_the_teachers_does() -> None:
    pytest.importorskip("diffusers", reason="diffusers is in the extra 'teachers'")
    from tiny_teachers import ltx

    from edgekit.distillation.inheritance import ltx_decoder_weights
    from edgekit.zoo.layers import ShuffleUpsampler

    decoder = ltx().get_submodule("decoder")
    for index, width in ((1, 16), (2, 8), (3, 4)):
        path = f"up_blocks.{index}.upsamplers.0"
        own = ShuffleUpsampler(width, 2, drop_lead=True)
        state = {
            name.removeprefix(f"{path}."): value
            for name, value in ltx_decoder_weights(decoder).items()
            if name.startswith(f"{path}.")
        }
        own.load_state_dict(state)
        x = torch.randn(1, width, 3, 2, 2)
        with torch.no_grad():
            torch.testing.assert_close(own(x), decoder.get_submodule(path)(x))


def test_what_is_inherited_is_equal_and_reported() -> None:
    student = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    teacher = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = student[2].weight.clone()
    report = inherit(student, teacher.state_dict())
    assert torch.equal(student[0].weight, teacher[0].weight)
    assert torch.equal(student[2].weight, before)
    assert report.taken == ("0.weight", "0.bias")
    assert report.reshaped == ("1.weight", "1.bias")
    assert report.missing == ("2.weight", "2.bias")
    assert (report.numbers_taken, report.numbers) == (9, 9 + 12 + 4)
    assert report.sentence().startswith(
        "2 of 6 tensors are the teacher's (36% of the weights): 0.weight"
    )


def test_nothing_to_inherit_is_an_error() -> None:
    with pytest.raises(UsageError, match="no tensor of the name and shape"):
        inherit(nn.Linear(2, 2), nn.Linear(3, 3).state_dict())
