"""What the card of leyolo-composites promises, held against the shipped file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from fetch_assets import asset_or_skip

import edgekit
from edgekit.detection.composites import CompositeOptions, Composites, write_coco
from edgekit.measured import read_measured
from edgekit.recipe import find_recipe
from edgekit.zoo.cost import network_cost

RECIPE = find_recipe("leyolo-composites")
ASKED = 0.5
"""mAP50 on the held-out composites, by issue 5."""


def stated(figure: str) -> float:
    """Of all kinds together."""
    return read_measured(RECIPE.path)["held-out"].value("all", figure)


def test_the_network_has_the_parameters_of_its_recipe() -> None:
    cost = network_cost(RECIPE, RECIPE.specs(256, 256, None)[0].shape)
    assert cost.parameters == RECIPE.parameters < 2_000_000


def test_the_card_s_map_is_the_one_that_was_asked_for() -> None:
    assert stated("mAP50") >= ASKED


@pytest.mark.slow
def test_the_shipped_weights_find_things_that_training_never_showed(tmp_path: Path) -> None:
    for name in ("stamps", "photographs", "wallpapers"):
        asset_or_skip(name)
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "make_composites.py"
    spec = importlib.util.spec_from_file_location("make_composites", file)
    assert spec is not None
    assert spec.loader is not None
    making = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(making)
    photographs = [
        path
        for package, patterns in making.BACKGROUNDS["held-out"].items()
        for pattern in patterns
        for path in sorted(making.fetched(package).glob(pattern))
    ]
    stamps = making.stamps_of(making.fetched("stamps"), held_out=True)
    composites = Composites(photographs, stamps, 80, 1, CompositeOptions(320, 320))
    annotations = write_coco(composites, tmp_path / "held-out")
    found = edgekit.evaluate("leyolo-composites", annotations, annotations.parent / "pictures")
    assert found.ap50 == pytest.approx(stated("mAP50"), abs=0.08)
