"""The factorised prior: a learned density for each channel of a latent (Ballé et al., arXiv 1802.01436).

Per channel c the cumulative distribution is sigmoid(L(x)) with five monotone layers of widths
1-3-3-3-3-1. Names and shapes of parameters are those of CompressAI's EntropyBottleneck.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import UsageError
from edgekit.zoo.split.lower_bound import lower_bound
from edgekit.zoo.split.quantisers import Quantiser

WIDTHS = (1, 3, 3, 3, 3, 1)
LEAST_LIKELIHOOD = 1e-9
TAIL_MASS = 1e-9
TAIL_LOGIT = math.log(2 / TAIL_MASS - 1)
WIDEST_TABLE = 1024
BISECTION_ENDS = 1e5


class FactorisedPrior(Quantiser):
    """Rounds latents to whole numbers around each channel's median, and says how many bits those take.

    In training, uniform noise stands for rounding. The integer tables for the coder are buffers, so
    that weights and tables are one file: two machines would not compute the same tables.
    """

    kind = "entropy"
    table_ends: Tensor
    """C x WIDEST_TABLE: lower ends of each channel's frequency table, padded with zeros."""
    table_lengths: Tensor
    """C: how many of them there are; 0 until the tables are made."""
    table_offsets: Tensor
    """C: the symbol that a table's first entry stands for."""

    def __init__(self, channels: int, init_scale: float = 10.0) -> None:
        super().__init__(channels)
        scale = init_scale ** (1 / (len(WIDTHS) - 1))
        self.matrices, self.biases, self.factors = (nn.ParameterList() for _ in range(3))
        for given, made in pairwise(WIDTHS):
            start = math.log(math.expm1(1 / scale / made))
            self.matrices.append(nn.Parameter(torch.full((channels, made, given), start)))
            self.biases.append(nn.Parameter(torch.empty(channels, made, 1).uniform_(-0.5, 0.5)))
        for made in WIDTHS[1:-1]:
            self.factors.append(nn.Parameter(torch.zeros(channels, made, 1)))
        tails = torch.tensor([-init_scale, 0.0, init_scale])
        self.quantiles = nn.Parameter(tails.repeat(channels, 1, 1))
        """C 1 3: where the cumulative distribution has TAIL_MASS / 2, 1/2 and 1 - TAIL_MASS / 2."""
        self.register_buffer("table_ends", torch.zeros(channels, WIDEST_TABLE, dtype=torch.int32))
        self.register_buffer("table_lengths", torch.zeros(channels, dtype=torch.int32))
        self.register_buffer("table_offsets", torch.zeros(channels, dtype=torch.int32))

    @property
    def medians(self) -> Tensor:
        """C, without gradient."""
        return self.quantiles[:, 0, 1].detach()

    @property
    def has_tables(self) -> bool:
        return bool((self.table_lengths > 0).all())

    def forward(self, latent: Tensor) -> Tensor:
        if self.training:
            return latent + torch.empty_like(latent).uniform_(-0.5, 0.5)
        medians = self.medians[:, None, None]
        return (latent - medians).round() + medians

    def sent(self, latent: Tensor) -> Tensor:
        return (latent - self.medians[:, None, None]).round().to(torch.int32)

    def likelihoods(self, values: Tensor) -> Tensor:
        """N C h w, of a bin of width 1 around each value; at least 1e-9."""
        by_channel = values.transpose(0, 1)
        found = self.probability(by_channel.reshape(self.channels, 1, -1))[0]
        found = lower_bound(found, LEAST_LIKELIHOOD)
        return found.reshape(by_channel.shape).transpose(0, 1)

    def probability(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of values C 1 n: the probability of their bins, and the logits at the bins' ends."""
        lower, upper = self.logits(values - 0.5), self.logits(values + 0.5)
        return upper.sigmoid() - lower.sigmoid(), lower, upper

    def logits(self, values: Tensor) -> Tensor:
        """Of the cumulative distribution at values C 1 n."""
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases)):
            values = F.softplus(matrix) @ values + bias
            if layer < len(self.factors):
                values = values + self.factors[layer].tanh() * values.tanh()
        return values

    def quantile_error(self) -> Tensor:
        """How far the quantiles are off; only they have a gradient (CompressAI's auxiliary loss)."""
        target = self.quantiles.new_tensor([-TAIL_LOGIT, 0.0, TAIL_LOGIT])
        with self._density_fixed():
            return (self.logits(self.quantiles) - target).abs().sum()

    @contextmanager
    def _density_fixed(self) -> Iterator[None]:
        own = [p for rows in (self.matrices, self.biases, self.factors) for p in rows]
        were = [p.requires_grad for p in own]
        for p in own:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p, was in zip(own, were):
                p.requires_grad_(was)

    @torch.no_grad()
    def find_quantiles(self) -> None:
        """By bisection, which stops where CompressAI's does: its medians depend on that."""
        targets = self.quantiles.new_tensor([-TAIL_LOGIT, 0.0, TAIL_LOGIT])
        for place, target in enumerate(targets):
            low = torch.full((self.channels, 1, 1), -BISECTION_ENDS).to(self.quantiles)
            high = -low
            while not torch.isclose(low, high, rtol=1e-4, atol=1e-3).all():
                middle = (low + high) / 2
                found = self.logits(middle)
                low = torch.where(found <= target, middle, low)
                high = torch.where(found >= target, middle, high)
            self.quantiles[:, :, place] = ((low + high) / 2)[:, :, 0]

    @torch.no_grad()
    def table_probabilities(self) -> tuple[list[list[float]], list[int]]:
        """For each channel the probabilities of its symbols and, last, of its tails; and its first symbol.

        Raises UsageError for a density that is too wide for a table.
        """
        low, median, high = self.quantiles[:, 0].unbind(1)
        below, above = (median - low).ceil().int(), (high - median).ceil().int()
        below, above = below.clamp_min(0), above.clamp_min(0)
        lengths = below + above + 1
        if int(lengths.max()) >= WIDEST_TABLE:
            channel = int(lengths.argmax())
            raise UsageError(
                f"Channel {channel} of the latent spreads over {int(lengths[channel])} symbols, and a table "
                f"holds fewer than {WIDEST_TABLE}: train with a greater beta, or a latent of smaller values."
            )
        places = torch.arange(int(lengths.max()), device=low.device)
        samples = places[None, None] + (median - below)[:, None, None]
        found, lower, upper = self.probability(samples)
        # The upper tail begins where the longest table ends, as in CompressAI.
        tails = lower[:, 0, :1].sigmoid() + (-upper[:, 0, -1:]).sigmoid()
        rows = [
            [*row[:length].tolist(), float(tail)]
            for row, length, tail in zip(found[:, 0], lengths.tolist(), tails)
        ]
        return rows, (-below).tolist()
