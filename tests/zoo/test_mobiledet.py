from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from golden_detectors import (
    GOLDEN,
    architecture,
    ruled_image,
    ruled_weights,
    shapes_in,
    trainable,
    worst_difference,
)
from tiny_detectors import TINY_MOBILEDET
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgekit.detection.creation_order import load_in_creation_order
from edgekit.errors import UsageError
from edgekit.zoo.mobiledet import MobileDetBackbone, MobileDetConfig, in_eights, mobiledet
from edgekit.zoo.same_conv import SameConv

VARIANTS = ("cpu", "edgetpu", "dsp", "gpu")
TINY = replace(TINY_MOBILEDET, classes=4)


def config(variant: str, **changes: Any) -> MobileDetConfig:
    return MobileDetConfig(**{**architecture(f"mobiledet-{variant}"), **changes})


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_backbone_equals_the_official_one(variant: str, double: bool) -> None:
    golden = np.load(GOLDEN / f"mobiledet_{variant}.npz")
    chosen = config(variant, norm_eps=0.001)
    if (
        variant == "dsp"
    ):  # the TF2 code leaves the residual of this block away, the TF1 code does not
        rows = list(chosen.blocks)
        rows[19] = (*rows[19][:-1], False)
        chosen = replace(chosen, blocks=tuple(rows))
    backbone = MobileDetBackbone(chosen).eval()
    weights = ruled_weights(shapes_in(golden))
    load_in_creation_order(backbone, weights, "golden")
    image = ruled_image(f"mobiledet_{variant}", golden)
    if double:
        backbone, image = backbone.double(), image.double()
    with torch.no_grad():
        pyramid = backbone(image)
    assert len(pyramid) == 5
    for level, features in enumerate(pyramid, start=1):
        limit = 1e-6 if double else 1e-5 if level < 4 else 1e-4
        assert worst_difference(features, golden, f"c{level}") < limit, f"c{level}"


@pytest.mark.parametrize(
    ("variant", "backbone", "with_statistics", "detector", "all_tensors", "for_coco", "for_voc", "gmac"),
    [
        ("cpu", 3_006_440, 3_036_728, 4_165_055, 4_205_423, 4_084_805, 3_603_305, 0.444),
        ("edgetpu", 2_777_040, 2_815_456, 4_146_543, 4_196_095, 4_051_173, 3_478_953, 1.533),
        ("dsp", 5_839_952, 5_886_464, 7_102_079, 7_159_343, 7_013_909, 6_484_889, 2.816),
        ("gpu", 11_689_920, 11_718_560, 13_069_247, 13_109_151, 12_972_917, 12_394_937, 5.073),
    ],
)  # fmt: skip
def test_parameters_and_macs_are_those_of_the_published_detectors(
    variant: str,
    backbone: int,
    with_statistics: int,
    detector: int,
    all_tensors: int,
    for_coco: int,
    for_voc: int,
    gmac: float,
) -> None:
    def stored(network: nn.Module) -> int:
        return sum(v.numel() for k, v in network.state_dict().items() if "num_batches" not in k)

    with torch.device("meta"):
        network = mobiledet(config(variant, classes=90)).eval()
        with FlopCounterMode(display=False) as counter:
            boxes, scores = network(torch.empty(1, 3, 320, 320))
        counts = [trainable(mobiledet(config(variant, classes=k)).parameters()) for k in (80, 20)]
    assert boxes.shape == (1, 2034, 4)
    assert scores.shape == (1, 2034, 90)
    assert (trainable(network.backbone.parameters()), stored(network.backbone)) == (
        backbone,
        with_statistics,
    )
    assert (trainable(network.parameters()), stored(network)) == (detector, all_tensors)
    assert counts == [for_coco, for_voc]
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, rel=0.002)


def test_at_256_pixels_there_are_the_published_1284_anchors() -> None:
    network = mobiledet(TINY)
    assert len(network.anchors(256, 256)) == 1284
    assert len(network.anchors(320, 320)) == 2034


@pytest.mark.parametrize(
    ("size", "kernel", "ends"),
    [(8, 3, (0, 1)), (8, 5, (1, 2)), (9, 3, (1, 1)), (9, 5, (2, 2)), (1, 3, (1, 1))],
)
def test_padding_at_stride_two_is_tensorflow_s(
    size: int, kernel: int, ends: tuple[int, int]
) -> None:
    conv = SameConv(2, 3, kernel, 2, tf_same=True)
    x = torch.randn(1, 2, size, 6)
    expected = F.conv2d(
        F.pad(x, (*((0, 1) if kernel == 3 else (1, 2)), *ends)), conv.weight, stride=2
    )
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape[2] == -(-size // 2)


def test_symmetric_padding_gives_the_same_shapes() -> None:
    for size, kernel in product(range(1, 12), (3, 5)):
        x = torch.zeros(1, 1, size, size + 1)
        shapes = {SameConv(1, 1, kernel, 2, tf_same=same)(x).shape for same in (True, False)}
        assert len(shapes) == 1


@pytest.mark.parametrize(("channels", "rounded"), [(3, 8), (12, 16), (11.9, 8), (20, 24), (240 * 0.75, 184), (35.9, 32)])  # fmt: skip
def test_channels_are_rounded_to_the_nearest_eight_and_halves_go_up(
    channels: float, rounded: int
) -> None:
    assert in_eights(channels) == rounded


def test_the_width_multiplies_every_channel_count_of_the_backbone() -> None:
    half = MobileDetBackbone(config("cpu", width=0.5))
    assert half.channels == [8, 8, 16, 40, 72]
    assert half.stem[0].out_channels == 8


def test_scores_are_probabilities_without_the_background_and_boxes_are_where_codes_put_them() -> (
    None
):
    torch.manual_seed(0)
    network = mobiledet(TINY).eval().requires_grad_(False)
    images = torch.rand(2, 3, 70, 101) * 2 - 1
    codes, logits = network.raw(images)
    boxes, scores = network(images)
    assert logits.shape[2] == 5
    torch.testing.assert_close(scores, torch.sigmoid(logits[:, :, 1:]))
    anchors = network.anchors(70, 101)
    assert anchors.shape == codes.shape[1:]
    for index in (0, 7, len(anchors) // 2, len(anchors) - 1):
        x, y, w, h = anchors[index].tolist()
        dy, dx, dh, dw = codes[1, index].tolist()
        cx, cy = x + dx / 10 * w, y + dy / 10 * h
        wide, high = w * np.exp(dw / 5), h * np.exp(dh / 5)
        expected = [cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2]
        np.testing.assert_allclose(boxes[1, index], expected, rtol=1e-4)


def test_new_heads_give_each_class_a_probability_of_a_hundredth() -> None:
    torch.manual_seed(0)
    _, scores = mobiledet(TINY).eval()(torch.zeros(1, 3, 64, 64))
    assert scores.mean().item() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "mish"}, "activation must be relu6 or hard-swish, and is 'mish'"),
        ({"blocks": (("inverted", 3, 2, 8, 2),)}, "a block is kind, kernel, .* and one is"),
        ({"blocks": (("dense", 3, 2, 8, 2, False),)}, "a block is inverted, fused or tucker"),
        ({"blocks": (("fused", 3, (0.5, 0.5), 8, 2, False),)}, "inverted, fused or tucker"),
        ({"blocks": (("fused", 3, 2, 16, 1, True),)}, "cannot add its input to other shapes"),
        ({"blocks": (("fused", 3, 2, 16, 2, False),)}, "four of the blocks need stride 2"),
        ({"classes": 0}, "classes must be at least 1"),
    ],
)
def test_a_table_that_does_not_fit_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mobiledet(replace(TINY, **changes))


def tensorflow_layout(key: str, value: Tensor) -> Tensor:
    if value.ndim < 4:
        return value
    return value.permute(2, 3, 0, 1) if value.shape[1] == 1 else value.permute(2, 3, 1, 0)


def test_weights_in_tensorflow_s_layout_are_turned() -> None:
    torch.manual_seed(0)
    golden = np.load(GOLDEN / "mobiledet_cpu.npz")
    backbones = [MobileDetBackbone(config("cpu")) for _ in range(2)]
    weights = ruled_weights(shapes_in(golden))
    load_in_creation_order(backbones[0], weights, "here")
    turned = {key: tensorflow_layout(key, value) for key, value in weights.items()}
    load_in_creation_order(backbones[1], turned, "there", tensorflow_layout=True)
    first, second = (backbone.state_dict() for backbone in backbones)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_weights_of_another_variant_are_refused_and_change_nothing() -> None:
    backbone = MobileDetBackbone(config("cpu"))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    weights = ruled_weights(shapes_in(np.load(GOLDEN / "mobiledet_dsp.npz")))
    with pytest.raises(UsageError, match=r"dsp\.npz lacks"):
        load_in_creation_order(backbone, weights, "dsp.npz")
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
