"""What a quantised file may cost, and how near the float model it has to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from edgekit.errors import UsageError
from edgekit.plan.choose import parse_bytes

Cost = Literal["size", "latency"]


@dataclass(frozen=True)
class Budget:
    of: Cost
    most: float | None
    """Bytes of the model's files, or milliseconds of a run in onnxruntime with one thread. None: as little as
    the floor allows."""
    min_psnr_db: float | None = None
    """Of the worst output, as a mean over inputs held out. None: as much as `most` allows."""
    bits: tuple[int, ...] = ()
    """Of weights, to choose from; (): all that make a difference in the target's files up to the options' own."""
    float_share: float = 0.1
    """Of the multiply-accumulates, that a size may leave in floats; a latency says so itself."""
    measured_on: int = 4
    """Inputs that single layers' errors are measured on."""

    def __post_init__(self) -> None:
        if self.most is None and self.min_psnr_db is None:
            raise UsageError(
                f"Least {self.of} of what quality? Say how much it may be (--budget {self.of}=…) or the floor "
                "(--min-psnr)."
            )
        if self.min_psnr_db is not None and not 0 < self.min_psnr_db < math.inf:
            raise UsageError(f"A floor of {self.min_psnr_db} dB is none: give a number above 0.")

    @property
    def most_noise(self) -> float | None:
        return None if self.min_psnr_db is None else 10 ** (-self.min_psnr_db / 10)


def parse_budget(text: str, min_psnr_db: float | None) -> Budget:
    """ "size=1MB", "latency=5ms", or with a floor only "size" or "latency". Raises UsageError."""
    of, equals, most = text.partition("=")
    if of not in get_args(Cost) or (equals and not most):
        raise UsageError(f"'{text}' is no budget, such as size=1MB or latency=5ms.")
    if not equals:
        return Budget(cast("Cost", of), None, min_psnr_db)
    return Budget(
        cast("Cost", of), parse_bytes(most) if of == "size" else _parse_ms(most), min_psnr_db
    )


def _parse_ms(text: str) -> float:
    try:
        found = float(text.strip().removesuffix("ms"))
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise UsageError(f"'{text}' is no time, such as 5ms.")
    return found
