"""edgekit inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, print_json
from edgekit.errors import UsageError


def inspect(
    path: Annotated[Path, typer.Argument(help="A bundle, an .onnx file or an .mlpackage.")],
    json: Json = False,
) -> None:
    """Operators, weights, inputs and outputs of a model file."""
    from edgekit.backends.registry import BACKENDS
    from edgekit.bundle import MANIFEST, open_bundle
    from edgekit.plan.plan import FILE as PLAN_FILE

    bundle = open_bundle(path) if (path / MANIFEST).is_file() else None
    file = bundle.model_file if bundle else path
    if bundle and file.name == PLAN_FILE:
        models = ", ".join(sorted(item.name for item in path.glob("stage*")))
        raise UsageError(f"{path.name} runs several models by {file.name}; inspect one: {models}.")
    formats = {backend.suffix: backend for backend in BACKENDS.values()}
    if not file.exists():
        raise UsageError(f"{file} does not exist.")
    if file.suffix not in formats:
        raise UsageError(f"{file} is no bundle and ends in none of {', '.join(formats)}.")
    facts = formats[file.suffix].describe(file)
    if json:
        manifest = {"manifest": dict(bundle.manifest)} if bundle else {}
        print_json({"file": str(file), **facts.to_json(), **manifest})
        return
    print(facts.table())
    if bundle:
        rewrites = ", ".join(
            f"{rule} {count}" for rule, count in bundle.manifest["rewrites"].items()
        )
        print(
            f"exported as {bundle.manifest['name']} for {bundle.manifest['target']}; rewrites: {rewrites or 'none'}"
        )
