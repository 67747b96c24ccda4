"""Run a Core AI asset with the CPU runtime of coreai-core, which exists for Linux too."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgekit.backends.coreai.packages import coreai_module, quiet_runtime
from edgekit.backends.coreai.signature import Signature, signature
from edgekit.backends.runnable import Array, check_inputs
from edgekit.errors import UsageError

Result = TypeVar("Result")


def load(path: Path, function: str = "main") -> CoreAIRunnable:
    """Open a function of an asset.

    Raises UsageError for anything that is no readable asset with that function, and
    MissingEnvironmentError where coreai-core is not installed.
    """
    asset = open_asset(path)
    summary = asset.summary(include_statistics=False)
    names = summary.function_names if summary is not None else []
    if not names:  # the runtime prints what is wrong with the program and says nothing here
        raise UsageError(f"{path} is not a readable Core AI asset; export it again.")
    if function not in names:
        raise UsageError(f"{path} has no function {function}; it has {', '.join(sorted(names))}.")
    return CoreAIRunnable(path, asset, function, signature(summary, function))


def open_asset(path: Path) -> Any:
    authoring = coreai_module("coreai.authoring")
    if not path.exists():
        raise UsageError(f"There is no Core AI asset at {path}.")
    try:
        return authoring.AIModelAsset.load(path)
    except Exception as error:  # the Swift side raises its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"{path} is not a readable Core AI asset ({lines[0].rstrip('.')}); export it again."
        ) from error


class CoreAIRunnable:
    """An asset, compiled anew for each call: about a second, where a decode takes many."""

    def __init__(self, path: Path, asset: Any, function: str, door: Signature) -> None:
        self.path = path
        self.rounds_to_half = True
        self.reference = f"Core AI runtime {version('coreai-core')} CPU"
        self._asset = asset
        self._function = function
        self.signature = door

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = self._checked(inputs)
        return _finish(self._run(arrays))

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Values in execution order, then the outputs by name.

        The compiled file numbers its operations; which operator each came from is not kept.
        """
        arrays = self._checked(inputs)
        yield from _finish(self._trace(arrays))

    def _checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        shapes = {name: tensor.shape for name, tensor in self.signature.inputs.items()}
        check_inputs(inputs, shapes, self.path.name)
        return {
            name: np.ascontiguousarray(inputs[name], dtype=tensor.dtype)
            for name, tensor in self.signature.inputs.items()
        }

    async def _run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        async with self._asset.executable(_on_the_cpu()) as model:
            with quiet_runtime():
                function = model.load_function(self._function)
            return await self._call(function, arrays)

    async def _trace(self, arrays: Mapping[str, Array]) -> list[tuple[str, str, Array]]:
        runtime = coreai_module("coreai.runtime")
        if runtime._use_os_coreai:
            raise UsageError(
                f"{self.path.name} can be traced with the runtime of coreai-core only; set "
                "USE_LOCAL_COREAI=1 to have it on macOS."
            )
        recorder = _Recorder()
        # `executable` compiles without the numbers of operations, hence the way behind it.
        with tempfile.TemporaryDirectory(suffix=".aimodelx") as folder:
            self._asset._write_odix(Path(folder), enable_debug_info=True)
            model = await runtime.AIModel.load(folder)
            records = json.loads(model._debug_infos)
            numbers = [
                runtime.CompileIdentifiers(operation["odixId"])
                for record in records
                for operation in record["operations"]
            ]
            logger = runtime.IntermediateLogger(numbers, recorder)
            with quiet_runtime():
                function = model.load_function(self._function, intermediate_logger=logger)
            outputs = await self._call(function, arrays)
        return recorder.values + [(name, "output", value) for name, value in outputs.items()]

    async def _call(self, function: Any, arrays: Mapping[str, Array]) -> dict[str, Array]:
        ndarray = coreai_module("coreai.runtime").NDArray
        results = await function({name: ndarray(value) for name, value in arrays.items()})
        # Copied: the runtime owns the buffers.
        return {name: np.array(results[name].numpy()) for name in self.signature.outputs}


class _Recorder:
    """Keeps what operations compute; constants and reservations of memory are operations too."""

    def __init__(self) -> None:
        self.values: list[tuple[str, str, Array]] = []
        self._computing = False

    def __call__(self, given: list[Any], kind: str, operation: Any) -> None:
        arrays = [array for array in given if array is not None]
        if kind == "input":
            # A reservation cuts an array, not yet written to, from the one workspace of bytes.
            workspace = [(array.dtype, len(array.shape)) for array in arrays] == [("int8", 1)]
            self._computing = bool(arrays) and not workspace
        elif kind == "output" and self._computing:
            wrap = coreai_module("coreai.runtime").NDArray._wrap
            for index, array in enumerate(arrays):
                name = f"odix_{operation.id}" + (f"#{index}" if index else "")
                # Copied: the memory is used again.
                self.values.append((name, "odix", np.array(wrap(array).numpy())))


def _on_the_cpu() -> Any:
    """macOS would choose a processor itself; elsewhere there is no choice and None is wanted."""
    options = coreai_module("coreai.runtime").SpecializationOptions
    return options.cpu_only() if options.is_supported() else None


def _finish(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine. In a thread, because a notebook's own event loop may be running."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()
