"""Eight bits for the bottleneck of a head without an entropy model.

The dynamic quantiser takes its range from the tensor at hand (Jacob et al. 2018, as BottleFit uses
it): a reduction over the whole tensor on the device, and five more bytes on the wire. The
calibrated one has a fixed range for each channel, found once; it exports as one multiplication and
one rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError
from edgekit.split.sealed import Kind, read_sealed, write_sealed

Floats = npt.NDArray[np.floating]
Singles = npt.NDArray[np.float32]
Scales = np.float32 | Singles
Codes = npt.NDArray[np.uint8]
LARGEST = 255
LARGEST_SINGLE = np.finfo(np.float32).max
SMALLEST_SCALE = np.float32(np.finfo(np.float32).smallest_subnormal)
KIND = Kind("edgekit-calibration", 1, "calibration")


@dataclass(frozen=True)
class Range:
    """A code q stands for `scale * (q - zero_point)`; both as they travel, float32 and uint8."""

    scale: np.float32
    zero_point: int

    @classmethod
    def of(cls, values: Floats) -> Range:
        """From the least and the greatest of `values` and zero, all in float32.

        Where the values touch or cross zero this is the published formula to the bit; values of
        one sign keep their meaning too (the formula saturates them), as do constants and zeros.
        Raises UsageError for values that are not finite.
        """
        values = _finite(values)
        low, high = values.min(initial=0), values.max(initial=0)
        if low == high:
            return cls(np.float32(1), 0)
        with np.errstate(over="ignore"):
            scale = (high - low) / np.float32(LARGEST)
        if np.isinf(scale):  # the span of two float32 may not fit one
            scale = np.float32((float(high) - float(low)) / LARGEST)
        scale = max(scale, SMALLEST_SCALE)
        # Truncated, as published: zero is exact, an extreme value off by up to one scale.
        return cls(scale, int(np.clip(np.float32(0) - low / scale, 0, LARGEST)))

    def quantise(self, values: Floats) -> Codes:
        return _codes(_finite(values), self.scale, np.float32(self.zero_point))

    def dequantise(self, codes: Codes) -> Singles:
        return _values(codes, self.scale, np.float32(self.zero_point))


@dataclass(frozen=True)
class Calibration:
    """A fixed scale and zero point for each channel, found on sample bottlenecks.

    Values beyond what calibration saw saturate. Zero has a code of its own in every channel.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.zero_points) or not self.scales:
            raise UsageError(
                f"A calibration needs one scale and zero point for each channel, not "
                f"{len(self.scales)} and {len(self.zero_points)}."
            )
        with np.errstate(over="ignore", under="ignore"):
            scales = np.asarray(self.scales, np.float32)
        if not np.isfinite(scales).all() or scales.min() <= 0:
            raise UsageError("Scales of a calibration must be finite and above zero.")
        if not all(0 <= point <= LARGEST for point in self.zero_points):
            raise UsageError(f"Zero points of a calibration lie between 0 and {LARGEST}.")

    @classmethod
    def over(cls, samples: Iterable[Floats], per_channel: bool = True) -> Calibration:
        """From the least and greatest value of each channel (or of all) in samples N C H W.

        Raises UsageError if there are none, their channels differ, or values are not finite.
        """
        low = high = None
        for sample in samples:
            values = _finite(sample)
            if values.ndim != 4 or (low is not None and values.shape[1] != low.size):
                expected = "N C H W" if low is None else f"N {low.size} H W"
                raise UsageError(
                    f"A calibration sample has the shape {values.shape}, not {expected}."
                )
            axes = (0, 2, 3)
            low = np.minimum(values.min(axes, initial=0), 0 if low is None else low)
            high = np.maximum(values.max(axes, initial=0), 0 if high is None else high)
        if low is None or high is None:
            raise UsageError("A calibration needs at least one sample.")
        if not per_channel:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        spans = high.astype(np.float64) - low
        scales = np.where(spans > 0, spans / LARGEST, 1.0).astype(np.float32)
        scales = np.maximum(scales, SMALLEST_SCALE)
        points = np.rint(np.clip(-low / scales, 0, LARGEST)).astype(int)
        return cls(tuple(map(float, scales)), tuple(points.tolist()))

    @property
    def channels(self) -> int:
        return len(self.scales)

    def quantise(self, values: Floats) -> Codes:
        """Of values C H W or N C H W. Raises UsageError for others, and what is not finite."""
        if values.ndim not in (3, 4) or values.shape[-3] != self.channels:
            raise UsageError(
                f"The calibration has {self.channels} channels; values of shape {values.shape} "
                "have no C H W of that many."
            )
        scales, points = self._columns(self.channels)
        return _codes(_finite(values), scales, points)

    def dequantise(self, codes: Codes) -> Singles:
        """Of codes k H W for the first k channels."""
        scales, points = self._columns(len(codes))
        return _values(codes, scales, points)

    def _columns(self, count: int) -> tuple[Singles, Singles]:
        column = (count, 1, 1)
        return (
            np.asarray(self.scales[:count], np.float32).reshape(column),
            np.asarray(self.zero_points[:count], np.float32).reshape(column),
        )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the numbers in one binary form, whatever file they came from."""
        hashed = hashlib.sha256(f"{KIND.format} {KIND.version} {self.channels}\n".encode())
        hashed.update(np.asarray(self.scales, "<f4").tobytes() + bytes(self.zero_points))
        return hashed.digest()

    def write(self, path: Path) -> None:
        fields = {"scales": self.scales, "zero_points": self.zero_points}
        write_sealed(path, KIND, self.digest, fields)

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Raises UsageError for a file that is missing, no calibration, or not what was written."""
        sealed = read_sealed(path, KIND)
        calibration = cls(
            tuple(sealed.numbers("scales")), tuple(sealed.whole_numbers("zero_points"))
        )
        sealed.check(calibration.digest)
        return calibration


def _codes(values: Singles, scales: Scales, points: Scales) -> Codes:
    with np.errstate(over="ignore"):  # what lies far outside saturates
        places = points + values / scales
    codes: Codes = np.rint(np.clip(places, 0, LARGEST)).astype(np.uint8)
    return codes


def _values(codes: Codes, scales: Scales, points: Scales) -> Singles:
    """Finite: a scale near the end of float32 times a whole number may pass it."""
    with np.errstate(over="ignore"):
        values: Singles = scales * (codes.astype(np.float32) - points)
    return np.clip(values, -LARGEST_SINGLE, LARGEST_SINGLE)


def _finite(values: Floats) -> Singles:
    with np.errstate(over="ignore"):
        found = np.asarray(values, np.float32)
    wrong = int(found.size - np.count_nonzero(np.isfinite(found)))
    if wrong:
        raise UsageError(
            f"{wrong} of {found.size} values of the bottleneck are not finite numbers in float32, "
            "which have no 8-bit code; look for an overflow in the head (half precision ends at 65504)."
        )
    return found
