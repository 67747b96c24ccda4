from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contract import Size
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits, Picture

UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_classifier_takes_an_image_and_gives_scores() -> None:
    contract = ImageContract(224, 224, 1, "RGB", *IMAGENET, Logits(1000))
    image, (logits,) = contract.specs(96, None, None)
    assert (image.name, image.shape, image.axes) == ("image", (1, 3, 96, 224), "NCHW")
    assert (logits.name, logits.shape, logits.axes) == ("logits", (1, 1000), "NC")
    assert logits.span is None


def test_the_range_of_an_image_is_that_of_its_normalised_colours() -> None:
    image, _ = ImageContract(8, 8, 1, "BGR", *IMAGENET, Logits(2)).specs(None, None, None)
    assert image.low == pytest.approx(-0.485 / 0.229)
    assert image.high == pytest.approx((1 - 0.406) / 0.225)
    assert image.meaning.startswith("BGR, (x - mean) / std of x in [0, 1], mean 0.485, 0.456")


def test_a_restorer_gives_a_picture_of_the_declared_scale() -> None:
    contract = ImageContract(8, 12, 4, "RGB", *UNIT, Picture(4))
    image, (picture,) = contract.specs(None, 16, None)
    assert (image.shape, picture.shape) == ((1, 3, 8, 16), (1, 3, 32, 64))
    assert (image.low, image.high, picture.low, picture.high) == (0, 1, 0, 1)
    assert image.meaning == "RGB, values in [0, 1]"


def test_frames_are_refused() -> None:
    contract = ImageContract(8, 8, 1, "RGB", *UNIT, Picture(1))
    with pytest.raises(UsageError, match="takes one image and makes no video; leave --frames away"):
        contract.specs(None, None, 5)


@given(st.integers(-4, 70), st.integers(-4, 70), st.integers(1, 9))
def test_sizes_are_multiples_of_the_stride_and_come_back_from_shapes(
    height: int, width: int, stride: int
) -> None:
    contract = ImageContract(stride, stride, stride, "RGB", *UNIT, Picture(2))
    fits = all(side > 0 and side % stride == 0 for side in (height, width))
    try:
        image, _ = contract.specs(height, width, None)
    except UsageError as error:
        assert not fits
        nearest = int(str(error).rstrip(".").rpartition(" ")[2])
        assert nearest > 0
        assert nearest % stride == 0
    else:
        assert fits
        assert contract.size_of(image.shape) == Size(height, width, None)


def test_a_shape_that_is_no_image_has_no_size() -> None:
    contract = ImageContract(8, 8, 1, "RGB", *UNIT, Logits(2))
    with pytest.raises(UsageError, match="is no image N C H W"):
        contract.size_of((1, 3, 2, 8, 8))


def test_what_is_declared_is_strict_data() -> None:
    declared = ImageContract(8, 8, 1, "RGB", *IMAGENET, Logits(7)).declared()
    assert declared == {
        "image": {
            "order": "RGB",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "output": {"kind": "logits", "classes": 7},
        }
    }
