"""Elementwise operators, activations and reductions against coremltools' own constant folding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import folded, mb, run_block

SIGNED = np.linspace(-3, 3, 24, dtype=np.float32).reshape(1, 2, 3, 4)
UNIT = np.linspace(-0.9, 0.9, 24, dtype=np.float32).reshape(1, 2, 3, 4)
POSITIVE = np.linspace(0.1, 5, 24, dtype=np.float32).reshape(1, 2, 3, 4)
OTHER = np.float32([[1.5], [-2.0], [0.25]])
TRUTH = np.array([[True, False, True, False]])

CHANNELS = np.float32([0.1, -0.3])

FUNCTIONS: list[tuple[str, np.ndarray, dict[str, Any]]] = [
    *[
        (n, SIGNED, {})
        for n in ["abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor", "round"]
    ],
    *[(n, SIGNED, {}) for n in ["sign", "sin", "sinh", "square", "tan", "tanh", "identity"]],
    *[(n, SIGNED, {}) for n in ["relu", "relu6", "sigmoid", "softplus", "softsign"]],
    *[(n, UNIT, {}) for n in ["acos", "asin", "atanh"]],
    ("sqrt", POSITIVE, {}),
    ("log", POSITIVE, {}),
    ("log", POSITIVE, {"epsilon": np.float32(0.5)}),
    ("rsqrt", POSITIVE, {}),
    ("rsqrt", POSITIVE, {"epsilon": np.float32(0.5)}),
    ("inverse", POSITIVE, {}),
    ("inverse", POSITIVE, {"epsilon": np.float32(0.5)}),
    ("clip", SIGNED, {"alpha": np.float32(-1), "beta": np.float32(0.7)}),
    ("threshold", SIGNED, {"alpha": np.float32(-1)}),
    ("clamped_relu", SIGNED, {"alpha": np.float32(0.2), "beta": np.float32(1.5)}),
    ("elu", SIGNED, {"alpha": np.float32(0.7)}),
    ("leaky_relu", SIGNED, {"alpha": np.float32(0.2)}),
    ("linear_activation", SIGNED, {"alpha": np.float32(2), "beta": np.float32(-0.5)}),
    ("scaled_tanh", SIGNED, {"alpha": np.float32(2), "beta": np.float32(0.5)}),
    ("sigmoid_hard", SIGNED, {"alpha": np.float32(0.3), "beta": np.float32(0.4)}),
    ("thresholded_relu", SIGNED, {"alpha": np.float32(0.5)}),
    ("prelu", SIGNED, {"alpha": CHANNELS}),
    ("softplus_parametric", SIGNED, {"alpha": CHANNELS, "beta": np.float32([2, 0.5])}),
    ("gelu", SIGNED, {"mode": "EXACT"}),
    ("gelu", SIGNED, {"mode": "TANH_APPROXIMATION"}),
    ("gelu", SIGNED, {"mode": "SIGMOID_APPROXIMATION"}),
    ("softmax", SIGNED, {"axis": 1}),
    ("cast", SIGNED, {"dtype": "int32"}),
    ("cast", SIGNED.round(), {"dtype": "bool"}),
    ("logical_not", TRUTH, {}),
    *[
        (f"reduce_{n}", POSITIVE, {"axes": [1, -1], "keep_dims": keep})
        for n in [
            "l1_norm",
            "l2_norm",
            "log_sum",
            "max",
            "mean",
            "min",
            "prod",
            "sum",
            "sum_square",
        ]
        for keep in (True, False)
    ],
    ("reduce_log_sum_exp", SIGNED, {"axes": [1], "keep_dims": False}),
    ("reduce_sum", SIGNED, {}),
    ("reduce_argmax", SIGNED, {"axis": 1, "keep_dims": True}),
    ("reduce_argmin", SIGNED, {"axis": -1}),
]


PAIRS: list[tuple[str, np.ndarray, np.ndarray]] = [
    *[
        (n, SIGNED, OTHER)
        for n in ["add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum"]
    ],
    *[(n, SIGNED.round(), OTHER.round()) for n in ["equal", "not_equal", "less", "less_equal"]],
    *[(n, SIGNED.round(), OTHER.round()) for n in ["greater", "greater_equal"]],
    *[(n, TRUTH, TRUTH.T) for n in ["logical_and", "logical_or", "logical_xor"]],
    ("pow", POSITIVE, OTHER),
    ("floor_div", np.int32([-7, 7, 8]), np.int32([2, -2, 3])),
    ("mod", np.int32([-7, 7, 8]), np.int32([2, -2, 3])),
]


def function_of(index: int, x: Any) -> Any:
    name, _, arguments = FUNCTIONS[index]
    return getattr(mb, name)(x=x, **arguments)


def function_of_pair(index: int, x: Any, y: Any) -> Any:
    return getattr(mb, PAIRS[index][0])(x=x, y=y)


@pytest.fixture(scope="module")
def function_results(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """All of FUNCTIONS as outputs of one program: saving one package per case takes minutes."""
    inputs = {f"x{i}": x for i, (_, x, _) in enumerate(FUNCTIONS)}
    return run_block(
        tmp_path_factory.mktemp("functions"),
        lambda **given: [function_of(i, given[f"x{i}"]) for i in range(len(FUNCTIONS))],
        inputs,
    )


@pytest.fixture(scope="module")
def pair_results(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    inputs = {f"x{i}": x for i, (_, x, _) in enumerate(PAIRS)}
    inputs |= {f"y{i}": y for i, (_, _, y) in enumerate(PAIRS)}
    return run_block(
        tmp_path_factory.mktemp("pairs"),
        lambda **given: [
            function_of_pair(i, given[f"x{i}"], given[f"y{i}"]) for i in range(len(PAIRS))
        ],
        inputs,
    )


@pytest.mark.parametrize(
    "index", range(len(FUNCTIONS)), ids=[f"{n}-{a}" if a else n for n, _, a in FUNCTIONS]
)
def test_a_function_of_one_tensor_is_what_coremltools_folds(
    function_results: list[np.ndarray], index: int
) -> None:
    (expected,) = folded(lambda x: function_of(index, x), {"x": FUNCTIONS[index][1].copy()})
    np.testing.assert_allclose(function_results[index], expected, rtol=1e-5, atol=1e-6)
    assert function_results[index].shape == expected.shape


@pytest.mark.parametrize("index", range(len(PAIRS)), ids=[name for name, _, _ in PAIRS])
def test_a_function_of_two_tensors_broadcasts_as_coremltools_folds(
    pair_results: list[np.ndarray], index: int
) -> None:
    _, x, y = PAIRS[index]
    (expected,) = folded(lambda x, y: function_of_pair(index, x, y), {"x": x, "y": y})
    np.testing.assert_allclose(pair_results[index], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0])
def test_a_power_with_a_constant_exponent(tmp_path: Path, exponent: float) -> None:
    (got,) = run_block(tmp_path, lambda x: mb.pow(x=x, y=np.float32(exponent)), {"x": POSITIVE})
    np.testing.assert_allclose(got, POSITIVE**exponent, rtol=1e-6)


def test_silu_and_select(tmp_path: Path) -> None:
    def build(x: Any, y: Any) -> Any:
        return mb.silu(x=x), mb.select(cond=mb.greater(x=x, y=y), a=x, b=y)

    silu, chosen = run_block(tmp_path, build, {"x": SIGNED, "y": OTHER})
    np.testing.assert_allclose(silu, SIGNED / (1 + np.exp(-SIGNED)), rtol=1e-5)
    np.testing.assert_array_equal(chosen, np.where(SIGNED > OTHER, SIGNED, OTHER))


def test_quantize_saturates_and_dequantize_inverts_it_per_channel(tmp_path: Path) -> None:
    scale, zero = np.float32([0.1, 0.01]), np.int8([3, -5])

    def build(x: Any) -> Any:
        q = mb.quantize(input=x, scale=scale, zero_point=zero, axis=1, output_dtype="int8")
        return mb.dequantize(input=q, scale=scale, zero_point=zero, axis=1)

    (got,) = run_block(tmp_path, build, {"x": SIGNED})
    step, offset = scale.reshape(2, 1, 1), zero.reshape(2, 1, 1).astype(np.float32)
    codes = np.clip(np.round(SIGNED / step) + offset, -128, 127)
    np.testing.assert_allclose(got, (codes - offset) * step, rtol=1e-6, atol=1e-7)
