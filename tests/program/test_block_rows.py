"""Bands of the blocks that are not zeros, in the place of a linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rewritten import Edited
from torch import nn

import edgekit
from edgekit.program.rules import block_rows
from edgekit.program.rules.block_rows import BlockRows


def layer(blocks: Sequence[Sequence[int]], side: int = 32, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    kept = torch.tensor(blocks).repeat_interleave(side, 0).repeat_interleave(side, 1)
    made = nn.Linear(kept.shape[1], kept.shape[0], bias=bias)
    with torch.no_grad():
        made.weight.mul_(kept)
    return made


CORNER = [[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("bias", [True, False])
def test_products_of_blocks_are_the_layer_and_leave_zeros_out(bias: bool) -> None:
    edited = Edited(layer(CORNER, bias=bias), (torch.randn(1, 200, 128),), BlockRows())
    edited.assert_equal(1e-5)
    assert [decision.applied for decision in edited.decisions] == [True]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([16, 32, 64]),
)
def test_bands_hold_every_weight_that_is_no_zero(blocks: list[list[bool]], side: int) -> None:
    weight = layer(blocks, side).weight.detach()
    found = block_rows._in_bands(weight)
    if found is None:
        assert torch.tensor(blocks).float().mean() > 1 - block_rows.LEAST_ZEROS - 1e-6
        return
    wide, bands = found
    again = torch.zeros_like(weight)
    for band in bands:
        for block in band.blocks:
            columns = slice(block * wide, (block + 1) * wide)
            again[band.first : band.last, columns] = weight[band.first : band.last, columns]
    assert torch.equal(again, weight)
    assert [band.first for band in bands[1:]] == [band.last for band in bands[:-1]]
    assert (bands[0].first, bands[-1].last) == (0, len(weight))


def test_a_layer_for_which_bands_do_not_pay_stays_dense() -> None:
    few_rows = Edited(layer(CORNER), (torch.randn(1, 2, 128),), BlockRows())
    (decision,) = few_rows.decisions
    assert not decision.applied
    assert "of the dense one" in decision.reason
    assert not Edited(layer([[1, 1], [1, 1]]), (torch.randn(1, 200, 64),), BlockRows()).decisions


def test_the_file_multiplies_and_holds_only_the_blocks(tmp_path: Path) -> None:
    module = layer(CORNER)
    given = (torch.randn(1, 200, 128),)
    bundle = edgekit.export(
        module, given, target="onnx", output=tmp_path / "bundle", simplify=False
    )
    file = next((tmp_path / "bundle").glob("*.onnx"))
    products = [node for node in onnx.load(file).graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(products) == 5  # the two bands that read the same columns are one
    assert file.stat().st_size < 0.6 * module.weight.nbytes
    assert bundle.manifest["parity"]["passed"]
