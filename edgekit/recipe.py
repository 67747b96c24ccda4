"""Recipes: one TOML file in `models/` per model variant, read into frozen data."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from edgekit.contract import TensorSpec
from edgekit.data_folder import data_files, require_types
from edgekit.errors import UsageError
from edgekit.factory_name import as_imported, is_factory
from edgekit.image_contract import ImageContract
from edgekit.video_latent import LatentScaling, VideoContract, VideoLatent

FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class WeightsSource:
    """Where trained weights of a recipe are."""

    bundled: str = ""
    """File beside the recipe."""
    repository: str = ""
    """Hugging Face repository, with `file`."""
    file: str = ""
    licence: str = ""
    head_channels: tuple[int, ...] = ()
    """Of the projection heads in official files: where decoders are alike, they tell the teacher."""

    @property
    def kind(self) -> str:
        return "bundled" if self.bundled else "hub" if self.repository else "none"


@dataclass(frozen=True)
class Recipe:
    name: str
    family: str
    summary: str
    source: str
    parameters: int
    architecture: Mapping[str, Any]
    """Arguments of the family's configuration class, as the TOML gives them."""
    weights: WeightsSource
    contract: VideoContract | ImageContract
    """What goes in and comes out, and at which sizes."""
    aliases: tuple[str, ...] = ()
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of a pruned network: what of it is smaller than the architecture says, as `zoo.resized` has it."""
    path: Path = field(default=Path(), compare=False)

    def specs(
        self, height: int | None, width: int | None, frames: int | None
    ) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
        """Input and outputs for a size in pixels; None takes the default. Raises UsageError."""
        return self.contract.specs(height, width, frames)

    @property
    def bundled_weights(self) -> Path | None:
        return self.path.parent / self.weights.bundled if self.weights.bundled else None


def all_recipes() -> list[Recipe]:
    return [read_recipe(path) for path in data_files("models")]


def find_recipe(name: str) -> Recipe:
    """By name, alias, path of a TOML file, or of a folder that holds one. Raises UsageError, with the nearest name."""
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    recipes = all_recipes()
    for recipe in recipes:
        if name in (recipe.name, *recipe.aliases):
            return recipe
    if is_recipe_folder(Path(name)):
        return read_recipe(next(Path(name).glob("*.toml")))
    if is_factory(name):
        raise UsageError(
            f"'{name}' has no recipe, which is needed here; give a model of `edgekit list` or a recipe's file."
        )
    if name.endswith(".py"):
        raise UsageError(
            f"There is no model '{name}'; name a function of it that returns (module, example_inputs), as "
            f"{as_imported(name)}:make_net."
        )
    if Path(name).exists():
        raise UsageError(
            f"There is no model '{name}', and what is there is no recipe; give a model of `edgekit list`, a recipe's "
            "file (.toml) or folder, or package.module:factory."
        )
    known = sorted({known for recipe in recipes for known in (recipe.name, *recipe.aliases)})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    nearest = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise UsageError(f"There is no model '{name}'; {nearest}`edgekit list` shows all.")


def is_recipe_folder(path: Path) -> bool:
    """One recipe with weights of its name beside it, such as `edgekit prune` writes."""
    recipes = list(path.glob("*.toml")) if path.is_dir() else []
    return len(recipes) == 1 and recipes[0].with_suffix(".safetensors").is_file()


def read_recipe(path: Path) -> Recipe:
    """Read one file. Raises UsageError that names the file and the field."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}.") from error
    try:
        architecture, weights = data.pop("architecture"), data.pop("weights")
        contract = _pop_contract(data, path.parent)
        recipe = Recipe(
            **_with_tuples(data),
            architecture=_with_tuples(architecture),
            weights=WeightsSource(**_with_tuples(weights)),
            contract=contract,
            path=path,
        )
        for record in _records(recipe):
            require_types(record)
        contract.check(recipe.architecture)
        if not all(isinstance(changed, dict) for changed in recipe.channels.values()):
            raise TypeError("'channels' must be a table for each module")
    except KeyError as error:
        raise UsageError(
            f"{path} has no {error.args[0]!r}; see models/turbo-vaed-ltx.toml, or models/mobilenet-v2.toml "
            "for networks that take images."
        ) from error
    except (TypeError, ValueError, AttributeError) as error:  # the last: a value for a table
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(f"{path} does not describe a recipe: {reason}.") from error
    if not FILE_NAME.fullmatch(recipe.name):
        raise UsageError(
            f"{path} has the name '{recipe.name}', which names files: letters, digits, '-', '_' and '.'."
        )
    return recipe


def _pop_contract(data: dict[str, Any], folder: Path) -> VideoContract | ImageContract:
    """Takes its tables out of `data`: `[image]`, or those of a video decoder."""
    if "image" in data:
        return ImageContract.from_toml(_with_tuples(data.pop("image")), folder)
    latent, scaling, size = (data.pop(name) for name in ("latent", "scaling", "size"))
    return VideoContract(
        VideoLatent(**latent),
        LatentScaling.from_json(scaling),
        size["height"],
        size["width"],
        size["frames"],
    )


def _records(record: Any) -> Iterator[Any]:
    """A dataclass and those within it."""
    yield record
    for value in vars(record).values():
        if is_dataclass(value):
            yield from _records(value)


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _as_tuple(value) for key, value in table.items()}


def _as_tuple(value: Any) -> Any:
    if isinstance(value, dict):
        return _with_tuples(value)
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
