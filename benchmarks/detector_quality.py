"""COCO's figures of a detector with its bundled weights, by class; --record keeps them for its card.

    python benchmarks/make_composites.py composites/
    python benchmarks/detector_quality.py leyolo-composites composites/held-out [--record]

The folder has annotations.json and pictures/. The figures are those of `edgekit evaluate`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgekit
from edgekit.measured import Column, Measurement, record, versions_here
from edgekit.recipe import find_recipe

COLUMNS = (Column("mAP 50-95", "", 3), Column("mAP50", "", 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", action="store_true", help="keep it for the model's card")
    asked = parser.parse_args()
    found = edgekit.evaluate(
        asked.model, asked.folder / "annotations.json", asked.folder / "pictures"
    )
    rows = {"all": [found.ap, found.ap50]} | {
        name: [ap, None] for name, ap in found.by_class.items()
    }
    command = f"python benchmarks/detector_quality.py {asked.model} composites/{asked.folder.name}"
    measured = Measurement(command, "kind", COLUMNS, rows, versions_here())
    print(measured.table())
    if asked.record:
        record(find_recipe(asked.model).path, "held-out", measured)


if __name__ == "__main__":
    main()
