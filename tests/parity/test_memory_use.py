from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conv_files import write_convolutions

from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import DEFAULT, SERVING, MemorySettings
from edgekit.errors import UsageError
from edgekit.parity import arena_peak, high_water, onnx_steps
from edgekit.parity.arena_peak import arena_peak_bytes
from edgekit.parity.memory_child import array_bytes, measured
from edgekit.parity.memory_use import Case, MemoryUse, NotMeasured, Prepared, measure
from edgekit.parity.onnx_steps import Step

MB = 1_000_000
HERE = Path(__file__).parent


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measuring process finds the known cases."""
    monkeypatch.syspath_prepend(str(HERE))


def use_of(case: Case) -> MemoryUse:
    result = measure(case)
    if isinstance(result, NotMeasured):
        pytest.skip(result.reason)
    return result


# Known amounts


@pytest.mark.usefixtures("known")
def test_what_a_run_and_a_load_take_is_seen_within_a_tenth() -> None:
    arguments = {"run_mb": 200, "load_mb": 300, "kept_mb": 100}
    use = use_of(Case("measured_cases:allocating", arguments))
    assert use.first_run_peak_bytes == pytest.approx(200 * MB, rel=0.1)
    assert use.third_run_peak_bytes == pytest.approx(200 * MB, rel=0.1)
    assert use.load_peak_bytes == pytest.approx(300 * MB, rel=0.1)
    assert use.loaded_bytes == pytest.approx(100 * MB, rel=0.1)
    assert use.kept_bytes < 20 * MB
    assert (use.input_bytes, use.output_bytes) == (100 * MB, 200 * MB)
    assert use.output_is_counted
    assert use.settings == {"threads": 1}


@pytest.mark.usefixtures("known")
def test_steps_that_free_what_they_took_are_not_summed() -> None:
    use = use_of(Case("measured_cases:stepping", {"step_mb": 100, "steps": 5}))
    assert use.third_run_peak_bytes == pytest.approx(100 * MB, rel=0.1)


@pytest.mark.usefixtures("known")
def test_runs_that_keep_memory_are_told_apart_from_runs_that_do_not() -> None:
    use = use_of(Case("measured_cases:growing", {"run_mb": 50}))
    assert use.first_run_peak_bytes == pytest.approx(50 * MB, rel=0.1)
    assert use.third_run_peak_bytes == pytest.approx(150 * MB, rel=0.1)
    assert use.kept_bytes == pytest.approx(150 * MB, rel=0.1)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("function", "reason"),
    [("failing", "ValueError: the weights are missing"), ("absent", "no attribute 'absent'")],
)
def test_a_case_that_fails_is_quoted(function: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        measure(Case(f"measured_cases:{function}"))


def test_arrays_are_found_in_sequences_and_mappings() -> None:
    block = np.zeros(10, np.float32)
    assert array_bytes({"a": [block, (block, "text", None)]}) == 80


# Systems without the mark


def test_a_system_without_the_mark_gives_a_reason_and_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t 1000 kB\n")  # as in gVisor
    monkeypatch.setattr(high_water, "STATUS", status)
    monkeypatch.setattr(high_water, "CLEAR", tmp_path / "clear_refs")
    result = measured(lambda: pytest.fail("nothing is loaded for no figure"))
    assert isinstance(result, NotMeasured)
    assert "VmHWM" in result.reason


def test_a_reset_that_does_nothing_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if high_water.reason_against():
        pytest.skip(high_water.reason_against())
    monkeypatch.setattr(high_water, "CLEAR", tmp_path / "clear_refs")
    result = measured(lambda: Prepared(lambda: None, 0, {}))
    assert isinstance(result, NotMeasured)


# ONNX files


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_convolutions(tmp_path_factory.mktemp("net") / "net.onnx", side=512)


TENSOR = 16 * 512 * 512 * 4
"""Bytes of each activation of the net and of its output."""


def test_an_arena_is_kept_and_without_one_memory_is_given_back(tmp_path: Path) -> None:
    # Tensors of 64 MiB: glibc maps blocks above 32 MiB one by one and keeps smaller ones when freed.
    large = write_convolutions(tmp_path / "large.onnx", side=1024)
    kept = use_of(onnx_steps.case([Step(large)], memory=MemorySettings("own", pattern=False)))
    freed = use_of(onnx_steps.case([Step(large)], memory=MemorySettings("none", pattern=False)))
    assert kept.kept_bytes > 8 * TENSOR
    assert freed.kept_bytes < kept.kept_bytes - 4 * TENSOR
    for use in (kept, freed):
        assert 8 * TENSOR < use.first_run_peak_bytes < 20 * TENSOR
        assert (use.input_bytes, use.output_bytes) == (3 * 1024 * 1024 * 4, 4 * TENSOR)


def test_the_pattern_makes_later_runs_need_more_and_serving_does_not(net: Path) -> None:
    default = use_of(onnx_steps.case([Step(net)], memory=DEFAULT))
    serving = use_of(onnx_steps.case([Step(net)], memory=SERVING))
    assert default.third_run_peak_bytes > default.first_run_peak_bytes + TENSOR
    assert serving.third_run_peak_bytes < serving.first_run_peak_bytes + TENSOR / 4
    assert serving.third_run_peak_bytes < default.third_run_peak_bytes
    assert serving.settings["arena"] == "shared"


def test_sessions_that_share_an_arena_need_one_and_others_one_each(
    net: Path, tmp_path: Path
) -> None:
    steps = [Step(net), Step(write_convolutions(tmp_path / "other.onnx", side=448))]
    each = use_of(onnx_steps.case(steps, memory=MemorySettings("own", pattern=False)))
    shared = use_of(onnx_steps.case(steps, memory=SERVING))
    assert shared.third_run_peak_bytes < each.third_run_peak_bytes - TENSOR


def test_arrays_from_a_file_are_what_a_step_gets(net: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", picture=np.zeros((1, 3, 512, 512), np.float32))
    case = onnx_steps.case([Step(net, tmp_path / "inputs.npz")])
    prepared = onnx_steps.prepare(**case.arguments)  # type: ignore[arg-type]
    (result,) = prepared.run().values()  # type: ignore[attr-defined]
    assert not result.any()


# The runtime's own account


def test_the_arenas_own_peak_counts_live_tensors_and_is_the_same_each_time(net: Path) -> None:
    inputs = onnx_steps.noise(load(net))
    peaks = [arena_peak_bytes(net, inputs) for _ in range(2)]
    if isinstance(peaks[0], NotMeasured):
        pytest.skip(peaks[0].reason)
    assert peaks[0] == peaks[1]
    assert 2 * TENSOR <= peaks[0] < 3.1 * TENSOR


def test_a_runtime_that_does_not_report_its_arena_gives_a_reason(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena_peak, "_FIELD", "unheard_of")
    result = arena_peak_bytes(net, onnx_steps.noise(load(net)))
    assert isinstance(result, NotMeasured)
    assert "1.28" in result.reason
