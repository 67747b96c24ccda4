"""Groups of channels: what is found prunable, what goes together, and what is kept and why."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.importance import scores
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import prunable_groups
from edgekit.compress.pruning.removal import remove_channels
from edgekit.compress.pruning.soundness import Kept, sound_groups, unread
from edgekit.zoo.vision_transformer import VisionTransformer, VisionTransformerConfig

PICTURE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(given: int, made: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(given, made, kernel, padding=kernel // 2, groups=groups)


class Shuffled(nn.Module):
    """Conv, pixel shuffle, conv: Torch-Pruning by itself raises IndexError."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = conv(3, 32), conv(8, 16), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(F.pixel_shuffle(F.relu(self.first(x)), 2))))


class ShuffledIntoSum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.skip, self.last = conv(3, 32), conv(3, 8), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(
            F.pixel_shuffle(self.up(x), 2) + self.skip(F.interpolate(x, scale_factor=2))
        )


class TwiceShuffledBesideMore(nn.Module):
    """Two shuffles in a row, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.side, self.last = conv(3, 64), conv(3, 8), conv(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        up = F.pixel_shuffle(F.pixel_shuffle(self.up(x), 2), 2)
        return self.last(torch.cat([up, self.side(F.interpolate(x, scale_factor=4))], 1))


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.sum = conv(3, 8), conv(3, 12), conv(3, 20)
        self.last = conv(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.left(x), self.right(x)], 1) + self.sum(x))


class Divided(nn.Module):
    """A chunk of channels goes one way, the others another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.last = conv(3, 16), conv(8, 8), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, dim=1)
        return self.last(torch.cat([self.left(left), right], 1))


class Squeezed(nn.Module):
    """Depthwise convolution and squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.depthwise, self.narrow = (
            conv(3, 16, 1),
            conv(16, 16, 3, 16),
            conv(16, 3, 1),
        )
        self.norm = nn.BatchNorm2d(16)
        self.reduce, self.expand = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.depthwise(F.relu(self.widen(x)))))
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return self.narrow(x * gate[:, :, None, None])


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 8), nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.max_pool2d(self.first(x), 2).flatten(1))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = conv(3, 16), conv(16, 24, 3, 4), conv(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.middle(F.relu(self.first(x)))))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.last = conv(3, 16), nn.ConvTranspose2d(16, 12, 2, 2), conv(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.up(F.relu(self.first(x)))))


class Normalised(nn.Module):
    """GroupNorm, and a scale that is a parameter of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = conv(3, 16), nn.GroupNorm(4, 16), conv(16, 3)
        self.scale = nn.Parameter(torch.ones(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.first(x)) * self.scale))


class OfFixedWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = conv(3, 16), conv(16, 8), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.shape[1] != 16:
            raise ValueError("16 channels are needed")
        return self.last(F.relu(self.inner(x)))


class Interleaved(nn.Module):
    """ShuffleNet's order of channels, which the library does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = conv(3, 8), conv(3, 8), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.left(x), self.right(x)], 2)
        return self.last(both.reshape(x.shape[0], 16, *x.shape[2:]))


PRUNED_WHOLE = {
    Shuffled: {"first", "second"},
    ShuffledIntoSum: {"up"},
    TwiceShuffledBesideMore: {"up", "side"},
    Concatenated: {"left", "right"},
    Squeezed: {"widen", "reduce"},
    Flattened: {"first"},
    Grouped: {"first", "middle"},
    Transposed: {"first", "up"},
    Normalised: {"first"},
    OfFixedWidth: {"inner"},
}
"""Groups that must be found, by the first layer that makes their channels."""


def found_in(network: nn.Module) -> tuple[list[ChannelGroup], list[Kept]]:
    return prunable_groups(network, (PICTURE,), PruneOptions())


@pytest.mark.parametrize("kind", PRUNED_WHOLE)
def test_a_pruned_network_computes_what_the_whole_one_does_with_those_channels_unread(
    kind: type[nn.Module],
) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    groups, _ = found_in(network)
    assert {group.name for group in groups} == PRUNED_WHOLE[kind]
    if kind is Normalised:  # its statistics are those of fewer channels
        return
    removed = {group.name: range(group.atoms // 2) for group in groups}
    with torch.no_grad(), unread(network, groups, removed):
        expected = network(PICTURE)
    with torch.no_grad():
        found = remove_channels(copy.deepcopy(network), groups, removed)(PICTURE)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_channels_that_a_pixel_shuffle_makes_one_of_go_together() -> None:
    network = Shuffled()
    group = next(group for group in found_in(network)[0] if group.name == "first")
    assert group.atoms == 8
    members = {place.path: channels for place, channels in group.members.items()}
    assert members["first"][3] == (12, 13, 14, 15)
    assert members["second"][3] == (3,)
    assert group.least_step(16) == 16
    narrow = remove_channels(network, [group], {"first": [0, 7]})
    assert (narrow.first.out_channels, narrow.second.in_channels) == (24, 6)


def test_a_layer_that_is_kept_is_named_with_its_reason() -> None:
    for network, name, reason in (
        (OfFixedWidth(), "first", "16 channels are needed"),
        (Interleaved(), "left", ""),
        (Shuffled(), "last", "output"),
    ):
        groups, kept = found_in(network)
        assert name not in {group.name for group in groups}
        assert any(one.name == name and reason in one.reason for one in kept), kept


def test_what_is_ignored_keeps_its_channels() -> None:
    groups, kept = prunable_groups(Shuffled(), (PICTURE,), PruneOptions(ignored=("second",)))
    assert not groups  # the second convolution reads the first one's channels and makes its own
    assert {one.name for one in kept} == {"first", "second", "last"}


def test_divided_channels_are_pruned_soundly_or_kept() -> None:
    """A chunk takes half of what there is: both halves would have to lose the same number."""
    network = Divided().eval()
    groups, _ = found_in(network)
    removed = {group.name: [0] for group in groups}
    narrow = remove_channels(copy.deepcopy(network), groups, removed)
    assert tensors_of(narrow(PICTURE))[0].shape == (1, 3, 8, 8)


def test_positions_in_the_blocks_of_a_grouped_convolution_go_together() -> None:
    groups = {group.name: group for group in found_in(Grouped())[0]}
    assert groups["first"].atoms == 4
    assert groups["middle"].atoms == 6
    place = next(iter(groups["middle"].members))
    assert groups["middle"].members[place][1] == (1, 7, 13, 19)


class Fused(nn.Module):
    """Attention that is none of the zoo's: one layer makes queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv, self.last = (
            nn.Conv2d(3, 16, 2, 2),
            nn.Linear(16, 48),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (2, 8)).transpose(1, 2)
            for part in self.qkv(self.first(x).flatten(2).transpose(1, 2)).chunk(3, -1)
        )
        mixed = (query @ key.transpose(2, 3)).softmax(-1) @ value
        return self.last(mixed.transpose(1, 2).flatten(2))


def transformer() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(VisionTransformerConfig(8, 4, 24, 1, 3, 5)).eval()


def test_heads_of_attention_are_atoms_beside_hidden_units_and_tokens_channels() -> None:
    groups = {group.name: group for group in found_in(transformer())[0]}
    assert {name: group.atoms for name, group in groups.items()} == {
        "patch_embed.proj": 24, "blocks.0.attn.qkv": 3, "blocks.0.mlp.fc1": 96,
    }  # fmt: skip
    heads = groups["blocks.0.attn.qkv"]
    made, read = heads.members.values()
    assert made[1] == (*range(8, 16), *range(32, 40), *range(56, 64))
    assert read[1] == tuple(range(8, 16))


@pytest.mark.parametrize("importance", ["output", "magnitude", "fpgm", "taylor", "random"])
def test_a_transformer_without_a_head_computes_as_if_it_were_unread(importance: Any) -> None:
    network = transformer()
    whole = copy.deepcopy(network).requires_grad_(True)
    groups, _ = prunable_groups(whole, (PICTURE,), PruneOptions(ignored=("patch_embed",)))
    ranked = scores(whole, groups, importance, [(PICTURE,)], None)
    assert {name: len(values) for name, values in ranked.items()} == {
        "blocks.0.attn.qkv": 3, "blocks.0.mlp.fc1": 96,
    }  # fmt: skip
    removed = {name: [int(values.argmin())] for name, values in ranked.items()}
    with torch.no_grad(), unread(network, groups, removed):
        expected = network(PICTURE)
    with torch.no_grad():
        found = remove_channels(copy.deepcopy(network), groups, removed)(PICTURE)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_attention_of_another_make_is_kept_whole() -> None:
    groups, kept = found_in(Fused())
    assert {group.name for group in groups} == {"first"}
    assert "qkv" in {one.name for one in kept}


def test_a_group_with_channels_that_no_layer_has_is_refused() -> None:
    network = transformer()
    heads = next(group for group in found_in(network)[0] if group.name == "blocks.0.attn.qkv")
    members = {
        place: tuple(tuple(c + 100 for c in atom) for atom in atoms)
        for place, atoms in heads.members.items()
    }
    sound, refused = sound_groups(network, (PICTURE,), [replace(heads, members=members)])
    assert not sound
    assert "not understood" in refused[0].reason
