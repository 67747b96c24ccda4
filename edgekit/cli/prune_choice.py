"""What the options of `edgekit prune` ask for: fewer channels, masks that are trained, or blocks of zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edgekit.cli.output import parse_size
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.compress.blocks.options import BlockOptions
    from edgekit.compress.pruning.bottleneck import BottleneckOptions
    from edgekit.compress.pruning.options import Cost, Importance, PruneOptions, Ratios


@dataclass(frozen=True)
class Asked:
    """None: not given."""

    keep: float
    ignore: tuple[str, ...]
    of: str | None
    round_to: int | None
    importance: str | None
    ratios: str | None
    least: float | None
    blocks: str | None
    power: float | None
    masks: int | None
    masks_only: bool


def chosen(asked: Asked) -> PruneOptions | BottleneckOptions | BlockOptions:
    """Raises UsageError for options that do not belong together."""
    if asked.blocks is not None:
        _refuse("--blocks", asked, "of", "round_to", "ratios", "least", "masks", "masks_only")
        return _of_blocks(asked, asked.blocks)
    if asked.power is not None:
        raise UsageError("--power belongs to --blocks.")
    if asked.masks is not None:
        _refuse("--masks", asked, "of", "importance", "ratios")
        return _of_masks(asked, asked.masks)
    if asked.masks_only:
        raise UsageError("--masks-only belongs to --masks.")
    from edgekit.compress.pruning.options import PruneOptions

    given: dict[str, Any] = {
        "of": cast("Cost | None", asked.of), "round_to": asked.round_to,
        "importance": cast("Importance | None", asked.importance),
        "ratios": cast("Ratios | None", asked.ratios), "least": asked.least,
    }  # fmt: skip
    return PruneOptions(asked.keep, ignored=asked.ignore, **_without_none(given))


def _of_blocks(asked: Asked, blocks: str) -> BlockOptions:
    from edgekit.compress.blocks.options import BlockOptions, Magnitude, SecondOrder

    high, wide = parse_size(blocks)
    assert high is not None
    assert wide is not None
    known = (None, "second-order", "magnitude")
    if asked.importance not in known:
        raise UsageError(
            f"Blocks go by --importance second-order or magnitude, not by '{asked.importance}'."
        )
    if asked.importance == "magnitude":
        if asked.power is not None:
            raise UsageError("--power belongs to --importance second-order.")
        return BlockOptions(asked.keep, (high, wide), Magnitude(), asked.ignore)
    by = SecondOrder() if asked.power is None else SecondOrder(asked.power)
    return BlockOptions(asked.keep, (high, wide), by, asked.ignore)


def _of_masks(asked: Asked, steps: int) -> BottleneckOptions:
    from edgekit.compress.pruning.bottleneck import BottleneckOptions

    given: dict[str, Any] = {"round_to": asked.round_to, "least": asked.least}
    return BottleneckOptions(
        steps, asked.keep, ignored=asked.ignore, masks_only=asked.masks_only, **_without_none(given)
    )


def _refuse(option: str, asked: Asked, *others: str) -> None:
    given = [name for name in others if getattr(asked, name) not in (None, False)]
    if given:
        name = given[0].replace("_", "-")
        raise UsageError(f"{option} and --{name} do not belong together; leave one away.")


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
