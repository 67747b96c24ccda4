from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import asset_or_skip
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from srvgg_weights import HALF_TAG, state_dict


class Compact(nn.Module):
    """SRVGGNetCompact of Real-ESRGAN: 64 channels, 16 inner convolutions, x4."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.PReLU(64)]
        for _ in range(16):
            layers += [nn.Conv2d(64, 64, 3, padding=1), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, 48, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        nearest = F.interpolate(picture, scale_factor=4, mode="nearest")
        return F.pixel_shuffle(self.body(picture), 4) + nearest


PARAM = """7767517
3 3
Input       in   0 1 a
Convolution conv 1 1 a b 0=1 1=3 4=1 5=1 6=9
PReLU       act  1 1 b c 0=1
"""


def blob(*, half: bool) -> bytes:
    weights = np.arange(9)
    padding = b"\0\0" if half else b""
    return (
        np.uint32(HALF_TAG if half else 0).tobytes()
        + weights.astype("<f2" if half else "<f4").tobytes()
        + padding
        + np.float32([0.5, 0.25]).tobytes()
    )


@pytest.mark.parametrize("half", [True, False])
def test_half_and_float_weights_are_read_with_their_padding(half: bool) -> None:
    state = state_dict(PARAM, blob(half=half))
    np.testing.assert_array_equal(state["body.0.weight"], np.arange(9.0).reshape(1, 1, 3, 3))
    assert (state["body.0.bias"], state["body.1.weight"]) == ([0.5], [0.25])


@pytest.mark.parametrize(
    ("param", "content", "reason"),
    [
        (PARAM, blob(half=True) + b"1234", "of 36 bytes were used"),
        (PARAM, blob(half=True)[:-4], "ends at byte"),
        (PARAM, b"\1" + blob(half=True)[1:], "the tag 0x01306B01"),
        ("layers", b"", "no ncnn .param file"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    param: str, content: bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        state_dict(param, content)


@pytest.fixture(scope="module")
def network() -> Compact:
    param, content = asset_or_skip("srvgg_param"), asset_or_skip("srvgg_bin")
    state = state_dict(param.read_text(), content.read_bytes())
    module = Compact()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return module.eval()


def test_every_parameter_of_the_network_is_in_the_files(network: Compact) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 621_424


@torch.inference_mode()
def test_the_network_enlarges_a_photo_faithfully_and_as_sharp_as_the_original(
    network: Compact,
) -> None:
    from PIL import Image

    photo = Image.open(asset_or_skip("flower")).convert("RGB").crop((900, 400, 1412, 912))
    original = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    small = F.interpolate(original, scale_factor=0.25, mode="area")
    enlarged = network(small)

    # Trained against a discriminator: sharper than any interpolation, at a lower PSNR than bilinear.
    assert psnr_db(enlarged, original) > 28
    assert psnr_db(F.interpolate(enlarged, scale_factor=0.25, mode="area"), small) > 30
    bilinear = F.interpolate(small, scale_factor=4, mode="bilinear")
    assert edges(bilinear) < 0.7 * edges(original)
    assert edges(enlarged) == pytest.approx(edges(original), rel=0.2)


def edges(picture: Tensor) -> float:
    """Mean absolute difference of neighbours along a row."""
    return float((picture[..., 1:] - picture[..., :-1]).abs().mean())


def psnr_db(result: Tensor, original: Tensor) -> float:
    return float(-10 * torch.log10((result - original).square().mean()))
