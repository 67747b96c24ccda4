"""Turn the ncnn files of realesr-animevideov3 x4 into a PyTorch state dict as safetensors.

    python tests/fetch_assets.py srvgg_bin srvgg_param
    python benchmarks/srvgg_weights.py [--assets DIR] [--output srvgg.safetensors]

Keys are those of the official SRVGGNetCompact (Real-ESRGAN, realesrgan/archs/srvgg_arch.py):
`body.0.weight`, `body.0.bias`, `body.1.weight` (PReLU slopes), ... `body.34.bias`. Values are the
half-precision weights of the file as float32; biases and slopes are float32 in the file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Array = npt.NDArray[np.float32]
PARAM_MAGIC = "7767517"
HALF_TAG = 0x01306B47
"""What stands before weights that are stored in half precision (ncnn, src/modelbin.cpp)."""


@dataclass(frozen=True)
class Layer:
    """A line of the .param file: its type and its numbered parameters, as text."""

    kind: str
    parameters: dict[int, str]

    def number(self, key: int, default: int = 0) -> int:
        return int(self.parameters.get(key, default))


def read_layers(text: str) -> list[Layer]:
    """Layers of an ncnn .param file, in file order. Raises ValueError if it is none.

    A line is: type, name, count of inputs, count of outputs, their names, then `key=value`.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != PARAM_MAGIC:
        raise ValueError(
            f"the file does not begin with {PARAM_MAGIC}, so it is no ncnn .param file"
        )
    layers = []
    for line in lines[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        pairs = [item.partition("=") for item in rest[int(inputs) + int(outputs) :]]
        layers.append(Layer(kind, {int(key): value for key, _, value in pairs}))
    return layers


class Blob:
    """The .bin file, read from front to back."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def floats(self, count: int) -> Array:
        return self._take("<f4", count).astype(np.float32)

    def tagged(self, count: int) -> Array:
        """`count` weights behind their tag, padded to whole 4 bytes. Raises ValueError."""
        tag = int(self._take("<u4", 1)[0])
        if tag == 0:
            return self.floats(count)
        if tag != HALF_TAG:
            raise ValueError(f"weights with the tag 0x{tag:08X} are not read, only half or float")
        values = self._take("<f2", count).astype(np.float32)
        self.position += -self.position % 4
        return values

    def _take(self, dtype: str, count: int) -> npt.NDArray[np.generic]:
        end = self.position + np.dtype(dtype).itemsize * count
        if end > len(self.content):
            raise ValueError(f"the .bin file ends at byte {len(self.content)}, {end} are needed")
        values = np.frombuffer(self.content, dtype, count, self.position)
        self.position = end
        return values


def state_dict(param: str, content: bytes) -> dict[str, Array]:
    """Convolutions (O I kh kw) and PReLUs by `body.<index>`, in file order.

    Raises ValueError for files that do not belong together or hold something else than square
    convolutions with bias and PReLUs.
    """
    blob = Blob(content)
    state: dict[str, Array] = {}
    index = 0
    for layer in read_layers(param):
        if layer.kind == "Convolution":
            outputs, side, weights = layer.number(0), layer.number(1), layer.number(6)
            shape = (outputs, weights // (outputs * side * side), side, side)
            state[f"body.{index}.weight"] = blob.tagged(weights).reshape(shape)
            if not layer.number(5):
                raise ValueError(f"convolution {index} has no bias; SRVGGNetCompact has them all")
            state[f"body.{index}.bias"] = blob.floats(outputs)
        elif layer.kind == "PReLU":
            state[f"body.{index}.weight"] = blob.floats(layer.number(0))
        else:
            continue  # it has no weights
        index += 1
    if blob.position != len(content):
        raise ValueError(f"{blob.position} of {len(content)} bytes were used: the files differ")
    return state


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from fetch_assets import asset_folder

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--assets", type=Path, default=asset_folder())
    parser.add_argument("--output", type=Path, default=Path("srvgg.safetensors"))
    arguments = parser.parse_args()
    stem = arguments.assets / "realesr-animevideov3-x4"
    state = state_dict(
        stem.with_suffix(".param").read_text(), stem.with_suffix(".bin").read_bytes()
    )
    save_file(state, arguments.output)
    count = sum(value.size for value in state.values())
    print(f"wrote {arguments.output}: {len(state)} tensors, {count} parameters")


if __name__ == "__main__":
    main()
