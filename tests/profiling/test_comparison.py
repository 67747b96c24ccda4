from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.profiling import timing
from edgekit.profiling.comparison import against_baseline, compare, read_baseline
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.machine import Machine
from edgekit.profiling.timing import TimingOptions

HERE = Machine("a processor", "x86_64", "a system", 2, "a runtime")


def latency(around: float, count: int = 100) -> Distribution:
    random = np.random.default_rng(round(around * 100))
    return Distribution(tuple(around * (1 + 0.02 * random.standard_normal(count))))


def baseline(path: Path, latency: Distribution, threads: int = 1) -> Path:
    device = {"threads": threads, "processor": HERE.processor, "runtime": HERE.runtime}
    path.write_text(json.dumps({"latency_ms": latency.to_json(), "device": device}))
    return path


def test_pairs_are_run_in_turns_and_their_ratio_has_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine becomes ten times slower on the way; both meet it, so the ratio does not."""
    now, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: round(now[0] * 1e9))

    def run(name: str, seconds: float) -> None:
        order.append(name)
        now[0] += seconds * (1 + 9 * min(1.0, now[0] / 60))

    found = compare(
        ("a", "b"), (lambda: run("a", 0.01), lambda: run("b", 0.012)), TimingOptions(30), 1, HERE
    )
    assert found.ratio == pytest.approx(1.2, rel=0.02)
    assert found.interval.low <= found.ratio <= found.interval.high
    assert found.interval.high - found.interval.low < 0.05
    paired = order[-2 * len(found.ratios) :]
    assert paired[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert "b takes 1.2" in found.text()


def test_a_ratio_whose_interval_holds_one_shows_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, random = [0.0], np.random.default_rng(0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: round(now[0] * 1e9))

    def run() -> None:
        now[0] += 0.01 * float(random.uniform(0.5, 1.5))

    found = compare(("a", "b"), (run, run), TimingOptions(5), 1, HERE)
    assert found.text().startswith("no difference is shown")


@pytest.mark.parametrize(
    ("after", "passed"), [(10.0, True), (10.4, True), (12.0, False), (5.0, True)]
)
def test_a_median_that_grew_more_than_allowed_fails(
    tmp_path: Path, after: float, passed: bool
) -> None:
    before = read_baseline(baseline(tmp_path / "old.json", latency(10.0)))
    found = against_baseline(latency(after), before, 0.05)
    assert found.passed is passed
    assert found.change == pytest.approx(after / 10 - 1, abs=0.01)
    assert found.sentence().endswith("pass" if passed else "FAIL")


def test_a_slower_median_within_the_noise_passes_and_says_that_nothing_is_shown(
    tmp_path: Path,
) -> None:
    wide = Distribution(
        tuple(float(v) for v in np.linspace(5, 15, 30)[np.random.default_rng(0).permutation(30)])
    )
    before = read_baseline(baseline(tmp_path / "old.json", wide))
    found = against_baseline(latency(11.0), before, 0.05)
    assert found.passed
    assert "nothing is shown" in found.sentence()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"latency_ms": 3}', '{"latency_ms": {"p50": null, "interval": [1, 2]}}'],
)
def test_a_baseline_that_is_no_profile_is_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="is no profile"):
        read_baseline(file)


def test_a_baseline_that_is_missing_or_of_another_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_baseline(tmp_path / "none.json")
    before = read_baseline(baseline(tmp_path / "old.json", latency(10.0), threads=4))
    with pytest.raises(UsageError, match="--threads 4"):
        before.require_same(1, HERE)
    before.require_same(4, HERE)
    with pytest.raises(UsageError, match="measure a baseline here"):
        before.require_same(4, replace(HERE, processor="another"))


@pytest.mark.parametrize("median", [0.0, float("nan"), -1.0])
def test_a_baseline_without_a_time_is_no_profile(tmp_path: Path, median: float) -> None:
    file = baseline(tmp_path / "old.json", latency(10.0))
    content = json.loads(file.read_text())
    content["latency_ms"]["p50"] = median
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is no profile"):
        read_baseline(file)
