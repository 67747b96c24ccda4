"""BatchNorm over the batch of all processes, so that several of them train as one does.

DDP would let each process normalise by its share of the batch, and keep the first one's moving statistics;
FSDP would let the moving statistics drift apart, and a checkpoint would hold the first one's alone.
torch.nn.SyncBatchNorm does the same as this, on GPUs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def shared_statistics(networks: Iterable[nn.Module], processes: int) -> Iterator[None]:
    """Within the block, BatchNorm in train mode takes mean and variance over the items of all processes."""
    shared = [] if processes == 1 else [module for one in networks for module in share(one)]
    try:
        yield
    finally:
        for module in shared:
            del module.forward


def share(network: nn.Module) -> list[nn.Module]:
    """Each process must run the network in train mode as often as the others. Returns what was changed."""
    found = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
    ]
    for module in found:
        # On the object, not its class: names of parameters, hooks and FSDP's shards stay as they are.
        module.forward = partial(_normalised, module)  # type: ignore[method-assign]
    return found  # type: ignore[return-value]


class _Sum(torch.autograd.Function):
    """Over processes. Each one's loss depends on all that went into it, so its gradient is a sum as well."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total


def _normalised(module: _BatchNorm, x: Tensor) -> Tensor:
    if not module.training:
        return type(module).forward(module, x)
    module._check_input_dim(x)
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    values = x.float()
    count = _summed(values.new_tensor(x.numel() / x.shape[1]))
    mean: Tensor = _Sum.apply(values.sum(axes)) / count  # type: ignore[no-untyped-call]
    centred = values - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
    _move_statistics(module, mean.detach(), variance.detach() * count / (count - 1))
    scaled = centred * torch.rsqrt(variance + module.eps).view(shape)
    if module.affine:
        scaled = scaled * module.weight.float().view(shape) + module.bias.float().view(shape)
    return scaled.to(x.dtype)


@torch.no_grad()
def _move_statistics(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if module.running_mean is None or module.running_var is None:
        return
    momentum = module.momentum
    if module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if momentum is None:  # torch's sign of a mean over all batches
            momentum = 1 / float(module.num_batches_tracked)
    share_of_new = 0.0 if momentum is None else momentum
    for kept, new in ((module.running_mean, mean), (module.running_var, variance)):
        kept.lerp_(new.to(kept.dtype), share_of_new)
