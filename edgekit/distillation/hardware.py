"""Where a run computes: devices, processes and precision, through Lightning Fabric."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from edgekit.errors import MissingEnvironmentError, UsageError, first_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.distributed.device_mesh import DeviceMesh

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]


@dataclass(frozen=True)
class Hardware:
    accelerator: str = "auto"
    """auto, cpu, cuda or mps."""
    processes: int | None = None
    """On this machine, one per device; None: as many as torchrun started, or one."""
    strategy: str = "auto"
    """auto (DDP for several processes), ddp, fsdp (which shards each of the student's children), or
    another of Fabric's. BatchNorm sees the batch of all processes, as if one had it."""
    precision: Precision = "32-true"
    deterministic: bool = True
    """Without it a GPU may be faster, and a resumed run is not the same to the bit."""


def started(hardware: Hardware) -> Fabric:
    """Fabric with its processes running. Raises UsageError, MissingEnvironmentError."""
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
    except ImportError as error:
        raise MissingEnvironmentError(
            f"Training needs {error.name}; install it with: pip install 'edgekit-vision[train]'."
        ) from error
    processes = hardware.processes or int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    machines = int(os.environ.get("WORLD_SIZE", processes)) // processes or 1
    strategy: Any = hardware.strategy
    if strategy == "fsdp":
        strategy = ModelParallelStrategy(_shard, processes * machines, tensor_parallel_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as: a GPU is there and not used
            fabric = Fabric(
                accelerator=hardware.accelerator, devices=processes, num_nodes=machines,
                strategy=strategy, precision=hardware.precision,
            )  # fmt: skip
    except Exception as error:  # Fabric refuses what it cannot do with exceptions of all kinds
        raise UsageError(f"{hardware} cannot be had here: {first_line(error)}.") from error
    fabric.launch()
    return fabric


def _shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """FSDP of each of the student's children that has parameters, and of the rest."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(network, FSDPModule):  # in an earlier stage
        return network
    over = mesh["data_parallel"]
    for child in network.get_submodule("student").children():
        if any(True for _ in child.parameters()):
            fully_shard(child, mesh=over)
    fully_shard(network, mesh=over)
    return network


@contextmanager
def repeatable() -> Iterator[None]:
    """cuDNN and torch choose algorithms that give the same bits each time, within the block."""
    cudnn: Any = torch.backends.cudnn
    filling: Any = torch.utils.deterministic
    before = (cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory)
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn.deterministic, cudnn.benchmark = True, False
    filling.fill_uninitialized_memory = False  # it costs time, and only finds bugs
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
