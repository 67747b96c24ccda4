"""The rewrite rules, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.errors import UsageError
from edgekit.program.rule import Rule
from edgekit.program.rules.activation_before_shuffle import ActivationBeforeShuffle
from edgekit.program.rules.block_rows import BlockRows
from edgekit.program.rules.blocked_layout_entry import BlockedLayoutEntry
from edgekit.program.rules.channels_last_shuffle import ChannelsLastShuffle
from edgekit.program.rules.convolve_before_shuffle import ConvolveBeforeShuffle
from edgekit.program.rules.crop_in_blocked_layout import CropInBlockedLayout
from edgekit.program.rules.exact_reciprocal import ReciprocalAsDivision
from edgekit.program.rules.fold_batch_norm import FoldBatchNorm
from edgekit.program.rules.frames_as_batch import FramesAsBatch
from edgekit.program.rules.group_norm_rank import GroupNormAtRank4
from edgekit.program.rules.half_safe_norm import HalfSafeLayerNorm, HalfSafeRMSNorm
from edgekit.program.rules.shape_chain import CollapseShapeChains
from edgekit.program.rules.time_padding import NameRepeatedFrames, NameRepeatedSlices
from edgekit.program.rules.two_move_shuffle import TwoMoveShuffle
from edgekit.program.rules.written_out import (
    WrittenBounds,
    WrittenPoolStride,
    WrittenRMSNorm,
    WrittenTanhGelu,
)

FOR_ONE_RUNTIME = {
    rule.name: rule
    for rule in (
        ConvolveBeforeShuffle,
        ChannelsLastShuffle,
        TwoMoveShuffle,
        BlockedLayoutEntry,
        CropInBlockedLayout,
        BlockRows,
    )
}
"""Rules that a target file asks for by name, because they pay in its runtime only."""


def rules(*, half: bool, runtime: Sequence[str] = ()) -> list[Rule]:
    """All rules; those that only half precision needs are left out unless `half`.

    Raises UsageError for a name in `runtime` that is no rule.
    """
    chosen: list[Rule] = [
        FoldBatchNorm(),
        ReciprocalAsDivision(),
        WrittenRMSNorm(),
        WrittenTanhGelu(),
        WrittenPoolStride(),
        WrittenBounds(),
        GroupNormAtRank4(),
        NameRepeatedFrames(),
        NameRepeatedSlices(),
        FramesAsBatch(),
        CollapseShapeChains(),
        ActivationBeforeShuffle(),
    ]
    if half:
        chosen += [HalfSafeRMSNorm(), HalfSafeLayerNorm()]
    for name in runtime:
        if name not in FOR_ONE_RUNTIME:
            known = ", ".join(FOR_ONE_RUNTIME)
            raise UsageError(f"A target asks for the rule '{name}'; there are {known}.")
        chosen.append(FOR_ONE_RUNTIME[name]())
    return chosen


def rules_before_planning() -> list[Rule]:
    """What changes which tensors there are. Shape chains stay: they merge height and width, which
    tiles need apart, and every tile's program is rewritten by all rules afterwards."""
    return [rule for rule in rules(half=False) if not isinstance(rule, CollapseShapeChains)]
