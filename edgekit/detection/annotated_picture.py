"""Pictures as they lie in their annotations: some tools mark them turned upright, others as stored."""

from __future__ import annotations

from PIL import Image

from edgekit.detection.coco_annotations import CocoImage
from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError


def read_annotated(image: CocoImage) -> Image.Image:
    """In RGB. Raises UsageError for a file that cannot be read, and one of another size than annotated."""
    picture = read_picture(image.file)
    declared = (image.width or picture.width, image.height or picture.height)
    if picture.size == declared:
        return picture
    stored = read_picture(image.file, upright=False)
    if stored.size == declared:
        return stored
    raise UsageError(f"{image.file} {another_size(picture.size, declared)}.")


def another_size(found: tuple[int, int], declared: tuple[int, int]) -> str:
    """The end of a sentence, of widths and heights."""
    return (
        f"has {found[0]}x{found[1]} pixels, and its annotations say {declared[0]}x{declared[1]}: it is "
        "another picture"
    )
