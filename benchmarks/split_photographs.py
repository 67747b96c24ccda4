"""Agreement with the teacher against bytes, for a trained split recipe, on photographs.

    python tests/fetch_assets.py efficientnet_lite0 labelled_photographs
    edgekit distill efficientnet-lite0-split --data PICTURES --teacher efficientnet-lite0-57934424.pth
    python benchmarks/split_photographs.py efficientnet-lite0-split --teacher efficientnet-lite0-57934424.pth \\
        --weights efficientnet-lite0-split.run/tune/student.safetensors --data PHOTOGRAPHS

The reference is the class that the teacher finds in the uncompressed picture, cut to the network's size. JPEG
and WebP files of that cut go through the teacher, payloads of the head through the tail. Without --weights
only the files are measured. File names that end in _CLASS, as in labelled_photographs, give accuracies too.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from split_curve import Point, table
from torch import Tensor, nn

import edgekit
from edgekit.checkpoint import load_weights
from edgekit.distillation.pictures import FROM_THE_MIDDLE, Pictures
from edgekit.distillation.split_networks import OnPictures
from edgekit.image_contract import ImageContract
from edgekit.recipe import find_recipe
from edgekit.split.codec import Sizes
from edgekit.split.of_network import codec_of
from edgekit.split.packet import write_packet
from edgekit.zoo.families import backbone_of
from edgekit.zoo.split.family import SplitConfig
from edgekit.zoo.split.network import SplitNetwork

KEPT = (1, 2, 4, 8, 12, 16, 24)
QUALITIES = {"JPEG": (5, 10, 20, 30, 50, 75, 90), "WebP": (0, 5, 10, 20, 30, 50, 75, 90)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pattern", default="", help="regular expression of file names to take")
    asked = parser.parse_args()
    recipe = find_recipe(asked.model)
    assert isinstance(recipe.contract, ImageContract)
    run = OnPictures(recipe.contract)
    teacher = backbone_of(SplitConfig(**recipe.architecture)).eval()
    load_weights(teacher, asked.teacher)
    names, pictures = read(asked.data, recipe.contract.height, asked.pattern)
    reference = classes(teacher, pictures, run)
    print(f"{len(pictures)} pictures of {tuple(pictures.shape[2:])}; {labelled(names, reference)}")
    print(table(of_files(teacher, pictures, reference, names, run)), flush=True)
    if asked.weights is not None:
        network = edgekit.load(asked.model, weights=asked.weights).module
        assert isinstance(network, SplitNetwork)
        print(table(of_head(network, pictures, reference, names, run)))


def read(folder: Path, size_px: int, pattern: str) -> tuple[list[str], Tensor]:
    data = Pictures(folder, size_px, FROM_THE_MIDDLE)
    names = [path.stem for path in data.files]
    kept = [index for index, name in enumerate(names) if re.search(pattern, name)]
    return [names[index] for index in kept], torch.stack([data[index] for index in kept])


@torch.inference_mode()
def classes(network: nn.Module, pictures: Tensor, run: OnPictures) -> Tensor:
    return torch.cat([run(network, part).argmax(1) for part in pictures.split(4)])


def labelled(names: list[str], found: Tensor) -> str:
    """How often the class at the end of a name was found, where there is one."""
    labels = [re.search(r"_(\d+)$", name) for name in names]
    if not all(labels):
        return "not labelled"
    right = sum(int(label[1]) == int(one) for label, one in zip(labels, found) if label)
    return f"{right} of {len(names)} right"


def of_files(
    teacher: nn.Module, pictures: Tensor, reference: Tensor, names: list[str], run: OnPictures
) -> list[Point]:
    points = []
    for kind, qualities in QUALITIES.items():
        for quality in qualities:
            sizes, decoded = [], []
            for picture in pictures:
                file = io.BytesIO()
                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, kind, quality=quality)
                sizes.append(len(file.getvalue()))
                decoded.append(torch.from_numpy(np.array(Image.open(file).convert("RGB"))))
            found = classes(teacher, torch.stack(decoded).permute(0, 3, 1, 2), run)
            name = f"{kind} {quality} ({labelled(names, found)})"
            points.append(point(name, sizes, sizes, found, reference))
    return points


@torch.inference_mode()
def of_head(
    network: SplitNetwork, pictures: Tensor, reference: Tensor, names: list[str], run: OnPictures
) -> list[Point]:
    codec, head, tail = codec_of(network), network.head_for_device(), network.tail_for_server()
    sent = torch.cat([head(run.images(part)) for part in pictures.split(4)]).numpy()
    points = []
    for keep in (k for k in KEPT if k <= codec.channels):
        payloads = [codec.encode(one, keep) for one in sent]
        packets = [len(write_packet(codec, one, keep)) for one in sent]
        sizes = Sizes(keep, *sent.shape[2:])
        values = [torch.from_numpy(codec.decode(p, sizes, whole=True).values) for p in payloads]
        found = torch.cat([tail(torch.stack(values[i : i + 4])) for i in range(0, len(values), 4)])
        name = f"head, keep {keep} ({labelled(names, found.argmax(1))})"
        points.append(point(name, [len(p) for p in payloads], packets, found.argmax(1), reference))
    return points


def point(
    name: str, sizes: list[int], packets: list[int], found: Tensor, reference: Tensor
) -> Point:
    same = 100 * float((found == reference).float().mean())
    p95 = float(np.percentile(sizes, 95))
    return Point(name, float(np.mean(sizes)), p95, float(np.mean(packets)), same)


if __name__ == "__main__":
    main()
