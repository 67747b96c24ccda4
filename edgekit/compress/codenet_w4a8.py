"""CoDeNet with four-bit weights and eight-bit activations, as it was trained for its FPGA."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from edgekit.compress.fake_quantised import (
    ActivationQuantiser,
    QuantisedConv,
    QuantisedSquareDepthwise,
    WeightBits,
)
from edgekit.zoo.codenet import CoDeNet
from edgekit.zoo.square_deform import SquareDeformConv


@dataclass(frozen=True)
class W4A8:
    weight_bits: int = 4
    first_bits: int = 8
    """Of the first convolution's weights."""
    activation_bits: int = 8
    weight_percentile: bool = True
    """Ranges of weights leave the outermost 0.1 % away, as in the published runs."""


def quantised_codenet(network: CoDeNet, options: W4A8 | None = None) -> CoDeNet:
    """A copy of a trained network to tune further. Norms are folded, with their statistics frozen.

    Ranges of activations start empty and follow the inputs until `observe(network, on=False)`. Not
    quantised: biases and what the heads give. To export it, see `settled`.
    """
    quantised = copy.deepcopy(network)
    _Placement(options or W4A8()).place(quantised)
    return quantised


def observe(network: nn.Module, *, on: bool) -> None:
    """Whether ranges of activations follow the inputs."""
    for quantiser in quantisers(network):
        quantiser.observing = on


def quantisers(network: nn.Module) -> Iterator[ActivationQuantiser]:
    """In the order in which data meets them first, a stage's shared one behind those of its first
    unit."""
    for module in network.modules():
        if isinstance(module, ActivationQuantiser):
            yield module


def settled(network: CoDeNet) -> CoDeNet:
    """A copy to export: weights are plain quantised numbers, ranges are constants.

    Raises UsageError if a range of activations has seen no input.
    """
    finished = copy.deepcopy(network)
    # A shared quantiser has several places, and each is replaced.
    for name, module in list(finished.named_modules(remove_duplicate=False)):
        if isinstance(module, QuantisedConv | QuantisedSquareDepthwise | ActivationQuantiser):
            finished.set_submodule(name, module.settled())
    return finished


class _Placement:
    def __init__(self, options: W4A8) -> None:
        self.options = options
        self.bits = WeightBits(options.weight_bits, options.weight_percentile)

    def place(self, network: CoDeNet) -> None:
        first = WeightBits(self.options.first_bits, self.options.weight_percentile)
        self.fold(network.layer0, 0, first)
        self.follow(network.layer0, 2)
        for stage in (network.layer1, network.layer2, network.layer3):
            self.stage(stage)
        self.fold(network.layer4, 0, self.bits)
        self.follow(network.layer4, 2)
        for index in range(0, len(network.deconv_layers), 4):
            self.deformable(network.deconv_layers, index)
        for head in (network.hm, network.wh, network.reg):
            self.fold(head, 0, self.bits)
            self.follow(head, 2)
            self.fold(head, 3, self.bits)
            self.follow(head, 5)
            head[6] = QuantisedConv(cast(nn.Conv2d, head[6]), None, self.bits)

    def quantiser(self) -> ActivationQuantiser:
        return ActivationQuantiser(self.options.activation_bits)

    def fold(self, layers: nn.Sequential, index: int, bits: WeightBits) -> None:
        """The convolution at `index` takes in the norm behind it."""
        conv, norm = cast(nn.Conv2d, layers[index]), cast(nn.BatchNorm2d, layers[index + 1])
        layers[index] = QuantisedConv(conv, norm, bits)
        layers[index + 1] = nn.Identity()

    def follow(
        self, layers: nn.Sequential, index: int, quantiser: ActivationQuantiser | None = None
    ) -> None:
        layers[index] = nn.Sequential(layers[index], quantiser or self.quantiser())

    def stage(self, units: nn.Sequential) -> None:
        """Branches of all units meet in one tensor sooner or later, so they share one range."""
        shared = self.quantiser()
        for unit in units:
            right = unit.get_submodule("b2")
            self.branch(cast(nn.Sequential, right), (0, 3, 5), shared)
            if hasattr(unit, "b1"):
                self.branch(cast(nn.Sequential, unit.get_submodule("b1")), (0, 2), shared)

    def branch(
        self, layers: nn.Sequential, convs: tuple[int, ...], shared: ActivationQuantiser
    ) -> None:
        """Its depthwise convolution has a range of its own behind it, and so has every ReLU but the
        last, which ends the branch."""
        for index in convs:
            is_depthwise = cast(nn.Conv2d, layers[index]).groups > 1
            self.fold(layers, index, self.bits)
            if is_depthwise:
                layers[index + 1] = self.quantiser()
        for index in range(len(layers) - 1):
            if isinstance(layers[index], nn.ReLU):
                self.follow(layers, index)
        self.follow(layers, len(layers) - 1, shared)

    def deformable(self, layers: nn.Sequential, index: int) -> None:
        layer, norm = cast(SquareDeformConv, layers[index]), cast(nn.BatchNorm2d, layers[index + 1])
        pointwise = QuantisedConv(layer.conv_channel, norm, self.bits)
        layer.set_submodule("conv_scale", QuantisedConv(layer.conv_scale, None, self.bits))
        layer.set_submodule("bound", nn.Sequential(layer.bound, self.quantiser()))
        layer.set_submodule("conv", QuantisedSquareDepthwise(layer.conv, self.bits))
        layer.set_submodule("conv_channel", nn.Sequential(self.quantiser(), pointwise))
        layers[index + 1] = nn.Identity()
        self.follow(layers, index + 2)
