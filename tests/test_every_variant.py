"""Every model of the zoo goes to both formats in both precisions and proves itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.recipe import all_recipes

SMALL = {
    "turbo-vaed-ltx": (64, 64, 9),
    "turbo-vaed-dc": (64, 64, 8),
    "turbo-vaed-hunyuan": (32, 32, 5),
    "turbo-vaed-cog": (32, 32, 5),
    "turbo-vaed-mini": (64, 64, 5),
}


def test_the_table_of_sizes_names_every_model() -> None:
    assert set(SMALL) == {recipe.name for recipe in all_recipes()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_exports_to_both_formats_in_both_precisions_and_verifies(
    name: str, tmp_path: Path
) -> None:
    height, width, frames = SMALL[name]
    model = edgekit.load(name, height=height, width=width, frames=frames)
    for target in ("coreml", "onnx"):
        for precision in ("fp32", "fp16"):
            folder = tmp_path / f"{target}-{precision}"
            bundle = edgekit.export(
                model, target=target, precision=precision, output=folder, simplify=False
            )
            assert edgekit.verify(bundle).passed, (name, target, precision)
