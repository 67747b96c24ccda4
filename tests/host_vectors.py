"""What hosts are tested by, `export/vectors`, and the runner for boards as source that a test may change."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.data_folder import data_folder
from edgekit.profiling.devices.remote import runner_file

VECTORS = data_folder("export") / "vectors"


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def runner_source() -> str:
    return runner_file().read_text(encoding="utf-8")


def runner_of(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "edgekit_runner", "__file__": str(runner_file())}
    exec(compile(source, "edgekit_runner.py", "exec"), names)
    return names
