"""Multiply-accumulates of a kernel, from shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Shape = Sequence[int]

FILTERS: Mapping[str, int] = {
    "Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1,
}  # fmt: skip
"""Convolutions, with the place of their filters among a node's inputs."""
GEMMS = {"Gemm", "FusedGemm", "QGemm"}
"""Products of two matrices, whose first may be given transposed."""
PRODUCTS = {
    "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
}  # fmt: skip


def macs(operator: str, source: Shape, filters: Shape | None, result: Shape) -> int:
    """0 for operators that do not multiply matrices.

    `source` is a kernel's first input and `filters` those of a convolution, counted as the kernel has
    them, with what its layout adds to fill blocks of channels.
    """
    if operator in FILTERS and filters is not None:
        return math.prod(source if operator == "ConvTranspose" else result) * math.prod(filters[1:])
    if operator in GEMMS and result:
        return math.prod(source) * result[-1]
    if operator in PRODUCTS and source:
        return math.prod(result) * source[-1]
    return 0
