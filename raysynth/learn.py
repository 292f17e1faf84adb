"""The training loop of one worker.

It knows codes and a model, but no Ray: the same loop runs on a laptop, in each worker of a cluster,
and on a machine that has no Ray at all.

All randomness of an epoch comes from (seed, epoch, worker), so a run resumed at an epoch goes on as
if it had never stopped: weights and optimizers are the whole state.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from raysynth import parallel
from raysynth.draw import Draw
from raysynth.errors import RunError
from raysynth.hashing import seed_of
from raysynth.layout import Codes, Layout
from raysynth.models import TableModel

_NOISE, _ORDER = 1, 2


class WindowSource(Protocol):
    """What gives an epoch its windows: `shards.Windows`, or `Resident` for codes in memory."""

    def __len__(self) -> int: ...

    def in_order(self, seed: int) -> Iterator[tuple[int, Codes]]:
        """Every window once, numbered, in an order of its own for each `seed`."""
        ...


@dataclass(frozen=True)
class Resident:
    """One window that already is on the device."""

    codes: Codes

    def __len__(self) -> int:
        return 1

    def in_order(self, seed: int) -> Iterator[tuple[int, Codes]]:
        """The one window."""
        yield 0, self.codes


@dataclass(frozen=True)
class Plan:
    """How long to train: `rows` of the whole table, `batch` rows a step of one worker."""

    rows: int
    batch: int
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps an epoch, the same for every worker: whole batches, at least one."""
        return max(1, self.rows // (self.batch * parallel.workers()))


@dataclass(frozen=True)
class Epoch:
    """An epoch that is over: its number from 1, rows drawn by all workers, mean losses."""

    number: int
    rows: int
    losses: dict[str, float]


def learn(
    model: TableModel, layout: Layout, draw: Draw, windows: WindowSource, plan: Plan, done: int = 0
) -> Iterator[Epoch]:
    """Train from epoch `done` + 1 to the last, giving each epoch when it is over.

    Raises `ArithmeticError` where a loss is not finite.
    """
    device = next(model.parameters()).device
    parallel.join(model, model.optimizers)
    for epoch in range(done + 1, plan.epochs + 1):
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(plan.seed, epoch, parallel.rank(), _NOISE))
        sums: dict[str, Tensor] = {}
        taken = 0
        for turn, (_, window) in enumerate(windows.in_order(seed_of(plan.seed, epoch, _ORDER))):
            batches = draw(window, layout, plan.batch, generator)
            until = plan.steps * (turn + 1) // len(windows)
            for _ in range(taken, until):
                for name, loss in model.step(batches, generator).items():
                    sums[name] = sums[name] + loss if name in sums else loss
            taken = until
        losses = {name: float(total) / plan.steps for name, total in sums.items()}
        if not all(map(math.isfinite, losses.values())):
            raise ArithmeticError(
                f"epoch {epoch}: a loss is no longer finite ({', '.join(losses)}); lower the "
                "learning rates and train again under another name"
            )
        yield Epoch(epoch, plan.steps * plan.batch * parallel.workers(), losses)


def capture(model: TableModel, epoch: int) -> bytes:
    """Weights, optimizers and epoch as safetensors: all that resuming needs."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for place, optimizer in enumerate(model.optimizers):
        for weight, state in optimizer.state_dict()["state"].items():
            for name, tensor in state.items():
                tensors[f"optimizer.{place}.{weight}.{name}"] = tensor
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(tensors, {"epoch": json.dumps(epoch)})


def restore(model: TableModel, state: bytes, source: str) -> int:
    """Bring back what `capture` captured; gives its epoch. `source` is what messages call it."""
    tensors = load(state)
    header = state[8 : 8 + int.from_bytes(state[:8], "little")]  # the format's own layout
    epoch = int(json.loads(json.loads(header)["__metadata__"]["epoch"]))
    load_weights(model, _under("model.", tensors), source)
    for place, optimizer in enumerate(model.optimizers):
        found: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(f"optimizer.{place}.", tensors).items():
            weight, key = name.split(".", 1)
            # Adam keeps its step counter where the kernel wants it; the file has it anywhere.
            found.setdefault(int(weight), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": found, "param_groups": groups})
    return epoch


def load_weights(model: TableModel, weights: Mapping[str, Any], source: str) -> None:
    """Put `weights` into `model`; `RunError` where names or shapes differ."""
    mine = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if mine != theirs:
        apart = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
        raise RunError(f"{source}: weights of another model (first difference: {apart[0]})")
    model.load_state_dict(weights)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
