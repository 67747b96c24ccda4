"""Models that can be distilled from a folder of videos, by name, and what is asked of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.distillation.damage import OnDamage
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.recipe import find_recipe

if TYPE_CHECKING:
    from edgekit.distillation.hardware import Hardware
    from edgekit.distillation.loop import Distilled

RECIPES = {
    "turbo-vaed-mini": "edgekit.distillation.turbo_vaed_mini",
    "turbo-vaed": "edgekit.distillation.turbo_vaed",
    "leyolo": "edgekit.distillation.detectors",
    "mobiledet": "edgekit.distillation.detectors",
    "codenet": "edgekit.distillation.detectors",
    "split": "edgekit.distillation.split_networks",
}
"""By family of models: the module whose `train` makes them."""
DETECTORS = ("leyolo", "mobiledet", "codenet")
BUILT_FROM_RECIPES = (*DETECTORS, "turbo-vaed")
"""Families whose training takes a pruned network too."""
VIDEO = ("turbo-vaed-mini", "turbo-vaed")
TAKEN_BY = {
    "--teacher": (*VIDEO, "split"),
    "--lpips": VIDEO,
    "--perceptual": ("turbo-vaed",),
    "--initial": DETECTORS,
    "--look-alikes": DETECTORS,
    "--skip-damaged": ("turbo-vaed", *DETECTORS, "split"),
}
"""Options that not every family takes."""
PACKAGES = ("av", "lightning_fabric", "torchmetrics")


@dataclass(frozen=True)
class FromFiles:
    data: Path
    """A video, or a folder of videos or pictures."""
    teacher: Path
    """Folder or file of its weights."""
    run: Path
    progress: Callable[[str], None]
    hardware: Hardware
    validation: Path | None = None
    """Videos that are not trained on."""
    lpips: Path | None = None
    """torchvision's weights of AlexNet, for LPIPS among the measures."""
    steps: int | None = None
    """Of all stages together; None: as published in the model's card."""
    seed: int = 0
    resume: bool = False
    workers: int = 2
    model: str = ""
    """Name of the student, or its TOML file, where a recipe makes several."""
    numbers: Path | None = None
    """A TOML file to take the place of the recipe's own numbers."""
    perceptual: Path | None = None
    """torchvision's weights of VGG-16, for LPIPS among the losses."""
    initial: Path | None = None
    """Weights of the student to begin with (detectors)."""
    look_alikes: Path | None = None
    """Pictures of nothing that a detector is to find, to fine-tune with."""
    on_damage: OnDamage = "refuse"
    """What is done about videos and pictures that cannot be read."""


def require_taken(name: str, given: Sequence[str]) -> None:
    """Raises UsageError for an option of another family than this model's."""
    family = find_recipe(name).family
    for option in given:
        if family not in TAKEN_BY.get(option, (family,)):
            raise UsageError(
                f"{name} takes no {option}; leave it out. It belongs to the families "
                f"{', '.join(TAKEN_BY[option])}."
            )


def recipe_named(name: str) -> Callable[[FromFiles], Distilled]:
    """Raises UsageError for a model that has no recipe, MissingEnvironmentError without the extra."""
    recipe = find_recipe(name)
    if recipe.family not in RECIPES:
        raise UsageError(
            f"There is no recipe to train '{recipe.name}' of the family {recipe.family}; there are some for "
            f"{', '.join(RECIPES)}. edgekit.distill takes any student and teacher from Python."
        )
    if recipe.channels and recipe.family not in BUILT_FROM_RECIPES:
        raise UsageError(
            f"The recipe that trains the family {recipe.family} builds whole networks, and '{recipe.name}' was "
            "pruned; `edgekit prune --data --steps` trains it, or edgekit.distill from Python."
        )
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingEnvironmentError(
                f"Training from videos needs {package}; install it with: pip install 'edgekit-vision[train]'."
            )
    train: Callable[[FromFiles], Distilled] = importlib.import_module(RECIPES[recipe.family]).train
    return train
