"""Which way wins at what bandwidth: formulas by hand, envelopes against brute force."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.cli.split_plan import parse_bandwidth, parse_milliseconds
from edgekit.errors import UsageError
from edgekit.split.candidates import (
    Candidate,
    Link,
    Power,
    bandwidth,
    good_enough,
    pareto,
    reigns,
    span,
    verdict,
)
from edgekit.split.latency_profile import LatencyProfile

SLOW, FAST = Link(1e6, 30), Link(1e9, 2)
LOCAL = Candidate("local", "local", before_ms=2, head_ms=200, accuracy=0.75)
JPEG = Candidate("JPEG", "image", 2, 0, 3, 20_000, 25_000, 4, 20, accuracy=0.74)
SPLIT = Candidate("split", "split", 2, 30, 1, 2_000, 3_000, 1, 15, queue_ms=5, accuracy=0.745)


@pytest.mark.parametrize(
    ("kilobytes", "bits", "ms"),
    [(0.68, 50e3, 111), (2.25, 1e6, 18.4), (10.1, 10e6, 8.3), (43.2, 100e6, 3.5), (150, 1e6, 1229)],
)
def test_uploads_take_what_the_facts_say(kilobytes: float, bits: float, ms: float):
    assert Link(bits, 0).upload_ms(kilobytes * 1024) == pytest.approx(ms, rel=0.03)


def test_a_latency_is_the_sum_of_its_parts():
    assert LOCAL.total_ms(SLOW) == 202
    assert JPEG.total_ms(SLOW) == 2 + 3 + 30 + 160 + 4 + 20
    assert SPLIT.total_ms(SLOW) == 2 + 30 + 1 + 30 + 16 + 5 + 1 + 15
    assert SPLIT.slow_ms(SLOW) == SPLIT.total_ms(SLOW) + 8
    assert SPLIT.energy_mj(SLOW, Power(3, 2, 0.5)) == 3 * 33 + 2 * 16 + 0.5 * (30 + 5 + 1 + 15)


def test_an_early_exit_spares_the_rest_of_those_that_leave():
    early = Candidate(**{**vars(SPLIT), "exit_rate": 0.4, "exit_ms": 10})
    assert early.total_ms(SLOW) == pytest.approx(2 + 10 + 0.6 * (SPLIT.total_ms(SLOW) - 12))
    assert early.slow_ms(SLOW) == SPLIT.slow_ms(SLOW)
    always = Candidate(**{**vars(SPLIT), "exit_rate": 1.0, "exit_ms": 10})
    assert always.total_ms(SLOW) == 12


def test_the_verdict_says_when_splitting_pays_and_when_it_does_not():
    ways = [LOCAL, JPEG, SPLIT]
    said = verdict(ways, SLOW, 1)
    assert said.startswith("Splitting pays at 1 Mbit/s and 30 ms: 'split' takes 100.0 ms, the best")
    said = verdict(ways, FAST, 1)
    assert said.startswith("Splitting does not pay at 1 Gbit/s and 2 ms: 'JPEG' takes")
    assert "It pays from" in said
    hopeless = Candidate("split", "split", 2, 300, 1, 2_000, 3_000, 1, 15)
    assert verdict([LOCAL, JPEG, hopeless], SLOW, 1).endswith("It pays at no bandwidth with this round trip.")  # fmt: skip
    assert "cannot be judged" in verdict([LOCAL], SLOW, 1)
    assert verdict(ways, SLOW, 0.4) == (
        "Splitting does not pay at 1 Mbit/s and 30 ms: every split loses more than 0.4 points of accuracy."
    )


def test_the_pareto_set_holds_whoever_is_best_at_something():
    worse = Candidate("worse", "split", 2, 40, 1, 2_500, 3_000, 1, 15, queue_ms=5, accuracy=0.70)
    assert pareto([LOCAL, JPEG, SPLIT, worse], SLOW) == [LOCAL, SPLIT]
    exact = Candidate(**{**vars(worse), "accuracy": 0.76})
    assert exact in pareto([LOCAL, JPEG, SPLIT, exact], SLOW)
    unknown = Candidate(**{**vars(worse), "accuracy": None})
    assert unknown not in pareto([LOCAL, JPEG, SPLIT, unknown], SLOW)


def test_who_loses_too_much_accuracy_wins_no_bandwidth():
    assert good_enough([LOCAL, JPEG, SPLIT], 0.5) == [LOCAL, SPLIT]
    assert good_enough([LOCAL, JPEG, SPLIT], 1.0) == [LOCAL, JPEG, SPLIT]
    unknown = Candidate("local", "local", head_ms=1)
    assert good_enough([unknown, JPEG], 0) == [unknown, JPEG]


times = st.floats(0, 300).map(lambda value: round(value, 1))
ways = st.lists(
    st.builds(
        Candidate, name=st.just("x"), kind=st.sampled_from(["local", "image", "split"]), head_ms=times,
        tail_ms=times, bytes_mean=st.sampled_from([0.0, 100.0, 2e3, 2.5e3, 4e4, 1e6]),
        exit_rate=st.sampled_from([0.0, 0.25, 1.0]),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(ways, st.floats(0, 100), st.floats(3, 9.5))
def test_at_every_bandwidth_the_one_who_reigns_is_the_fastest(
    candidates: list[Candidate], rtt: float, exponent: float
):
    found = reigns(candidates, rtt)
    assert found[0].from_bits == 0
    assert math.isinf(found[-1].to_bits)
    assert all(a.to_bits == b.from_bits for a, b in itertools.pairwise(found))
    link = Link(10**exponent, rtt)
    (king,) = [r.candidate for r in found if r.from_bits <= link.bits_per_second < r.to_bits]
    assert king.total_ms(link) <= min(item.total_ms(link) for item in candidates) + 1e-6


def test_bandwidths_and_times_are_read_and_written():
    assert parse_bandwidth("1Mbit/s") == 1e6
    assert parse_bandwidth(" 250 kbit/s") == 250e3
    assert bandwidth(parse_bandwidth("1.5Gbit/s")) == "1.5 Gbit/s"
    assert (parse_milliseconds("30ms"), parse_milliseconds("0.1s")) == (30, 100)
    assert span(0, math.inf) == "at every bandwidth"
    for wrong in ("1", "Mbit/s", "0kbit/s", "-1Mbit/s", "1.2.3Mbit/s", "1MB/s"):
        with pytest.raises(UsageError, match="is no bandwidth"):
            parse_bandwidth(wrong)
    for wrong in ("30", "ms", "-1ms", "1..2s"):
        with pytest.raises(UsageError, match="is no time"):
            parse_milliseconds(wrong)


def test_a_profile_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "p.json"
    profile = LatencyProfile("phone", "net", {"a": 1.5, "b": 2.0}, input_shape=(1, 3, 8, 8))
    profile.write(path)
    assert LatencyProfile.read(path) == profile
    profile.require_of("net", (1, 3, 8, 8))
    LatencyProfile("phone", slower=2).require_of("any", (1, 3, 9, 9))
    with pytest.raises(UsageError, match="measured net, not other; measure other there"):
        profile.require_of("other", (1, 3, 8, 8))
    with pytest.raises(UsageError, match="net with the input 1x3x8x8, not 1x3x9x9"):
        profile.require_of("net", (1, 3, 9, 9))
    data = {"format": "edgekit-latency-profile", "version": 1, "device": "phone", "slower": 8,
            "power_w": {"compute": 3, "send": 2, "idle": 1}}  # fmt: skip
    path.write_text(json.dumps(data))
    assert LatencyProfile.read(path).power == Power(3, 2, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "x"}, "no latency profile"),
        ({"slower": -1}, "must be a number from 0"),
        ({"slower": None}, "must be a number from 0"),
        ({"layers": [{"name": "a", "ms": 1}]}, "either 'layers' or 'slower'"),
        ({"layers": [{"name": "a"}]}, "is damaged"),
        ({"layers": [{"name": "a", "ms": 1}] * 2}, "two have one name"),
        ({"power_w": {"compute": 1}}, "is damaged"),
        ({"power_w": []}, "is damaged"),
        ({"model": 5}, "its model is no name"),
        ({"input": [1, "x"]}, "its input is no shape"),
    ],
)
def test_a_profile_that_is_none_gets_a_sentence(tmp_path: Path, change: dict, words: str):
    data = {"format": "edgekit-latency-profile", "version": 1, "device": "phone", "slower": 2}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data | change))
    with pytest.raises(UsageError, match=words):
        LatencyProfile.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        LatencyProfile.read(tmp_path / "missing.json")


def test_the_profile_of_the_page_is_one(tmp_path: Path):
    page = Path(__file__).parents[2] / "docs" / "split-plan.md"
    (example,) = re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "p.json").write_text(example)
    read = LatencyProfile.read(tmp_path / "p.json")
    assert read.total_ms == pytest.approx(0.92)
    assert read.power == Power(3, 1.5, 0.4)
