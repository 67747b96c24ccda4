"""Turn TensorFlow's frozen graph of ssd_mobilenet_v2_coco_2018_03_29 into weights for `ssd-mobilenet-v2`.

    python tests/fetch_assets.py ssd_mobilenet_v2
    python benchmarks/ssd_weights.py [--graph frozen_inference_graph.pb] [--output ssd-mobilenet-v2.safetensors]
    edgekit run ssd-mobilenet-v2 --weights ssd-mobilenet-v2.safetensors --image street.jpg

Neither TensorFlow nor OpenCV is needed: a frozen graph is a protocol buffer (tensorflow/core/framework,
graph.proto, node_def.proto, attr_value.proto, tensor.proto) whose constants are read here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Array = npt.NDArray[Any]
NODE, NAME, OP, ATTRIBUTE = 1, 1, 2, 5
KEY, VALUE, TENSOR = 1, 2, 8
DTYPE, SHAPE, CONTENT = 1, 2, 4
FLOAT = 1
BACKBONE = "FeatureExtractor/MobilenetV2"
DEPTHS = (512, 256, 256, 128)
"""Of the four smaller levels, which have their numbers in their names."""


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer. Raises ValueError if it is none."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            value: Any
            value, position = _varint(message, position)
        else:
            if tag & 7 == 2:
                length, position = _varint(message, position)
            else:
                length = {1: 8, 5: 4}.get(tag & 7, len(message) + 1)
            value, position = message[position : position + length], position + length
            if position > len(message):
                raise ValueError("the file is no frozen graph, or is cut short")
        yield tag >> 3, value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise ValueError("the file is no frozen graph, or is cut short")


def constants(graph: bytes) -> dict[str, Array]:
    """The float32 constants of a GraphDef by name; those without a name or of other types are left out."""
    found = {}
    for number, node in fields(graph):
        parts = list(fields(node)) if number == NODE else []
        told = dict(parts)
        if told.get(OP) != b"Const":
            continue
        entries = [dict(fields(entry)) for number, entry in parts if number == ATTRIBUTE]
        value = next(entry[VALUE] for entry in entries if entry[KEY] == b"value")
        tensor = dict(fields(dict(fields(value))[TENSOR]))
        if tensor.get(DTYPE) == FLOAT and CONTENT in tensor:
            sides = [dict(fields(side)) for _, side in fields(tensor.get(SHAPE, b""))]
            shape = [side.get(1, 0) for side in sides]
            found[told[NAME].decode()] = np.frombuffer(tensor[CONTENT], "<f4").reshape(shape)
    return found


def state_dict(found: dict[str, Array]) -> dict[str, Array]:
    """By the keys of `ssd-mobilenet-v2`. Raises KeyError for a graph of something else."""
    state: dict[str, Array] = {}

    def convolve(place: str, layer: int, scope: str, kernel: str = "weights") -> None:
        """A convolution and the norm behind it."""
        weight = found[f"{scope}/{kernel}"]
        state[f"{place}.{layer}.weight"] = _turned(weight, depthwise="depthwise" in kernel)
        norm = f"{place}.{layer + 1}"
        state[f"{norm}.weight"] = found[f"{scope}/BatchNorm/gamma"]
        state[f"{norm}.bias"] = found[f"{scope}/BatchNorm/beta"]
        state[f"{norm}.running_mean"] = found[f"{scope}/BatchNorm/moving_mean"]
        state[f"{norm}.running_var"] = found[f"{scope}/BatchNorm/moving_variance"]
        state[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)

    convolve("backbone.stem", 0, f"{BACKBONE}/Conv")
    for index in range(17):
        place = f"backbone.blocks.{index}.layers"
        scope = f"{BACKBONE}/expanded_conv" + (f"_{index}" if index else "")
        layer = 0
        if index:
            convolve(place, 0, f"{scope}/expand")
            layer = 3
        convolve(place, layer, f"{scope}/depthwise", "depthwise_weights")
        convolve(place, layer + 3, f"{scope}/project")
    convolve("backbone.last", 0, f"{BACKBONE}/Conv_1")
    for index, depth in enumerate(DEPTHS):
        level, narrowed = index + 2, f"1x1_{depth // 2}"
        wide = f"{BACKBONE}/layer_19_2_Conv2d_{level}_3x3_s2_{depth}"
        convolve(f"extras.{index}", 0, f"{BACKBONE}/layer_19_1_Conv2d_{level}_{narrowed}")
        convolve(f"extras.{index}", 3, f"{wide}_depthwise", "depthwise_weights")
        convolve(f"extras.{index}", 6, wide)
    for level in range(6):
        for heads, name in (("box_heads", "BoxEncoding"), ("class_heads", "Class")):
            scope = f"BoxPredictor_{level}/{name}Predictor"
            state[f"{heads}.{level}.0.weight"] = _turned(found[f"{scope}/weights"], depthwise=False)
            state[f"{heads}.{level}.0.bias"] = found[f"{scope}/biases"]
    return {key: value.copy() for key, value in state.items()}


def _turned(kernel: Array, *, depthwise: bool) -> Array:
    """Height, width, input, output (depthwise: height, width, channels, 1) to O I kh kw."""
    return kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from fetch_assets import asset_folder

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--graph", type=Path, default=asset_folder() / "frozen_inference_graph.pb")
    parser.add_argument("--output", type=Path, default=Path("ssd-mobilenet-v2.safetensors"))
    arguments = parser.parse_args()
    if not arguments.graph.is_file():
        sys.exit(
            f"{arguments.graph} is missing; run: python tests/fetch_assets.py ssd_mobilenet_v2"
        )
    state = state_dict(constants(arguments.graph.read_bytes()))
    save_file(state, arguments.output)
    print(f"wrote {arguments.output}: {len(state)} tensors")


if __name__ == "__main__":
    main()
