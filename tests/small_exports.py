"""Small models that export in seconds: a recipe of the zoo's family, and plain modules."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

RECIPE = """
name = "small-mini"
family = "turbo-vaed-mini"
summary = "A small decoder for tests"
source = "tests"
parameters = 30228

[architecture]
latent_channels = 4
widths = [8, 8, 8]
blocks = [1, 1, 1]
temporal_blocks = 1

[weights]

[latent]
channels = 4
stride = 8
frame_stride = 1
lead_frame = false
low = 0.0
high = 1.0

[scaling]
divisor = 0.5

[size]
height = 16
width = 24
frames = 2
"""
LATENT = (1, 4, 2, 2, 3)

FACTORIES = """
import torch
from torch import nn


class Add(nn.Module):
    def forward(self, x):
        return x + 1


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x) + 1


class Dictionary(nn.Module):
    def forward(self, x):
        return {"sum": x + 1}


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 2)

    def forward(self, number):
        return self.table(number)


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (torch.ones(1, 3, 6, 6),)


def chatty():
    print("loading the model")
    return make()


def bessel():
    return Bessel(), torch.ones(1, 3)


def dictionary():
    return Dictionary(), torch.ones(1, 3)


def out_of_range():
    return Table(), torch.tensor([7])


def nan():
    return Add(), torch.full((1, 3), float("nan"))


def needs(argument):
    return make()


def fails():
    raise OSError("no data here")


def leaves():
    raise SystemExit(0)


def wrong():
    return 3


def without_inputs():
    return Add(), ()


def numbers():
    return Add(), (3,)


def wrong_size():
    return nn.Linear(3, 2), torch.zeros(1, 4)


def slow():
    import time

    class Slow(nn.Module):
        def forward(self, x):
            for _ in range(400):
                x = x * 1.01 + 0.1
            return x

    return Slow(), torch.ones(1, 3)


not_a_factory = 3
module = Add()
"""


def write_recipe(folder: Path, file: str = "small.toml", **replaced: str) -> Path:
    """The recipe with lines replaced: `widths="widths = [8]"`."""
    lines = RECIPE.splitlines()
    for key, line in replaced.items():
        found = [index for index, old in enumerate(lines) if old.startswith(f"{key} =")]
        lines[found[0]] = line
    path = folder / file
    path.write_text("\n".join(lines))
    return path


class Mixture(nn.Module):
    """BatchNorm, hard swish, upsampling, attention, a transposed convolution; three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean = torch.randn(8) * 0.1
                norm.running_var = torch.rand(8) + 0.5

    def forward(self, picture: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(picture) + self.embedding(token).view(1, 8, 1, 1)
        flat = x.flatten(2).transpose(1, 2)
        attended, _ = self.attention(flat, flat, flat, need_weights=False)
        x = attended.transpose(1, 2).reshape(x.shape)
        x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        up = self.up(x)
        return up, x.mean((2, 3)), up.argmax(1)


def mixture() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return Mixture(), (torch.randn(1, 3, 6, 6), torch.tensor([4]))


class Norm(nn.Module):
    """x / sqrt(mean x² + 1e-8): an all-zero input divides by zero if the epsilon is lost."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-8)
