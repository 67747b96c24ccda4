"""The rewrite rules, in the order in which they run."""

from __future__ import annotations

from edgekit.program.rule import Rule
from edgekit.program.rules.exact_reciprocal import ReciprocalAsDivision
from edgekit.program.rules.fold_batch_norm import FoldBatchNorm
from edgekit.program.rules.frames_as_batch import FramesAsBatch
from edgekit.program.rules.group_norm_rank import GroupNormAtRank4
from edgekit.program.rules.half_safe_norm import HalfSafeLayerNorm, HalfSafeRMSNorm
from edgekit.program.rules.shape_chain import CollapseShapeChains
from edgekit.program.rules.time_padding import NameRepeatedFrames, NameRepeatedSlices


def rules(*, half: bool) -> list[Rule]:
    """All rules; those that only half precision needs are left out unless `half`."""
    always: list[Rule] = [
        FoldBatchNorm(),
        ReciprocalAsDivision(),
        GroupNormAtRank4(),
        NameRepeatedFrames(),
        NameRepeatedSlices(),
        FramesAsBatch(),
        CollapseShapeChains(),
    ]
    return [*always, HalfSafeRMSNorm(), HalfSafeLayerNorm()] if half else always
