"""Tiles that begin and end where cells of an enlargement do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional as F

from edgekit.plan.aligned import aligned
from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network, boxes, network_of
from edgekit.plan.path import Stretch, Tiling
from edgekit.plan.region import Region, tile
from edgekit.plan.stages import strips
from edgekit.plan.tape import GraphTape
from edgekit.plan.tile_sizes import along, split
from edgekit.program.capture import capture


class Enlarging(nn.Module):
    """Pool, convolve, enlarge by `factor`, join what was pooled, convolve: a U-Net of two levels."""

    def __init__(self, factor: int, kernel: int, mode: str = "nearest") -> None:
        super().__init__()
        self.factor, self.mode = factor, mode
        self.deep = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(7, 2, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.deep(F.max_pool2d(x, self.factor))
        enlarged = F.interpolate(deep, scale_factor=float(self.factor), mode=self.mode)
        return self.last(torch.cat([enlarged, x], 1))


def planned(module: nn.Module, size: int) -> Network:
    return network_of(capture(module.eval(), (torch.randn(1, 3, size, size),)).program)


def crops_behind(network: Network, box: Region, operator: str) -> Iterator[Node]:
    """Slices of what `operator` gives, in the tile of a box."""
    (source,), (result,) = network.inputs, network.outputs
    found = boxes(network, (source,), {result: box})
    tape = GraphTape(network.edit)
    read = found.read[source]
    sizes = tuple(int(stop) - int(start) for start, stop in read)
    tape.hold(source, tape.placeholder("x", sizes, torch.float32), read)
    tape.run(found)
    for node in tape.graph.nodes:
        if "slice" in str(node.target) and operator in str(node.args[0]):
            yield node


@settings(deadline=None, max_examples=15)
@given(
    factor=st.integers(2, 3),
    kernel=st.sampled_from([1, 3, 5]),
    size=st.integers(8, 12),
    parts=st.integers(2, 3),
)
def test_no_tile_crops_what_it_has_enlarged(
    factor: int, kernel: int, size: int, parts: int
) -> None:
    network = planned(Enlarging(factor, kernel), size * factor * parts)
    (result,) = network.outputs
    whole_size = shape(result)[-1]
    for rows in aligned(network, result, -2, split(whole_size, parts)):
        box = (*((0, length) for length in shape(result)[:2]), rows, (0, whole_size))
        assert not list(crops_behind(network, box, "upsample"))


def test_without_it_they_would() -> None:
    network = planned(Enlarging(2, 3), 64)
    box = ((0, 1), (0, 2), (0, 32), (0, 64))
    assert list(crops_behind(network, box, "upsample"))


@settings(deadline=None, max_examples=25)
@given(
    factor=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
    size=st.integers(1, 20),
    parts=st.integers(1, 5),
)
def test_tiles_cover_everything_and_grow_by_less_than_two_cells(
    factor: int, kernel: int, size: int, parts: int
) -> None:
    network = planned(Enlarging(factor, kernel), size * factor)
    (result,) = network.outputs
    before = split(size * factor, parts)
    after = aligned(network, result, -1, before)
    assert len(after) == len(before)
    covered = set()
    for (start, stop), (first, last) in zip(before, after, strict=True):
        assert abs(start - first) < 2 * factor
        assert abs(stop - last) < 2 * factor
        covered |= set(range(first, last))
    assert covered == set(range(size * factor))
    if factor == 1:
        assert after == before


def test_a_smooth_enlargement_is_cropped_in_any_case_and_moves_no_tile() -> None:
    network = planned(Enlarging(2, 3, "bilinear"), 64)
    spans = split(64, 3)
    assert aligned(network, network.outputs[0], -2, spans) == spans


@pytest.mark.parametrize("grid", [Tiling(2, 2), Tiling(3, 1), Tiling(1, 4)])
def test_the_search_counts_the_tiles_that_are_written(grid: Tiling) -> None:
    network = planned(Enlarging(2, 3), 96)
    (source,), (result,) = network.inputs, network.outputs
    stretch = Stretch(source, result, result, grid, 0, 0, 0, 0.0)
    written = {stream.written(0)[-2:] for stream in strips(network, stretch, overlap=True)}
    rows = along(network, result, -2, grid.rows, streams=False)
    columns = along(network, result, -1, grid.columns, streams=False)
    assert written == {
        (tile(rows, row)[-2], tile(columns, column)[-1])
        for row in range(grid.rows)
        for column in range(grid.columns)
    }
