"""Data parallelism from outside the model.

Weights are broadcast once; before each optimizer step that optimizer's gradients are averaged over
the workers in one flat all-reduce, missing gradients counting as zero. It is the same with one
worker or many, with several critic steps, with any loss: wrapping a critic in
DistributedDataParallel breaks on a gradient penalty's two backward passes.

The batch of the settings is that of all workers, split over them, so learning rates are the same
for any number of workers. What does not divide is left out: of 500 rows in packs of 10, four
workers take 120 each. At least one row or pack each is taken, so very many workers take more.

What is of a batch as a whole is of each worker's own rows: batch norm, of which the running
statistics are averaged after each epoch, table-GAN's information, TGAN's diversity and divergence.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer

from raysynth.clock import COMMUNICATE, Clock


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
    clock = clock or Clock()

    def average(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        with clock.of(COMMUNICATE):
            _average_gradients(optimizer)

    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=0)
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(average)


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


def _average_gradients(optimizer: Optimizer) -> None:
    weights: list[Tensor] = [w for group in optimizer.param_groups for w in group["params"]]
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers()
    pieces = torch.split(flat, [weight.numel() for weight in weights])
    for weight, piece in zip(weights, pieces, strict=True):
        weight.grad = piece.view_as(weight)
