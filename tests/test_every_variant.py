"""Every model of the zoo is exported and proven, of every family one to both formats in both precisions."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.prepared import captured_model
from edgekit.recipe import all_recipes

SMALL = {
    "turbo-vaed-ltx": (64, 64, 9),
    "turbo-vaed-dc": (64, 64, 8),
    "turbo-vaed-hunyuan": (32, 32, 5),
    "turbo-vaed-cog": (32, 32, 5),
    "turbo-vaed-mini": (64, 64, 5),
    "fbnet-c": (32, 64, None),
    "mcunet-in2": (32, 64, None),
    "mcunet-in3": (32, 64, None),
    "mcunet-vww1": (32, 64, None),
    "mnasnet-b1": (32, 64, None),
    "mobilenet-v2": (32, 64, None),
    "mobilenet-v2-0.35": (32, 64, None),
    "mobilenet-v2-0.35-mcunet": (32, 64, None),
    "mobilenet-v2-0.35-msf": (33, 47, None),
    "proxyless-mobile": (32, 64, None),
    "realesr-animevideov3-x4": (12, 17, None),
    "unet-c16": (16, 24, None),
    "ssd-mobilenet-v2": (64, 80, None),
    "mobiledet-cpu": (64, 80, None),
    "mobiledet-dsp": (64, 80, None),
    "mobiledet-edgetpu": (64, 80, None),
    "mobiledet-gpu": (64, 80, None),
    "leyolo-composites": (64, 96, None),
    "leyolo-street": (64, 96, None),
    "leyolo-nano": (64, 96, None),
    "leyolo-small": (64, 96, None),
    "leyolo-medium": (64, 96, None),
    "leyolo-large": (64, 96, None),
    "codenet-a": (64, 96, None),
    "codenet-b": (64, 96, None),
    "codenet-c": (64, 96, None),
    "codenet-d": (64, 96, None),
    "codenet-e": (64, 96, None),
    "efficientnet-lite0": (32, 64, None),
    "deit-tiny": (32, 64, None),
    "resnet-50": (32, 64, None),
    "resnet-101": (32, 64, None),
    "resnet-152": (32, 64, None),
    "densenet-169": (64, 64, None),
    "densenet-201": (64, 64, None),
    "inception-v3": (96, 107, None),
    "efficientnet-lite0-split": (64, 64, None),
    "mobilenet-v2-split": (64, 64, None),
    "mobilenet-v2-bottlefit": (64, 64, None),
    "resnet-50-bottlefit": (64, 64, None),
    "resnet-50-crbq": (64, 64, None),
    "resnet-50-entropic-student": (64, 64, None),
    "densenet-169-bottlefit": (96, 96, None),
    "inception-v3-bottlefit": (107, 107, None),
}


def test_the_table_of_sizes_names_every_model() -> None:
    assert set(SMALL) == {recipe.name for recipe in all_recipes()}


def _forms(name: str) -> tuple[tuple[str, str], ...]:
    """Target and precision: of a family's smallest model all, of the others, which differ from it in sizes, one.

    `python benchmarks/all_variants.py` has all of all.
    """
    recipes = all_recipes()
    (family,) = (recipe.family for recipe in recipes if recipe.name == name)
    members = [recipe for recipe in recipes if recipe.family == family]
    is_smallest = name == min(members, key=lambda recipe: recipe.parameters).name
    if family == "split":  # it rounds its latent: half precision puts some symbols beyond a half
        return ("coreml", "fp32"), ("onnx", "fp32")
    if is_smallest:
        return tuple(
            (target, precision) for target in ("coreml", "onnx") for precision in ("fp16", "fp32")
        )
    place = [recipe.name for recipe in members].index(name)
    return ((("coreml", "fp16"), ("onnx", "fp32"))[place % 2],)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_exports_and_verifies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width, frames = SMALL[name]
    model = edgekit.load(name, height=height, width=width, frames=frames)
    once = captured_model(model)  # a third of an export's time, and the same for all forms
    monkeypatch.setattr("edgekit.exporting.captured_model", lambda _: once)
    for target, precision in _forms(name):
        folder = tmp_path / f"{target}-{precision}"
        bundle = edgekit.export(
            model, target=target, precision=precision, output=folder, simplify=False, verify=False
        )
        assert edgekit.verify(bundle).passed, (name, target, precision)
