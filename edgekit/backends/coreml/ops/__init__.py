"""MIL operators as functions on torch tensors, named and parametrised as in coremltools.

Floating values are float32 tensors whatever the program declares; the interpreter does the
rounding. Integers of any width are int32 tensors.
"""

from __future__ import annotations

from edgekit.backends.coreml.ops import (
    activation,
    convolution,
    creation,
    detection,
    elementwise,
    indexing,
    linear,
    normalisation,
    pool,
    quantisation,
    reduction,
    resize,
    shape,
    sorting,
)
from edgekit.backends.coreml.ops.registry import OPS, Op

__all__ = [
    "OPS",
    "Op",
    "activation",
    "convolution",
    "creation",
    "detection",
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "pool",
    "quantisation",
    "reduction",
    "resize",
    "shape",
    "sorting",
]
