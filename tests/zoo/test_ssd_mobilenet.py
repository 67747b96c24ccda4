"""SSD-MobileNetV2, and its weights out of TensorFlow's frozen graph."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import asset_or_skip
from golden_detectors import architecture
from torch import nn

from edgekit.errors import UsageError
from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network
from edgekit.zoo.ssd_mobilenet import SSDMobileNetConfig, ssd_mobilenet
from edgekit.zoo.ssdlite import SSDLite

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import ssd_weights

ROWS = (
    ("inverted", 3, 0, 8, 1, False),
    ("inverted", 3, 2, 8, 2, False),
    ("inverted", 3, 2, 8, 2, False),
    ("inverted", 3, 2, 16, 2, False),
    ("inverted", 3, 2, 24, 2, False),
    ("inverted", 3, 2, 24, 1, True),
)


def tiny() -> SSDLite:
    torch.manual_seed(0)
    return ssd_mobilenet(SSDMobileNetConfig(stem=8, blocks=ROWS, last=40, classes=3)).eval()


def test_its_heads_look_at_the_widened_input_of_the_last_step_down_and_at_the_end() -> None:
    network = tiny()
    image = torch.rand(1, 3, 64, 80)
    seen: list[torch.Tensor] = []
    handle = (
        network.backbone.blocks[4].layers[2].register_forward_hook(lambda *x: seen.append(x[2]))
    )
    fine, coarse = network.backbone(image)
    handle.remove()
    assert fine.shape == (1, 32, 4, 5)
    assert coarse.shape == (1, 40, 2, 3)
    assert torch.equal(fine, seen[0])
    plain = network.backbone.stem(image)
    for block in network.backbone.blocks:
        plain = block(plain)
    assert torch.allclose(coarse, network.backbone.last(plain))


def test_it_gives_the_published_1917_candidates_of_90_columns() -> None:
    recipe = find_recipe("ssd-mobilenet-v2")
    boxes, scores = recipe.contract.output.specs(300, 300)
    assert boxes.shape == (1, 1917, 4)
    assert scores.shape == (1, 1917, 90)
    assert len(recipe.contract.output.used_names) == 80
    assert architecture("ssd-mobilenet-v2")["last"] == 1280


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (ROWS[1:3], "four of the blocks"),
        ((*ROWS[:4], ("inverted", 3, 0, 24, 2, False)), "must be inverted, and widen"),
        ((*ROWS[:4], ("fused", 3, 2, 24, 2, False)), "must be inverted, and widen"),
    ],
)
def test_a_table_that_has_no_such_block_is_refused(rows: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ssd_mobilenet(SSDMobileNetConfig(stem=8, blocks=rows, last=40, classes=3))


def message(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    row = b""
    while value > 127:
        row, value = row + bytes([value & 127 | 128]), value >> 7
    return row + bytes([value])


def frozen(constants: dict[str, np.ndarray]) -> bytes:
    """A GraphDef with these constants, and a node that is none."""
    graph = message(1, message(1, b"image") + message(2, b"Placeholder"))
    for name, value in constants.items():
        sides = b"".join(message(2, b"\x08" + varint(side)) for side in value.shape)
        tensor = b"\x08\x01" + message(2, sides) + message(4, value.astype("<f4").tobytes())
        kind = message(5, message(1, b"dtype") + message(2, b"\x30\x01"))
        told = message(5, message(1, b"value") + message(2, message(8, tensor)))
        graph += message(1, message(1, name.encode()) + message(2, b"Const") + kind + told)
    return graph


def test_constants_of_a_frozen_graph_are_read_with_their_names_and_shapes() -> None:
    given = {"a/weights": np.arange(600.0).reshape(3, 1, 200), "b": np.ones(2)}
    found = ssd_weights.constants(frozen(given))
    assert set(found) == set(given)
    for name, value in given.items():
        assert np.array_equal(found[name], value.astype(np.float32))


@pytest.mark.parametrize("cut", [1, 200, 1000])
def test_a_frozen_graph_that_is_cut_short_is_refused(cut: int) -> None:
    graph = frozen({"a/weights": np.arange(600.0)})
    with pytest.raises(ValueError, match="no frozen graph, or is cut short"):
        ssd_weights.constants(graph[:-cut])


def published(network: nn.Module) -> dict[str, np.ndarray]:
    """What the published graph holds, of random values, by TensorFlow's names and layouts."""
    names = iter(_scopes())
    found, random, scope = {}, np.random.default_rng(0), ""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            scope, kernel = next(names)
            axes = (2, 3, 0, 1) if module.groups > 1 else (2, 3, 1, 0)
            shape = tuple(module.weight.shape[axis] for axis in axes)
            found[f"{scope}/{kernel}"] = random.random(shape)
            if module.bias is not None:
                found[f"{scope}/biases"] = random.random(module.out_channels)
        elif isinstance(module, nn.BatchNorm2d):
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                found[f"{scope}/BatchNorm/{part}"] = random.random(module.num_features)
    return found


def _scopes() -> list[tuple[str, str]]:
    """In the order of the modules."""
    root, scopes = ssd_weights.BACKBONE, []
    scopes.append((f"{root}/Conv", "weights"))
    for index in range(17):
        block = f"{root}/expanded_conv" + (f"_{index}" if index else "")
        scopes += [(f"{block}/expand", "weights")] if index else []
        scopes += [(f"{block}/depthwise", "depthwise_weights"), (f"{block}/project", "weights")]
    scopes.append((f"{root}/Conv_1", "weights"))
    for level, depth in ((2, 512), (3, 256), (4, 256), (5, 128)):
        wide = f"{root}/layer_19_2_Conv2d_{level}_3x3_s2_{depth}"
        scopes.append((f"{root}/layer_19_1_Conv2d_{level}_1x1_{depth // 2}", "weights"))
        scopes += [(f"{wide}_depthwise", "depthwise_weights"), (wide, "weights")]
    for kind in ("BoxEncoding", "Class"):
        scopes += [(f"BoxPredictor_{level}/{kind}Predictor", "weights") for level in range(6)]
    return scopes


def test_every_tensor_of_the_network_comes_from_the_graph_in_its_own_layout() -> None:
    network = build_network(find_recipe("ssd-mobilenet-v2"))
    found = ssd_weights.state_dict(
        {key: value.astype(np.float32) for key, value in published(network).items()}
    )
    state = {key: torch.from_numpy(value) for key, value in found.items()}
    network.load_state_dict(state)
    project = found["backbone.blocks.3.layers.6.weight"][:, :, 0, 0]
    assert project.shape == (32, 144)


OPENCV = np.array(
    [
        (1, 0.8492, 494.78, 203.12, 528.04, 290.51),
        (1, 0.8375, 371.39, 180.59, 399.73, 257.97),
        (1, 0.8353, 612.32, 235.65, 650.23, 337.66),
        (3, 0.7477, 729.60, 47.19, 768.00, 99.53),
        (1, 0.6437, 465.25, 207.57, 497.24, 288.46),
        (3, 0.5166, 641.44, 39.76, 723.07, 102.69),
        (8, 0.3447, 641.44, 39.76, 723.07, 102.69),
    ]
)


@pytest.mark.slow
def test_it_finds_what_opencv_finds_with_the_published_graph(tmp_path: Path) -> None:
    """cv2.dnn 4.14 on frame 60 of vtest.avi, squeezed to 300x300 by Pillow: class id, score, corners."""
    av = pytest.importorskip("av")
    from safetensors.numpy import save_file

    from edgekit.api import detector_of

    graph, clip = asset_or_skip("ssd_mobilenet_v2"), asset_or_skip("vtest")
    weights = tmp_path / "ssd.safetensors"
    save_file(ssd_weights.state_dict(ssd_weights.constants(graph.read_bytes())), weights)
    detector = detector_of("ssd-mobilenet-v2", weights)
    with av.open(str(clip)) as container:
        frames = (frame for frame in container.decode(video=0))
        picture = next(frame for number, frame in enumerate(frames) if number == 60).to_image()
    found = detector(picture, detector.thresholds_for())
    assert (found.labels + 1).tolist() == OPENCV[:, 0].tolist()
    assert np.allclose(found.scores, OPENCV[:, 1], atol=1e-3)
    assert np.allclose(found.boxes, OPENCV[:, 2:], atol=0.1)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    import edgekit

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="lacks"):
        edgekit.load("ssd-mobilenet-v2", weights=tmp_path / "w.safetensors")
