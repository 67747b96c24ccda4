"""Every kind of picture that people have becomes upright RGB, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError

RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (100, 100, 100)


def saved(folder: Path, image: Image.Image, name: str = "p.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        (Image.new("L", (3, 2), 100), "grey.png", GREY),
        (Image.new("1", (3, 2), 1), "bits.png", (255, 255, 255)),
        (Image.new("LA", (3, 2), (100, 255)), "grey-alpha.png", GREY),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 255)), "opaque.png", RED),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), "clear.png", (255, 255, 255)),
        (Image.new("RGB", (3, 2), RED).quantize(4), "palette.png", RED),
        (Image.new("RGB", (3, 2), RED).quantize(4), "palette.gif", RED),
        (Image.fromarray(np.full((2, 3), 100 * 256 + 7, np.uint16)), "deep.png", GREY),
        (Image.fromarray(np.full((2, 3), 100 * 256 + 7, np.uint16)), "deep.tiff", GREY),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "print.tiff", RED),
        (Image.new("HSV", (3, 2), (0, 255, 255)).convert("RGB"), "hsv.bmp", RED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_modes_become_rgb(tmp_path: Path, image: Image.Image, name: str, colour: tuple) -> None:
    picture = read_picture(saved(tmp_path, image, name))
    assert (picture.mode, picture.size) == ("RGB", (3, 2))
    assert picture.getpixel((1, 1)) == colour


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    picture = read_picture(saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "p.jpg"))
    red, green, blue = picture.getpixel((4, 4))
    assert red > 240
    assert green < 20
    assert blue < 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (6, 4), (0, 0, 255))
    upright.putpixel((0, 0), RED)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(saved(tmp_path, stored, exif=exif))
    assert picture.size == (6, 4)
    assert picture.getpixel((0, 0)) == RED


def test_the_smallest_picture_is_a_picture(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path, Image.new("L", (1, 1)))).size == (1, 1)


@pytest.mark.slow
def test_a_hundred_megapixels_are_read_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = saved(tmp_path, Image.new("L", (10_000, 10_000)))
    assert read_picture(path).size == (10_000, 10_000)
    assert not recwarn.list


def test_a_bomb_is_one_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("1", (15_000, 15_000)))
    with pytest.raises(UsageError, match=r"has more than 178 megapixels; make it smaller first\."):
        read_picture(path)


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    whole = saved(tmp_path, Image.effect_noise((64, 64), 50), "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "real.tiff")
    for name, words in {
        "missing.png": "There is no picture",
        "cut.png": "is damaged or cut short",
        "text.jpg": "is no picture that Pillow reads",
        "empty.jpg": "is no picture that Pillow reads",
        "real.tiff": "holds real numbers without a scale",
        ".": "is a folder",
    }.items():
        with pytest.raises(UsageError, match=words) as caught:
            read_picture(tmp_path / name)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)
