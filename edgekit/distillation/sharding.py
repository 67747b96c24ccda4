"""Tensors that FSDP has cut over processes: whole ones for a checkpoint, shares out of whole ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """What of it this process holds: all of it, without FSDP. In-place changes reach `tensor`."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    cut: DTensor = tensor
    return cut.detach().to_local()  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of it, on the CPU and sharing no memory with it. Every process must call it."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().to("cpu", copy=True)


def shard_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, on the device and cut as `model` is."""
    tensor = tensor.to(model.device)
    if isinstance(model, DTensor):
        return distribute_tensor(tensor, model.device_mesh, model.placements)
    return tensor


def module_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: whole(value) for name, value in module.state_dict().items()}


@torch.no_grad()
def load_module_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    module.load_state_dict({name: shard_like(value, own[name]) for name, value in state.items()})


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return _with_tensors(optimiser.state_dict())


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """A state tensor of its parameter's shape is cut as the parameter is."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    per_parameter = {
        index: {
            key: shard_like(value, parameters[index])
            if _is_alike(value, parameters[index])
            else value
            for key, value in values.items()
        }
        for index, values in state["state"].items()
    }
    optimiser.load_state_dict({"state": per_parameter, "param_groups": state["param_groups"]})


def _is_alike(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _with_tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        return whole(value)
    if isinstance(value, dict):
        return {key: _with_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(item) for item in value)
    return value
