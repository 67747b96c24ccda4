from __future__ import annotations

import pytest
import torch
from golden_split import fill, golden, ruled_image, ruled_weight, worst_difference
from torch import nn

from edgekit.zoo.cost import Cost, cost_of
from edgekit.zoo.split import bottlefit, crbq, entropic_student
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.gdn import GDN1, FoldedGDN1, fold_gdn
from edgekit.zoo.split.mobile import mobile, mobile_encoder

STRUCTURES = {
    "resnet_v2_b3": lambda: bottlefit.resnet(3),
    "resnet_v2_b12": lambda: bottlefit.resnet(12),
    "resnet_v1_b12": lambda: bottlefit.resnet_pooled(12),
    "resnet_v3_b12": lambda: bottlefit.resnet_deep(12),
    "densenet_b6": lambda: bottlefit.densenet(6),
    "inception_b9": lambda: bottlefit.inception_v3(9),
    "mobilenetv2_1b_b6": lambda: bottlefit.mobilenet_v2(6),
    "crbq_b6": lambda: crbq.crbq(6),
    "crbq_small_b3": lambda: crbq.crbq_small(3),
    "fp_resnet": lambda: entropic_student.entropic_student(24),
    "fp_regnet": lambda: entropic_student.entropic_student_regnet(64),
}


def filled(name: str) -> Bottleneck:
    bottleneck, vectors = STRUCTURES[name](), golden(name)
    parts = nn.ModuleList(bottleneck[:2])
    if name.startswith("fp_"):
        parts.insert(0, FactorisedPrior(bottleneck.channels))
        order = [str(key).split(".")[0] for key in vectors["keys"]]
        if order[0] != "entropy_bottleneck":
            parts = nn.ModuleList([*parts[1:], parts[0]])
    fill(parts, vectors)
    parts.eval()
    return bottleneck


@pytest.mark.parametrize("name", STRUCTURES)
def test_encoder_and_decoder_compute_what_the_official_ones_do(name: str) -> None:
    vectors, (encoder, decoder, _) = golden(name), filled(name)
    with torch.no_grad():
        latent = encoder.double()(ruled_image(name, vectors).double())
        assert worst_difference(latent, vectors, "encoder_out") < 1e-6
        made = "decoder_out_unrounded" if name.startswith("fp_") else "decoder_out"
        assert worst_difference(decoder.double()(latent), vectors, made) < 1e-6


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_decoder_takes_what_was_quantised_in_float32(name: str) -> None:
    vectors, decoder = golden(name), filled(name).decoder
    given, made = ("bq_dequantised", "decoder_out_bq")
    if name.startswith("fp_"):
        given, made = ("given_latent_hat", "given_decoder_out")
    with torch.no_grad():
        assert worst_difference(decoder(torch.from_numpy(vectors[given])), vectors, made) < 1e-5


@pytest.mark.parametrize("name", STRUCTURES)
def test_parameters_and_products_are_those_published(name: str) -> None:
    vectors, bottleneck = golden(name), STRUCTURES[name]()
    colours = vectors["input_shape"][1]
    meta_encoder, meta_decoder = (part.to("meta").eval() for part in bottleneck[:2])
    given = (1, int(colours), *map(int, vectors["macs_at"]))
    latent = (1, *map(int, vectors["latent_shape_at"]))
    expected = [
        Cost(int(vectors[f"{p}_params"]), int(vectors[f"{p}_macs"])) for p in ("enc", "dec")
    ]
    assert [cost_of(meta_encoder, given), cost_of(meta_decoder, latent)] == expected
    with torch.device("meta"):
        found = meta_decoder(torch.empty(latent))
    assert tuple(found.shape[1:]) == tuple(map(int, vectors["out_shape_at"]))


@pytest.mark.parametrize(
    ("build", "most"), [(bottlefit.resnet, 24), (crbq.crbq, 24), (bottlefit.densenet, 24)]
)
def test_bottlenecks_have_1_to_24_channels(build, most: int) -> None:
    for channels in (1, most):
        assert build(channels).channels == channels
    for channels in (0, most + 1):
        with pytest.raises(ValueError, match="1 to 24 channels, not"):
            build(channels)


@pytest.mark.parametrize(("channels", "parameters"), [(3, 10_432), (12, 12_736)])
def test_the_table_of_encoder_parameters_holds(channels: int, parameters: int) -> None:
    for build in (bottlefit.resnet, bottlefit.densenet, bottlefit.inception_v3):
        assert sum(p.numel() for p in build(channels).encoder.parameters()) == parameters


def test_the_mobile_encoder_takes_at_most_60_million_products_at_224_pixels() -> None:
    encoder = mobile_encoder(32).to("meta").eval()
    assert cost_of(encoder, (1, 3, 224, 224)).macs < 40e6
    with torch.device("meta"):
        assert encoder(torch.empty(1, 3, 224, 224)).shape == (1, 32, 28, 28)
    kinds = {type(module) for module in encoder.modules()}
    assert kinds == {nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU6}


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_the_mobile_decoder_meets_the_layer_that_it_stands_in_for(stride: int) -> None:
    encoder, decoder, _ = mobile(5, 17, stride, width=8)
    assert decoder(encoder(torch.zeros(2, 3, 64, 96))).shape == (2, 17, 64 // stride, 96 // stride)


def test_a_layer_whose_stride_is_no_power_of_two_has_no_mobile_decoder() -> None:
    with pytest.raises(ValueError, match="stride is 12"):
        mobile(5, 17, 12)


@pytest.mark.parametrize("name", ["gdn24", "igdn24", "gdn96", "igdn96"])
def test_gdn_is_the_official_one_and_so_is_the_folded_one(name: str) -> None:
    vectors = golden("gdn")
    layer = GDN1(int(name.split("gdn")[1]), inverse=name.startswith("i"))
    with torch.no_grad():
        for leaf, parameter in layer.named_parameters():
            parameter.copy_(ruled_weight(f"{name}.{leaf}", tuple(parameter.shape), GDN1))
        x = torch.from_numpy(vectors[f"{name}.x"])
        assert worst_difference(layer(x), vectors, f"{name}.y") < 1e-5
        folded = FoldedGDN1(layer)
        assert worst_difference(folded(x), vectors, f"{name}.y") < 1e-5
    assert worst_difference(folded.norm.bias, vectors, f"{name}.beta_eff") < 1e-6


@pytest.mark.parametrize("name", ["clamp", "clamp_inv"])
def test_parameters_below_their_bound_have_the_official_gradients(name: str) -> None:
    vectors = golden("gdn")
    layer = GDN1(5, inverse=name.endswith("inv"))
    with torch.no_grad():
        layer.beta.copy_(torch.from_numpy(vectors[f"{name}.beta"]))
        layer.gamma.copy_(torch.from_numpy(vectors[f"{name}.gamma"]))
    layer.double()
    x = torch.from_numpy(vectors[f"{name}.x"]).double().requires_grad_()
    made = layer(x)
    made.backward(torch.from_numpy(vectors[f"{name}.grad_out"]).double())
    assert worst_difference(made, vectors, f"{name}.y") < 1e-6
    for leaf, tensor in (("x", x), ("beta", layer.beta), ("gamma", layer.gamma)):
        assert tensor.grad is not None
        assert worst_difference(tensor.grad, vectors, f"{name}.grad_{leaf}") < 1e-6


def test_folding_leaves_no_division_normalisation_to_train() -> None:
    encoder = entropic_student.entropic_student(2).encoder
    x = torch.rand(1, 3, 16, 16)
    before = encoder(x)
    fold_gdn(encoder)
    assert not any(isinstance(module, GDN1) for module in encoder.modules())
    torch.testing.assert_close(encoder(x), before)
