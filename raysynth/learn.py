"""The training loop of one worker.

It knows codes and a model, but no Ray: the same loop runs on a laptop, in each worker of a cluster,
and on a machine that has no Ray at all.

All randomness of an epoch comes from (seed, epoch, worker), so a run resumed at an epoch goes on as
if it had never stopped: weights, optimizers and the best weights so far are the whole state.

Of a family that can score rows, one row in `HELD` of each window is held out, and the weights are
kept that scored best on those: a training that is too long for its table does no harm.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

HELD, MOST_HELD = 20, 5_000
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


@dataclass
class Best:
    """The weights that scored lowest on held-out rows; none where nothing was scored."""

    score: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def see(self, model: TableModel, score: float) -> None:
        """Keep the model's weights if no others scored as low."""
        if score < self.score:
            self.score = score
            self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}

    def put(self, model: TableModel) -> None:
        """Have the model be the best, if there is one."""
        if self.weights:
            model.load_state_dict(self.weights)


def learn(
    model: TableModel,
    layout: Layout,
    draw: Draw,
    windows: WindowSource,
    plan: Plan,
    done: int = 0,
    best: Best | None = None,
) -> Iterator[Epoch]:
    """Train from epoch `done` + 1 to the last, giving each epoch when it is over.

    `best` sees the weights after every epoch, with their score. Raises `ArithmeticError` where a
    loss is not finite.
    """
    best = best or Best()
    device = next(model.parameters()).device
    parallel.join(model, model.optimizers)
    for epoch in range(done + 1, plan.epochs + 1):
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(plan.seed, epoch, parallel.rank(), _NOISE))
        sums: dict[str, Tensor] = {}
        taken = 0
        for turn, (_, whole) in enumerate(windows.in_order(seed_of(plan.seed, epoch, _ORDER))):
            window, held = _split(whole) if model.scores else (whole, None)
            batches = draw(window, layout, plan.batch, generator)
            until = plan.steps * (turn + 1) // len(windows)
            for number in range(taken, until):
                model.at((epoch - 1 + number / plan.steps) / plan.epochs)
                for name, loss in model.step(batches, generator).items():
                    sums[name] = sums[name] + loss if name in sums else loss
            taken = until
        losses = {name: float(total) / plan.steps for name, total in sums.items()}
        if not all(map(math.isfinite, losses.values())):
            raise ArithmeticError(
                f"epoch {epoch}: a loss is no longer finite ({', '.join(losses)}); lower the "
                "learning rates and train again under another name"
            )
        if held is not None:
            losses["held"] = parallel.mean(float(model.score(held)), device)
            best.see(model, losses["held"])
        yield Epoch(epoch, plan.steps * plan.batch * parallel.workers(), losses)


def _split(window: Codes) -> tuple[Codes, Codes | None]:
    """A window's rows to train on, and its last ones, held out; rows lie in no order."""
    held = min(window.rows // HELD, MOST_HELD)
    if not held:
        return window, None
    return window.take(slice(0, -held)), window.take(slice(-held, None))


def capture(model: TableModel, epoch: int, best: Best | None = None) -> bytes:
    """Weights, optimizers, epoch and the best weights as safetensors: all that resuming needs."""
    best = best or Best()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for place, optimizer in enumerate(model.optimizers):
        for weight, state in optimizer.state_dict()["state"].items():
            for name, tensor in state.items():
                tensors[f"optimizer.{place}.{weight}.{name}"] = tensor
    tensors |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = {"epoch": epoch, "best": best.score}
    return save(tensors, {name: json.dumps(value) for name, value in facts.items()})


def restore(model: TableModel, state: bytes, source: str, best: Best | None = None) -> int:
    """Bring back what `capture` captured, also into `best`; gives its epoch.

    `source` is what messages call it.
    """
    tensors = load(state)
    header = state[8 : 8 + int.from_bytes(state[:8], "little")]  # the format's own layout
    facts = json.loads(header)["__metadata__"]
    epoch = int(json.loads(facts["epoch"]))
    load_weights(model, _under("model.", tensors), source)
    if best is not None:
        best.score, best.weights = json.loads(facts["best"]), _under("best.", tensors)
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
