"""Backends by format name. Nothing heavy is imported until one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from edgekit.backends.facts import FileFacts
from edgekit.backends.runnable import Array, Runnable
from edgekit.errors import UsageError
from edgekit.target import Target

if TYPE_CHECKING:  # it imports torch, which running a file must not wait for
    from edgekit.program.program import Program

Session = Literal["default", "serving", "frugal", "returning"]
NOTHING: Mapping[str, str] = MappingProxyType({})
EVERY_TYPE = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")


class Backend(Protocol):
    """How one file format is written and read."""

    @property
    def suffix(self) -> str: ...

    @property
    def takes(self) -> tuple[str, ...]:
        """Element types that a program's inputs and outputs may have."""
        ...

    @property
    def pixels_axes(self) -> str:
        """Of a picture of bytes, as this format's users hold it: NHWC or NCHW."""
        ...

    @property
    def best_class_only(self) -> bool:
        """Whether a box that the file itself suppresses stands for its best class only."""
        ...

    @property
    def palettes(self) -> tuple[int, ...]:
        """Bits of an index that weights may have into a palette of shared values."""
        ...

    @property
    def packs(self) -> bool:
        """Whether `pack` makes codes of fewer than eight bits smaller than those of eight."""
        ...

    def code_bits(self, target: Target) -> tuple[int, ...]:
        """Of a weight's codes: widths that take less of a file than the next one, the fewest first."""
        ...

    def code_bytes(self, count: int, bits: int) -> int:
        """That `count` codes of a weight take, at one of those widths."""
        ...

    def door_type(self, dtype: str) -> str:
        """Element type, at the file's doors, of a program's input or output."""
        ...

    def unsupported_operators(self, program: Program) -> list[str]: ...

    def write(
        self,
        program: Program,
        path: Path,
        target: Target,
        *,
        half: bool,
        notes: Mapping[str, str] = NOTHING,
        palette_bits: int | None = None,
    ) -> None:
        """`notes` go into the file's metadata, where the format has such; `palette_bits`, one of
        `palettes`, makes weights indices into shared values."""
        ...

    def simplify(self, path: Path, inputs: Mapping[str, Array]) -> str:
        """What was done to the written file, or "" for nothing: no simplifier, or little to remove."""
        ...

    def pack(self, path: Path) -> None:
        """Leave out the bits that codes of the written file's weights do not need; see `packs`."""
        ...

    def load(
        self, path: Path, session: Session = "default", arena_bytes: int | None = None
    ) -> Runnable:
        """`session` names how a runtime that has such settings holds memory, in an arena of what
        size at first."""
        ...

    def describe(self, path: Path) -> FileFacts: ...


@dataclass(frozen=True)
class OnnxBackend:
    suffix: str = ".onnx"
    takes: tuple[str, ...] = EVERY_TYPE
    pixels_axes: str = "NHWC"
    best_class_only: bool = False
    palettes: tuple[int, ...] = ()
    packs: bool = True

    def code_bits(self, target: Target) -> tuple[int, ...]:
        return tuple(range(2, 9))

    def code_bytes(self, count: int, bits: int) -> int:
        from edgekit.backends.onnx.packed import packed_bytes

        return packed_bytes(count, bits)

    def door_type(self, dtype: str) -> str:
        return dtype

    def unsupported_operators(self, program: Program) -> list[str]:
        from edgekit.backends.onnx.operators import unsupported_operators

        return unsupported_operators(program)

    def write(
        self,
        program: Program,
        path: Path,
        target: Target,
        *,
        half: bool,
        notes: Mapping[str, str] = NOTHING,
        palette_bits: int | None = None,
    ) -> None:
        from edgekit.backends.onnx.write import OnnxOptions, write

        write(program, path, OnnxOptions(target.opset, target.ir_version, half, notes))

    def simplify(self, path: Path, inputs: Mapping[str, Array]) -> str:
        from edgekit.backends.onnx.simplify import simplify

        return simplify(path, inputs)

    def pack(self, path: Path) -> None:
        from edgekit.backends.onnx.packed import pack

        pack(path)

    def load(
        self, path: Path, session: Session = "default", arena_bytes: int | None = None
    ) -> Runnable:
        from edgekit.backends.onnx.load import load
        from edgekit.backends.onnx.session import NAMED, SessionOptions

        memory = replace(NAMED[session], first_chunk_bytes=arena_bytes)
        return load(path, SessionOptions(memory=memory))

    def describe(self, path: Path) -> FileFacts:
        from edgekit.backends.onnx.describe import describe

        return describe(path)


@dataclass(frozen=True)
class CoreMLBackend:
    suffix: str = ".mlpackage"
    takes: tuple[str, ...] = ("float32", "int64", "int32", "bool")  # coremltools 9.0 refuses others
    pixels_axes: str = "NCHW"  # of an image, which the runtime unpacks itself
    best_class_only: bool = True
    palettes: tuple[int, ...] = (1, 2, 4, 6, 8)
    packs: bool = False

    def code_bits(self, target: Target) -> tuple[int, ...]:
        return (8,) if target.minimum_os in ("iOS16", "iOS17") else (4, 8)

    def code_bytes(self, count: int, bits: int) -> int:
        return -(-count * bits // 8)

    def door_type(self, dtype: str) -> str:
        return dtype if dtype in ("float32", "uint8") else "int32"

    def unsupported_operators(self, program: Program) -> list[str]:
        from edgekit.backends.coreml.write import unsupported_operators

        return unsupported_operators(program)

    def write(
        self,
        program: Program,
        path: Path,
        target: Target,
        *,
        half: bool,
        notes: Mapping[str, str] = NOTHING,
        palette_bits: int | None = None,
    ) -> None:
        from edgekit.backends.coreml.write import CoreMLOptions, write

        write(program, path, CoreMLOptions(target.minimum_os, half, notes, palette_bits))

    def simplify(self, path: Path, inputs: Mapping[str, Array]) -> str:
        return ""

    def pack(self, path: Path) -> None:
        """Its weights have types of four bits."""

    def load(
        self, path: Path, session: Session = "default", arena_bytes: int | None = None
    ) -> Runnable:
        from edgekit.backends.coreml.load import load

        return load(path)

    def describe(self, path: Path) -> FileFacts:
        from edgekit.backends.coreml.describe import describe

        return describe(path)


@dataclass(frozen=True)
class CoreAIBackend:
    suffix: str = ".aimodel"
    takes: tuple[str, ...] = EVERY_TYPE
    pixels_axes: str = "NHWC"
    best_class_only: bool = False
    palettes: tuple[int, ...] = ()
    packs: bool = False

    def code_bits(self, target: Target) -> tuple[int, ...]:
        return (8,)

    def code_bytes(self, count: int, bits: int) -> int:
        return -(-count * bits // 8)

    def door_type(self, dtype: str) -> str:
        return dtype

    def unsupported_operators(self, program: Program) -> list[str]:
        from edgekit.backends.coreai.write import unsupported_operators

        return unsupported_operators(program)

    def write(
        self,
        program: Program,
        path: Path,
        target: Target,
        *,
        half: bool,
        notes: Mapping[str, str] = NOTHING,
        palette_bits: int | None = None,
    ) -> None:
        from edgekit.backends.coreai.write import CoreAIOptions, write

        write(program, path, CoreAIOptions(half))

    def simplify(self, path: Path, inputs: Mapping[str, Array]) -> str:
        return ""

    def pack(self, path: Path) -> None:
        """What it writes stays as it is."""

    def load(
        self, path: Path, session: Session = "default", arena_bytes: int | None = None
    ) -> Runnable:
        from edgekit.backends.coreai.load import load

        return load(path)

    def describe(self, path: Path) -> FileFacts:
        from edgekit.backends.coreai.describe import describe

        return describe(path)


BACKENDS: dict[str, Backend] = {
    "onnx": OnnxBackend(),
    "coreml": CoreMLBackend(),
    "coreai": CoreAIBackend(),
}


def backend_for(format: str) -> Backend:
    """Raises UsageError for a format that no backend writes."""
    if format not in BACKENDS:
        raise UsageError(
            f"There is no backend for '{format}' files; there are {', '.join(BACKENDS)}."
        )
    return BACKENDS[format]
