"""Weights of a converted Core ML model as a few shared values each: a palette, and an index for each weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.backends.coreml.quiet import import_coremltools

Weights = npt.NDArray[np.floating[Any]]
LEAST_WEIGHTS = 2048
"""Smaller weights stay as they are: a palette of their own would not pay."""
GROUP = 8
"""Output channels that share a palette."""
ROUNDS = 40


def with_palettes(model: Any, bits: int, *, grouped: bool) -> Any:
    """The converted model with a palette of 2^bits values for each weight or, `grouped`, for every eight
    output channels, which iOS 18 and later read; weights of other channels then have one each all the same."""
    import_coremltools()
    from coremltools.optimize import coreml

    def lookup(weight: Weights) -> tuple[Weights, npt.NDArray[np.uint8]]:
        return palette(weight, bits)

    for granularity in ("per_grouped_channel", "per_tensor") if grouped else ("per_tensor",):
        config = coreml.OpPalettizerConfig(
            mode="custom", lut_function=lookup, weight_threshold=LEAST_WEIGHTS,
            granularity=granularity, group_size=GROUP,
        )  # fmt: skip
        model = coreml.palettize_weights(model, coreml.OptimizationConfig(global_config=config))
    return model


def palette(weight: Weights, bits: int) -> tuple[Weights, npt.NDArray[np.uint8]]:
    """The 2^bits values of the least square error that k-means finds, and the index of each weight.

    In one dimension clusters are stretches of the sorted weights, so that a step is two searches and a sum;
    it begins with as many weights in each. coremltools' own needs scikit-learn for single precision.
    """
    ordered = np.sort(weight.astype(np.float64), axis=None)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = 2**bits
    centres = ordered[((np.arange(count) + 0.5) / count * len(ordered)).astype(int)]
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(sizes, 1)
        moved = np.sort(np.where(sizes > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    values = centres.astype(weight.dtype)
    indices = np.searchsorted((values[1:] + values[:-1]) / 2, weight.ravel())
    return values, indices.reshape(weight.shape).astype(np.uint8)
