"""ResNet of bottleneck blocks (arXiv 1512.03385), stride in the 3×3 convolution as torchvision has it.

Submodule names are torchvision's, so that its weights load unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


@dataclass(frozen=True)
class ResNetConfig:
    depth: int
    """50, 101 or 152."""
    classes: int

    def __post_init__(self) -> None:
        if self.depth not in LAYERS:
            raise ValueError(f"depth must be 50, 101 or 152, and is {self.depth}")


class ResNet(nn.Module):
    """Images N 3 H W, normalised, to logits N classes."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks = LAYERS[config.depth]
        self.layer1 = _layer(64, 64, blocks[0], 1)
        self.layer2 = _layer(256, 128, blocks[1], 2)
        self.layer3 = _layer(512, 256, blocks[2], 2)
        self.layer4 = _layer(1024, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, ResNetBlock):
                # A random network of 50 blocks would overflow half precision otherwise.
                nn.init.constant_(module.bn3.weight, 0.2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class ResNetBlock(nn.Module):
    """1×1, 3×3, 1×1, plus the input, whose shape is changed where it must be."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        made = width * EXPANSION
        self.conv1 = nn.Conv2d(given, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, made, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or given != made:
            shortcut = nn.Conv2d(given, made, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(made))

    def forward(self, given: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(given)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + self.downsample(given))


def _layer(given: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    made = width * EXPANSION
    rest = (ResNetBlock(made, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(ResNetBlock(given, width, stride), *rest)
