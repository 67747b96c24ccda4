"""Plans found by the search: published figures, and the ways in which a path may be chosen."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from edgekit.plan.memory import MemoryModel, timeline
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import WHOLE, Tiling
from edgekit.plan.search import Stretches
from edgekit.program.capture import capture

BENCHMARK = Path(__file__).parents[2] / "benchmarks/plan_microcontrollers.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_microcontrollers", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small() -> Network:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    return network_of(capture(module.eval(), (torch.randn(1, 3, 32, 24),)).program)


def test_one_patch_stage_of_mobilenet_v2_is_that_of_mcunet_v2(benchmark: ModuleType) -> None:
    net = benchmark.network("mobilenet-v2")
    search, found = benchmark.patch_stage(net, 4)
    model = benchmark.int8(depthwise_in_place=True)
    assert timeline(net, model).peak_bytes == search.whole_peak == 1372 * 1024
    assert found.peak_bytes == 171.5 * 1024
    (stage,) = (stretch for stretch in found.stretches if stretch.tiling != WHOLE)
    side, unclipped, clipped = benchmark.stage_overheads(net, stage)
    assert side == 75
    assert round(100 * unclipped, 1) == 41.9
    assert round(100 * clipped, 1) == 30.6
    assert round(100 * found.overhead, 1) == 9.3


def test_mobilenet_v2_of_width_035_needs_less_than_msf_cnn_at_the_same_work(
    benchmark: ModuleType,
) -> None:
    net = benchmark.network("mobilenet-v2-0.35-msf")
    search = Stretches(net, benchmark.int8(depthwise_in_place=False))
    assert search.whole_peak == 194_400
    assert search.least_memory(0.1).peak_bytes <= 11_880 < 67_900
    assert search.least_memory(0.3).peak_bytes <= 8_351 < 21_300
    assert search.least_memory(0.68).peak_bytes <= 7_788 < 7_900
    fitting = search.least_work(64_000)
    assert fitting is not None
    assert fitting.overhead == 0


def test_less_memory_never_costs_less_work(small: Network) -> None:
    search = Stretches(small, MemoryModel(windows_copied=False))
    found = [search.least_work(budget) for budget in range(1000, search.whole_peak, 500)]
    works = [plan.macs for plan in found if plan is not None]
    assert works == sorted(works, reverse=True)
    assert works[-1] == search.whole_macs


def test_a_budget_below_the_least_memory_has_no_plan(small: Network) -> None:
    search = Stretches(small, MemoryModel())
    least = search.least_memory()
    assert search.least_work(least.peak_bytes - 1) is None
    fitting = search.least_work(least.peak_bytes)
    assert fitting is not None
    assert fitting.peak_bytes == least.peak_bytes


def test_the_plan_within_an_overhead_is_within_it(small: Network) -> None:
    search = Stretches(small, MemoryModel(), streams=False)
    for share in (0.0, 0.05, 0.2, 1.0):
        assert search.least_memory(share).overhead <= share


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("copied", [True, False])
def test_every_edge_has_the_peak_of_its_own_steps(
    small: Network, streams: bool, copied: bool
) -> None:
    search = Stretches(small, MemoryModel(2, windows_copied=copied), streams=streams)
    for edge in search.edges:
        assert edge.peak_bytes == round(search.step_bytes(edge).max())


def test_only_one_grid_may_be_used(small: Network) -> None:
    search = Stretches(small, MemoryModel(), only=Tiling(2, 3))
    assert {str(edge.tiling) for edge in search.edges} == {"1x1", "2x3"}


class ReadEarly(nn.Module):
    """What the first convolution makes is read long before the network holds most."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(16, 2, 4, 4) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2, 32, 4, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        low = [down(features) for down in self.down]
        high = [up(one) for up, one in zip(self.up, low, strict=True)]
        return high[0] * high[1]


def test_no_plan_needs_more_than_the_network_as_it_is() -> None:
    network = network_of(capture(ReadEarly().eval(), (torch.randn(1, 3, 32, 32),)).program)
    search = Stretches(network, MemoryModel(input_counted=False), only=Tiling(1, 1))
    stretches = [edge for edge in search.edges if search.cuts.index(edge.result) == search.cuts.index(edge.source) + 1]  # fmt: skip
    assert max(edge.peak_bytes for edge in stretches) > search.whole_peak
    assert search.least_memory().peak_bytes == search.whole_peak
