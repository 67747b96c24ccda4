"""Weights of a converted Core ML model without their zeros: the other values, and a bit for each that says which they are."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from edgekit.backends.coreml.quiet import import_coremltools
from edgekit.program.program import Program

LEAST_WEIGHTS = 2048
"""Smaller weights stay as they are."""
LEAST_ZEROS = 0.3
"""Share of a weight from which it is stored so; in half precision the bits are a sixteenth of it."""


def has_many_zeros(program: Program) -> bool:
    """Whether a weight of the program is one to be stored so."""
    exported = program.exported
    tensors = (*exported.state_dict.values(), *exported.constants.values())
    return any(
        getattr(tensor, "ndim", 0) > 1
        and tensor.numel() > LEAST_WEIGHTS
        and int(tensor.count_nonzero()) <= (1 - LEAST_ZEROS) * tensor.numel()
        for tensor in tensors
    )


def without_zeros(model: Any) -> Any:
    """The converted model, which computes the same: no value is changed."""
    import_coremltools()
    from coremltools.optimize import coreml

    config = coreml.OpThresholdPrunerConfig(
        minimum_sparsity_percentile=LEAST_ZEROS, weight_threshold=LEAST_WEIGHTS
    )
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        return coreml.prune_weights(model, coreml.OptimizationConfig(global_config=config))
