from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contract import TensorSpec
from edgekit.parity.compare import compare, cosine_similarity, psnr_db
from edgekit.report import Gate, OutputParity, Report

GATE = Gate(60.0)
RNG = np.random.default_rng(0)
VALUE = RNG.normal(size=(2, 3, 4)).astype(np.float32)


def judge(
    expected: np.ndarray, actual: np.ndarray, gate: Gate = GATE, **spec: Any
) -> tuple[Report, OutputParity]:
    specs = (TensorSpec("y", expected.shape, str(expected.dtype), **spec),)
    report = compare({"y": expected}, {"y": actual}, specs, gate, "a runtime")
    return report, report.outputs[0]


def test_equal_outputs_pass_with_an_infinite_psnr() -> None:
    report, output = judge(VALUE, VALUE.copy())
    assert report.passed
    assert (output.psnr_db, output.max_abs, output.mean_abs) == (math.inf, 0.0, 0.0)
    assert output.cosine == pytest.approx(1.0)


def test_psnr_is_measured_against_the_declared_range() -> None:
    expected = np.zeros((10, 10), np.float32)
    _, output = judge(expected, expected + np.float32(0.01), low=-1.0, high=1.0)
    assert output.psnr_db == pytest.approx(20 * math.log10(2.0 / 0.01), abs=1e-4)
    assert output.passed is (output.psnr_db >= 60.0) is False


def test_without_a_declared_range_the_peak_is_the_largest_magnitude_expected() -> None:
    expected = np.array([-4.0, 1.0])
    assert psnr_db(expected, expected + 0.4) == pytest.approx(20.0)


def test_a_psnr_below_the_gate_fails_and_says_both_numbers() -> None:
    report, output = judge(VALUE, VALUE + 0.1)
    assert not report.passed
    assert "below the gate of 60 dB" in output.reason


def test_a_difference_too_small_for_single_precision_sums_is_still_measured() -> None:
    expected = np.full(1_000_000, 1000.0)
    _, output = judge(expected, expected + 1e-6)
    assert output.mean_abs == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_of_the_file_that_is_not_finite_fails_with_its_count(bad: float) -> None:
    actual = VALUE.copy()
    actual[0, 0, :2] = bad
    report, output = judge(VALUE, actual)
    assert not report.passed
    assert output.reason == "2 of 24 values of the file are NaN or Inf."


def test_a_model_that_gives_nan_itself_is_not_blamed_on_the_file() -> None:
    broken = np.full(3, np.nan)
    _, output = judge(broken, broken)
    assert not output.passed
    assert "of the model" in output.reason


def test_integers_must_be_equal_and_the_reason_counts_those_that_differ() -> None:
    classes = np.arange(10, dtype=np.int64)
    assert judge(classes, classes.astype(np.int32))[0].passed
    report, output = judge(classes, np.where(classes == 3, 4, classes), Gate(0.0))
    assert not report.passed
    assert output.reason == "1 of 10 integers differ."


def test_a_gate_may_let_a_share_of_the_integers_differ() -> None:
    classes = np.arange(100, dtype=np.int64)
    one, two = (np.where(classes < count, 200, classes) for count in (1, 2))
    gate = Gate(0.0, integers_differ=0.01)
    assert judge(classes, one, gate)[0].passed
    assert not judge(classes, two, gate)[0].passed


def test_integers_that_differ_beyond_double_precision_differ() -> None:
    large = np.array([2**53], dtype=np.int64)
    assert not judge(large, large + 1, Gate(0.0))[0].passed


def test_another_shape_is_a_failure_with_both_shapes() -> None:
    report, output = judge(VALUE, VALUE.reshape(2, 12))
    assert not report.passed
    assert "(2, 12)" in output.reason
    assert "(2, 3, 4)" in output.reason


def test_a_missing_output_is_a_failure_that_lists_what_is_there() -> None:
    specs = (TensorSpec("y", (1,)),)
    one = np.ones(1)
    report = compare({"y": one}, {"z": one}, specs, Gate(50.0), "a runtime")
    assert not report.passed
    assert "it has: z" in report.outputs[0].reason
    assert report.notes == ("not compared, because undeclared: z",)


def test_nothing_to_compare_is_no_success() -> None:
    assert not compare({}, {}, (), Gate(50.0), "a runtime").passed


def test_cosine_of_zeros_is_one_with_zeros_and_zero_with_anything_else() -> None:
    assert cosine_similarity(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine_similarity(np.zeros(3), np.ones(3)) == 0.0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.floats(0.001, 10))
def test_numbers_equal_those_of_the_definition(values: list[float], shift: float) -> None:
    expected = np.array(values)
    actual = expected + np.linspace(0, shift, len(values))
    _, output = judge(expected, actual, low=0.0, high=255.0)
    differences = [abs(a - e) for a, e in zip(actual.tolist(), values, strict=True)]
    squares = sum(d * d for d in differences) / len(values)
    assert output.max_abs == pytest.approx(max(differences))
    assert output.mean_abs == pytest.approx(sum(differences) / len(values))
    assert output.psnr_db == pytest.approx(10 * math.log10(255.0**2 / squares))
