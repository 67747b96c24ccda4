"""The golden vectors of split networks: weights and inputs by the rule in tests/golden/README.md."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.gdn import GDN1, PEDESTAL

GOLDEN = Path(__file__).parent / "golden" / "split"


def golden(name: str) -> Any:
    return np.load(GOLDEN / f"{name}.npz")


def shapes_in(vectors: Any) -> dict[str, tuple[int, ...]]:
    return {
        str(key): tuple(int(size) for size in str(shape).split("x"))
        for key, shape in zip(vectors["keys"], vectors["shapes"], strict=True)
    }


def ruled_weight(key: str, shape: tuple[int, ...], kind: type, init_scale: float = 10.0) -> Tensor:
    """`kind` is the class of the module that has the tensor."""
    leaf = key.rsplit(".", 1)[-1]
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if kind is nn.BatchNorm2d:
        y = 0.1 * (np.abs(x) if leaf == "running_var" else x)
        y = y + (leaf in ("weight", "running_var"))
    elif kind is GDN1:
        eye = 0.1 * np.eye(shape[0]) + 0.01 * np.abs(x) if leaf == "gamma" else 1 + 0.1 * np.abs(x)
        y = np.sqrt(eye + PEDESTAL)
    elif kind is FactorisedPrior:
        y = 0.1 * x
        if leaf == "quantiles":
            y = np.array([-10.0, 0.0, 10.0]) + np.array([2.0, 0.5, 2.0]) * x
        elif "matrices." in key:
            y += np.log(np.expm1(1 / init_scale**0.2 / (3, 3, 3, 3, 1)[int(leaf)]))
    else:
        y = x * np.sqrt(2) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(y, np.float32))


@torch.no_grad()
def fill(module: nn.Module, vectors: Any, init_scale: float = 10.0) -> None:
    """With the tensors of a file, which come in the order of the module's own."""
    own = list(_tensors(module))
    shapes = shapes_in(vectors)
    assert [tuple(tensor.shape) for tensor, _ in own] == list(shapes.values())
    sums = vectors["sums"]
    for (tensor, kind), (key, shape), total in zip(own, shapes.items(), sums, strict=True):
        value = ruled_weight(key, shape, kind, init_scale)
        assert abs(float(value.double().sum()) - total) < 1e-6 * max(1.0, abs(total)), key
        tensor.copy_(value)


def _tensors(module: nn.Module) -> Iterator[tuple[Tensor, type]]:
    for child in module.modules():
        if isinstance(child, FactorisedPrior):
            yield child.quantiles, FactorisedPrior
            for rows in (child.matrices, child.biases, child.factors):
                yield from ((tensor, FactorisedPrior) for tensor in rows)
        elif not isinstance(child, nn.ParameterList):
            for name, tensor in child.state_dict(keep_vars=True).items():
                is_own = "." not in name and name != "num_batches_tracked"
                if is_own:
                    yield tensor, type(child)


def ruled_image(name: str, vectors: Any) -> Tensor:
    shape = tuple(int(size) for size in vectors["input_shape"])
    image = np.random.default_rng(zlib.crc32(name.encode())).random(shape).astype(np.float32)
    assert abs(float(image.astype(np.float64).sum()) - float(vectors["input_sum"])) < 1e-3
    return torch.from_numpy(image)


def worst_difference(found: Tensor, vectors: Any, name: str) -> float:
    """Largest difference over the largest golden value; `NAME__cK` holds every K-th channel."""
    stored = next(key for key in vectors.files if key.split("__c")[0] == name)
    every = int(stored.split("__c")[1]) if "__c" in stored else 1
    expected = torch.from_numpy(vectors[stored].astype(np.float64))
    mine = found.detach().double()
    mine = mine[:, ::every] if every > 1 else mine
    assert mine.shape == expected.shape
    return ((mine - expected).abs().max() / expected.abs().max()).item()
