"""A student that begins with weights of its teacher, and what was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError


@dataclass(frozen=True)
class Inherited:
    """Names of the student's tensors."""

    taken: tuple[str, ...]
    reshaped: tuple[str, ...]
    """The teacher has them, in another shape."""
    missing: tuple[str, ...]
    """The teacher has none of that name."""
    numbers_taken: int
    numbers: int

    def sentence(self) -> str:
        share = self.numbers_taken / self.numbers
        return (
            f"{len(self.taken)} of {len(self.taken) + len(self.reshaped) + len(self.missing)} tensors are the "
            f"teacher's ({share:.0%} of the weights): {_some(self.taken)}; of other shapes: "
            f"{_some(self.reshaped)}; not in the teacher: {_some(self.missing)}"
        )


@torch.no_grad()
def inherit(student: nn.Module, teacher: Mapping[str, Tensor]) -> Inherited:
    """Copy what has the same name and shape. Raises UsageError if that is nothing."""
    own = student.state_dict()
    taken = [name for name in own if name in teacher and teacher[name].shape == own[name].shape]
    reshaped = [name for name in own if name in teacher and teacher[name].shape != own[name].shape]
    if not taken:
        raise UsageError(
            f"The teacher has no tensor of the name and shape of one of the student's (such as "
            f"{_some(list(own))}; the teacher's are such as {_some(list(teacher))}); begin without its weights."
        )
    for name in taken:
        own[name].copy_(teacher[name])
    return Inherited(
        tuple(taken),
        tuple(reshaped),
        tuple(name for name in own if name not in teacher),
        sum(own[name].numel() for name in taken),
        sum(value.numel() for value in own.values()),
    )


def plain_weights(decoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in decoder.state_dict().items()}


def ltx_decoder_weights(decoder: nn.Module) -> dict[str, Tensor]:
    """Of diffusers' LTX decoder, under the names and in the channel order of Turbo-VAED's student.

    The teacher's upsamplers shuffle channels ((c·2+t)·2+y)·2+x, the student's ((c·2+y)·2+x)·2+t: the same
    function, after the rows of the convolution before it have moved.
    """
    state = plain_weights(decoder)
    for name, value in state.items():
        if ".upsamplers." in name:
            digits = value.unflatten(0, (-1, 2, 2, 2))
            state[name] = digits.movedim(1, 3).flatten(0, 3)
    return state


def _some(names: list[str] | tuple[str, ...]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
