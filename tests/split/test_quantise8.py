from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coding_cases import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.errors import UsageError
from edgekit.split.quantise8 import Calibration, Range

OFFICIAL = np.load(GOLDEN / "split_quant8.npz")
CASES = [str(name) for name in OFFICIAL["case_names"] if OFFICIAL[f"{name}.bits"] == 8]


def spans_zero(name: str) -> bool:
    x = OFFICIAL[f"{name}.x"]
    return bool(x.min() <= 0 <= x.max() and x.min() < x.max())


@pytest.mark.parametrize("name", [name for name in CASES if spans_zero(name)])
def test_a_tensor_around_zero_gets_the_published_codes_to_the_bit(name: str):
    x = OFFICIAL[f"{name}.x"]
    chosen = Range.of(x)
    codes = chosen.quantise(x)
    assert chosen.scale == OFFICIAL[f"{name}.scale"]
    assert chosen.zero_point == OFFICIAL[f"{name}.zero_point"]
    assert np.array_equal(codes, OFFICIAL[f"{name}.codes"])
    assert np.array_equal(chosen.dequantise(codes), OFFICIAL[f"{name}.dequantised"])


@pytest.mark.parametrize("name", [name for name in CASES if name != "nan" and not spans_zero(name)])
def test_one_sign_constants_and_zeros_keep_their_meaning_where_the_published_formula_fails(
    name: str,
):
    x = OFFICIAL[f"{name}.x"]
    chosen = Range.of(x)
    back = chosen.dequantise(chosen.quantise(x))
    assert np.abs(back - x).max() <= np.abs(x).max() / 255


SINGLES = st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=True)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=3), elements=SINGLES))
def test_any_finite_tensor_comes_back_within_one_step(x: np.ndarray):
    chosen = Range.of(x)
    back = chosen.dequantise(chosen.quantise(x)).astype(np.float64)
    step = max(float(chosen.scale), np.ptp([0, *x.ravel().astype(np.float64)]) / 255)
    assert np.isfinite(back).all()
    assert np.abs(back - x).max() <= step * 1.01
    assert chosen.dequantise(chosen.quantise(np.zeros(3, np.float32))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_without_a_code_get_a_sentence(bad: float):
    x = np.array([[[[0.0, bad], [1.0, 2.0]]]])
    calibration = Calibration((1.0,), (0,))
    for call in (Range.of, Range(np.float32(1), 0).quantise, calibration.quantise):
        with pytest.raises(UsageError, match="1 of 4 values of the bottleneck are not finite"):
            call(x)
    with pytest.raises(UsageError, match="not finite"):
        Calibration.over([x])


def test_a_calibration_has_the_range_of_each_channel_over_all_samples():
    rng = np.random.default_rng(0)
    spread = np.array([0.1, 1, 30]).reshape(1, 3, 1, 1)
    samples = [rng.normal(0, 1, (2, 3, 4, size)) * spread for size in (5, 6)]
    calibration = Calibration.over(samples)
    for x in samples:
        back = np.stack([calibration.dequantise(codes) for codes in calibration.quantise(x)])
        halves = np.array(calibration.scales).reshape(1, 3, 1, 1) / 2
        # Rounding the zero point may push one end of the range out by another half step.
        assert (np.abs(back - x) <= 2.01 * halves).all()
    low, high = samples[0][:, 2].min(), samples[0][:, 2].max()
    low, high = min(low, samples[1][:, 2].min()), max(high, samples[1][:, 2].max())
    assert calibration.scales[2] == pytest.approx((high - low) / 255)


def test_a_calibration_of_the_whole_tensor_has_one_range():
    x = np.array([-1.0, 2.0]).reshape(1, 2, 1, 1)
    calibration = Calibration.over([x], per_channel=False)
    assert len(set(calibration.scales)) == len(set(calibration.zero_points)) == 1
    assert calibration.scales[0] == pytest.approx(3 / 255)


def test_values_of_other_channels_get_a_sentence():
    calibration = Calibration((1.0, 1.0), (0, 0))
    for shape in ((1, 3, 3), (3, 3, 3), (2, 3), (2, 1, 1, 1)):
        with pytest.raises(UsageError, match="has 2 channels"):
            calibration.quantise(np.zeros(shape))


def test_values_beyond_the_calibration_saturate_and_channels_of_zeros_stay_zero():
    calibration = Calibration.over([np.array([0.0, 1.0]).reshape(1, 2, 1, 1)])
    codes = calibration.quantise(np.array([3e38, -3e38]).reshape(2, 1, 1))
    assert codes.ravel().tolist() == [255, 0]
    assert calibration.dequantise(np.zeros((1, 1, 1), np.uint8)).item() == 0


def test_samples_that_do_not_fit_each_other_get_a_sentence():
    with pytest.raises(UsageError, match="at least one sample"):
        Calibration.over([])
    with pytest.raises(UsageError, match="not N C H W"):
        Calibration.over([np.zeros((2, 2))])
    with pytest.raises(UsageError, match="not N 2 H W"):
        Calibration.over([np.zeros((1, 2, 1, 1)), np.zeros((1, 3, 1, 1))])


def test_a_calibration_comes_back_from_its_file_and_changes_are_found(tmp_path: Path):
    file = tmp_path / "calibration.json"
    calibration = Calibration.over([np.random.default_rng(1).normal(size=(2, 5, 3, 3))])
    calibration.write(file)
    assert Calibration.read(file) == calibration
    text = file.read_text()
    file.write_text(text.replace('"zero_points":[', '"zero_points":[1,').replace("],", ",1],", 1))
    with pytest.raises(UsageError, match="changed"):
        Calibration.read(file)
    file.write_text(text.replace('"scales":[', '"scales":[0,'))
    with pytest.raises(UsageError, match="one scale and zero point for each channel"):
        Calibration.read(file)
    file.write_text(text.replace("calibration", "tables"))
    with pytest.raises(UsageError, match="holds no calibration"):
        Calibration.read(file)
