"""A tiny network of each family of detectors, with three classes."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig
from edgekit.zoo.leyolo import LeYOLO, LeYOLOConfig
from edgekit.zoo.mobiledet import MobileDetConfig, mobiledet
from edgekit.zoo.ssdlite import SSDLite

Detector = SSDLite | LeYOLO | CoDeNet

TINY_MOBILEDET = MobileDetConfig(
    stem=8,
    blocks=(
        ("inverted", 3, 0, 8, 1, False),
        ("fused", 3, 2, 8, 2, False),
        ("tucker", 3, (0.5, 0.5), 16, 2, False),
        ("inverted", 5, 2, 16, 2, False),
        ("inverted", 3, 2, 16, 1, True),
        ("inverted", 3, 2, 24, 2, False),
    ),
    classes=3,
    activation="hard-swish",
    squeeze=True,
)
TINY_LEYOLO = LeYOLOConfig(
    width=0.25, blocks=(1, 1, 1), neck_blocks=3, wiring="released", classes=3
)
TINY_CODENET = CoDeNetConfig(widths=(8, 16, 24, 32, 40), stem="pool", classes=3)

FAMILIES: dict[str, Callable[[], Detector]] = {
    "mobiledet": lambda: mobiledet(TINY_MOBILEDET),
    "leyolo": lambda: LeYOLO(TINY_LEYOLO),
    "codenet": lambda: CoDeNet(TINY_CODENET),
}
