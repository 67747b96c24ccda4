from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data_folder import data_folder
from edgekit.errors import UsageError
from edgekit.recipe import all_recipes, find_recipe, read_recipe

WRITTEN = (data_folder("models") / "turbo-vaed-ltx.toml").read_text(encoding="utf-8")


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in WRITTEN
    path = folder / "mine.toml"
    path.write_text(WRITTEN.replace(old, new), encoding="utf-8")
    return path


def test_names_and_aliases_are_unique() -> None:
    names = [name for recipe in all_recipes() for name in (recipe.name, *recipe.aliases)]
    assert len(set(names)) == len(names) >= 5


def test_a_recipe_is_found_by_name_alias_and_path(tmp_path: Path) -> None:
    for recipe in all_recipes():
        assert find_recipe(recipe.name) == recipe
        assert all(find_recipe(alias) == recipe for alias in recipe.aliases)
    mine = changed(tmp_path, 'name = "turbo-vaed-ltx"', 'name = "mine"')
    assert find_recipe(str(mine)).name == "mine"


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_can_make_its_default_size(recipe: object) -> None:
    latent, video = recipe.latent.specs(recipe.height, recipe.width, recipe.frames)
    assert latent.shape[1] == recipe.architecture["latent_channels"]
    assert video.shape[-3:] == (recipe.frames, recipe.height, recipe.width)
    assert recipe.weights.licence
    assert recipe.weights.kind in ("bundled", "hub")


def test_lists_of_the_architecture_are_tuples() -> None:
    assert find_recipe("turbo-vaed-ltx").architecture["widths"] == (512, 256, 128, 64)


def test_bundled_weights_stand_beside_their_recipe() -> None:
    recipe = find_recipe("turbo-vaed-mini")
    assert recipe.bundled_weights == data_folder("models") / "turbo-vaed-mini.safetensors"
    assert find_recipe("turbo-vaed-ltx").bundled_weights is None


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no model 'turbo-vead-dc'; did you mean 'turbo-vaed-dc'"):
        find_recipe("turbo-vead-dc")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[scaling]", "[scale]", r"mine\.toml has no 'scaling'"),
        ("parameters = 41896023", "", "parameters"),
        ("parameters = 41896023", "parameters = 'many'", "'parameters' is 'many'"),
        ("patch_size = 4", "patch_size = ", r"mine\.toml is no valid TOML"),
        ("stride = 32", "strides = 32", "strides"),
        ("frames = 17", "", "has no 'frames'"),
        ("stride = 32", "stride = 0", "'stride' must be at least 1"),
        ("channels = 128\nstride", "channels = 64\nstride", "takes 128 latent channels .* has 64"),
        ('summary = "', 'colour = "red"\nsummary = "', "colour"),
        ('name = "turbo-vaed-ltx"', 'name = "../mine"', "names files"),
    ],
)
def test_a_recipe_that_cannot_be_read_names_the_file_and_the_field(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_recipe(changed(tmp_path, old, new))
    assert "mine.toml" in str(caught.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read: No such file"):
        find_recipe(str(tmp_path / "absent.toml"))
