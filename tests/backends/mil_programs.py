"""Building, saving and folding small ML Programs for the interpreter's tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekit.backends.coreml.interpreter import MilProgram
from edgekit.backends.coreml.load import load
from edgekit.backends.coreml.quiet import import_coremltools

ct = import_coremltools()
from coremltools.converters.mil.mil import Builder, Function, Program, get_new_symbol, types  # noqa: E402

mb = Builder

__all__ = [
    "Case",
    "ct",
    "folded",
    "get_new_symbol",
    "mb",
    "run_block",
    "run_cases",
    "save_block",
    "save_module",
]

Arrays = Mapping[str, np.ndarray]


def save_block(
    path: Path, build: Callable[..., Any], inputs: Arrays, target: Any = None
) -> MilProgram:
    """Save a program whose body is `build(**inputs)`, unoptimised, and load it."""
    target = target or ct.target.iOS17
    specs = {
        name: mb.TensorSpec(shape=a.shape, dtype=types.numpy_type_to_builtin_type(a.dtype))
        for name, a in inputs.items()
    }
    with Function(specs, target) as function:  # mb.program takes input names from code only
        outputs = build(**function.inputs)
        several = isinstance(outputs, (list, tuple))
        function.set_outputs(list(outputs) if several else [outputs])
    program = Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    package = path / "block.mlpackage"
    model.save(str(package))
    return load(package)


def run_block(
    path: Path, build: Callable[..., Any], inputs: Arrays, target: Any = None
) -> list[np.ndarray]:
    """Outputs in declared order."""
    program = save_block(path, build, inputs, target)
    results = program.run(inputs)
    return [results[out.name] for out in program.program.outputs]


def folded(build: Callable[..., Any], inputs: Arrays, target: Any = None) -> list[np.ndarray]:
    """What coremltools itself computes for constants: the `value_inference` of its operators."""
    found: list[np.ndarray] = []

    @mb.program(input_specs=[mb.TensorSpec(shape=(1,))], opset_version=target or ct.target.iOS17)
    def program(x: Any) -> Any:
        result = build(**{name: mb.const(val=a) for name, a in inputs.items()})
        outputs = result if isinstance(result, (list, tuple)) else [result]
        found.extend(np.asarray(out.val) for out in outputs)
        return mb.identity(x=x)

    return found


def save_module(
    path: Path,
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    *,
    half: bool = False,
    target: Any = None,
    **options: Any,
) -> Path:
    """Convert a torch module through torch.export; inputs are named in0, in1..., outputs out0..."""
    exported = torch.export.export(module.eval(), example).run_decompositions({})
    with torch.no_grad():
        result = module(*example)
    count = len(result) if isinstance(result, tuple) else 1
    model = ct.convert(
        exported,
        inputs=options.pop(
            "inputs",
            [ct.TensorType(name=f"in{i}", shape=x.shape) for i, x in enumerate(example)],
        ),
        outputs=[ct.TensorType(name=f"out{i}") for i in range(count)],
        minimum_deployment_target=target or ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
        **options,
    )
    package = path / "model.mlpackage"
    model.save(str(package))
    return package


@dataclass(frozen=True)
class Case:
    """A piece of a program and what it must give."""

    name: str
    inputs: dict[str, np.ndarray]
    build: Callable[..., Any]
    expected: list[np.ndarray]


def run_cases(path: Path, cases: list[Case], target: Any = None) -> dict[str, list[np.ndarray]]:
    """Outputs by case, from one program that holds them all: a package per case takes minutes."""
    counts: list[int] = []

    def build(**given: Any) -> list[Any]:
        outputs: list[Any] = []
        for i, case in enumerate(cases):
            result = case.build(**{name: given[f"c{i}_{name}"] for name in case.inputs})
            result = list(result) if isinstance(result, (list, tuple)) else [result]
            counts.append(len(result))
            outputs += result
        return outputs

    inputs = {f"c{i}_{n}": a for i, case in enumerate(cases) for n, a in case.inputs.items()}
    results = iter(run_block(path, build, inputs, target))
    return {
        case.name: list(itertools.islice(results, count))
        for case, count in zip(cases, counts[-len(cases) :], strict=True)
    }
