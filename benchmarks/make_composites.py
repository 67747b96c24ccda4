"""Composites of stamps on photographs, as COCO-format folders for training and for held-out figures.

    python tests/fetch_assets.py photographs nature wallpapers stamps
    python benchmarks/make_composites.py composites/ [--train 8000] [--held-out 500] [--look-alikes 2000] ...

The held-out set shows other photographs and other stamps: every fourth of each class. Their split depends
on nothing but the files' names. A count of 0 leaves a set away.

For hallucinations there are four more: `calibration` is made as `train` is, with another seed; the things
in the others are of no trained class, and their annotations are empty. `look-alikes` are to be fine-tuned
with, beside some further things; `near` shows the same kinds of look-alikes by other stamps, every third of
each kind, and `far` kinds that are in no other set; both on the held-out photographs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edgekit.detection.composites import CompositeOptions, Composites, write_coco

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

CLASSES = {
    "mammal": ["animals/mammals/**/*.png"],
    "bird": ["animals/birds/*.png"],
    "fish": ["animals/fish/*.png"],
    "fruit": ["food/fruit/*.png"],
    "flower": ["plants/flowers/*.png"],
    "sign": ["town/roadsigns/*.png"],
    "coin": ["symbols/money/*/coins/*.png"],
    "celestial body": ["space/moon/*.png", "space/planets/[1-9]*.png"],
}
"""Kinds with eleven photographed stamps and more, whose things look like one another.

Insects, instruments, tools and vegetables were tried too. From 7 to 14 stamps that have little in common, a
detector learns those stamps: it found 57 to 86 % of them (AP50), and 1 to 17 % of others of their kind.
"""
LOOK_ALIKES = {
    "ball": ["sports/*ball.png", "sports/soccer.png"],
    "nut": ["food/nuts/*.png"],
    "tree": [
        "plants/trees/[bhlpt]*.png", "seasonal/christmas/xmaswreath.png",
        "seasonal/christmas/Christmas_Tree_photo.png",
    ],
    "frog, lizard or shell": [
        "animals/amphibians/*.png", "animals/lizards/*.png", "animals/shellfish/*.png",
        "household/rubberduck.png",
    ],
    "utensil": [
        "household/key.png", "household/arttools/*.png", "household/dishes/utensils/*.png",
        "medical/[ms]*.png", "clothes/clothespin*.png", "sports/tennis_racket.png",
    ],
    "vessel": ["household/dishes/*.png", "household/kettle.png"],
    "dish": ["food/pizza.png", "seasonal/christmas/Christmas_pudding.png", "seasonal/christmas/*_Pie.png",
             "seasonal/christmas/Roast_turkey.png"],
    "flag or face": ["town/flags/*.png", "symbols/faces/*.png"],
    "optics": ["hobbies/*.png"],
    "vegetable": ["food/vegetables/*.png"],
    "insect": ["animals/insects/*.png"],
}  # fmt: skip
"""Kinds that are of no trained class and look like one: a ball like a celestial body, a vegetable like a fruit."""
FURTHER = {
    "sweet": ["seasonal/christmas/*and*_can*.png", "seasonal/christmas/hard_candy.png", "seasonal/easter/wrapped*.png"],
    "decoration": [
        "seasonal/christmas/bow.png", "seasonal/christmas/st[ao]*.png", "seasonal/christmas/xmas_tp_bulb.png",
        "seasonal/newyears/party*.png", "symbols/shapes/*.png",
    ],
    "candle or dreydl": ["seasonal/candle.png", "seasonal/hanukkah/*.png"],
    "letter": ["symbols/alphabets/english/filled/uppercase/*.png"],
    "medical thing": ["medical/[bt]*.png"],
    "machine": ["space/apollo_lander.png", "space/voyager2.png", "sports/trophy_cup.png"],
}  # fmt: skip
"""Kinds to be fine-tuned with as well, so that not only their neighbours are unlearnt."""
FAR = {
    "vehicle": [
        "vehicles/auto/*.png", "vehicles/cycle/*.png", "vehicles/emergency/f*.png", "vehicles/flight/**/*.png",
        "vehicles/masstransit/*.png", "vehicles/race/*.png", "vehicles/ship/*.png", "vehicles/*.png",
        "vehicles/construction/*.png", "military/vehicles/*.png",
    ],
    "garment": ["clothes/t_*.png", "clothes/hats/*.png"],
    "tool": ["household/tools/*.png"],
    "instrument": ["hobbies/music/**/*.png"],
    "chessman": ["symbols/chess/*.png"],
    "tombstone": ["seasonal/halloween/grave*.png"],
    "household thing": [
        "household/garbagecan.png", "household/home_compost_bin.png", "household/toilet.png",
        "household/wheelie_bin.png", "household/Lightbulb.png", "household/cylinder.png", "town/*.png",
    ],
}  # fmt: skip
"""Kinds in no other set."""
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
    for name, patterns in CLASSES.items():
        files = photographed(folder, patterns)
        chosen[name] = [file for number, file in enumerate(files) if (number % 4 == 3) == held_out]
    return chosen


def look_alikes_of(folder: Path, held_out: bool) -> dict[str, list[Path]]:
    chosen = {}
    for name, patterns in LOOK_ALIKES.items():
        files = photographed(folder, patterns)
        chosen[name] = [file for number, file in enumerate(files) if (number % 3 == 1) == held_out]
    if not held_out:
        chosen |= {name: photographed(folder, patterns) for name, patterns in FURTHER.items()}
    return chosen


def photographed(folder: Path, patterns: list[str]) -> list[Path]:
    return [
        file
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
        if "cartoon" not in file.parts and _has_alpha(file)
    ]


def _has_alpha(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.mode in ("RGBA", "LA") or "transparency" in picture.info


def fetched(name: str) -> Path:
    folder = asset(name)
    if folder is None:
        sys.exit(f"{name} is not fetched; run: python tests/fetch_assets.py {name}")
    return folder


@dataclass(frozen=True)
class Set:
    pictures: int
    """By default."""
    seed: int
    photographs: str
    """Of BACKGROUNDS."""
    stamps: Callable[[Path], dict[str, list[Path]]]
    is_known: bool = True
    """The things are of the trained classes."""


SETS = {
    "train": Set(8000, 0, "train", lambda folder: stamps_of(folder, held_out=False)),
    "held-out": Set(500, 1, "held-out", lambda folder: stamps_of(folder, held_out=True)),
    "calibration": Set(500, 2, "train", lambda folder: stamps_of(folder, held_out=False)),
    "look-alikes": Set(
        2000, 3, "train", lambda folder: look_alikes_of(folder, held_out=False), is_known=False
    ),
    "near": Set(
        500, 4, "held-out", lambda folder: look_alikes_of(folder, held_out=True), is_known=False
    ),
    "far": Set(
        500, 5, "held-out", lambda folder: {k: photographed(folder, v) for k, v in FAR.items()},
        is_known=False,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name, made in SETS.items():
        parser.add_argument(f"--{name}", type=int, default=made.pictures)
    parser.add_argument("--size", type=int, default=320)
    options = parser.parse_args()
    asked = {name: getattr(options, name.replace("-", "_")) for name in SETS}
    taken = [
        options.folder / name for name in SETS if asked[name] and (options.folder / name).exists()
    ]
    if taken:
        sys.exit(
            f"make_composites: {taken[0]} exists; remove it, choose another folder, or leave the set away "
            f"(--{taken[0].name} 0)."
        )
    for name, made in SETS.items():
        if count := asked[name]:
            _write(made, count, options.folder / name, options.size)


def _write(made: Set, count: int, folder: Path, size: int) -> None:
    files = [
        file
        for package, patterns in BACKGROUNDS[made.photographs].items()
        for pattern in patterns
        for file in sorted(fetched(package).glob(pattern))
    ]
    stamps = made.stamps(fetched("stamps"))
    varied = (
        {"turn_degrees": 25.0, "stretch": 0.4, "hue": 0.1} if made.photographs == "train" else {}
    )
    composites = Composites(files, stamps, count, made.seed, CompositeOptions(size, size, **varied))
    annotations = write_coco(composites, folder, None if made.is_known else list(CLASSES))
    things = {kind: len(found) for kind, found in stamps.items()}
    print(f"{annotations}: {count} pictures, {len(files)} photographs, stamps {things}")


if __name__ == "__main__":
    main()
