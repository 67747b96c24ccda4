from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_detectors import GOLDEN
from torch import Tensor, nn

from edgekit.compress.fake_quantised import (
    ActivationQuantiser,
    QuantisedConv,
    WeightBits,
    quantised_weight,
    weight_codes,
)

KINDS = {"w4": WeightBits(4), "w4p": WeightBits(4, percentile=True), "w8": WeightBits(8)}


@pytest.fixture(scope="module")
def golden() -> Any:
    return np.load(GOLDEN / "codenet_quant.npz")


def tensor(golden: Any, key: str) -> Tensor:
    return torch.from_numpy(golden[key])


@pytest.mark.parametrize("name", ["conv3x3", "dw3x3", "pw", "pw_wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_weights_are_the_official_ones(golden: Any, name: str, kind: str) -> None:
    codes = weight_codes(tensor(golden, f"{name}.w"), KINDS[kind])
    stored = f"{name}.{kind}"
    assert torch.equal(codes.codes, tensor(golden, f"{stored}.codes").float())
    assert torch.equal(codes.scale.flatten(), tensor(golden, f"{stored}.scale"))
    assert torch.equal(codes.values, tensor(golden, f"{stored}.fq"))
    torch.testing.assert_close(codes.low, tensor(golden, f"{stored}.min"), rtol=1e-6, atol=0)
    torch.testing.assert_close(codes.high, tensor(golden, f"{stored}.max"), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["bnconv", "bndw"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_is_folded_before_its_convolution_is_quantised(
    golden: Any, name: str, kind: str
) -> None:
    weight, x = tensor(golden, f"{name}.conv.weight"), tensor(golden, f"{name}.x")
    groups = x.shape[1] // weight.shape[1]
    conv = nn.Conv2d(x.shape[1], len(weight), 3, padding=1, groups=groups, bias=False)
    norm = nn.BatchNorm2d(len(weight))
    conv.load_state_dict({"weight": weight})
    for key in ("weight", "bias", "running_mean", "running_var"):
        norm.state_dict()[key].copy_(tensor(golden, f"{name}.bn.{key}"))
    layer = QuantisedConv(conv, norm, KINDS[kind]).train()
    codes = weight_codes(layer.folded()[0].detach(), KINDS[kind])
    stored = f"{name}.{kind}"
    assert torch.equal(codes.codes, tensor(golden, f"{stored}.codes").float())
    torch.testing.assert_close(codes.values, tensor(golden, f"{stored}.fq"), rtol=1e-6, atol=1e-7)
    out = tensor(golden, f"{stored}.out")
    torch.testing.assert_close(layer(x), out, rtol=1e-6, atol=1e-6 * out.abs().max().item())
    assert torch.equal(norm.running_mean, tensor(golden, f"{name}.bn.running_mean"))


@pytest.mark.parametrize("kind", ["act8", "act8p"])
def test_a_range_of_activations_follows_the_inputs_until_it_is_frozen(
    golden: Any, kind: str
) -> None:
    quantiser = ActivationQuantiser(percentile=kind == "act8p")
    for step in range(4):
        quantiser.observing = step < 3
        x = tensor(golden, f"act.x{step}")
        y = quantiser(x)
        torch.testing.assert_close(
            quantiser.range, tensor(golden, f"{kind}.range{step}"), rtol=1e-6, atol=0
        )
        codes, scale, zero = quantiser.codes(x)
        expected = tensor(golden, f"{kind}.codes{step}").float()
        assert (codes - expected).abs().max() <= 1
        assert (codes != expected).float().mean() <= 0.001
        torch.testing.assert_close(
            torch.stack([scale, zero]), tensor(golden, f"{kind}.scale_zp{step}"), rtol=1e-6, atol=0
        )
        off = (y - tensor(golden, f"{kind}.y{step}")).abs()
        assert (off > 1e-5).float().mean() <= 0.001


def test_values_beyond_the_range_are_not_cut() -> None:
    quantiser = ActivationQuantiser()
    quantiser(torch.tensor([-1.0, 3.0]))
    quantiser.observing = False
    assert quantiser(torch.tensor([9.0])).item() == pytest.approx(9.0, abs=4 / 255)


def test_quantised_weights_stay_as_they_are_when_quantised_again() -> None:
    weight = torch.randn(6, 40, 1, 1)
    once = quantised_weight(weight, WeightBits(4))
    assert torch.equal(
        weight_codes(once, WeightBits(4)).codes, weight_codes(weight, WeightBits(4)).codes
    )
    assert len(once[0].unique()) <= 16


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    weight = torch.randn(3, 4, 1, 1, requires_grad=True)
    quantised = quantised_weight(weight, WeightBits(4))
    assert torch.equal(quantised, weight_codes(weight.detach(), WeightBits(4)).values)
    (quantised * 3).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3))
    x = torch.randn(5, requires_grad=True)
    ActivationQuantiser()(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(5))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_channel_of_zeros_and_a_constant_input_give_no_nan(bits: int) -> None:
    assert not quantised_weight(torch.zeros(2, 3, 1, 1), WeightBits(bits)).any()
    assert torch.isfinite(ActivationQuantiser()(torch.zeros(4))).all()
