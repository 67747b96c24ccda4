"""What codes for a split network: its quantiser's numbers as a codec."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from edgekit.errors import UsageError
from edgekit.split.codec import CalibratedCodec, Codec, DynamicCodec, EntropyCodec
from edgekit.split.quantise8 import Calibration
from edgekit.split.quantised_cdf import quantised_cdf
from edgekit.split.tables import Tables
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.network import SplitNetwork
from edgekit.zoo.split.quantisers import CalibratedQuantiser, require_calibrated


def codec_of(network: SplitNetwork) -> Codec:
    """Raises UsageError for a prior without tables, or an 8-bit quantiser without scales."""
    quantiser = network.head.quantiser
    if isinstance(quantiser, FactorisedPrior):
        return EntropyCodec(tables_of(quantiser))
    if isinstance(quantiser, CalibratedQuantiser):
        require_calibrated(quantiser)
        points = tuple(int(point) for point in quantiser.zero_points)
        return CalibratedCodec(Calibration(tuple(quantiser.scales.tolist()), points))
    return DynamicCodec(quantiser.channels, _hash_of(network.head))


def _hash_of(head: nn.Module) -> str:
    """SHA-256 of its modules' paths and kinds, and of its tensors' names and bytes."""
    found = hashlib.sha256()
    for path, module in head.named_modules():
        found.update(f"{path} {type(module).__name__}\n".encode())
    for name, tensor in head.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def tables_of(prior: FactorisedPrior) -> Tables:
    if not prior.has_tables:
        raise UsageError(
            "The head's entropy model has no coding tables yet: make_tables makes them when training is over."
        )
    rows = zip(prior.table_ends, prior.table_lengths.tolist())
    return Tables(
        tuple(prior.medians.tolist()),
        tuple(prior.table_offsets.tolist()),
        tuple(tuple(ends[:length].tolist()) for ends, length in rows),
    )


@torch.no_grad()
def make_tables(prior: FactorisedPrior, *, bisect: bool = True) -> Tables:
    """Integer tables of the density as it is now, which the prior keeps from here on.

    With `bisect` the quantiles are found anew; without, those that training moved are taken.
    Raises UsageError for a density that is too wide.
    """
    if bisect:
        prior.find_quantiles()
    rows, offsets = prior.table_probabilities()
    prior.table_ends.zero_()
    for channel, row in enumerate(rows):
        ends = torch.tensor(quantised_cdf(row)[:-1], dtype=torch.int32)
        prior.table_ends[channel, : len(ends)] = ends
        prior.table_lengths[channel] = len(ends)
    prior.table_offsets.copy_(torch.tensor(offsets, dtype=torch.int32))
    return tables_of(prior)
