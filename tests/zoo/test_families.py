from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.errors import UsageError
from edgekit.recipe import Recipe, all_recipes, find_recipe
from edgekit.zoo.cost import network_cost
from edgekit.zoo.families import build_network


def test_an_unknown_family_lists_those_there_are() -> None:
    recipe = replace(find_recipe("turbo-vaed-mini"), family="turbo")
    with pytest.raises(UsageError, match=r"family 'turbo'; there are turbo-vaed, turbo-vaed-mini"):
        build_network(recipe)


def test_an_architecture_that_does_not_fit_names_the_field_and_the_file() -> None:
    recipe = replace(find_recipe("turbo-vaed-mini"), architecture={"depth": 3})
    with pytest.raises(UsageError, match=r"turbo-vaed-mini\.toml does not fit.*'depth'"):
        build_network(recipe)


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_states_the_parameters_of_its_network(recipe: Recipe) -> None:
    given, _ = recipe.specs(None, None, None)
    assert network_cost(recipe, given.shape).parameters == recipe.parameters
