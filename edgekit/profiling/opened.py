"""A bundle opened for measuring: its sessions, with the threads and the memory settings asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.onnx.session import NAMED, SessionOptions
from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.plan.plan import Plan, read_plan
from edgekit.plan.runner import planned_runnable
from edgekit.split.bundle import SplitFacts

Memory = Literal["recommended", "default"]
MEMORY: tuple[Memory, ...] = ("recommended", "default")
WITHOUT_PLAN = "serving"
"""What is recommended for a file that runs many times: its peak stays from the first run on."""


@dataclass(frozen=True)
class Sessions:
    """Opens files for `edgekit.plan.runner`, in place of a backend."""

    threads: int
    memory: Memory = "recommended"

    def options(self, session: str, arena_bytes: int | None = None) -> SessionOptions:
        named = NAMED[session if self.memory == "recommended" else "default"]
        if named.arena == "shared":
            named = replace(named, first_chunk_bytes=arena_bytes)
        return SessionOptions(self.threads, named)

    def load(
        self, path: Path, session: str = WITHOUT_PLAN, arena_bytes: int | None = None
    ) -> OnnxRunnable:
        return load(path, self.options(session, arena_bytes))


@dataclass(frozen=True)
class Opened:
    """Ready to run on the golden input: of a split bundle its head, which is what a device runs."""

    bundle: Bundle
    plan: Plan | None
    runnable: Runnable
    inputs: Mapping[str, Array]

    def run(self) -> dict[str, Array]:
        return self.runnable.run(self.inputs)

    def timed(self) -> Callable[[], object]:
        """What makes one result, to be measured: of one file its session's own call, without our checks of inputs."""
        if isinstance(self.runnable, OnnxRunnable):
            return self.runnable.prepared(self.inputs)
        return self.run

    def files(self) -> dict[str, tuple[str, int]]:
        """Model files, with the name of their session and how often one result needs them."""
        if self.plan is None:
            return {str(self.bundle.manifest["model"]): (WITHOUT_PLAN, 1)}
        runs: Counter[str] = Counter()
        for stage in self.plan.stages:
            runs.update(stage.models[window.model].file for window in stage.windows)
        return {file: (model.session, runs[file]) for file, model in self.plan.models.items()}


def require_measurable(bundle: Bundle) -> None:
    """Raises UsageError for what does not run here, or was changed."""
    name = bundle.path.name
    SplitFacts.of(bundle)  # damaged ones are told before the long work
    if bundle.format != "onnx":
        raise UsageError(
            f"{name} is a {bundle.format} bundle, which is run here by a reference interpreter only; its "
            "times say nothing about a device. Profile the ONNX export, or measure on a Mac or a phone."
        )
    if changed := bundle.changed_files():
        raise UsageError(f"{changed[0]} of {name} is not the file that was exported; export again.")


def measured_name(bundle: Bundle) -> str:
    return bundle.path.name if SplitFacts.of(bundle) is None else f"the head of {bundle.path.name}"


def device_files(bundle: Bundle) -> list[str]:
    """Those that a device needs: a split bundle's tails run elsewhere."""
    split = SplitFacts.of(bundle)
    elsewhere = set(split.tails.values()) if split is not None else set()
    return [name for name in bundle.manifest["files"] if name not in elsewhere]


def open_for_measuring(
    bundle: Bundle, sessions: Sessions, inputs: Mapping[str, Array] | None = None
) -> Opened:
    """Opens the files, and nothing else if `inputs` are given; see `require_measurable`."""
    plan = read_plan(bundle.path)
    given = bundle.golden_inputs() if inputs is None else inputs
    backend: Any = sessions
    if plan is None:
        return Opened(bundle, plan, sessions.load(bundle.model_file), given)
    names = [tuple(spec.name for spec in specs) for specs in (bundle.inputs, bundle.outputs)]
    runnable = planned_runnable(bundle.path, plan, backend, names[0], names[1])
    return Opened(bundle, plan, runnable, given)
