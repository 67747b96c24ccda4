"""A detector of random weights that finds much in noise, and noise that is marked with what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import edgekit as api
from edgekit.detection.detector import detector_of_model

PICTURES = 30


def write_talkative_weights(recipe: str, path: Path, bias: float = -1.0) -> None:
    """Of a LeYOLO, with great weights and biases, of `bias` and more, where its scores are made."""
    network: Any = api.load(recipe).module
    with torch.no_grad():
        for level, branch in enumerate(network.head.cv3):
            generator = torch.Generator().manual_seed(level)
            branch[-1].weight.copy_(torch.randn(branch[-1].weight.shape, generator=generator))
            branch[-1].bias.fill_(level / 2 + bias)
    save_file(network.state_dict(), path)


def write_marked_pictures(recipe: str, weights: Path, annotations: Path, folder: Path) -> None:
    """Most of what is found in a picture is marked, six boxes at most."""
    folder.mkdir(parents=True)
    detector = detector_of_model(api.load(recipe, weights))
    images, marks = [], []
    random = np.random.default_rng(0)
    for number in range(1, PICTURES + 1):
        coarse = random.integers(0, 255, (6, 6, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        found = detector(picture, detector.thresholds_for(None, None, 6))
        marked = found.at(np.arange(len(found))[number % 3 == 0 :])
        for (x1, y1, x2, y2), label in zip(marked.boxes.tolist(), marked.labels, strict=True):
            ids = {"id": len(marks) + 1, "image_id": number, "category_id": int(label) + 1}
            box = [x1, y1, x2 - x1, y2 - y1]
            marks.append(ids | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    assert len(marks) > 2 * PICTURES
    names = detector.boxes.names
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(names)]
    content = {"images": images, "annotations": marks, "categories": categories}
    annotations.write_text(json.dumps(content))
