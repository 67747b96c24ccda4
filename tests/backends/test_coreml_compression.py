"""Compressed weights: the interpreter agrees with coremltools' own decompression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import ct, mb, run_block, save_module
from torch import nn

from edgekit.backends.coreml.load import load

optimise = ct.optimize.coreml


def int8(model: Any) -> Any:
    config = optimise.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
    return optimise.linear_quantize_weights(model, optimise.OptimizationConfig(config))


def int4_per_block(model: Any) -> Any:
    config = optimise.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype="int4",
        granularity="per_block",
        block_size=8,
        weight_threshold=0,
    )
    return optimise.linear_quantize_weights(model, optimise.OptimizationConfig(config))


def sparse(model: Any) -> Any:
    config = optimise.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)
    return optimise.prune_weights(model, optimise.OptimizationConfig(config))


def sparse_int8(model: Any) -> Any:
    config = optimise.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    return optimise.linear_quantize_weights(
        sparse(model), optimise.OptimizationConfig(config), joint_compression=True
    )


def palette(model: Any) -> Any:
    # "uniform" needs no scikit-learn
    config = optimise.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
    return optimise.palettize_weights(model, optimise.OptimizationConfig(config))


COMPRESSIONS: list[tuple[Callable[[Any], Any], str, str]] = [
    (int8, "iOS17", "constexpr_affine_dequantize"),
    (int8, "iOS18", "constexpr_blockwise_shift_scale"),
    (int4_per_block, "iOS18", "constexpr_blockwise_shift_scale"),
    (sparse, "iOS17", "constexpr_sparse_to_dense"),
    (sparse, "iOS18", "constexpr_sparse_to_dense"),
    (sparse_int8, "iOS18", "constexpr_sparse_blockwise_shift_scale"),
    (palette, "iOS17", "constexpr_lut_to_dense"),
    (palette, "iOS18", "constexpr_lut_to_dense"),
]


@pytest.mark.parametrize(
    ("compress", "target", "operator"),
    COMPRESSIONS,
    ids=[f"{compress.__name__}-{target}" for compress, target, _ in COMPRESSIONS],
)
def test_compressed_weights_compute_as_decompressed_ones(
    tmp_path: Path, compress: Callable[[Any], Any], target: str, operator: str
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()
    x = torch.randn(1, 8, 5, 5)
    source = save_module(tmp_path, module, (x,), target=ct.target[target])
    model = compress(ct.models.MLModel(str(source), skip_model_load=True))
    model.save(str(tmp_path / "small.mlpackage"))
    optimise.decompress_weights(model).save(str(tmp_path / "plain.mlpackage"))

    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    assert operator in [op.type for op in block.operations]
    got = load(tmp_path / "small.mlpackage").run({"in0": x.numpy()})["out0"]
    plain = load(tmp_path / "plain.mlpackage").run({"in0": x.numpy()})["out0"]
    np.testing.assert_allclose(got, plain, rtol=1e-6, atol=1e-6)
    assert np.abs(got - module(x).detach().numpy()).max() > 1e-5, "nothing was compressed"


def test_half_weights_widened_by_constexpr_cast(tmp_path: Path) -> None:
    weight = np.float16([[0.1, 2], [3, -4]])

    def build(x: Any) -> Any:
        return mb.add(x=x, y=mb.constexpr_cast(source_val=weight, output_dtype="fp32"))

    (got,) = run_block(tmp_path, build, {"x": np.zeros((2, 2), np.float32)})
    np.testing.assert_array_equal(got, weight.astype(np.float32))
