"""Data parallelism from outside the model.

Weights are broadcast once; before each optimizer step that optimizer's gradients are averaged over
the workers in one flat all-reduce, missing gradients counting as zero. It is the same with one
worker or many, with several critic steps, with any loss: wrapping a critic in
DistributedDataParallel breaks on a gradient penalty's two backward passes. On CPUs of one machine
the sum goes through shared memory (`allreduce`), everything else through the process group.

The batch of the settings is that of all workers, split over them, so learning rates are the same
for any number of workers. What does not divide is left out: of 500 rows in packs of 10, four
workers take 120 each. At least one row or pack each is taken, so very many workers take more.

What is of a batch as a whole is of each worker's own rows: batch norm, of which the running
statistics are averaged after each epoch, table-GAN's information, TGAN's diversity and divergence.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer

from raysynth.allreduce import Shared
from raysynth.clock import COMMUNICATE, Clock

NAME = 128  # bytes of a path

# Has a flat tensor be the mean over the workers of what these gradients are, one after the other.
Mean: TypeAlias = Callable[[Sequence[Tensor], Tensor], None]


def workers() -> int:
    """Workers that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This worker's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def join(model: nn.Module, optimizers: Iterable[Optimizer], clock: Clock | None = None) -> None:
    """Start every worker from worker 0's weights and average gradients from now on, by `clock`."""
    if workers() == 1:
        return
    clock, optimizers = clock or Clock(), list(optimizers)
    weights = [
        [weight for group in optimizer.param_groups for weight in group["params"]]
        for optimizer in optimizers
    ]
    mean = averager(weights)
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=0)
    for optimizer, mine in zip(optimizers, weights, strict=True):
        optimizer.register_step_pre_hook(_averaging(mine, mean, clock))


def averager(weights: Sequence[Sequence[Tensor]]) -> Mean:
    """What averages numbers as many, and where, as those of each of these: all workers ask."""
    shared = _shared(weights)
    return _mean if shared is None else shared.mean


def _averaging(weights: Sequence[Tensor], mean: Mean, clock: Clock) -> Callable[..., None]:
    """What averages the gradients of these weights; they lie in one tensor, made once."""
    flat = torch.cat([weight.detach().reshape(-1) for weight in weights])
    pieces = torch.split(flat, [weight.numel() for weight in weights])
    views = [piece.view_as(weight) for weight, piece in zip(weights, pieces, strict=True)]

    def average(*_: Any) -> None:
        with clock.of(COMMUNICATE):
            mean([torch.zeros_like(w) if w.grad is None else w.grad for w in weights], flat)
            for weight, view in zip(weights, views, strict=True):
                weight.grad = view

    return average


def _mean(gradients: Sequence[Tensor], flat: Tensor) -> None:
    torch.cat([gradient.reshape(-1) for gradient in gradients], out=flat)
    dist.all_reduce(flat)
    flat /= workers()


def _shared(weights: Sequence[Sequence[Tensor]]) -> Shared | None:
    """Memory for sums of each of these; None where some worker is on another machine, or a GPU."""
    device = weights[0][0].device
    if device.type != "cpu":
        return None
    room = max(sum(w.numel() for w in mine) * max(w.itemsize for w in mine) for mine in weights)
    offered = Shared.offer(workers(), room) if rank() == 0 else ""
    told = torch.zeros(NAME, dtype=torch.uint8)
    told[: len(offered)] = torch.tensor(list(offered.encode()), dtype=torch.uint8)
    dist.broadcast(told, src=0)
    path, shared = bytes(told.tolist()).rstrip(b"\0").decode(), None
    with suppress(OSError, ValueError):  # the latter of a file of another size
        shared = Shared(path, rank(), workers(), room)
    if agree(shared is None, device) or agree(not (shared and shared.reachable), device):
        shared = None
    if offered:
        Path(offered).unlink()
    return shared


def average_statistics(model: nn.Module, clock: Clock | None = None) -> None:
    """Average what each worker counted for itself, by `clock`: batch norm's running statistics."""
    if workers() == 1:
        return
    with (clock or Clock()).of(COMMUNICATE):
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                dist.all_reduce(tensor)
                tensor.div_(workers())


def agree(flag: bool, device: torch.device) -> bool:
    """Whether any worker raised its flag, the same answer on each."""
    return agreed([flag], device)[0]


def agreed(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """What `agree` says of each flag, in one exchange."""
    if workers() == 1:
        return list(flags)
    raised = torch.tensor([float(flag) for flag in flags], device=device)
    dist.all_reduce(raised)
    return [bool(count > 0) for count in raised.tolist()]


def mean(number: float, device: torch.device) -> float:
    """The mean of the workers' numbers, the same on each."""
    if workers() == 1:
        return number
    total = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / workers()


def least(number: int, device: torch.device) -> int:
    """The smallest of the workers' numbers, the same on each."""
    if workers() == 1:
        return number
    found = torch.tensor(number, dtype=torch.int64, device=device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return int(found.item())


def of_first(number: int, device: torch.device) -> int:
    """Worker 0's number, on each."""
    if workers() == 1:
        return number
    told = torch.tensor(number, dtype=torch.int64, device=device)
    dist.broadcast(told, src=0)
    return int(told.item())
