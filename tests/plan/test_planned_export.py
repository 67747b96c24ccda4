"""Exports by a plan: tile files and one file, both targets, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import edgekit
from edgekit import UsageError
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SERVING, SessionOptions
from edgekit.model import model_of_module
from edgekit.parity.planned_memory import measured_memory
from edgekit.plan import stages
from edgekit.plan.choose import Request, choose, parse_bytes, search_for
from edgekit.plan.memory import MemoryModel
from edgekit.plan.network import network_of
from edgekit.plan.path import Found, Stretch, Tiling
from edgekit.plan.plan import read_plan
from edgekit.plan.runner import PlanRunnable
from edgekit.plan.search import Stretches
from edgekit.plan.stages import arena_bytes, planned
from edgekit.plan.unrolled import unrolled
from edgekit.prepared import captured_model


class Small(nn.Module):
    """Strides, a residual, pooling, a skip over an enlargement, a mean over the image."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 5, 1, 2))
        self.deep = nn.Conv2d(8, 16, 3, 1, 1)
        self.join = nn.Conv2d(24, 4, 3, 1, 1)
        self.head = nn.Linear(4, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.block(x)
        deep = F.interpolate(F.relu(self.deep(F.max_pool2d(x, 3, 2, 1))), scale_factor=2)
        x = self.join(torch.cat([deep, x], 1))
        return x if self.head is None else self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture
def picture() -> Tensor:
    return torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


class Extended:
    """A backend that opens a plan's files where windows cannot change the last bits."""

    def load(self, path: Path, session: str, arena_bytes: int) -> Any:  # noqa: ARG002  # a backend's
        return load(path, SessionOptions(1, SERVING, "extended"))


def test_tile_files_compute_the_same_bits_as_the_whole_file(
    tmp_path: Path, picture: Tensor
) -> None:
    torch.manual_seed(0)
    module = Small()
    whole = edgekit.export(module, picture, output=tmp_path / "whole", simplify=False)
    tiled = edgekit.export(module, picture, output=tmp_path / "tiled", tiles="2x2", simplify=False)
    plan = read_plan(tiled.path)
    assert plan is not None
    # The grid begins after the stem: its tiles would hold three full-size channels during their run.
    assert [len(stage.windows) for stage in plan.stages] == [1, 4]
    assert plan.peak_bytes < 0.6 * plan.whole_peak_bytes
    inputs = whole.golden()[0]
    names = [tuple(spec.name for spec in specs) for specs in (tiled.inputs, tiled.outputs)]
    backend: Any = Extended()
    found = PlanRunnable(tiled.path, plan, backend, names[0], names[1]).run(inputs)
    expected = load(whole.model_file, SessionOptions(1, SERVING, "extended")).run(inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("one_file", [False, True])
def test_a_batch_of_pictures_is_classified_within_a_budget(tmp_path: Path, one_file: bool) -> None:
    pictures = torch.randn(4, 3, 32, 32)
    bundle = edgekit.export(
        Small(3),
        pictures,
        output=tmp_path / "b",
        memory_budget=50_000,
        one_file=one_file,
        simplify=False,
    )
    assert edgekit.verify(bundle).outputs[0].passed


def test_an_arena_is_never_larger_than_onnxruntime_can_be_told() -> None:
    onnxruntime.OrtArenaCfg({"initial_chunk_size_bytes": arena_bytes(1 << 40)})


def test_one_file_says_in_its_metadata_which_settings_its_memory_needs(
    tmp_path: Path, picture: Tensor
) -> None:
    bundle = edgekit.export(
        Small(), picture, output=tmp_path / "b", tiles="2x2", one_file=True, simplify=False
    )
    (file,) = bundle.path.glob("*.onnx")
    notes = {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    settings = json.loads(notes["edgekit.session"])
    assert settings == json.loads((bundle.path / "plan.json").read_text())["sessions"]["frugal"]
    assert settings["enable_mem_reuse"] is False


def test_a_single_run_of_large_tensors_is_planned_and_run_without_the_arena(
    tmp_path: Path, picture: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "LEAST_RETURNED_BYTES", 1)
    bundle = edgekit.export(
        Small(classes=5), picture, output=tmp_path / "b", tiles="2x2", simplify=False
    )
    plan = json.loads((bundle.path / "plan.json").read_text())
    sessions = {
        model["session"]: len(stage["windows"])
        for stage in plan["stages"]
        for model in stage["models"]
    }
    assert sessions["frugal"] == 4
    assert sessions["returning"] == 1
    assert set(plan["sessions"]) == {"frugal", "returning"}
    assert edgekit.verify(bundle).passed


def test_an_unknown_session_in_a_plan_is_refused_in_a_sentence(
    tmp_path: Path, picture: Tensor
) -> None:
    bundle = edgekit.export(Small(), picture, output=tmp_path / "b", tiles="2x2", simplify=False)
    plan = (bundle.path / "plan.json").read_text()
    (bundle.path / "plan.json").write_text(plan.replace('"session": "frugal"', '"session": "fast"'))
    with pytest.raises(UsageError, match="session 'fast'"):
        edgekit.run(bundle, picture.numpy())


@pytest.mark.parametrize("one_file", [False, True])
@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_classifier_is_tiled_up_to_its_mean_and_verifies(
    tmp_path: Path, picture: Tensor, target: str, one_file: bool
) -> None:
    torch.manual_seed(0)
    module = Small(classes=5)
    bundle = edgekit.export(
        module, picture, target=target, output=tmp_path / "b", precision="fp32", tiles="2x2",
        one_file=one_file, simplify=False,
    )  # fmt: skip
    assert any(bundle.path.glob("stage*")) is not one_file
    report = edgekit.verify(bundle)
    assert report.passed
    assert report.memory is not None
    assert (report.memory.live_bytes is not None) == (target == "onnx")
    (found,) = edgekit.run(bundle, picture.numpy())
    np.testing.assert_allclose(found, module(picture).detach().numpy(), atol=1e-5)


def test_a_budget_is_kept_and_a_smaller_one_is_refused_with_the_floor(
    tmp_path: Path, picture: Tensor
) -> None:
    torch.manual_seed(0)
    module = Small()
    bundle = edgekit.export(
        module, picture, output=tmp_path / "b", memory_budget="64KiB", simplify=False
    )
    plan = read_plan(bundle.path)
    assert plan is not None
    assert 48 * 1024 < plan.peak_bytes <= 64 * 1024 < plan.whole_peak_bytes
    with pytest.raises(
        UsageError, match=r"No plan fits into 1\.0 KiB: the floor is [\d.]+ KiB, set by"
    ):
        edgekit.export(module, picture, output=tmp_path / "c", memory_budget=1024, simplify=False)
    assert not (tmp_path / "c").exists()


def test_more_tiles_than_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="9x9 is finer than the largest image of this network, 8x8"
    ):
        edgekit.export(
            Small(), torch.randn(1, 3, 8, 8), output=tmp_path / "b", tiles="9x9", simplify=False
        )


def test_networks_of_two_inputs_have_no_plan(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    x = torch.ones(1, 3, 8, 8)
    with pytest.raises(UsageError, match="this one has 2 and 1"):
        edgekit.export(Two(), (x, x), output=tmp_path / "b", tiles="2x2", simplify=False)


def test_a_whole_image_operator_ends_a_stretch_and_results_stay_right(tmp_path: Path) -> None:
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x.flip(3) * x.mean((2, 3), keepdim=True).sigmoid())

    torch.manual_seed(0)
    module, x = Squeezed(), torch.randn(1, 3, 32, 32)
    bundle = edgekit.export(module, x, output=tmp_path / "b", tiles="4x1", simplify=False)
    (found,) = edgekit.run(bundle, x.numpy())
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-5)


def test_a_damaged_plan_is_named(tmp_path: Path, picture: Tensor) -> None:
    torch.manual_seed(0)
    bundle = edgekit.export(
        Small(), picture, output=tmp_path / "b", tiles="2x1", verify=False, simplify=False
    )
    data = json.loads((bundle.path / "plan.json").read_text())
    del data["stages"][0]["windows"][0]["read"]
    (bundle.path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"plan\.json .*damaged"):
        edgekit.run(bundle, picture.numpy())


def test_two_planned_exports_are_byte_identical(tmp_path: Path, picture: Tensor) -> None:
    for name in ("a", "b"):
        torch.manual_seed(0)
        edgekit.export(Small(), picture, output=tmp_path / name, tiles="1x2", verify=False)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64MB", 64_000_000),
        ("64MiB", 64 << 20),
        ("21.3kB", 21_300),
        ("512", 512),
        ("1.5 GiB", 3 << 29),
    ],
)
def test_amounts_of_memory_are_read_in_both_kinds_of_units(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-3MB", "0", "3 apples"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount of memory"):
        parse_bytes(text)


@settings(deadline=None, max_examples=8)
@given(
    height=st.integers(9, 30), width=st.integers(9, 30), rows=st.integers(1, 5),
    columns=st.integers(1, 5), classes=st.sampled_from([0, 3]),
)  # fmt: skip
def test_stages_and_the_unrolled_graph_equal_the_module(
    height: int, width: int, rows: int, columns: int, classes: int
) -> None:
    torch.manual_seed(0)
    module = Small(classes)
    x = torch.randn(1, 3, height * 4, width * 4)
    program = captured_model(model_of_module(module, x)).program
    network = network_of(program)
    found = choose(search_for(network, Request(tiles=Tiling(rows, columns))), None)
    expected = module(x)
    torch.testing.assert_close(
        unrolled(network, found, program).exported.module()(x)[0], expected, rtol=1e-5, atol=1e-5
    )
    values = {program.inputs[0].name: x}
    for built in planned(network, found, program, ".onnx").stages:
        stage = built.stage
        models = [part.exported.module() for part in built.programs]
        result = torch.zeros([stop for _, stop in stage.windows[-1].write])
        for window in stage.windows:
            read, write = (
                tuple(slice(*span) for span in box) for box in (window.read, window.write)
            )
            part = models[window.model](values[stage.source][read])[0]
            if stage.averaged:
                result += part.mean((2, 3), keepdim=True) * window.share
            else:
                result[write] = part
        values[stage.result] = result
    torch.testing.assert_close(values[program.outputs[0].name], expected, rtol=1e-5, atol=1e-5)


def test_least_work_and_least_memory_agree(picture: Tensor) -> None:
    network = network_of(captured_model(model_of_module(Small(), picture)).program)
    stretches = Stretches(network, MemoryModel(), streams=False)
    least = stretches.least_memory()
    again = stretches.least_work(least.peak_bytes)
    assert again is not None
    assert again.peak_bytes == least.peak_bytes
    assert stretches.least_work(least.peak_bytes - 1) is None
    cheap = stretches.least_memory(0.1)
    assert cheap.overhead <= 0.1
    assert least.peak_bytes <= cheap.peak_bytes <= stretches.whole_peak


def test_a_result_that_can_only_be_computed_whole_is_cropped_to_the_tile() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.GroupNorm(2, 4))
    x = torch.randn(1, 3, 16, 16)
    program = captured_model(model_of_module(module, x)).program
    network = network_of(program)
    (result,) = network.outputs
    tiled = Stretch(network.inputs[0], result, result, Tiling(2, 2), 0, 0, 0, 0.0)
    found = Found((tiled,), 0, 0)
    torch.testing.assert_close(
        unrolled(network, found, program).exported.module()(x)[0], module(x), rtol=1e-5, atol=1e-5
    )
    (built,) = planned(network, found, program, ".onnx").stages
    assert {part.outputs[0].shape for part in built.programs} == {(1, 4, 8, 8)}


@pytest.mark.slow
def test_a_plan_that_promises_too_little_memory_fails_verification(tmp_path: Path) -> None:
    class Expanded(nn.Module):
        """An activation that files write with two operators, and a tail that runs at once."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(
                nn.Conv2d(3, 48, 3, 1, 1), nn.SiLU(), nn.Conv2d(48, 8, 3, 2, 1), nn.ReLU(),
                nn.Conv2d(8, 16, 3, 1, 1), nn.GroupNorm(2, 16), nn.Conv2d(16, 4, 3, 1, 1),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.parts(x)
            return y

    torch.manual_seed(0)
    x = torch.randn(1, 3, 256, 256)
    for one_file in (False, True):
        bundle = edgekit.export(
            Expanded(),
            x,
            output=tmp_path / f"{one_file}",
            tiles="2x2",
            one_file=one_file,
            simplify=False,
        )
        memory = edgekit.verify(bundle).memory
        assert memory is not None
        assert memory.live_bytes is not None
        assert memory.passed, memory.sentence()
        assert memory.live_bytes > 0.7 * memory.predicted_bytes
    path = bundle.path / "plan.json"
    data = json.loads(path.read_text())
    data["peak_bytes"] //= 2
    path.write_text(json.dumps(data))
    memory = measured_memory(bundle)
    assert memory is not None
    assert not memory.passed
    assert "FAIL" in memory.sentence()
