"""Norms whose channels are made alike, exactly."""

from __future__ import annotations

import torch
from small_quantised import ALL
from torch import Tensor, nn

from edgekit.compress.even_norms import even_norms
from edgekit.compress.quantise import quantize, ready_program
from edgekit.model import model_of_module
from edgekit.parity.compare import psnr_db
from edgekit.program.editing import GraphEditor


class Block(nn.Module):
    """Of a transformer, without attention; two channels of its norm are far larger than the others."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        with torch.no_grad():
            self.norm.weight[:2] = 40
            self.norm.bias.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def test_the_float_model_is_the_same_and_eight_bits_come_nearer() -> None:
    torch.manual_seed(0)
    data = [torch.randn(1, 12, 16) for _ in range(5)]
    model = model_of_module(Block(), data[0])
    edit = GraphEditor(ready_program(model))
    assert even_norms(edit, [(x,) for x in data[:4]]) == 1
    edit.module.recompile()
    with torch.no_grad():
        changed = edit.module(data[4])
    torch.testing.assert_close(changed, model(data[4]), rtol=1e-4, atol=1e-4)

    quantised = quantize(model, data[:4], ALL)
    assert psnr_db(model(data[4]).double().numpy(), quantised(data[4]).double().numpy()) > 40


def test_a_norm_that_others_read_is_left_alone() -> None:
    class Read(Block):
        def forward(self, x: Tensor) -> Tensor:
            normed = self.norm(x)
            return normed + self.down(self.up(normed))

    edit = GraphEditor(ready_program(model_of_module(Read(), torch.randn(1, 12, 16))))
    assert even_norms(edit, [(torch.randn(1, 12, 16),)]) == 0
