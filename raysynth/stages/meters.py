"""What a job tells Ray's metrics, which every node of a cluster gives to Prometheus.

There the names below begin with `ray_`, and counters end in `_total`. Their tags have few values: a
run's name, a stage, a worker's number, the name of a loss; never a row, a cell, a trial.

    raysynth_rows              counter  run, stage         rows a stage is over with
    raysynth_codes_bytes       counter  run, stage         codes a stage wrote
    raysynth_train_rows        counter  run, worker        rows drawn to train on
    raysynth_train_steps       counter  run, worker
    raysynth_train_seconds     counter  run, worker, part  where the time goes (`raysynth.clock`)
    raysynth_train_epoch       gauge    run
    raysynth_train_epochs      gauge    run                how many are planned
    raysynth_train_loss        gauge    run, loss          the mean over an epoch
    raysynth_train_figure      gauge    run, figure        of a probe; fidelity is best at 1
    raysynth_train_gradient    gauge    run, network       length of its gradient
    raysynth_train_kept_time   gauge    run                last checkpoint, seconds since 1970
    raysynth_train_alarm       gauge    run                1 where modes collapsed
    raysynth_tune_trials       gauge    run, state
    raysynth_tune_best         gauge    run, objective

Serve's are in `stages.serve`. A gauge goes with the process that set it.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from ray.util.metrics import Counter, Gauge

from raysynth.clock import Clock
from raysynth.learn import Epoch, Plan
from raysynth.progress import Phase, Show

EVERY_S = 2.0
DETAILS = ("marginals", "pairs", "detection", "coverage", "repeats")  # of a probe; in losses.jsonl
FIGURES = (*DETAILS, "fidelity", "held")


@cache
def _counter(name: str, *tags: str) -> Any:
    return Counter(f"raysynth_{name}", tag_keys=tags)


@cache
def _gauge(name: str, *tags: str) -> Any:
    return Gauge(f"raysynth_{name}", tag_keys=tags)


def coded(run: str, stage: str, size: int) -> None:
    """A task of a stage wrote codes of so many bytes."""
    if size:
        _counter("codes_bytes", "run", "stage").inc(size, {"run": run, "stage": stage})


class Metered:
    """A `Show` that counts the rows of each phase and hands all on."""

    def __init__(self, show: Show, run: str) -> None:
        self._show, self._run = show, run

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator[Phase]:
        """A phase whose rows are counted."""
        with self._show.phase(name, rows, unit) as phase:
            yield _Counting(phase, self._run, name) if unit == "rows" else phase

    def say(self, line: str) -> None:
        """One line for the user."""
        self._show.say(line)


class _Counting:
    """A phase whose rows are counted, but for those that were done before it began."""

    def __init__(self, phase: Phase, run: str, stage: str) -> None:
        self._phase, self._tags, self._done = phase, {"run": run, "stage": stage}, 0

    def begin(self, rows: int) -> None:
        self._done = rows
        self._phase.begin(rows)

    def at(self, rows: int, note: str = "") -> None:
        if rows > self._done:
            _counter("rows", "run", "stage").inc(rows - self._done, self._tags)
            self._done = rows
        self._phase.at(rows, note)


class Training:
    """Tells of one worker's training, while it lasts.

    Seconds, steps and rows are read off its `clock` every `EVERY_S` on a thread of its own, so that
    the loop that trains pays nothing for them, and an epoch may last for hours.
    """

    def __init__(self, run: str, worker: int, plan: Plan, clock: Clock) -> None:
        self._run, self._plan, self._clock = {"run": run}, plan, clock
        self._tags = self._run | {"worker": str(worker)}
        self._told: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell_on, name="meters", daemon=True)

    def __enter__(self) -> "Training":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        _gauge("train_epoch", "run").set(epoch.number, self._run)
        _gauge("train_epochs", "run").set(self._plan.epochs, self._run)
        _gauge("train_alarm", "run").set(float(bool(epoch.alarm)), self._run)
        for name, value in epoch.losses.items():
            kind = "figure" if name in FIGURES else "loss"
            _gauge(f"train_{kind}", "run", kind).set(value, self._run | {kind: name})
        for name, value in epoch.norms.items():
            _gauge("train_gradient", "run", "network").set(value, self._run | {"network": name})

    def kept(self) -> None:
        """A checkpoint was kept just now."""
        _gauge("train_kept_time", "run").set(time.time(), self._run)

    def _tell_on(self) -> None:
        while not self._over.wait(EVERY_S):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        for part, seconds in list(self._clock.seconds.items()):
            self._add("train_seconds", seconds, part=part)
        self._add("train_steps", self._clock.steps)
        self._add("train_rows", self._clock.steps * self._plan.batch)

    def _add(self, name: str, total: float, **tags: str) -> None:
        """Bring a counter to `total`."""
        key = f"{name} {tags.get('part', '')}"
        if (more := total - self._told.get(key, 0.0)) > 0:
            _counter(name, "run", "worker", *tags).inc(more, self._tags | tags)
            self._told[key] = total


def trials(run: str, states: Mapping[str, int], best: Mapping[str, float]) -> None:
    """How many trials of a search are in each state, and the best of each objective."""
    for state, count in states.items():
        _gauge("tune_trials", "run", "state").set(count, {"run": run, "state": state})
    for name, value in best.items():
        _gauge("tune_best", "run", "objective").set(value, {"run": run, "objective": name})
