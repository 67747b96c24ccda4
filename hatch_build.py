"""Puts the folder `export/` into the wheel, with the page that `npm run build` made and without what npm installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, TARGET = "export", "edgekit/data"
LEFT_OUT = {"node_modules", "build", ".build", ".gradle", "local.properties", "__pycache__"}


class ExportFolder(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # which reads the checkout's own folder
            return
        root = Path(self.root)
        for path in files(root / SOURCE):
            build_data["force_include"][str(path)] = f"{TARGET}/{path.relative_to(root).as_posix()}"


def files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in LEFT_OUT:
            yield from files(path)
        elif path.is_file() and path.name not in LEFT_OUT:
            yield path
