"""Inception-v3 (arXiv 1512.00567) for 299 pixels, without its auxiliary classifier, which only trains.

Submodule names are torchvision's; of its files the keys `AuxLogits.*` are left over.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3


@dataclass(frozen=True)
class InceptionV3Config:
    classes: int


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(
        self,
        given: int,
        made: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(made, EPS)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class InceptionV3(nn.Module):
    """Images N 3 H W, normalised, at least 75 pixels high and wide, to logits N classes."""

    def __init__(self, config: InceptionV3Config) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, 1, 1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = ReductionA(288)
        self.Mixed_6b = InceptionB(768, 128)
        self.Mixed_6c = InceptionB(768, 160)
        self.Mixed_6d = InceptionB(768, 160)
        self.Mixed_6e = InceptionB(768, 192)
        self.Mixed_7a = ReductionB(768)
        self.Mixed_7b = InceptionC(1280)
        self.Mixed_7c = InceptionC(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(2048, config.classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return self.fc(self.dropout(self.avgpool(x)).flatten(1))


class InceptionA(nn.Module):
    """1×1, 5×5, two 3×3 and a pooled branch, side by side."""

    def __init__(self, given: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(given, 64, 1)
        self.branch5x5_1 = ConvNorm(given, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, 1, 2)
        self.branch3x3dbl_1 = ConvNorm(given, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, 1, 1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, 1, 1)
        self.branch_pool = ConvNorm(given, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat((self.branch1x1(x), wide, double, pooled), 1)


class ReductionA(nn.Module):
    """Half the height and width: 3×3, two 3×3, and the maximum."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(given, 384, 3, 2)
        self.branch3x3dbl_1 = ConvNorm(given, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, 1, 1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, 2)), 1)


class InceptionB(nn.Module):
    """7×7 as 1×7 and 7×1, once and twice."""

    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        flat, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        self.branch1x1 = ConvNorm(given, 192, 1)
        self.branch7x7_1 = ConvNorm(given, width, 1)
        self.branch7x7_2 = ConvNorm(width, width, *flat)
        self.branch7x7_3 = ConvNorm(width, 192, *tall)
        self.branch7x7dbl_1 = ConvNorm(given, width, 1)
        self.branch7x7dbl_2 = ConvNorm(width, width, *tall)
        self.branch7x7dbl_3 = ConvNorm(width, width, *flat)
        self.branch7x7dbl_4 = ConvNorm(width, width, *tall)
        self.branch7x7dbl_5 = ConvNorm(width, 192, *flat)
        self.branch_pool = ConvNorm(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))
        return torch.cat((self.branch1x1(x), once, twice, pooled), 1)


class ReductionB(nn.Module):
    """Half the height and width: 3×3, 7×7 and 3×3, and the maximum."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(given, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, 2)
        self.branch7x7x3_1 = ConvNorm(given, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), 1, (0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), 1, (3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        short = self.branch3x3_2(self.branch3x3_1(x))
        long = self.branch7x7x3_2(self.branch7x7x3_1(x))
        long = self.branch7x7x3_4(self.branch7x7x3_3(long))
        return torch.cat((short, long, F.max_pool2d(x, 3, 2)), 1)


class InceptionC(nn.Module):
    """3×3 as 1×3 beside 3×1, once and behind another 3×3."""

    def __init__(self, given: int) -> None:
        super().__init__()
        flat, tall = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
        self.branch1x1 = ConvNorm(given, 320, 1)
        self.branch3x3_1 = ConvNorm(given, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, *flat)
        self.branch3x3_2b = ConvNorm(384, 384, *tall)
        self.branch3x3dbl_1 = ConvNorm(given, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, 1, 1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, *flat)
        self.branch3x3dbl_3b = ConvNorm(384, 384, *tall)
        self.branch_pool = ConvNorm(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(once), self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice),
            self.branch_pool(F.avg_pool2d(x, 3, 1, 1)),
        )  # fmt: skip
        return torch.cat(branches, 1)
