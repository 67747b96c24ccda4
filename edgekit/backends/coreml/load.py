"""Reading a saved .mlpackage into the reference interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.backends.coreml.interpreter import MilProgram
from edgekit.backends.coreml.quiet import import_coremltools
from edgekit.backends.coreml.steps import read_steps
from edgekit.errors import UsageError, first_line

WEIGHTS = Path("Data/com.apple.CoreML/weights")


def load(path: Path, function: str = "main", *, emulate_half: bool = True) -> MilProgram:
    """Open a function of an ML Program package.

    Raises UsageError for anything that is not a readable ML Program with that function, and
    ConversionError for an operator that the interpreter does not know.
    """
    return MilProgram(read_steps(read_function(path, function)), emulate_half=emulate_half)


def read_function(path: Path, function: str) -> Any:
    """The coremltools function object, with every constant read from the weight file."""
    spec = read_spec(path)
    functions = spec.mlProgram.functions
    if function not in functions:
        raise UsageError(
            f"{path} has no function {function}; it has {', '.join(sorted(functions))}."
        )
    for other in [name for name in functions if name != function]:
        del functions[other]
    from coremltools.converters.mil.frontend.milproto.load import load as load_milproto

    try:
        program = load_milproto(spec, spec.specificationVersion, str(path / WEIGHTS))
    # coremltools and its native blob reader raise whatever comes; none of it is the caller's bug.
    except Exception as error:
        raise UsageError(
            f"The ML Program in {path} cannot be read ({first_line(error)}); export it again."
        ) from error
    return program.functions[function]


def read_spec(path: Path) -> Any:
    if not path.exists():
        raise UsageError(f"There is no Core ML package at {path}.")
    ct = import_coremltools()
    try:
        spec = ct.utils.load_spec(str(path))
    except Exception as error:
        raise UsageError(
            f"{path} is not a readable Core ML package ({first_line(error)}); export it again."
        ) from error
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise UsageError(
            f"{path} holds a Core ML model of type {kind or 'unknown'}, but only ML Programs can "
            "be executed here; convert it with convert_to='mlprogram'."
        )
    return spec
