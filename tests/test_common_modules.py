"""Modules that are not ours, through the whole road, in both formats and both precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rewritten import Written
from torch import Tensor, nn
from torch.nn import functional as F

import edgekit
from edgekit.errors import ConversionError, ParityError, UsageError

PICTURE = (1, 8, 8, 8)
TOKENS = (1, 6, 16)


def softmax_in_single(x: Tensor) -> Tensor:
    return F.softmax(x, -1, dtype=torch.float32) @ x.transpose(1, 2)


def of_a_mask(x: Tensor) -> Tensor:
    return F.linear((x > 0) * 1.0, torch.eye(16)) + x


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "channel shuffle": (lambda: nn.ChannelShuffle(2), PICTURE),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), PICTURE),
    "root mean square norm": (lambda: nn.RMSNorm(16), TOKENS),
    "tanh gelu": (lambda: nn.GELU("tanh"), TOKENS),
    "celu": (nn.CELU, TOKENS),
    "softmax asked in float32": (lambda: Written(softmax_in_single), TOKENS),
    "linear of a mask": (lambda: Written(of_a_mask), TOKENS),
    "cosine similarity": (lambda: Written(lambda x: F.cosine_similarity(x, x + 1, 2)), TOKENS),
}


@pytest.mark.parametrize("target", ["coreml", "onnx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", MODULES)
def test_it_exports_and_verifies(tmp_path: Path, name: str, precision: str, target: str) -> None:
    make, shape = MODULES[name]
    torch.manual_seed(0)
    inputs = (torch.randn(shape),)
    edgekit.export(
        make(), inputs, target=target, output=tmp_path / "b", precision=precision, simplify=False
    )


def exported(tmp_path: Path, forward: Callable[..., Any], *inputs: Tensor, **options: Any) -> Any:
    module = Written(forward)
    return edgekit.export(module, inputs, output=tmp_path / "b", simplify=False, **options)


@pytest.mark.parametrize("target", ["coreml", "onnx"])
def test_a_class_map_passes_in_half_precision(tmp_path: Path, target: str) -> None:
    """21 classes at 64x64: a few cells lie so close between two classes that rounding decides."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 21, 3, padding=1)
    bundle = edgekit.export(
        Written(lambda x: conv(x).argmax(1), conv=conv), torch.randn(1, 3, 64, 64),
        target=target, output=tmp_path / "b", precision="fp16", simplify=False,
    )  # fmt: skip
    assert edgekit.verify(bundle).passed


def test_an_overflow_that_the_onnx_runtime_hides_is_found(tmp_path: Path) -> None:
    """onnxruntime computes float16 in float32 on a CPU, where 70,000 is no infinity."""
    with pytest.raises(ParityError, match=r"In half precision mul .* hides"):
        exported(
            tmp_path, lambda x: (x * 1000).relu() * 0.001, torch.tensor([[70.0, 3.0]]),
            target="onnx", precision="fp16",
        )  # fmt: skip
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.ReflectionPad3d(1), "pads by 'reflect' in more than the last two axes"),
        (nn.InstanceNorm3d(2), "works on rank 5, and 4 is the most"),
    ],
)
def test_what_core_ml_would_not_load_is_not_written(
    tmp_path: Path, module: nn.Module, words: str
) -> None:
    with pytest.raises(ConversionError, match=words):
        edgekit.export(module, torch.randn(1, 2, 4, 4, 4), target="coreml", output=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_picture_of_bytes_is_refused_by_name_where_the_format_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"is uint8, and these files take float32, int64"):
        exported(
            tmp_path,
            lambda x: x.float() / 255,
            torch.zeros(1, 3, dtype=torch.uint8),
            target="coreml",
        )


def test_a_forward_that_fails_without_a_word_is_an_error_that_names_it(tmp_path: Path) -> None:
    def forward(x: Tensor) -> Tensor:
        if x.shape[-1] % 32:
            raise AssertionError
        return x + 1

    with pytest.raises(ConversionError, match=r"in forward raised AssertionError\."):
        exported(tmp_path, forward, torch.randn(1, 8), target="onnx")


def test_writes_in_place_survive_a_trace(tmp_path: Path) -> None:
    def forward(x: Tensor) -> Tensor:
        y = x + 1
        if x.sum() > 0:  # torch.export cannot follow this
            y[:, 0] = 5
        return y * 2

    x = torch.rand(2, 3)
    bundle = exported(tmp_path, forward, x, target="onnx")
    (found,) = edgekit.run(bundle, x.numpy())
    np.testing.assert_allclose(found, forward(x).numpy())


@pytest.mark.parametrize("forward", [lambda x: x.clone(), lambda x: (x + 1, (x + 1).view(2, 3))])
def test_copies_are_values_of_their_own(tmp_path: Path, forward: Callable[..., Any]) -> None:
    x = torch.randn(2, 3)
    bundle = exported(tmp_path, forward, x, target="onnx")
    expected = forward(x)
    for found, one in zip(
        edgekit.run(bundle, x.numpy()),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_allclose(found, one.numpy())


@pytest.mark.parametrize("target", ["coreml", "onnx"])
def test_an_index_out_of_range_is_one_sentence(tmp_path: Path, target: str) -> None:
    table = nn.Embedding(10, 4)
    inputs = torch.tensor([1, 2])
    bundle = edgekit.export(table, inputs, target=target, output=tmp_path / "b", simplify=False)
    with pytest.raises(UsageError, match="cannot compute with this input"):
        edgekit.run(bundle, np.array([1, 99]))
