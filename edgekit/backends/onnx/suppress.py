"""`edgekit::suppress` as ONNX: the standard NonMaxSuppression, and what gives its result one shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
from onnxscript import opset18 as op

FLOAT = onnx_ir.DataType.FLOAT.value


def suppress(
    boxes: Any, scores: Any, score: float, iou: float, limit: int, best_class_only: bool
) -> Any:
    """The operator chooses rows (picture, class, box); of these the best `limit`, padded with label -1."""
    if best_class_only:
        raise NotImplementedError("ONNX's operator judges each class by itself")
    first, most = _integers(0), _integers(limit)
    corners = op.Cast(boxes, to=FLOAT)
    columns = op.Transpose(op.Cast(scores, to=FLOAT), perm=[0, 2, 1])
    chosen = op.NonMaxSuppression(corners, columns, most, _float(iou), _float(score))
    _, label, box = op.Split(chosen, num_outputs=3, axis=1)
    rows = op.Gather(op.Squeeze(corners, first), op.Squeeze(box, _integers(1)), axis=0)
    found = op.GatherND(columns, chosen)
    free = (np.zeros(limit, np.float32), np.zeros((limit, 4), np.float32))
    none = np.full((limit, 1), -1, np.int64)
    best, place = op.TopK(op.Concat(found, _constant(free[0]), axis=0), most, axis=0)
    shown = op.Gather(op.Concat(rows, _constant(free[1]), axis=0), place, axis=0)
    labels = op.Gather(op.Concat(label, _constant(none), axis=0), place, axis=0)
    return op.Unsqueeze(shown, first), op.Unsqueeze(best, first), op.Transpose(labels, perm=[1, 0])


def _integers(value: int) -> Any:
    return _constant(np.array([value], np.int64))


def _float(value: float) -> Any:
    return _constant(np.array([value], np.float32))


def _constant(value: npt.NDArray[np.generic]) -> Any:
    return op.Constant(value=onnx_ir.to_proto(onnx_ir.tensor(value)))
