"""edgekit list"""

from __future__ import annotations

from edgekit.cli.output import Json, print_json
from edgekit.recipe import all_recipes
from edgekit.report import aligned


def list_models(json: Json = False) -> None:
    """Models of the zoo and where their weights are."""
    recipes = all_recipes()
    if json:
        print_json(
            [
                {
                    "name": recipe.name,
                    "aliases": list(recipe.aliases),
                    "family": recipe.family,
                    "parameters": recipe.parameters,
                    "weights": recipe.weights.kind,
                    "summary": recipe.summary,
                }
                for recipe in recipes
            ]
        )
        return
    rows = [("model", "parameters", "weights", "what it is")]
    for recipe in recipes:
        name = " = ".join((recipe.name, *recipe.aliases))
        rows.append((name, f"{recipe.parameters:,}", recipe.weights.kind, recipe.summary))
    print(aligned(rows))
