"""Names of the classes of the two public box data sets, and of a recipe's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Of the category ids 1 to 90: announced for COCO and never annotated."""
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def _by_category_id() -> tuple[str, ...]:
    rest = iter(COCO)
    return tuple("" if number in _UNUSED_COCO_IDS else next(rest) for number in range(1, 91))


NAMED = {"coco": COCO, "coco-90": _by_category_id(), "voc": VOC}
"""Column to name; "" for a column that stands for no class."""


def class_names(given: str | Sequence[str], folder: Path) -> tuple[str, ...]:
    """Of a recipe's `names`: a list, a known set, or a file in `folder` with one name a line.

    Raises ValueError.
    """
    if not isinstance(given, str):
        names = tuple(given)
    elif given in NAMED:
        names = NAMED[given]
    else:
        try:
            names = tuple((folder / given).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"'names' is {given!r}: neither {', '.join(NAMED)}, nor a list, nor a text file beside the recipe"
            ) from error
    if not all(isinstance(name, str) for name in names):
        raise ValueError("'names' must be a list of strings")
    names = tuple(name.strip() for name in names)
    used = [name for name in names if name]
    if twice := next((name for name in used if used.count(name) > 1), None):
        raise ValueError(f"'names' has {twice!r} twice")
    return names
