"""What a reader of the README and of docs/ has at hand: pictures, clips, weights of random numbers, a package.

Each is made when a page first names it, and then shared by all pages.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marked_pictures import write_marked_pictures, write_talkative_weights


class ReadersFiles:
    def __init__(self, store: Path) -> None:
        self.store = store

    def put(self, code: str, folder: Path) -> None:
        """Copy what a page's commands and examples name into its folder."""
        for name, make in MAKERS.items():
            module = (
                r"\.\w+\b(?!:)"  # mypackage.nets:make_net names mypackage; known.json not known
            )
            if not re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-]|{module})", code):
                continue
            if not (self.store / name).exists():
                make(self.store / name)
            source = self.store / name
            if source.is_dir():
                shutil.copytree(source, folder / name, dirs_exist_ok=True)
            else:
                (folder / name).hardlink_to(source)


def ltx(path: Path) -> None:
    import torch

    torch.manual_seed(0)
    torch.save(network("turbo-vaed-ltx").state_dict(), path)


def mobilenet(path: Path) -> None:
    import torch

    torch.save(network("mobilenet-v2").state_dict(), path)


def efficientnet(path: Path) -> None:
    import torch

    torch.save(network("efficientnet-lite0").state_dict(), path)


def latent(path: Path) -> None:
    import numpy as np

    np.save(path, np.zeros((1, 32, 5, 32, 32), np.float32))


def latents(path: Path) -> None:
    import numpy as np

    path.mkdir()
    draw = np.random.default_rng(0)
    for number in range(3):
        np.save(path / f"{number}.npy", draw.standard_normal((1, 32, 2, 8, 8), np.float32))


def teacher(path: Path) -> None:
    import torch

    from edgekit.distillation import taef2

    path.mkdir()
    for part, made in (("encoder", taef2.encoder()), ("decoder", taef2.decoder())):
        torch.save(made.state_dict(), path / f"taef2_{part}.pth")


def clips(path: Path) -> None:
    """A video of ten frames."""
    import av
    import numpy as np

    path.mkdir()
    with av.open(str(path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "bgr0"
        for grey in range(100, 110):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def ssd(path: Path) -> None:
    """A teacher that sees people everywhere."""
    import torch
    from safetensors.torch import save_file

    made: Any = network("ssd-mobilenet-v2")
    with torch.no_grad():
        for head in made.class_heads:
            head[0].weight.zero_()
            head[0].bias[1] = 5.0
    save_file(made.state_dict(), path)


def network(name: str) -> Any:
    from edgekit.recipe import find_recipe
    from edgekit.zoo.families import build_network

    return build_network(find_recipe(name))


def picture(path: Path) -> None:
    from PIL import Image

    Image.effect_noise((400, 300), 60).convert("RGB").save(path)


def pictures(path: Path) -> None:
    path.mkdir()
    picture(path / "1.jpg")


def annotations(path: Path) -> None:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 90, 90], "area": 8100, "iscrowd": 0}  # fmt: skip
    marked = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 400, "height": 300}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [box],
    }
    path.write_text(json.dumps(marked))


def talkative(path: Path) -> None:
    write_talkative_weights("leyolo-composites", path)


def known(path: Path) -> None:
    """Marked pictures, and known.json beside them."""
    weights = path.parent / "trained.safetensors"
    if not weights.exists():
        talkative(weights)
    write_marked_pictures("leyolo-composites", weights, path.with_suffix(".json"), path)


def known_json(path: Path) -> None:
    known(path.with_suffix(""))


def package(path: Path) -> None:
    path.mkdir()
    (path / "__init__.py").touch()
    (path / "nets.py").write_text(
        "import torch\n\n\ndef make_net():\n"
        "    return torch.nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),)\n"
    )


MAKERS: dict[str, Callable[[Path], None]] = {
    "Turbo-VAED-LTX.pth": ltx,
    "z.npy": latent,
    "latents": latents,
    "taef2": teacher,
    "clips": clips,
    "ssd-mobilenet-v2.safetensors": ssd,
    "mobilenet_v2-b0353104.pth": mobilenet,
    "efficientnet-lite0-57934424.pth": efficientnet,
    "street.jpg": picture,
    "pictures": pictures,
    "held-out": pictures,
    "annotations.json": annotations,
    "trained.safetensors": talkative,
    "known.json": known_json,
    "known": known,
    "mypackage": package,
}
