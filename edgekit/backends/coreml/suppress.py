"""`edgekit::suppress` as MIL: `non_maximum_suppression` of iOS 17, and the threshold that it lacks.

The operator suppresses boxes under the class they score best at. Scores only order the boxes, so that
those too low can be taken out afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.backends.coreml.quiet import import_coremltools

KIND = "edgekit::suppress"


def register() -> None:
    """Teach coremltools the operator; again does nothing new."""
    import_coremltools()
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    _TORCH_OPS_REGISTRY.set_func_by_name(_translate, KIND)


def _translate(context: Any, node: Any) -> None:
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    boxes, scores, score, iou, limit, best_class_only = _get_inputs(context, node, expected=6)
    if not best_class_only.val:
        raise NotImplementedError("Core ML's operator keeps a box under its best class only")
    most = int(limit.val)
    low, high = (mb.slice_by_size(x=boxes, begin=[0, 0, at], size=[1, -1, 2]) for at in (0, 2))
    size = mb.sub(x=high, y=low)
    centre = mb.add(x=low, y=mb.mul(x=size, y=0.5))
    centred = mb.concat(values=[centre, size], axis=-1)
    columns = mb.transpose(x=scores, perm=[0, 2, 1])
    _, _, chosen = mb.non_maximum_suppression(
        boxes=mb.transpose(x=centred, perm=[0, 2, 1]), scores=columns,
        iou_threshold=float(iou.val), max_boxes=most, per_class_suppression=True,
    )  # fmt: skip
    place = mb.maximum(x=chosen, y=0)
    best = mb.gather(
        x=mb.squeeze(x=mb.reduce_max(x=scores, axes=[-1]), axes=[0]), indices=place, axis=0
    )
    label = mb.gather(
        x=mb.squeeze(x=mb.reduce_argmax(x=scores, axis=-1), axes=[0]), indices=place, axis=0
    )
    rows = mb.gather(x=mb.squeeze(x=boxes, axes=[0]), indices=place, axis=0)
    shown = mb.logical_and(
        x=mb.greater(x=best, y=float(score.val)), y=mb.greater_equal(x=chosen, y=0)
    )
    kept = mb.cast(x=shown, dtype="fp32")
    results = (
        mb.mul(x=mb.cast(x=rows, dtype="fp32"), y=mb.expand_dims(x=kept, axes=[-1])),
        mb.mul(x=mb.cast(x=best, dtype="fp32"), y=kept),
        mb.select(cond=shown, a=label, b=np.full((1, most), -1, np.int32)),
    )
    context.add(results, node.name)
