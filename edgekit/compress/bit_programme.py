"""Bits of every layer at once: an integer programme for SciPy's HiGHS.

    x[l, c] = 1    layer l has choice c                     sum over c of x[l, c] = 1
    y[v] = 1       value v is codes                         y[v] >= sum over integer c of x[l, c]   if l needs v
                                                            y[v] <= sum over such l and c of x[l, c]
    cost           sum x[l, c] cost[l, c]                   bytes or milliseconds
    error          sum x[l, c] error[l, c] + sum y[v] error[v]      in each of two metrics

Errors of single layers add up where they are small, as numbers (their squares) and as divergences. Either the
cost is least with an error that is allowed, or the error with a cost that is: then each metric counts in units of
what it would be with most bits everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from edgekit.compress.output_error import NOTHING, OutputError
from edgekit.compress.sensitivity import Sensitivity

GAP = 1e-4
"""Between what was found and what may be best, as a share."""
SECONDS = 30.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    bits: int | None
    """Of a layer's weight; None: it is floats."""
    integer: bool
    """Whether it reads and gives codes."""
    cost: float


@dataclass(frozen=True)
class Limits:
    noise: float | None = None
    """Most, as `OutputError.noise`; None: as little as the cost allows."""
    cost: float | None = None
    float_share: float = 1.0
    """Of the multiply-accumulates, that may stay in floats."""


@dataclass(frozen=True)
class Allocation:
    choices: Mapping[str, Choice]
    """By layer."""
    error: OutputError
    """As the sum of single layers' and values' errors."""
    cost: float
    """Of the layers."""


def allocate(
    found: Sensitivity, choices: Mapping[str, Sequence[Choice]], limits: Limits
) -> Allocation | None:
    """None if nothing meets the limits."""
    rows = _Rows(found, choices)
    meeting = [rows.one_each(), *rows.codes()]
    if limits.noise is not None:
        meeting.append(LinearConstraint(rows.noise[None], ub=limits.noise))
    if limits.cost is not None:
        meeting.append(LinearConstraint(rows.cost[None], ub=limits.cost))
    if limits.float_share < 1:
        most = limits.float_share * sum(layer.macs for layer in found.layers)
        meeting.append(LinearConstraint(rows.float_macs[None], ub=most))
    least = rows.cost if limits.noise is not None else rows.both_errors()
    scale = float(np.abs(least).max()) or 1.0
    solved = milp(
        least / scale, integrality=np.ones(len(least)), bounds=Bounds(0, 1), constraints=meeting,
        options={"mip_rel_gap": GAP, "time_limit": SECONDS},
    )  # fmt: skip
    if solved.x is None:
        return None
    taken = np.round(solved.x)
    chosen = {
        name: choice
        for (name, choice), value in zip(rows.pairs, taken)
        if value and choice is not None
    }
    error = OutputError(float(rows.noise @ taken), float(rows.meaning @ taken))
    return Allocation(chosen, error, float(rows.cost @ taken))


class _Rows:
    """One column for each layer's choice, then one for each value."""

    def __init__(self, found: Sensitivity, choices: Mapping[str, Sequence[Choice]]) -> None:
        self.found = found
        self.values = {name: index for index, name in enumerate(found.values)}
        self.pairs = [
            (layer.name, choice) for layer in found.layers for choice in choices[layer.name]
        ]
        layers = {layer.name: layer for layer in found.layers}
        errors = [
            NOTHING if choice.bits is None else layers[name].errors[choice.bits]
            for name, choice in self.pairs
        ] + list(found.values.values())
        self.noise = np.array([error.noise for error in errors])
        self.meaning = np.array([max(0.0, error.meaning) for error in errors])
        nothing = [0.0] * len(self.values)
        self.cost = np.array([choice.cost for _, choice in self.pairs] + nothing)
        self.float_macs = np.array(
            [0.0 if choice.integer else layers[name].macs for name, choice in self.pairs] + nothing
        )

    def both_errors(self) -> Floats:
        best = {layer.name: max(layer.errors) for layer in self.found.layers}
        plain = NOTHING
        for layer in self.found.layers:
            plain += layer.errors[best[layer.name]]
        for error in self.found.values.values():
            plain += error
        total: Floats = self.noise / (plain.noise or 1.0) + self.meaning / (plain.meaning or 1.0)
        return total

    def one_each(self) -> LinearConstraint:
        rows = {layer.name: index for index, layer in enumerate(self.found.layers)}
        places = [rows[name] for name, _ in self.pairs]
        columns = range(len(self.pairs))
        matrix = csr_array(
            (np.ones(len(places)), (places, columns)), shape=(len(rows), len(self.noise))
        )
        return LinearConstraint(matrix, 1, 1)

    def codes(self) -> list[LinearConstraint]:
        """A value is codes if, and only if, a layer that needs it is an integer kernel."""
        if not self.values:
            return []
        needs = []
        some = np.zeros((len(self.values), len(self.noise)))
        for value, index in self.values.items():
            some[index, len(self.pairs) + index] = 1
            for layer in self.found.layers:
                if value not in layer.values:
                    continue
                row = np.zeros(len(self.noise))
                row[len(self.pairs) + index] = 1
                for column, (name, choice) in enumerate(self.pairs):
                    if name == layer.name and choice.integer:
                        row[column] = some[index, column] = -1
                needs.append(row)
        found = [LinearConstraint(csr_array(np.array(needs)), lb=0)] if needs else []
        return [*found, LinearConstraint(csr_array(some), ub=0)]
