"""ONNX files run one after the other in one process, as a case of `edgekit.parity.memory_use`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.onnx.session import (
    DEFAULT,
    MemorySettings,
    Optimisation,
    SessionOptions,
    allowed_cpus,
)
from edgekit.errors import UsageError
from edgekit.parity.memory_use import Case, Prepared

Array = npt.NDArray[np.generic]
_NUMPY_TYPES = {"float": "float32", "double": "float64"}
"""Where onnxruntime's name of an element type is not numpy's, apart from float16."""


@dataclass(frozen=True)
class Step:
    """One run of a file. Without `arrays`, an .npz of its inputs by name, it gets seeded noise."""

    file: Path
    arrays: Path | None = None


def case(
    steps: Sequence[Step],
    *,
    memory: MemorySettings = DEFAULT,
    threads: int = 1,
    optimisation: Optimisation = "all",
) -> Case:
    """Measure these steps: each file is opened once, and outputs are dropped after their step."""
    return Case(
        f"{__name__}:prepare",
        {
            "steps": [
                {"file": str(step.file), "arrays": str(step.arrays) if step.arrays else None}
                for step in steps
            ],
            "memory": asdict(memory),
            "threads": threads,
            "optimisation": optimisation,
        },
    )


def prepare(
    steps: Sequence[Mapping[str, str | None]],
    memory: Mapping[str, object],
    threads: int,
    optimisation: Optimisation,
) -> Prepared:
    """Opens the files in the measuring process; takes what `case` wrote. Raises UsageError."""
    settings = MemorySettings(**memory)  # type: ignore[arg-type]  # asdict of one
    options = SessionOptions(threads, settings, optimisation)
    sessions: dict[str, OnnxRunnable] = {}
    feeds: list[tuple[OnnxRunnable, dict[str, Array]]] = []
    for step in steps:
        file, arrays = str(step["file"]), step["arrays"]
        if file not in sessions:
            sessions[file] = load(Path(file), options)
        feeds.append((sessions[file], _read(arrays) if arrays else noise(sessions[file])))

    def run() -> dict[str, Array]:
        output: dict[str, Array] = {}
        for session, inputs in feeds:
            output.clear()  # before the step: what the previous one returned is not needed
            output.update(session.run(inputs))
        return output

    return Prepared(
        run,
        input_bytes=sum(array.nbytes for _, inputs in feeds for array in inputs.values()),
        settings={
            "threads": threads or allowed_cpus(),
            "optimisation": optimisation,
            **asdict(settings),
        },
    )


def noise(file: OnnxRunnable) -> dict[str, Array]:
    """Standard normal inputs, seeded. Raises UsageError for a file whose shapes are not fixed."""
    random = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for item in file.session.get_inputs():
        if not all(isinstance(size, int) for size in item.shape):
            raise UsageError(
                f"Input '{item.name}' of {file.path.name} has the open shape {item.shape}; give arrays."
            )
        kind = item.type.removeprefix("tensor(").removesuffix(")")
        values = random.standard_normal(item.shape, np.float32)
        inputs[item.name] = values.astype(_NUMPY_TYPES.get(kind, kind), copy=False)
    return inputs


def _read(path: str) -> dict[str, Array]:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as arrays by name; give an .npz file.") from error
