"""What a filter judges a found box by: its logits, and the network's feature maps where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
LOGITS, MAPS = "logits", "features_"
"""Names of outputs; a map's ends with its place, the finest first."""
GRID = 3
"""Points per side that are looked at within a box."""


@dataclass(frozen=True)
class Evidence:
    """Of N boxes."""

    logits: Floats
    """N C, before the sigmoid."""
    features: Floats
    """N D: see `features_at`."""

    def __len__(self) -> int:
        return len(self.logits)

    def at(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Evidence:
        return Evidence(self.logits[rows], self.features[rows])


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Of one part or more."""
    return Evidence(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.features for part in parts]),
    )


def maps_of(outputs: Mapping[str, npt.NDArray[np.generic]]) -> list[Floats]:
    """C h w each, in order."""
    count = sum(name.startswith(MAPS) for name in outputs)
    return [np.asarray(outputs[f"{MAPS}{place}"][0], np.float32) for place in range(count)]


def features_at(maps: Sequence[Floats], boxes: Floats, height: int, width: int) -> Floats:
    """N D for corners N 4 in pixels of an input of `height` by `width`; D counts the maps' channels.

    Of each map the mean over GRID × GRID points spread evenly in the box, each of the cell in which it
    lies; points beside the picture count as its border. So a box has features of all levels, and as many
    whichever level found it (as in SPK, arXiv 2608.19080, which pools all levels too).
    """
    steps = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    parts = []
    for values in maps:
        rows_of_map, columns_of_map = values.shape[1:]
        x = boxes[:, 0, None] + steps * (boxes[:, 2] - boxes[:, 0])[:, None]
        y = boxes[:, 1, None] + steps * (boxes[:, 3] - boxes[:, 1])[:, None]
        columns = np.clip(x * columns_of_map // width, 0, columns_of_map - 1).astype(np.intp)
        rows = np.clip(y * rows_of_map // height, 0, rows_of_map - 1).astype(np.intp)
        parts.append(values[:, rows[:, :, None], columns[:, None, :]].mean((2, 3)).T)
    result: Floats = np.concatenate(parts, axis=1).astype(np.float32)
    return result
