"""What may be asked of pruning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from edgekit.data_folder import suggestion
from edgekit.errors import UsageError

Importance = Literal["output", "magnitude", "fpgm", "taylor", "random"]
"""Which channels of a group go first. `output`: those whose loss changes the output least (needs only inputs).
Of Torch-Pruning: `magnitude` of weights, `fpgm` (nearest to the others), `taylor` (weight times gradient)."""
Ratios = Literal["scan", "importance", "uniform"]
"""How much goes where. `scan`: by the output error of each group pruned alone, measured; `importance`: by the sum
of what goes; `uniform`: the same share everywhere."""
Cost = Literal["macs", "latency"]
Loss = Callable[[Any, Any], Tensor]
"""The network's output and the batch of data to a number, where there are labels."""


@dataclass(frozen=True)
class PruneOptions:
    keep: float = 0.5
    """The most that may be left of `of`: a share of the whole network's, above 0 and below 1."""
    of: Cost = "macs"
    """`macs` of convolutions and linear layers, or their `latency` in onnxruntime on this machine, one thread, by
    a table that is measured layer by layer."""
    round_to: int = 16
    """Channel counts change by multiples: kernels work on blocks of 16 (AVX-512) or 8 (AVX2) channels, and 63 are
    slower than 64."""
    importance: Importance = "output"
    ratios: Ratios = "scan"
    least: float = 0.125
    """The share of each group that stays in any case."""
    ignored: tuple[str, ...] = ()
    """Paths of modules whose channels stay; one stands for all within it."""
    loss: Loss | None = None
    """In place of the output error, for `scan`, `taylor` and `output`. Batches are then tuples, inputs first."""

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise UsageError(
                f"keep is {self.keep:g}; it is the share that stays, above 0 and below 1, such as 0.5."
            )
        if not 0 < self.least <= 1:
            raise UsageError(f"least is {self.least:g}; it is a share above 0 and up to 1.")
        if self.round_to < 1:
            raise UsageError(f"round_to is {self.round_to}; it must be 1 or more.")
        for field, kinds in (("importance", Importance), ("ratios", Ratios), ("of", Cost)):
            value = getattr(self, field)
            if value not in get_args(kinds):
                raise UsageError(
                    f"There is no {field} '{value}'; {suggestion(value, get_args(kinds))}"
                )
