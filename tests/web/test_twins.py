"""What the page computes in TypeScript is what Python computes, number for number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from web_page import npm

from edgekit.detection.letterbox import place
from edgekit.detection.suppression import kept_candidates
from edgekit.image_contract import ImageContract, Logits
from edgekit.split.codec import EntropyCodec
from edgekit.split.packet import Placement, write_packet
from edgekit.split.picture import seen
from edgekit.split.quantise8 import Range
from edgekit.split.quantised_cdf import quantised_cdf
from edgekit.split.rans import PythonCoder
from edgekit.split.tables import Tables

RANDOM = np.random.default_rng(7)
PICTURES = ((64, 48), (47, 91), (320, 90), (33, 200))
INPUTS = ((32, 32), (96, 56))


def packets(folder: Path) -> list[dict[str, Any]]:
    """Common symbols, rare ones beyond the tables' ends, and some of 32 bits."""
    made = []
    for number, (channels, height, width, spread) in enumerate(
        ((1, 1, 1, 1), (3, 5, 4, 2), (6, 16, 16, 3), (2, 8, 8, 1e5), (2, 4, 4, 1e9))
    ):
        rows = []
        for _ in range(channels):
            shares = RANDOM.dirichlet(np.ones(RANDOM.integers(2, 12)))
            rows.append(tuple(quantised_cdf(shares.tolist())[:-1]))
        tables = Tables(
            tuple(float(np.float32(value)) for value in RANDOM.normal(size=channels)),
            tuple(int(-len(row) // 2) for row in rows),
            tuple(rows),
        )
        drawn = RANDOM.normal(scale=spread, size=(channels, height, width))
        symbols = drawn.clip(-(2**31), 2**31 - 1).astype(np.int32)
        placement = Placement(480, 640, -7, number, 168, 224) if number % 2 else None
        keep = channels - (number == 2)
        packet = write_packet(EntropyCodec(tables, PythonCoder()), symbols, keep, placement)
        file = folder / f"tables{number}.json"
        tables.write(file)
        made.append(
            {
                "tables": file.read_text(), "symbols": symbols.ravel().tolist(), "keep": keep,
                "shape": [channels, height, width], "packet": packet.hex(),
                "placement": None if placement is None else {
                    "width": placement.source_width, "height": placement.source_height,
                    "left": placement.left, "top": placement.top,
                    "innerWidth": placement.width, "innerHeight": placement.height,
                },
            }
        )  # fmt: skip
    return made


def resizes() -> list[dict[str, Any]]:
    """Smaller, much smaller, larger, as it is."""
    made = []
    for width, height in PICTURES:
        rgb = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
        for into in ((width, height), (17, 23), (70, 70), (width, 9)):
            resized = Image.fromarray(rgb).resize(into, Image.Resampling.BILINEAR, reducing_gap=3.0)
            made.append(
                {"width": width, "height": height, "rgb": rgb.ravel().tolist(), "into": into,
                 "expected": np.asarray(resized).ravel().tolist()}
            )  # fmt: skip
    return made


def placements() -> list[dict[str, Any]]:
    made = []
    for size in PICTURES:
        for into in INPUTS:
            target = {"width": into[0], "height": into[1]}
            picture = {"width": size[0], "height": size[1]}
            for resize in ("letterbox", "stretch"):
                found = place(size, into, resize)
                expected = {
                    **picture, "left": found.left, "top": found.top,
                    "innerWidth": found.inner_width, "innerHeight": found.inner_height,
                }  # fmt: skip
                made.append({"picture": picture, "into": target, "resize": resize, "expected": expected})  # fmt: skip
            contract = ImageContract(into[1], into[0], 1, "RGB", (0,) * 3, (1,) * 3, Logits(2))
            middle = seen(Image.new("RGB", size), contract).placement
            expected = {
                **picture, "left": middle.left, "top": middle.top,
                "innerWidth": middle.width, "innerHeight": middle.height,
            }  # fmt: skip
            made.append({"picture": picture, "into": target, "resize": "middle", "expected": expected})  # fmt: skip
    return made


def suppressions() -> list[dict[str, Any]]:
    made = []
    for iou, limit in ((0.5, 100), (0.7, 5), (1.0, 100)):
        corners = RANDOM.uniform(0, 60, (80, 2, 2)).round(1)
        boxes = corners.reshape(80, 4).astype(np.float32)
        boxes[5] = np.nan
        scores = RANDOM.uniform(0, 1, (80, 3)).round(1).astype(np.float32)  # with many ties
        rows, labels = kept_candidates(boxes, scores, 0.3, iou, limit)
        made.append(
            {
                "boxes": [None if np.isnan(v) else float(v) for v in boxes.ravel()],
                "scores": scores.ravel().tolist(), "shape": scores.shape,
                "thresholds": {"score": 0.3, "iou": iou, "limit": limit},
                "rows": rows.tolist(), "labels": labels.tolist(),
            }
        )  # fmt: skip
    return made


def ranges() -> list[dict[str, Any]]:
    made = []
    for values in (
        RANDOM.normal(size=50),
        RANDOM.uniform(1, 2, 9),
        -RANDOM.uniform(1, 2, 9),
        np.zeros(3),
    ):
        given = values.astype(np.float32)
        found = Range.of(given)
        made.append(
            {"values": given.tolist(), "scale": float(found.scale), "zeroPoint": found.zero_point}
        )
    return made  # fmt: skip


def test_the_page_codes_places_resizes_and_suppresses_as_python_does(tmp_path: Path) -> None:
    twins = {
        "packets": packets(tmp_path), "resizes": resizes(), "placements": placements(),
        "suppressions": suppressions(), "ranges": ranges(),
    }  # fmt: skip
    file = tmp_path / "twins.json"
    file.write_text(json.dumps(twins))
    said = npm("test", EDGEKIT_TWINS=str(file))
    assert "# fail 0" in said
    assert "EDGEKIT_TWINS names no file" not in said


def test_the_page_s_sources_pass_the_strict_check() -> None:
    npm("run", "check")
