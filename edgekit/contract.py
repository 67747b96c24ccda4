"""What a tensor at a model's door means: name, shape, axes, range; and the size of a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, as written into every bundle's manifest."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    axes: str = ""
    """One letter per dimension, such as "NCTHW"."""
    low: float | None = None
    high: float | None = None
    """Declared value range; parity in dB is measured against `high - low`."""
    meaning: str = ""

    @property
    def span(self) -> float | None:
        return None if self.low is None or self.high is None else self.high - self.low

    def sentence(self) -> str:
        shape = "x".join(map(str, self.shape))
        span = "" if self.low is None else f" in [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.name} {self.axes} {shape}{span}: {self.meaning}"

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: dict[str, object]) -> TensorSpec:
        shape = data["shape"]
        if not isinstance(shape, list):
            raise ValueError("a tensor contract needs a list of integers as its shape")
        return cls(**{**data, "shape": tuple(int(size) for size in shape)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Size:
    """A picture size in pixels and a number of frames; None takes the recipe's default.

    Of a model at hand, where nothing is left open, `frames` is None for one that takes images.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
