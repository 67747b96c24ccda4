"""Streams and tiles against the whole network: the same numbers, each kept line once, no more memory
than said.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from eager_stretch import run_stretch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from video_networks import causal_decoder, video_networks

from edgekit.plan.arrivals import MOST_PROGRAMS
from edgekit.plan.frames import frame_axes
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import Found, Stretch
from edgekit.plan.search import Stretches
from edgekit.plan.stages import planned as planned_files
from edgekit.program.capture import capture


class Residual(nn.Module):
    """An inverted residual: expand, filter each channel, project, add where shapes allow."""

    def __init__(self, channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Conv2d(channels, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide)
        self.project = nn.Conv2d(wide, channels, 1)
        self.is_added = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.relu6(self.depthwise(F.relu6(self.expand(x)))))
        return x + y if self.is_added else y


class Branches(nn.Module):
    """Two paths of different reach that meet again."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.short = nn.Conv2d(channels, channels, 1)
        self.long = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.short(x)), F.relu(self.long(self.long(x)))], 1)[:, ::2]


@st.composite
def layers(draw: st.DrawFn, channels: int) -> nn.Module:
    kernel = draw(st.integers(1, 5))
    stride = draw(st.integers(1, 2))
    kind = draw(st.sampled_from(["conv", "residual", "inverted", "pool", "up", "branches"]))
    match kind:
        case "conv":
            dilation = draw(st.integers(1, 2))
            return nn.Sequential(
                nn.Conv2d(channels, channels, kernel, stride, kernel // 2 * dilation, dilation),
                nn.ReLU(),
            )
        case "residual" | "inverted":
            odd = kernel | 1
            return Residual(channels, 3 if kind == "inverted" else 1, odd, stride)
        case "pool":
            pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            made: nn.Module = pool(max(2, kernel), stride, 1)
            return made
        case "up":
            mode = draw(st.sampled_from(["nearest", "bilinear"]))
            return nn.Sequential(
                nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(channels, channels, 3, padding=1)
            )
    return Branches(channels, kernel | 1)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    channels = draw(st.integers(1, 3))
    drawn = [draw(layers(channels)) for _ in range(draw(st.integers(1, 4)))]
    return nn.Sequential(nn.Conv2d(2, channels, 3, padding=1), *drawn)


def planned(module: nn.Module, x: Tensor) -> Network:
    return network_of(capture(module.eval(), (x,)).program)


def value_at(network: Network, name: str, x: Tensor) -> Tensor:
    """A tensor of the whole network, by running the edited graph up to it."""
    found: dict[str, Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            found[n.name] = super().run_node(n)
            return found[n.name]

    Recorder(network.edit.module).run(x)
    return found[name]


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    module=networks(), height=st.integers(8, 14), width=st.integers(8, 14), copied=st.booleans(),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_stream_equals_the_whole_and_holds_no_more_than_predicted(
    module: nn.Module, height: int, width: int, copied: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 2, height, width)
    network = planned(module, x)
    model = MemoryModel(windows_copied=copied)
    check_some(network, Stretches(network, model), x, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    module=video_networks(), frames=st.integers(3, 6), height=st.integers(4, 6), copied=st.booleans(),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_frames_stream_and_tile_as_lines_do(
    module: nn.Module, frames: int, height: int, copied: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 2, frames, height, 5)
    network = planned(module, x)
    search = Stretches(network, MemoryModel(windows_copied=copied))
    check_some(network, search, x, seed, lambda edge: edge.tiling.frames > 1)


def check_some(
    network: Network,
    search: Stretches,
    x: Tensor,
    seed: int,
    wanted: Callable[[Stretch], bool] = lambda edge: edge.tiling.count > 1,
) -> None:
    """Run a few of the edges that the search has found, and compare with what it says of them."""
    axes = frame_axes(network)
    edges = [edge for edge in search.edges if wanted(edge)]
    for edge in random.Random(seed).sample(edges, min(4, len(edges))):
        source = value_at(network, edge.source.name, x)
        run = run_stretch(network, edge, source, MemoryModel(), axes.get(edge.over))
        expected = value_at(network, edge.over.name, x)
        torch.testing.assert_close(run.value, expected, rtol=1e-5, atol=1e-5)
        for node, strips in run.computed.items():
            for spans in strips:
                lines = [line for start, stop in spans for line in range(start, stop)]
                assert len(lines) == len(set(lines)), f"{node} computes a line twice"
        if search.model.windows_copied:
            assert run.peak_bytes <= edge.run_bytes
        else:
            # The search counts neither: they lie in the whole tensors.
            assert run.peak_bytes <= edge.run_bytes + run.windows_bytes
        assert edge.peak_bytes == round(search.step_bytes(edge).max())
        assert shape(edge.over) == tuple(run.value.shape)


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (nn.Sequential(Residual(8, 6, 3, 1), Residual(8, 6, 3, 2), Branches(8, 3)), (1, 8, 64, 48)),
        (causal_decoder(), (1, 4, 12, 16, 16)),
    ],
    ids=["image", "video"],
)
def test_models_of_a_stream_are_few_and_hold_what_the_search_says(
    module: nn.Module, sizes: tuple[int, ...]
) -> None:
    x = torch.randn(sizes)
    program = capture(module.eval(), (x,)).program
    network = network_of(program)
    search = Stretches(network, MemoryModel(input_counted=False))
    edges = [edge for edge in search.edges if edge.tiling.stream and edge.tiling.count <= 48]
    for edge in random.Random(0).sample(edges, 8):
        # The plan recomputes its peak from the programs, and would else take the search's.
        unsaid = replace(edge, peak_bytes=0, run_bytes=0)
        written = planned_files(network, Found((unsaid,), 0, 1), program, ".onnx").plan
        # The search leaves copies in another layout to the plan.
        assert 0.7 < edge.peak_bytes / written.peak_bytes < 1.15
        assert len(written.stages[0].models) <= MOST_PROGRAMS


def test_expansions_that_are_computed_again_cost_work_and_save_memory() -> None:
    module = nn.Sequential(*[Residual(2, 6, 7, 1) for _ in range(3)])
    x = torch.randn(1, 2, 24, 24)
    network = planned(module, x)
    search = Stretches(network, MemoryModel())
    streams = [
        edge
        for edge in search.edges
        if edge.source is network.nodes[0] and edge.result is network.outputs[0]
        if edge.tiling.stream
    ]
    kept = min((e for e in streams if e.macs == search.whole_macs), key=lambda e: e.peak_bytes)
    again = min((e for e in streams if e.tiling.again), key=lambda e: e.macs)
    assert again.macs > kept.macs
    assert again.peak_bytes < kept.peak_bytes
    for edge in (kept, again):
        run = run_stretch(network, edge, x, MemoryModel())
        torch.testing.assert_close(run.value, module(x), rtol=1e-5, atol=1e-5)
