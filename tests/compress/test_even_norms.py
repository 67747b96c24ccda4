"""Norms whose channels are made alike, exactly."""

from __future__ import annotations

import pytest
import torch
from small_quantised import ALL
from torch import Tensor, nn

from edgekit.compress import quantise
from edgekit.compress.even_norms import even_norms
from edgekit.compress.quantise import quantize, ready_program
from edgekit.model import model_of_module
from edgekit.parity.compare import psnr_db
from edgekit.program.editing import GraphEditor


class Block(nn.Module):
    """Of a transformer, without attention; two channels of its norm are far larger than the others."""

    def __init__(self, large: float, weights: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        with torch.no_grad():
            self.norm.weight[:2] = large
            self.norm.bias.uniform_(-1, 1)
            self.up.weight[:, :2] *= weights

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(self.norm(x))))


def data() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 12, 16) for _ in range(5)]


def test_the_float_model_is_the_same_and_eight_bits_come_nearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = data()
    model = model_of_module(Block(40, 1 / 40), given[0])
    edit = GraphEditor(ready_program(model))
    assert len(even_norms(edit, [(x,) for x in given[:4]], 8)) == 1
    edit.module.recompile()
    with torch.no_grad():
        changed = edit.module(given[4])
    expected = model(given[4])
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)

    def decibels() -> float:
        quantised = quantize(model, given[:4], ALL)
        return psnr_db(expected.double().numpy(), quantised(given[4]).double().numpy())

    nearer = decibels()
    monkeypatch.setattr(quantise, "even_norms", lambda *_: [])
    assert nearer > decibels() + 6


def test_a_norm_that_others_read_too_is_left_alone() -> None:
    class Read(Block):
        def forward(self, x: Tensor) -> Tensor:
            normed = self.norm(x)
            return normed + self.down(self.up(normed))

    given = data()
    edit = GraphEditor(ready_program(model_of_module(Read(40, 1 / 40), given[0])))
    assert even_norms(edit, [(x,) for x in given], 8) == []
