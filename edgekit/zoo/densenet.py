"""DenseNet with a growth of 32 channels a layer (arXiv 1608.06993).

Submodule names are torchvision's, so that its weights load unchanged; their files of 2017 write `norm.1`
where the state dict has `norm1`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
GROWTH, WIDTH = 32, 128


@dataclass(frozen=True)
class DenseNetConfig:
    depth: int
    """121, 169 or 201."""
    classes: int

    def __post_init__(self) -> None:
        if self.depth not in LAYERS:
            raise ValueError(f"depth must be 121, 169 or 201, and is {self.depth}")


class DenseNet(nn.Module):
    """Images N 3 H W, normalised, to logits N classes."""

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(64))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        channels = 64
        blocks = LAYERS[config.depth]
        for number, layers in enumerate(blocks, start=1):
            self.features.add_module(f"denseblock{number}", DenseBlock(channels, layers))
            channels += layers * GROWTH
            if number < len(blocks):
                self.features.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(image)).mean((2, 3)))


class DenseLayer(nn.Module):
    """`GROWTH` new channels from all there are."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, WIDTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, GROWTH, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class DenseBlock(nn.Module):
    def __init__(self, given: int, layers: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(f"denselayer{index + 1}", DenseLayer(given + index * GROWTH))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat((x, layer(x)), 1)
        return x


class Transition(nn.Sequential):
    """Half the channels, half the height and width."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.add_module("norm", nn.BatchNorm2d(given))
        self.add_module("relu", nn.ReLU())
        self.add_module("conv", nn.Conv2d(given, given // 2, 1, bias=False))
        self.add_module("pool", nn.AvgPool2d(2, 2))
