from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data_folder import data_folder
from edgekit.errors import UsageError
from edgekit.recipe import Recipe, all_recipes, find_recipe, read_recipe
from edgekit.video_latent import VideoContract


def changed(folder: Path, old: str, new: str, name: str = "turbo-vaed-ltx") -> Path:
    written = (data_folder("models") / f"{name}.toml").read_text(encoding="utf-8")
    assert old in written
    path = folder / "mine.toml"
    path.write_text(written.replace(old, new), encoding="utf-8")
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
def test_a_recipe_can_make_its_default_size(recipe: Recipe) -> None:
    given, made = recipe.specs(None, None, None)
    size = recipe.contract.size_of(given.shape)
    again = recipe.specs(size.height, size.width, size.frames)
    assert again == (given, made)
    contract = recipe.contract
    assert (size.height, size.width) == (contract.height, contract.width)


def test_a_recipe_of_a_video_decoder_says_whose_weights_it_takes() -> None:
    for recipe in all_recipes():
        if isinstance(recipe.contract, VideoContract):
            assert recipe.weights.licence
            assert recipe.weights.kind in ("bundled", "hub")
            latent, _ = recipe.specs(None, None, None)
            assert latent.shape[1] == recipe.architecture["latent_channels"]


def test_lists_of_the_architecture_are_tuples() -> None:
    assert find_recipe("turbo-vaed-ltx").architecture["widths"] == (512, 256, 128, 64)
    assert find_recipe("mnasnet-b1").architecture["blocks"][0] == (3, 0, 16, 1, 1)


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


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("height = 224", "", "height"),
        ("height = 224", "height = '224'", "'height' is '224' and must be of type int"),
        ("height = 224", "height = 224\nframes = 3", "frames"),
        ("stride = 1", "stride = 0", "'stride' must be at least 1"),
        ('order = "RGB"', 'order = "HSV"', "'order' is 'HSV' and must be RGB or BGR"),
        ("mean = [0.485, ", "mean = [", "'mean' must be 3 numbers"),
        ("mean = [0.485,", "mean = ['0.485',", "'mean' must be 3 numbers"),
        ("std = [0.229,", "std = [0,", "'std' must be above 0"),
        ("logits]\nclasses = 1000", "logits]\nclasses = 10", "has classes 1000 and .* table 10"),
        ("logits]\nclasses = 1000", "logits]\nclasses = 0", "'classes' must be at least 1"),
        ("logits]\nclasses = 1000", "logits]\nclasses = 'no'", "'classes' is 'no'"),
        ("logits]\nclasses", "logits]\nscale", "scale"),
        ("[image.logits]\nclasses = 1000", "", "needs one table of"),
        ("[image.logits]", "[image.picture]\nscale = 1\n[image.logits]", "needs one table of"),
        ("[image]", "[latent]\nchannels = 3\n[image]", "latent"),
        ("[image", "[picture", "has no 'latent'"),
        ("[weights]", "[weight]", "has no 'weights'"),
        ("[image]", "[[image]]", "does not describe a recipe"),
    ],
)
def test_an_image_table_that_cannot_be_read_names_the_file_and_the_field(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_recipe(changed(tmp_path, old, new, "mobilenet-v2"))
    assert "mine.toml" in str(caught.value)


def test_a_network_that_makes_pictures_works_in_rgb(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'order' is BGR, and a network that makes pictures"):
        read_recipe(changed(tmp_path, '"RGB"', '"BGR"', "unet-c16"))
    assert read_recipe(changed(tmp_path, '"RGB"', '"BGR"', "mobilenet-v2")).contract.order == "BGR"


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read: No such file"):
        find_recipe(str(tmp_path / "absent.toml"))
