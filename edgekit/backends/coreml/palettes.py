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
    """The 2^bits values of the least square error, and the index of each weight.

    By coremltools' own k-means of one dimension, which is exact; it asks scikit-learn instead for weights in
    single precision, which is why it is called here. They are rounded to half precision first, so that there
    are few different ones.
    """
    import_coremltools()
    from coremltools._deps import _kmeans1d

    rounded, places, counts = np.unique(
        weight.astype(np.float16), return_inverse=True, return_counts=True
    )
    used = min(2**bits, len(rounded))
    found = _kmeans1d.cluster(rounded.astype(np.float64), used, weights=counts)
    values = np.zeros(2**bits, weight.dtype)
    values[:used] = found.centroids
    indices = np.array(found.clusters, np.uint8)[places.reshape(weight.shape)]
    return values, indices
