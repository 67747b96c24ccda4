"""Vision transformers: ViT (arXiv 2010.11929) at the sizes of DeiT (arXiv 2012.12877), without its distillation token.

Submodule names are those of timm and of DeiT's published state dicts, so that those load unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6
INITIAL_STD = 0.02


@dataclass(frozen=True)
class VisionTransformerConfig:
    side: int
    """Of the square picture that positions are learnt for, in pixels."""
    patch: int
    width: int
    depth: int
    heads: int
    classes: int
    hidden: int = 4
    """Units of each block's inner layer, as a multiple of the width."""
    colours: int = 3

    def __post_init__(self) -> None:
        if self.width % self.heads or self.side % self.patch:
            raise ValueError(
                f"{self.heads} heads must share the width {self.width}, and patches of {self.patch} the side {self.side}"
            )


class VisionTransformer(nn.Module):
    """Images N 3 H W, normalised, with sides that are multiples of the patch, to logits N classes."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.patch_embed = Patches(config.colours, config.width, config.patch)
        cells = (config.side // config.patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + cells, config.width))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width, EPS)
        self.head = nn.Linear(config.width, config.classes)
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        cells: Tensor = self.patch_embed(image)
        positions = positions_of(self.pos_embed, cells.shape[2], cells.shape[3])
        patches = cells.flatten(2).transpose(1, 2)
        # The class token stands first: a concatenation, written as a sum so that channels stay channels.
        first = F.pad(self.cls_token, (0, 0, 0, patches.shape[1]))
        tokens = self.blocks(F.pad(patches, (0, 0, 1, 0)) + (positions + first))
        return self.head(self.norm(tokens)[:, 0])


class Patches(nn.Module):
    """N 3 H W to N C H/p W/p."""

    def __init__(self, colours: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(colours, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class Block(nn.Module):
    """Tokens N T C: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, EPS)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, EPS)
        self.mlp = Mlp(config.width, config.width * config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Of tokens N T C to one another. Heads are counted by the width of `qkv`, which may have lost some."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        weights = (query * self.head_width**-0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def positions_of(learnt: Tensor, high: int, wide: int) -> Tensor:
    """1 1+T C for a grid of other sides: bilinear, where DeiT's own code is bicubic, which Core ML lacks."""
    side = round((learnt.shape[1] - 1) ** 0.5)
    if (high, wide) == (side, side):
        return learnt
    grid = learnt[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(grid, (high, wide), mode="bilinear", align_corners=False)
    return F.pad(resized.flatten(2).transpose(1, 2), (0, 0, 1, 0)) + F.pad(
        learnt[:, :1], (0, 0, 0, high * wide)
    )


def _initialise(network: VisionTransformer) -> None:
    """As DeiT begins."""
    nn.init.trunc_normal_(network.cls_token, std=INITIAL_STD)
    nn.init.trunc_normal_(network.pos_embed, std=INITIAL_STD)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)
