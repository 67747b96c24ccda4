"""A picture file of any kind, read as upright RGB."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgekit.errors import UsageError, first_line

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
LARGEST_MEGAPIXELS = 178
"""Beyond it Pillow refuses a file as a decompression bomb."""
PAPER = (255, 255, 255)
"""What transparent parts lie on."""


def picture_files(folder: Path) -> list[Path]:
    """Those that lie in a folder, by name. Raises UsageError if there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of pictures.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}).")
    return files


def read_picture(
    path: Path,
    *,
    upright: bool = True,
    prepared: Callable[[Image.Image], None] = lambda _file: None,
) -> Image.Image:
    """The first frame in 8 bits per colour, turned as its EXIF orientation says, or as it is stored.

    `prepared` is given the opened file before its pixels are decoded.

    Raises UsageError for a file that cannot be read, is cut short, or is no picture.
    """
    if not path.exists():
        raise UsageError(f"There is no picture {path}.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give one picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs from 89 megapixels on, and of odd EXIF
            with Image.open(path) as file:
                prepared(file)
                file.load()
                return _eight_bit(_upright(file) if upright else file, path)
    except UnidentifiedImageError as error:
        raise UsageError(f"{path} is no picture that Pillow reads.") from error
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{path} has more than {LARGEST_MEGAPIXELS} megapixels; make it smaller first."
        ) from error
    except MemoryError as error:
        raise UsageError(f"{path} does not fit into memory; make it smaller first.") from error
    # Decoders of damaged files raise OSError, SyntaxError, ValueError, EOFError, struct.error ...
    except UsageError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UsageError(f"The picture {path} is damaged or cut short: {reason}.") from error


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # damaged EXIF is no reason to refuse a picture that can be seen
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "F":
        raise UsageError(f"{path} holds real numbers without a scale; save it with 8 or 16 bits.")
    if image.mode.startswith("I"):  # 16 bits, some of them held in 32
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UsageError(f"{path} holds 32-bit numbers; save it with 8 or 16 bits.")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return (
        image if image.mode == "RGB" else image.convert("RGB")
    )  # a copy of a large one costs as much as decoding it
