"""A small decoder with the key patterns of the official ones, and random weights for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """Key patterns of the official decoder, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.ModuleDict({"conv": nn.Conv3d(4, 6, 3)})
        self.conv_out = nn.ModuleDict({"conv": nn.Conv3d(6, 3, 1)})


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) for key, value in Decoder().state_dict().items()}


EXPECTED = {key: value.shape for key, value in weights().items()}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[k], right[k]) for k in left)


def official_extras() -> dict[str, Tensor]:
    return {
        "aligned_feature_projection_heads.0.0.conv.weight": torch.ones(2, 2, 1, 1, 1),
        "aligned_feature_projection_heads.0.0.conv.bias": torch.ones(2),
        "latents_mean": torch.zeros(4),
        "latents_std": torch.ones(4),
    }
