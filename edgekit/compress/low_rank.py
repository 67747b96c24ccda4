"""A thin branch in floats beside weights of few bits (SVDQuant, arXiv 2411.05007).

    W  =  up down + R,    R in codes

`up down` holds the largest singular vectors, and with them the outliers, so that the rest has a finer scale.
Which part the codes miss is asked again a few times: the branch then carries what they lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.program.affine import WeightCodes

ROUNDS = 20
"""At most; the first that does not come closer is the last."""


@dataclass(frozen=True)
class LowRank:
    down: Tensor
    """R I: from all inputs of an output (channels and taps) to the rank."""
    up: Tensor
    """O R."""


def with_branch(
    weight: Tensor, rank: int, coded: Callable[[Tensor], WeightCodes]
) -> tuple[WeightCodes, LowRank]:
    """Codes of what a branch of `rank` leaves of a weight O ..., and the branch."""
    matrix = weight.detach().flatten(1)
    target, best, least = matrix, None, float("inf")
    for _ in range(ROUNDS):
        left, sizes, right = torch.linalg.svd(target, full_matrices=False)
        root = sizes[:rank].sqrt()
        branch = LowRank(root[:, None] * right[:rank], left[:, :rank] * root)
        codes = coded((matrix - branch.up @ branch.down).reshape(weight.shape))
        rest = matrix - codes.values().flatten(1)
        error = float((rest - branch.up @ branch.down).square().sum())
        if error >= least:
            break
        target, best, least = rest, (codes, branch), error
    assert best is not None
    return best
