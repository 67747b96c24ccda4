"""The networks of a run, as the loop calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekit.distillation.taps import Batch, Forward, Outputs, Tap, Tapped, opened
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class _Projections(nn.Module):
    """An nn.ModuleDict, which takes no names of its own methods, such as "half", for keys."""

    def __init__(self, projections: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(projections)


class Apprentice(nn.Module):
    """The student and the projections of its taps, as one module that DDP or FSDP can wrap.

    Whatever a stage calls of the student goes through this forward. A method called past the wrapper
    would train each process on its own gradients.
    """

    def __init__(self, tapped: Tapped, tap: Tap) -> None:
        super().__init__()
        self.student = tapped.module
        self.projection = _Projections(tapped.projections)
        self.tapped = tapped
        self._tap = tap

    def forward(self, batch: Batch, forward: Forward) -> dict[str, Any]:
        """A plain dict: wrappers look into it for tensors."""
        output = forward(self.student, batch)
        taps = self._tap.take()
        for name, projection in self.projection.named_children():
            if name in taps:
                taps[name] = projection(taps[name])
        return {"output": output, "taps": taps}

    @staticmethod
    def outputs(made: Mapping[str, Any]) -> Outputs:
        return Outputs(made["output"], made["taps"], "student")


class TeacherRun:
    """The teacher's outputs for a batch: eval mode, no gradients, float32."""

    def __init__(self, teacher: Any, fabric: Fabric) -> None:
        self._teacher = Tapped(teacher) if isinstance(teacher, nn.Module) else teacher
        self._fabric = fabric
        self._stack = ExitStack()

    def __enter__(self) -> TeacherRun:
        if isinstance(self._teacher, Tapped):
            if self._teacher.projections:
                raise UsageError(
                    "The teacher has projections, which nothing trains; give them to the student."
                )
            self._tap = self._stack.enter_context(opened(self._teacher))
            for module in self._teacher.module.modules():
                self._stack.callback(setattr, module, "training", module.training)
            self._fabric.to_device(self._teacher.module.eval())
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        if self._teacher is None:
            return Outputs(whose="teacher, of which there is none")
        if not isinstance(self._teacher, Tapped):
            given = self._teacher(batch)
            if not isinstance(given, Outputs):
                raise UsageError(
                    f"The teacher is a function that returns a {type(given).__name__}; it must return "
                    "Outputs(output, taps), or be a network."
                )
            return given
        with self._fabric.autocast():
            output = self._teacher.forward(self._teacher.module, batch)
        return Outputs(_in_float(output), _in_float(self._tap.take()), "teacher")


def _in_float(value: Any) -> Any:
    """Tensors of lower precision, such as autocast makes, as float32: losses are computed in it."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, dict):
        return {key: _in_float(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(map(_in_float, value))
    return value


@contextmanager
def recording_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """The tensors that the module is called with in the block, the first time that it is."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not seen and all(isinstance(value, Tensor) for value in inputs):
            seen.extend(inputs)

    handle = module.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
