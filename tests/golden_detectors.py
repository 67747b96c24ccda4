"""The golden vectors of detectors: weights and inputs by their rule, and how far results may be off.

The rule is in tests/golden/README.md.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.data_folder import data_files

GOLDEN = Path(__file__).parent / "golden" / "detectors"


def normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)


def ruled_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors by official key, in float32."""
    weights = {}
    for key, shape in shapes.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            weights[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        is_norm = f"{module}.running_mean" in shapes
        x = normal(key, shape)
        if is_norm and leaf in ("weight", "running_var"):
            x = 1 + 0.1 * (x if leaf == "weight" else np.abs(x))
        elif is_norm or len(shape) == 1:
            x = 0.1 * x
        else:
            x = x * np.sqrt(2) / np.sqrt(np.prod(shape[1:]))
        weights[key] = torch.from_numpy(np.asarray(x, np.float32))
    return weights


def shapes_in(golden: Any) -> dict[str, tuple[int, ...]]:
    """Official keys and shapes of a file, in order."""
    return {
        str(key): tuple(int(size) for size in str(shape).split("x"))
        for key, shape in zip(golden["keys"], golden["shapes"])
    }


def ruled_image(name: str, golden: Any) -> Tensor:
    """The input of a file, checked against its stored sum; float32."""
    shape = tuple(int(size) for size in golden["input_shape"])
    image = np.random.default_rng(zlib.crc32(name.encode())).random(shape).astype(np.float32)
    assert abs(float(image.astype(np.float64).sum()) - float(golden["input_sum"])) < 1e-3
    return torch.from_numpy(image)


def worst_difference(result: Tensor, golden: Any, name: str) -> float:
    """Largest difference over the largest golden value; `NAME__sK` holds every K-th column."""
    stored = next(key for key in golden.files if key.split("__s")[0] == name)
    every = int(stored.split("__s")[1]) if "__s" in stored else 1
    expected = torch.from_numpy(golden[stored].astype(np.float64))
    mine = result.double()[..., ::every]
    assert mine.shape == expected.shape
    return ((mine - expected).abs().max() / expected.abs().max()).item()


def architecture(recipe: str) -> dict[str, Any]:
    """The table of one of the zoo's recipes."""
    path = next(path for path in data_files("models") if path.stem == recipe)
    return {
        key: as_tuple(value)
        for key, value in tomllib.loads(path.read_text())["architecture"].items()
    }


def as_tuple(value: Any) -> Any:
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def trainable(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
