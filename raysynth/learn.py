"""The training loop of one worker.

It knows codes and a model, but no Ray: the same loop runs on a laptop, in each worker of a cluster,
and on a machine that has no Ray at all.

All randomness of an epoch comes from (seed, epoch, worker) and, every `STRETCH` steps, begins anew
from the stretch's number. So a training resumed there, between epochs or inside one, goes on as if
it had never stopped: weights, optimizers, the best weights and the sums of losses so far are the
whole state. With another number of workers it goes on at the same step, each drawing anew.

**The best weights.** One row in `HELD` of each window is held out. After an epoch the weights are
scored on those: by the family's own score where it has one (a likelihood), else by `probe`, which
is asked about `PROBES` times in a training, evenly, and not by the clock, so that a training that
resumes keeps the same weights. The best are kept: a training that is too long for its table does
no harm. With `patience`, one that has found none better for so many epochs ends. Where so few rows
would be held out that a probe says nothing, a family without a score trains on all. One that does
not choose (`chooses`) trains on all and keeps the last: its probes only tell.

**Averages.** Of a family that says so (`averaging`) the weights scored and kept are the mean over
about the last part of the steps so far, a thirtieth: in the middle of a training they are nearer to
those that its falling rate would end in there. Over a tenth, they lag: the best came too early.

**A loss that is not finite** takes training back to where the epoch began, with half the rate, at
most `HALVINGS` times; the state there is kept on the device.

**On a GPU** steps are recorded (`capture`), and the host waits for the device where an epoch or a
stretch ends, and where weights are scored, and not between.

Longer than other files: the loop, and the whole state that it goes on from.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from raysynth import parallel, probe
from raysynth.capture import RecordError, Steps
from raysynth.clock import COMPUTE, DATA, PROBE, Clock
from raysynth.draw import Draw
from raysynth.errors import RunError
from raysynth.gradients import Watch, watched
from raysynth.hashing import seed_of
from raysynth.layout import Codes, Layout
from raysynth.models import TableModel
from raysynth.precision import Precision
from raysynth.table import TableCodec

HELD, MOST_HELD = 20, 5_000
PROBES = 20
HALVINGS = 3
STRETCH = 1_000  # steps between two places inside an epoch where a training can resume
COLLAPSED = 0.5  # coverage under which, or repeats over which, a generator has few rows to give
_NOISE, _ORDER, _PROBE = 1, 2, 3


class WindowSource(Protocol):
    """What gives an epoch its windows: `shards.Windows`, or `Resident` for codes in memory."""

    def __len__(self) -> int: ...

    def in_order(self, seed: int, first: int = 0) -> Iterator[tuple[int, Codes]]:
        """Every window once, numbered, in an order of its own for each `seed`.

        Without reading them, the `first` ones are passed over.
        """
        ...


@dataclass(frozen=True)
class Resident:
    """One window that already is on the device."""

    codes: Codes

    def __len__(self) -> int:
        return 1

    def in_order(self, seed: int, first: int = 0) -> Iterator[tuple[int, Codes]]:
        """The one window."""
        if not first:
            yield 0, self.codes


@dataclass(frozen=True)
class Plan:
    """How long to train: `rows` of the whole table, `batch` rows a step of one worker."""

    rows: int
    batch: int
    epochs: int
    seed: int
    patience: int | None = None
    precision: Precision = "float32"

    def probes(self, epoch: int) -> bool:
        """Whether this epoch, from 1, is one after which the model is probed."""
        return epoch % max(1, self.epochs // PROBES) == 0 or epoch == self.epochs

    @property
    def steps(self) -> int:
        """Steps an epoch, the same for every worker: whole batches, at least one."""
        return max(1, self.rows // (self.batch * parallel.workers()))


@dataclass(frozen=True)
class Epoch:
    """An epoch that is over: its number from 1, rows drawn by all workers, mean losses.

    `losses` has what was measured of the model beside them. `last`: none follows. `alarm` says what
    a user should know at once. `norms` are the lengths of gradients in the epoch's last step, by
    network.
    """

    number: int
    rows: int
    losses: dict[str, float]
    last: bool = False
    alarm: str = ""
    norms: dict[str, float] = field(default_factory=dict)


@dataclass
class Part:
    """Where inside an epoch a training is: `steps` taken of it, and the `sums` of their losses."""

    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)


# Asked at the end of a stretch that ends no epoch, with epochs done and the part of the next: True
# ends training there.
Pause = Callable[[int, Part], bool]


@dataclass
class Best:
    """The weights that scored lowest on held-out rows, and their epoch; none without a score.

    `mean` is the running average of the weights, of a family that does (`averaging`): what is
    scored.
    """

    score: float = math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)

    def see(self, model: TableModel, score: float, epoch: int) -> None:
        """Keep the model's weights if no others scored as low."""
        if score < self.score:
            self.score, self.epoch = score, epoch
            self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}

    def put(self, model: TableModel) -> None:
        """Have the model be the best, if there is one; else the average."""
        if self.weights or self.mean:
            model.load_state_dict(self.weights or self.mean)

    @torch.no_grad()
    def move(self, model: TableModel, steps: int) -> None:
        """Move the average towards the model's weights, after so many steps in all."""
        if not model.averaging:
            return
        share = (model.averaging + 1) / (steps + model.averaging)
        own = model.state_dict()
        moved = {n: w for n, w in own.items() if n in self.mean and w.is_floating_point()}
        if moved:  # all at once: on a GPU few kernels, for as many weights as there are
            torch._foreach_lerp_([self.mean[n] for n in moved], list(moved.values()), share)
        self.mean |= {n: w.detach().clone() for n, w in own.items() if n not in moved}

    @contextmanager
    def averaged(self, model: TableModel) -> Iterator[None]:
        """Have the model be the average, while this lasts."""
        if not self.mean:
            yield
            return
        own = {name: weight.clone() for name, weight in model.state_dict().items()}
        model.load_state_dict(self.mean)
        yield
        model.load_state_dict(own)


def learn(
    model: TableModel,
    layout: Layout,
    draw: Draw,
    windows: WindowSource,
    plan: Plan,
    done: int = 0,
    best: Best | None = None,
    table: TableCodec | None = None,
    clock: Clock | None = None,
    part: Part | None = None,
    pause: Pause | None = None,
) -> Iterator[Epoch]:
    """Train from epoch `done` + 1 to the last, giving each epoch when it is over.

    Of the first, `part` is over already. `pause` is asked between stretches; `best` sees the
    weights that are scored, `clock` where the time goes. Without `table` nothing is probed. Raises
    `ArithmeticError` where losses stay not finite.
    """
    best, clock, part = best or Best(), clock or Clock(), part or Part()
    parallel.join(model, model.optimizers, clock)
    model.trains_on(plan.rows)
    epoch = done
    with watched(model, model.optimizers) as watch:
        steps = Steps(model, watch, plan.precision)
        told = _Told(clock, watch, steps, table is not None, pause)
        while not ended(plan, best, epoch):
            epoch += 1
            over = _epoch(model, layout, draw, windows, plan, epoch, part, best, told)
            if over is None:
                return
            (losses, held), part = over, Part()
            parallel.average_statistics(model, clock)
            if held is not None:
                with clock.of(PROBE), best.averaged(model):
                    losses |= _measured(model, held, plan, epoch, best, table)
            alarm = _alarm(losses) if epoch > plan.epochs // 2 else ""
            rows = plan.steps * plan.batch * parallel.workers()
            last = ended(plan, best, epoch)
            yield Epoch(epoch, rows, losses, last, alarm, watch.lengths())


@dataclass(frozen=True)
class _Told:
    """How an epoch takes its steps, what it is to tell, and whom it asks whether to go on."""

    clock: Clock
    watch: Watch
    steps: Steps
    probed: bool
    pause: Pause | None


def _epoch(
    model: TableModel,
    layout: Layout,
    draw: Draw,
    windows: WindowSource,
    plan: Plan,
    epoch: int,
    part: Part,
    best: Best,
    told: _Told,
) -> tuple[dict[str, float], Codes | None] | None:
    """Mean losses of an epoch, and the last window's rows held out; None where training is to end.

    Begun again after `part`, at half the rate, where a loss is not finite; `ArithmeticError` after
    `HALVINGS`.
    """
    tensors, facts = _state(model, epoch - 1, best)
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    for _ in range(HALVINGS + 1):
        now, pace, slower = Part(min(part.steps, plan.steps - 1), dict(part.sums)), model.pace, 1.0
        try:
            held, go_on = _steps(model, layout, draw, windows, plan, epoch, now, best, told)
        except RecordError:
            told.steps.plainly()
        else:
            told.steps.settle()
            with told.clock.of(COMPUTE):
                losses = {name: float(total) / plan.steps for name, total in now.sums.items()}
            if _finite(now, model):
                return (losses, held) if go_on else None
            slower = 0.5
        again = {name: tensor.clone() for name, tensor in tensors.items()}
        _bring(model, again, facts, "where it was begun", best)
        model.pace = pace * slower
        told.steps.drop()
    raise ArithmeticError(
        f"epoch {epoch}: a loss is no longer finite ({', '.join(losses)}), nor at {pace:.3g} times "
        "the learning rates; lower the learning rates and train again under another name"
    )


def _steps(
    model: TableModel,
    layout: Layout,
    draw: Draw,
    windows: WindowSource,
    plan: Plan,
    epoch: int,
    part: Part,
    best: Best,
    told: _Told,
) -> tuple[Codes | None, bool]:
    """Take an epoch's steps from `part` on, which goes with them.

    Gives the last window's rows held out, and whether to go on; ends early where not, or where a
    loss is not finite.
    """
    generator = told.steps.generator
    generator.manual_seed(seed_of(plan.seed, epoch, parallel.rank(), _NOISE))
    held = None
    clock, fewest = told.clock, probe.FEWEST if told.probed else math.inf
    ends = [plan.steps * (turn + 1) // len(windows) for turn in range(len(windows))]
    passed = sum(end <= part.steps for end in ends)
    order = windows.in_order(seed_of(plan.seed, epoch, _ORDER), passed)
    for end, (_, whole) in zip(ends[passed:], clock.over(DATA, order), strict=True):
        window, held = _split(whole, 1 if model.scores else fewest, generator.device)
        window = window if model.chooses else whole
        batches = clock.over(DATA, draw(window, layout, plan.batch, generator))
        for number in range(part.steps, end):
            stretch = number // STRETCH
            if stretch and number % STRETCH == 0:
                if not _finite(part, model):
                    return held, True
                if told.pause is not None and told.pause(epoch - 1, part):
                    return held, False
                generator.manual_seed(seed_of(plan.seed, epoch, parallel.rank(), _NOISE, stretch))
            model.at((epoch - 1 + number / plan.steps) / plan.epochs)
            told.watch.due = number == plan.steps - 1
            with clock.of(COMPUTE):
                for name, loss in told.steps(batches).items():
                    before = part.sums.get(name)
                    part.sums[name] = loss.clone() if before is None else before + loss
                best.move(model, (epoch - 1) * plan.steps + number + 1)
            clock.steps += 1
            part.steps = number + 1
    return held, True


def _finite(part: Part, model: TableModel) -> bool:
    """Whether all losses so far are, of every worker."""
    mine = all(math.isfinite(float(total)) for total in part.sums.values())
    return not parallel.agree(not mine, next(model.parameters()).device)


def _split(window: Codes, fewest: float, device: torch.device) -> tuple[Codes, Codes | None]:
    """A window's rows to train on, and its last ones, held out; rows lie in no order.

    As many on every worker, whose windows differ by a row: what follows is done by all or by none.
    """
    held = parallel.least(min(window.rows // HELD, MOST_HELD), device)
    if held < fewest:
        return window, None
    return window.take(slice(0, -held)), window.take(slice(-held, None))


def _measured(
    model: TableModel,
    held: Codes,
    plan: Plan,
    epoch: int,
    best: Best,
    table: TableCodec | None,
) -> dict[str, float]:
    """What the model scores on held-out rows, the mean over workers; `best` sees it."""
    device = next(model.parameters()).device
    told: dict[str, float] = {}
    if model.scores:
        told["held"] = parallel.mean(float(model.score(held)), device)
        best.see(model, told["held"], epoch)
    if table is not None and plan.probes(epoch) and held.rows >= probe.FEWEST:
        some = held.take(slice(0, probe.ROWS))
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(plan.seed, epoch, parallel.rank(), _PROBE))
        figures = probe.figures(table, some, model.sample(some.rows, generator))
        told |= {name: parallel.mean(value, device) for name, value in figures.items()}
        if model.chooses and not model.scores:
            best.see(model, 1 - told["fidelity"], epoch)
    return told


def _alarm(losses: Mapping[str, float]) -> str:
    """What a probe late in training says of mode collapse."""
    if losses.get("coverage", 1.0) < COLLAPSED:
        return (
            f"mode collapse: of the categories that are not rare, {losses['coverage']:.0%} are "
            "drawn at all; train another family, or with other settings"
        )
    if losses.get("repeats", 0.0) > COLLAPSED:
        return (
            f"mode collapse: {losses['repeats']:.0%} of the rows drawn repeat another; train "
            "another family, or with other settings"
        )
    return ""


def ended(plan: Plan, best: Best, epoch: int) -> bool:
    """Whether none follows this epoch: it is the last, or better weights are waited for no more."""
    late = plan.patience is not None and best.epoch > 0 and epoch - best.epoch >= plan.patience
    return epoch >= plan.epochs or late


def capture(
    model: TableModel, epoch: int, best: Best | None = None, part: Part | None = None
) -> bytes:
    """What resuming needs, as safetensors.

    Weights, optimizers, epochs that are over and the part of the next, best and average weights.
    """
    tensors, facts = _state(model, epoch, best or Best(), part or Part())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(tensors, {name: json.dumps(value) for name, value in facts.items()})


def _state(
    model: TableModel, epoch: int, best: Best, part: Part | None = None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The tensors of `capture`, as they are, and the facts beside them."""
    part = part or Part()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for place, optimizer in enumerate(model.optimizers):
        for weight, state in optimizer.state_dict()["state"].items():
            for name, tensor in state.items():
                tensors[f"optimizer.{place}.{weight}.{name}"] = tensor
    tensors |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in best.mean.items()}
    tensors |= {f"sum.{name}": tensor for name, tensor in part.sums.items()}
    facts = {"epoch": epoch, "pace": model.pace, "best": best.score, "best_epoch": best.epoch}
    return tensors, facts | {"steps": part.steps}


def restore(
    model: TableModel,
    state: bytes,
    source: str,
    best: Best | None = None,
    part: Part | None = None,
) -> int:
    """Bring back what `capture` captured, also into `best` and `part`; gives its epoch.

    `source` is what messages call it.
    """
    tensors = load(state)
    header = state[8 : 8 + int.from_bytes(state[:8], "little")]  # the format's own layout
    told = json.loads(header)["__metadata__"]
    facts = {name: json.loads(value) for name, value in told.items()}
    return _bring(model, tensors, facts, source, best, part)


def _bring(
    model: TableModel,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, float],
    source: str,
    best: Best | None,
    part: Part | None = None,
) -> int:
    """Bring back what `_state` gave, of which tensors may be kept as they are; gives its epoch."""
    load_weights(model, _under("model.", tensors), source)
    model.pace = float(facts["pace"])
    device = next(model.parameters()).device
    if part is not None:
        part.steps = int(facts["steps"])
        part.sums = {name: total.to(device) for name, total in _under("sum.", tensors).items()}
    if best is not None:
        best.score, best.epoch = float(facts["best"]), int(facts["best_epoch"])
        best.weights = _under("best.", tensors)
        best.mean = {name: mean.to(device) for name, mean in _under("mean.", tensors).items()}
    for place, optimizer in enumerate(model.optimizers):
        found: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(f"optimizer.{place}.", tensors).items():
            weight, key = name.split(".", 1)
            # Adam keeps its step counter where the kernel wants it; the file has it anywhere.
            found.setdefault(int(weight), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": found, "param_groups": groups})
    return int(facts["epoch"])


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
