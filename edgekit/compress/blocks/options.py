"""What may be asked of block sparsity."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgekit.errors import UsageError


@dataclass(frozen=True)
class SecondOrder:
    """By a second-order estimate of what leaving blocks out does to the output; needs inputs, no labels."""

    power: float = 1.0
    """Weight of the power that blocks which stay would draw, in units in which it is about as steep as the
    estimate; 0: distortion alone."""
    least: float = 0.05
    """The share of each layer's blocks that goes in any case."""

    def __post_init__(self) -> None:
        if self.power < 0 or not 0 <= self.least < 1:
            raise UsageError("power must be 0 or more, and least a share from 0 to below 1.")


@dataclass(frozen=True)
class Magnitude:
    """The blocks of the smallest weights, the same share of each layer."""


@dataclass(frozen=True)
class BlockOptions:
    keep: float = 0.5
    """The most that may be left of the multiply-accumulates of the layers that take part: above 0 and below 1."""
    block: tuple[int, int] = (32, 32)
    """Outputs and inputs that a block of a weight spans."""
    by: SecondOrder | Magnitude = field(default_factory=SecondOrder)
    ignored: tuple[str, ...] = ()
    """Paths of modules whose weights stay; one stands for all within it."""

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise UsageError(
                f"keep is {self.keep:g}; it is the share that stays, above 0 and below 1, such as 0.5."
            )
        if min(self.block) < 2:
            raise UsageError(
                f"Blocks of {self.block[0]}x{self.block[1]} are none; give two sides of 2 or more, such as 32x32."
            )
