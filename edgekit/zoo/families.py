"""Which network a recipe's family name stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from edgekit.errors import UsageError
from edgekit.recipe import Recipe, find_recipe
from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig
from edgekit.zoo.densenet import DenseNet, DenseNetConfig
from edgekit.zoo.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from edgekit.zoo.inception_v3 import InceptionV3, InceptionV3Config
from edgekit.zoo.inverted_residual import (
    InvertedResidualConfig,
    InvertedResidualNetwork,
    mobilenet_v2,
)
from edgekit.zoo.leyolo import LeYOLO, LeYOLOConfig
from edgekit.zoo.mobiledet import MobileDetConfig, mobiledet
from edgekit.zoo.resized import resize
from edgekit.zoo.resnet import ResNet, ResNetConfig
from edgekit.zoo.split.family import SplitConfig, split_network
from edgekit.zoo.split.network import SplitNetwork
from edgekit.zoo.srvgg import SRVGG, SRVGGConfig
from edgekit.zoo.ssd_mobilenet import SSDMobileNetConfig, ssd_mobilenet
from edgekit.zoo.turbo_vaed import TurboVAEDConfig, TurboVAEDDecoder
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini
from edgekit.zoo.unet import UNet, UNetConfig
from edgekit.zoo.vision_transformer import VisionTransformer, VisionTransformerConfig

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
    "efficientnet-lite": lambda sizes: EfficientNetLite(EfficientNetLiteConfig(**sizes)),
    "resnet": lambda sizes: ResNet(ResNetConfig(**sizes)),
    "densenet": lambda sizes: DenseNet(DenseNetConfig(**sizes)),
    "inception-v3": lambda sizes: InceptionV3(InceptionV3Config(**sizes)),
    "vision-transformer": lambda sizes: VisionTransformer(VisionTransformerConfig(**sizes)),
    "split": lambda sizes: _split(SplitConfig(**sizes)),
}


def build_network(recipe: Recipe) -> nn.Module:
    """Raises UsageError for an unknown family or an architecture it does not take."""
    if recipe.family not in FAMILIES:
        raise UsageError(
            f"{recipe.path.name} names the family '{recipe.family}'; there are {', '.join(FAMILIES)}."
        )
    try:
        return resize(FAMILIES[recipe.family](recipe.architecture), recipe.channels)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(
            f"The architecture in {recipe.path.name} does not fit: {reason}."
        ) from error


def backbone_of(config: SplitConfig) -> nn.Module:
    """The network that a split one is made of. Raises UsageError if that is a split one itself."""
    recipe = find_recipe(config.backbone)
    if recipe.family == "split":
        raise UsageError(f"{recipe.name} is split already; name the network that it was made of.")
    return build_network(recipe)


def _split(config: SplitConfig) -> SplitNetwork:
    return split_network(config, backbone_of(config))
