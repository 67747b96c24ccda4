"""Write a Program as a Core AI asset, byte for byte the same each time."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekit.backends.coreai.names import number_names
from edgekit.backends.coreai.packages import coreai_module
from edgekit.errors import ConversionError, first_line
from edgekit.program.precision import in_half
from edgekit.program.program import Program


@dataclass(frozen=True)
class CoreAIOptions:
    half: bool = False


def write(program: Program, path: Path, options: CoreAIOptions) -> None:
    """Write `program` to the asset folder `path`; inputs and outputs stay float32 at the doors.

    Raises:
        ConversionError: coreai-torch refused the graph.
        MissingEnvironmentError: coreai-torch is not installed.
    """
    coreai_torch = coreai_module("coreai_torch")
    # Without stack traces, which name folders of the machine that exports.
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),  # it reports progress there
        ):
            warnings.simplefilter("ignore")
            source = in_half(program) if options.half else program
            converted = converter.add_exported_program(
                source.exported.run_decompositions(coreai_torch.get_decomp_table()),
                input_names=[spec.name for spec in program.inputs],
                output_names=[spec.name for spec in program.outputs],
            ).to_coreai()
        number_names(converted)
        converted.save_asset(path, metadata=_contract(program))
    except OSError:  # a full disk
        raise
    except Exception as error:  # coreai-torch raises whatever a lowering met
        raise ConversionError(f"coreai-torch refused the graph: {first_line(error)}.") from error
    _fix_metadata(path / "metadata.json")


def unsupported_operators(program: Program) -> list[str]:
    """ATen operators of `program` that coreai-torch neither lowers nor decomposes."""
    lowered = coreai_module("coreai_torch._aten_to_core")._aten_to_core_resolver
    kept_whole = coreai_module("coreai_torch._decomp")._COMPOSITE_OPS
    known = {f"aten.{name}" for name in lowered}
    known |= {str(operator) for operator in kept_whole}
    known |= {str(operator) for operator in torch.export.default_decompositions()}
    operators = {
        str(node.target) for node in program.exported.graph.nodes if node.op == "call_function"
    }
    return sorted(name for name in operators if name.startswith("aten.") and name not in known)


def _contract(program: Program) -> Any:
    metadata = coreai_module("coreai.runtime").AIModelAssetMetadata()
    metadata.set_custom("edgekit.inputs", json.dumps([spec.to_json() for spec in program.inputs]))
    metadata.set_custom("edgekit.outputs", json.dumps([spec.to_json() for spec in program.outputs]))
    return metadata


def _fix_metadata(file: Path) -> None:
    """Drop the creation date and sort the keys, which come in another order in each process."""
    data = json.loads(file.read_text(encoding="utf-8"))
    data.pop("creationDate", None)
    file.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
