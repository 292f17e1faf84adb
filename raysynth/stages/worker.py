"""A training's worker on Ray Train: it trains on its share of the codes, and tells the board.

Workers come together after every epoch, and inside long ones after every stretch (`learn`): there
they agree whether to stop, and whether a checkpoint is due, by time or because a node of theirs is
about to be taken away. The first worker writes it while all go on.

A worker in which nothing happens for `stall_s` seconds ends itself, with a trace of where it was: a
hung one would else keep all others waiting. One that the machine has stopped cannot; the others'
exchange with it fails after as long, or Ray finds that it does not answer.
"""

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from raysynth import checkpoint, parallel
from raysynth.checkpoint import Checkpoint, Reached, Writer
from raysynth.clock import CHECKPOINT, Clock
from raysynth.config import TrainConfig
from raysynth.errors import StorageError
from raysynth.learn import Best, Epoch, Part, Plan, capture, ended, learn, restore
from raysynth.models import TableModel
from raysynth.run import build, drawing_of, plan_of
from raysynth.shards import Share
from raysynth.stages.meters import Training
from raysynth.storage import Place
from raysynth.table import TableCodec

CHECKPOINTS = "checkpoints"
NOTICE_S = 5.0  # between two looks for nodes that are about to go
STALLED = 70  # exit code of a worker in which nothing happened

log = logging.getLogger(__name__)


def work(settings: dict[str, Any]) -> None:
    """One worker's training, from the last checkpoint on, by the settings of `train.learned`."""
    torch.set_num_threads(settings["threads"])
    config = TrainConfig(**settings["config"])
    codecs = TableCodec.from_json(settings["codecs"])
    device = ray.train.torch.get_device()
    plan, clock = plan_of(config, settings["rows"], parallel.workers()), Clock()
    folder = Place.of(settings["work"]) / CHECKPOINTS
    model, best, part = build(config, codecs, device), Best(), Part()
    done, losses = _resume(model, best, part, folder, device)
    board = settings["board"]
    if parallel.rank() == 0:
        share = part.steps / plan.steps
        ray.get(board.begin.remote((done, part.steps), share, parallel.workers()))
    window = config.window_mib * 2**20
    where = Place.of(settings["codes"])
    mine = Share(where, codecs.layout, parallel.rank(), parallel.workers(), window)
    with (
        Training(config.name, parallel.rank(), plan, clock) as meters,
        _watched(clock, config.stall_s),
    ):
        desk = _Desk(config, plan, model, best, losses, board, folder, meters, clock, device)
        desk.over = ended(plan, best, done)
        epochs = learn(
            model,
            codecs.layout,
            drawing_of(config),
            mine.windows(device),
            plan,
            done,
            best,
            codecs,
            clock,
            part,
            desk.pause,
        )
        for epoch in epochs:
            if desk.epoch(epoch):
                break
        if parallel.rank() == 0 and desk.over:
            ray.get(board.post.remote(over=True))


def _resume(
    model: TableModel, best: Best, part: Part, folder: Place, device: torch.device
) -> tuple[int, list[str]]:
    """Go on from the checkpoint that worker 0 takes: epochs that are over, and their losses."""
    found = checkpoint.newest(folder) if parallel.rank() == 0 else None
    mine = found.place if found else (0, 0)
    reached: Reached = (parallel.of_first(mine[0], device), parallel.of_first(mine[1], device))
    if reached == (0, 0):
        return 0, []
    found = found or checkpoint.load(folder, reached)
    restore(model, found.state, str(folder), best, part)
    return found.epoch, found.losses.splitlines()


@contextmanager
def _watched(clock: Clock, stall_s: float) -> Iterator[None]:
    """End this process where nothing happens for so long, meanwhile."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(min(1.0, stall_s / 4)):
            if clock.idle_s > stall_s:
                log.error("nothing happened for %.0f s: this worker ends, for a new one", stall_s)
                faulthandler.dump_traceback(sys.stderr, all_threads=True)
                os._exit(STALLED)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        over.set()


@dataclass
class _Desk:
    """What a worker does between the steps: it tells, keeps, and learns whether to stop."""

    config: TrainConfig
    plan: Plan
    model: TableModel
    best: Best
    losses: list[str]
    board: Any
    folder: Place
    meters: Training
    clock: Clock
    device: torch.device
    _shown: dict[str, float] = field(default_factory=dict)
    _alarms: list[str] = field(default_factory=list)
    _leaving: set[str] = field(default_factory=set)
    over: bool = False

    def __post_init__(self) -> None:
        self._kept = self._asked = self._captured = time.monotonic()
        self._writer = Writer(self.folder, self._told)

    def epoch(self, epoch: Epoch) -> bool:
        """An epoch is over; whether to stop."""
        news: dict[str, Any] = {}
        if parallel.rank() == 0:
            told = {"epoch": epoch.number, "rows": epoch.rows, **epoch.losses}
            self.losses.append(json.dumps(told))
            self.meters.epoch(epoch)
            log.info("epoch", extra={"run": self.config.name, **told})
            self._shown |= epoch.losses  # of a probe, the last one's
            self._alarms += [epoch.alarm] if epoch.alarm and not self._alarms else []
            news = {"epoch": epoch.number, "share": 0.0, "losses": self._shown}
            news |= {"alarms": self._alarms}
        self.over = epoch.last
        return self._meet(epoch.number, Part(), news, epoch.last)

    def pause(self, done: int, part: Part) -> bool:
        """A stretch is over after `done` epochs and a part of the next; whether to stop."""
        return self._meet(done, part, {"share": part.steps / self.plan.steps}, last=False)

    def _meet(self, done: int, part: Part, news: dict[str, Any], last: bool) -> bool:
        """All workers come here together; whether they are to stop."""
        stop = late = ask = False
        now = time.monotonic()
        if parallel.rank() == 0:
            news |= {"seconds": dict(self.clock.seconds), "steps": self.clock.steps}
            stop = ray.get(self.board.post.remote(**news))
            late = now - self._kept > self.config.checkpoint_s
            ask = now - self._asked > NOTICE_S
        stop, late, ask = parallel.agreed((stop, late, ask), self.device)
        leaving = ask and self._notice()
        if not (stop or late or leaving or last):
            return False
        with self.clock.of(CHECKPOINT):
            return not self._keep(done, part, wait=stop or leaving or last) or stop

    def _notice(self) -> bool:
        """Whether a node of a worker is about to be taken away that was not when last asked."""
        self._asked = time.monotonic()
        info = ray.train.get_preemption_info()
        news = set(info.preempted_node_ids) - self._leaving if info else set()
        self._leaving |= news
        return bool(news)

    def _keep(self, done: int, part: Part, wait: bool) -> bool:
        """Keep a checkpoint, every worker coming here; whether it could be.

        One that is still being written is waited for, so that no more than two intervals of work
        can be lost. Where it could not be kept, the board has why, and training is to end: tried
        again at once, it would only fail again, and from the last one that is whole nothing is
        lost.
        """
        failed = False
        self._kept = time.monotonic()
        if parallel.rank() == 0:
            text = "".join(f"{line}\n" for line in self.losses)
            try:
                self._writer.finish()
                self._captured = time.monotonic()
                state = capture(self.model, done, self.best, part)
                self._writer.put(Checkpoint(done, state, text, part.steps))
                if wait:
                    self._writer.finish()
            except StorageError as error:
                ray.get(self.board.post.remote(failed=f"a checkpoint cannot be kept: {error}"))
                failed = True
        return not parallel.agree(failed, self.device)

    def _told(self) -> None:
        """A checkpoint is whole: on the thread that wrote it."""
        self.meters.kept()
        ray.get(self.board.kept.remote(time.monotonic() - self._captured))
