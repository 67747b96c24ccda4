"""Which network a recipe's family name stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from edgekit.errors import UsageError
from edgekit.recipe import Recipe
from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig
from edgekit.zoo.inverted_residual import (
    InvertedResidualConfig,
    InvertedResidualNetwork,
    mobilenet_v2,
)
from edgekit.zoo.leyolo import LeYOLO, LeYOLOConfig
from edgekit.zoo.mobiledet import MobileDetConfig, mobiledet
from edgekit.zoo.srvgg import SRVGG, SRVGGConfig
from edgekit.zoo.ssd_mobilenet import SSDMobileNetConfig, ssd_mobilenet
from edgekit.zoo.turbo_vaed import TurboVAEDConfig, TurboVAEDDecoder
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini
from edgekit.zoo.unet import UNet, UNetConfig

FAMILIES: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "turbo-vaed": lambda sizes: TurboVAEDDecoder(TurboVAEDConfig(**sizes)),
    "turbo-vaed-mini": lambda sizes: TurboVAEDMini(MiniConfig(**sizes)),
    "mobilenet-v2": lambda sizes: InvertedResidualNetwork(mobilenet_v2(**sizes)),
    "inverted-residual": lambda sizes: InvertedResidualNetwork(InvertedResidualConfig(**sizes)),
    "srvgg": lambda sizes: SRVGG(SRVGGConfig(**sizes)),
    "mobiledet": lambda sizes: mobiledet(MobileDetConfig(**sizes)),
    "ssd-mobilenet": lambda sizes: ssd_mobilenet(SSDMobileNetConfig(**sizes)),
    "leyolo": lambda sizes: LeYOLO(LeYOLOConfig(**sizes)),
    "codenet": lambda sizes: CoDeNet(CoDeNetConfig(**sizes)),
    "unet": lambda sizes: UNet(UNetConfig(**sizes)),
}


def build_network(recipe: Recipe) -> nn.Module:
    """Raises UsageError for an unknown family or an architecture it does not take."""
    if recipe.family not in FAMILIES:
        raise UsageError(
            f"{recipe.path.name} names the family '{recipe.family}'; there are {', '.join(FAMILIES)}."
        )
    try:
        return FAMILIES[recipe.family](recipe.architecture)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(
            f"The architecture in {recipe.path.name} does not fit: {reason}."
        ) from error
