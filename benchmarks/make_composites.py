"""Composites of stamps on photographs, as COCO-format folders for training and for held-out figures.

    python tests/fetch_assets.py photographs nature wallpapers stamps
    python benchmarks/make_composites.py composites/ [--train 8000] [--held-out 500]

The held-out set shows other photographs and other stamps: every fourth of each class. Their split depends
on nothing but the files' names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from edgekit.detection.composites import CompositeOptions, Composites, write_coco

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

CLASSES = {
    "mammal": "animals/mammals",
    "bird": "animals/birds",
    "fish": "animals/fish",
    "insect": "animals/insects",
    "fruit": "food/fruit",
    "vegetable": "food/vegetables",
    "flower": "plants/flowers",
    "tool": "household/tools",
    "instrument": "hobbies/music",
    "sign": "town/roadsigns",
}
"""Kinds with nine photographed stamps and more."""
BACKGROUNDS = {
    "train": {
        "photographs": ["Bridge*", "aitzgorri*", "greentock*", "life*"],
        "nature": ["Aqua*", "Blinds*", "Dune*", "GreenMeadow*", "RainDrops*", "Storm*", "Wood*"],
    },
    "held-out": {
        "photographs": ["picosdeeuropa*", "sunset*"],
        "wallpapers": [
            f"{name}/contents/images/2560x1600.*"
            for name in (
                "BytheWater",
                "ColdRipple",
                "EveningGlow",
                "FallenLeaf",
                "Path",
                "summer_1am",
            )
        ],
    },
}
"""Photographs in which nothing of these kinds is seen, by package."""


def stamps_of(folder: Path, held_out: bool) -> dict[str, list[Path]]:
    chosen = {}
    for name, below in CLASSES.items():
        files = [
            file
            for file in sorted((folder / below).rglob("*.png"))
            if "cartoon" not in file.parts and _has_alpha(file)
        ]
        chosen[name] = [file for number, file in enumerate(files) if (number % 4 == 3) == held_out]
    return chosen


def _has_alpha(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.mode in ("RGBA", "LA") or "transparency" in picture.info


def fetched(name: str) -> Path:
    folder = asset(name)
    if folder is None:
        sys.exit(f"{name} is not fetched; run: python tests/fetch_assets.py {name}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=8000)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--size", type=int, default=320)
    options = parser.parse_args()
    for name, count, seed in (("train", options.train, 0), ("held-out", options.held_out, 1)):
        files = [
            file
            for package, patterns in BACKGROUNDS[name].items()
            for pattern in patterns
            for file in sorted(fetched(package).glob(pattern))
        ]
        chosen = stamps_of(fetched("stamps"), held_out=name == "held-out")
        composites = Composites(
            files, chosen, count, seed, CompositeOptions(options.size, options.size)
        )
        annotations = write_coco(composites, options.folder / name)
        things = {kind: len(found) for kind, found in chosen.items()}
        print(f"{annotations}: {count} pictures, {len(files)} photographs, stamps {things}")


if __name__ == "__main__":
    main()
