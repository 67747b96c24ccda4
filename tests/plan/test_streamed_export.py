"""Streams as files run them: first, steady and last programs with explicit states."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from video_networks import TimeConv, causal_decoder, video_networks

import edgekit
from edgekit import UsageError
from edgekit.backends.runnable import Array
from edgekit.bundle import open_bundle
from edgekit.model import model_of_module
from edgekit.plan.live import LiveStream
from edgekit.plan.network import network_of
from edgekit.plan.path import Tiling
from edgekit.plan.plan import Plan, read_plan
from edgekit.plan.runner import PlanRunnable, open_runnable
from edgekit.plan.stages import planned
from edgekit.plan.streamed import streamed
from edgekit.plan.unrolled import unrolled
from edgekit.prepared import captured_model
from edgekit.program.program import Program


class TorchFile:
    """A step's program in the place of its file."""

    reference = "torch"
    rounds_to_half = False

    def __init__(self, program: Program) -> None:
        self.program = program
        self.module = program.exported.module()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = [torch.from_numpy(inputs[spec.name]) for spec in self.program.inputs]
        with torch.inference_mode():
            results = self.module(*given)
        return {
            spec.name: value.numpy()
            for spec, value in zip(self.program.outputs, results, strict=True)
        }

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        raise NotImplementedError


class TorchFiles:
    """A backend that has a plan's programs at hand."""

    def __init__(self, files: Mapping[str, Program]) -> None:
        self.files = files

    def load(self, path: Path, session: str, arena_bytes: int) -> TorchFile:  # noqa: ARG002  # a backend's
        return TorchFile(self.files[path.name])


def stream_of(module: nn.Module, clip: Tensor, frames: int, grid: Tiling | None) -> PlanRunnable:
    program = captured_model(model_of_module(module, clip)).program
    network = network_of(program)
    made = planned(network, streamed(network, frames, grid), program, ".onnx")
    files = {
        model.file: part
        for built in made.stages
        for model, part in zip(built.stage.models, built.programs, strict=True)
    }
    backend = TorchFiles(files)
    names = [tuple(spec.name for spec in specs) for specs in (program.inputs, program.outputs)]
    return PlanRunnable(Path("stream"), made.plan, backend, *names)  # type: ignore[arg-type]


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    module=video_networks(), length=st.integers(6, 14), frames=st.integers(1, 4),
    rows=st.integers(1, 2), columns=st.integers(1, 2), more=st.integers(1, 3), data=st.data(),
)  # fmt: skip
def test_a_stream_computes_what_the_network_computes_at_every_length(
    module: nn.Module, length: int, frames: int, rows: int, columns: int, more: int, data: st.DataObject
) -> None:  # fmt: skip
    random = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 2, length, 6, 5, generator=random)
    try:
        stream = stream_of(module, clip, frames, Tiling(rows, columns))
    except UsageError as error:
        if "leave nothing to stream" not in str(error):
            raise
        assume(False)
    name = stream.input
    with torch.inference_mode():
        (result,) = stream.run({name: clip.numpy()}).values()
        np.testing.assert_allclose(result, module(clip).numpy(), rtol=1e-4, atol=1e-5)
        repeat = stream.plan.stages[0].repeat
        if repeat is None:
            return
        for times in (-repeat.times, more):
            size = length + times * repeat.read_by
            if size == 0:
                continue
            other = torch.randn(1, 2, size, 6, 5, generator=random)
            expected = module(other).numpy()
            (result,) = stream.run({name: other.numpy()}).values()
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
            cuts = sorted(data.draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)))
            live = LiveStream(stream)
            parts = [
                part
                for start, stop in pairwise(sorted({0, *cuts, size}))
                for part in live.push(other[:, :, start:stop].numpy())
            ]
            parts += live.finish()
            np.testing.assert_array_equal(np.concatenate(parts, 2), result)


@settings(deadline=None, max_examples=6)
@given(module=video_networks(), length=st.integers(6, 10), frames=st.integers(1, 4))
def test_a_stream_inside_one_graph_computes_the_same(
    module: nn.Module, length: int, frames: int
) -> None:
    clip = torch.randn(1, 2, length, 6, 5, generator=torch.Generator().manual_seed(0))
    program = captured_model(model_of_module(module, clip)).program
    network = network_of(program)
    try:
        found = streamed(network, frames, None)
    except UsageError:
        assume(False)
    with torch.inference_mode():
        torch.testing.assert_close(
            unrolled(network, found, program).exported.module()(clip)[0],
            module(clip), rtol=1e-4, atol=1e-5,
        )  # fmt: skip


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return torch.randn(1, 4, 7, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory, clip: Tensor) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "causal"
    return edgekit.export(causal_decoder(), clip, output=folder, stream=1, simplify=False).path


def the_plan(path: Path) -> Plan:
    plan = read_plan(path)
    assert plan is not None
    return plan


def test_a_causal_network_is_a_first_program_and_a_steady_one(causal: Path) -> None:
    (stage,) = the_plan(causal).stages
    first, steady = stage.models
    assert not first.before
    assert steady.before
    assert [(port.state, port.shape) for port in steady.before] == [
        (port.state, port.shape) for port in steady.after
    ]
    assert [window.model for window in stage.windows] == [0, 1, 1, 1, 1, 1, 1]
    assert [window.write[2] for window in stage.windows[:3]] == [(0, 1), (1, 3), (3, 5)]


def test_a_causal_network_gives_frames_without_waiting(causal: Path, clip: Tensor) -> None:
    runnable = open_runnable(open_bundle(causal))
    assert isinstance(runnable, PlanRunnable)
    live = LiveStream(runnable)
    given = [len(list(live.push(clip[:, :, at : at + 1].numpy()))) for at in range(7)]
    assert given == [1] * 7
    assert list(live.finish()) == []


def test_files_of_a_stream_take_any_length(causal: Path) -> None:
    decoder = causal_decoder()
    for length in (1, 4, 19):
        clip = torch.randn(1, 4, length, 8, 8)
        (result,) = edgekit.run(causal, clip.numpy())
        with torch.inference_mode():
            np.testing.assert_allclose(result, decoder(clip).numpy(), atol=2e-5)


def test_memory_of_a_live_stream_does_not_grow(causal: Path) -> None:
    runnable = open_runnable(open_bundle(causal))
    assert isinstance(runnable, PlanRunnable)
    live = LiveStream(runnable)
    held = []
    for _ in range(40):
        for _ in live.push(np.zeros((1, 4, 1, 8, 8), np.float32)):
            pass
        kept = sum(lines.nbytes for lines in live._run.kept.values())
        assert live._waiting is not None
        held.append(kept + live._waiting.nbytes)
    assert max(held[2:]) == held[2]


def test_core_ml_files_stream_too(tmp_path: Path, clip: Tensor) -> None:
    bundle = edgekit.export(
        causal_decoder(), clip[:, :, :6], target="coreml", precision="fp32", output=tmp_path / "b",
        stream=2,
    )  # fmt: skip
    longer = torch.randn(1, 4, 12, 8, 8)
    parts = list(edgekit.stream(bundle, (longer[:, :, at : at + 3].numpy() for at in (0, 3, 6, 9))))
    with torch.inference_mode():
        expected = causal_decoder()(longer).numpy()
    np.testing.assert_allclose(np.concatenate(parts, 2), expected, atol=2e-5)


def test_a_streams_memory_is_predicted_and_measured(causal: Path) -> None:
    report = edgekit.verify(causal)
    assert report.passed
    assert report.memory is not None
    assert report.memory.predicted_bytes < report.memory.whole_predicted_bytes
    assert report.memory.live_bytes is not None


def test_a_clip_that_does_not_stream_is_refused_with_the_lengths_that_do(
    tmp_path: Path, clip: Tensor
) -> None:
    module = nn.Sequential(TimeConv(4, 3, 3, causal=False, zeros=True))
    bundle = edgekit.export(module, clip, output=tmp_path / "b", stream=2, simplify=False)
    with pytest.raises(UsageError, match=r"streams at the shapes \(1, 4, 3 \+ n·2, 8, 8\)"):
        edgekit.run(bundle, np.zeros((1, 4, 10, 8, 8), np.float32))
    with pytest.raises(
        UsageError, match=r"clips of 3 \+ n·2 frames, and this one has ended after 8"
    ):
        list(edgekit.stream(bundle, [np.zeros((1, 4, 8, 8, 8), np.float32)]))
    with pytest.raises(UsageError, match="takes frames of shape"):
        list(edgekit.stream(bundle, [np.zeros((1, 4, 8, 8, 9), np.float32)]))


@pytest.mark.parametrize(
    ("module", "shape", "why"),
    [
        (nn.Conv2d(3, 3, 3), (1, 3, 8, 8), "has no frames to stream"),
        (nn.Sequential(nn.Conv3d(4, 4, 1), nn.GroupNorm(2, 4)), (1, 4, 7, 8, 8), "needs all frames"),
        (nn.Conv3d(4, 4, (7, 1, 1), padding=(3, 0, 0)), (1, 4, 4, 8, 8), "needs 4 of 4 input frames"),
        (causal_decoder(), (2, 4, 6, 6, 6), "takes one video, and this batch has 2"),
    ],
)  # fmt: skip
def test_what_cannot_stream_says_why(module: nn.Module, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        edgekit.export(module, torch.zeros(shape), stream=1, simplify=False)


class Shifted(nn.Module):
    """The usual shift in time of a stack of images, whose first frame sees zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return torch.relu(self.conv(torch.cat([before, x], 1)))


def test_a_stack_of_images_that_are_shifted_in_time_streams(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Shifted().eval()
    bundle = edgekit.export(
        module, torch.randn(9, 4, 6, 6), output=tmp_path / "b", stream=2, simplify=False
    )
    (stage,) = the_plan(bundle.path).stages
    assert len(stage.models) <= 3
    assert stage.repeat is not None
    longer = torch.randn(17, 4, 6, 6)
    (result,) = edgekit.run(bundle, longer.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(result, module(longer).numpy(), atol=1e-5)


@pytest.mark.parametrize(("length", "frames"), [(9, 4), (24, 7), (16, 9)])
def test_a_step_takes_the_frames_that_were_asked_for(length: int, frames: int) -> None:
    clip = torch.randn(1, 4, length, 6, 6)
    stream = stream_of(TimeConv(4, 3, 3, causal=True, zeros=False), clip, frames, None)
    reads = [window.read[2] for window in stream.plan.stages[0].windows]
    assert [stop for _, stop in reads][:-1] == list(range(frames, length, frames))


def test_steps_that_take_turns_repeat_in_pairs() -> None:
    torch.manual_seed(0)
    module = TimeConv(4, 3, 3, causal=True, zeros=False, stride=2).eval()
    stream = stream_of(module, torch.randn(1, 4, 24, 6, 6), 3, None)
    repeat = stream.plan.stages[0].repeat
    assert repeat is not None
    assert (repeat.windows, repeat.read_by, repeat.write_by) == (2, 6, 3)
    longer = torch.randn(1, 4, 24 + 12, 6, 6)
    with torch.inference_mode():
        expected = module(longer).numpy()
    (result,) = stream.run({stream.input: longer.numpy()}).values()
    np.testing.assert_allclose(result, expected, atol=1e-5)
    live = LiveStream(stream)
    parts = [part for at in range(36) for part in live.push(longer[:, :, at : at + 1].numpy())]
    np.testing.assert_array_equal(np.concatenate([*parts, *live.finish()], 2), result)
    with pytest.raises(UsageError, match="has ended"):
        live.push(longer[:, :, :1].numpy())


def test_a_damaged_repetition_is_named(causal: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(causal, tmp_path / "b")
    plan = json.loads((broken / "plan.json").read_text())
    plan["stages"][0]["repeat"]["dim"] = 9
    (broken / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UsageError, match=r"plan\.json is damaged"):
        read_plan(broken)


def test_a_bundle_that_is_no_stream_says_so(tmp_path: Path) -> None:
    bundle = edgekit.export(
        nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8), output=tmp_path / "b", simplify=False
    )
    with pytest.raises(UsageError, match="export it with --stream"):
        list(edgekit.stream(bundle, []))
