"""The one graph form that rewriting, planning and every backend share."""

from __future__ import annotations

from dataclasses import dataclass

from torch.export import ExportedProgram

from edgekit.contract import TensorSpec


@dataclass(frozen=True)
class Program:
    """A `torch.export` graph of fixed shapes whose inputs and outputs have names and ranges."""

    exported: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
