"""Ray Train: one configuration to one run, with one worker or many.

Everything a training needs to resume lies in `work` inside the run folder (`claim`). The same
command under the same name goes on where the last one stopped; when the run is saved, `work` is
gone.

**Lost workers.** All begin anew from the last checkpoint, on the nodes there are: as many as
before, or, with `min_workers`, as many as have room (`room`), and more join when there is. Three
times, then what made them end is raised, unless training came further meanwhile: it ends only where
it stays. What was done since the checkpoint, and the wait, is told.

Longer than other files: all that the driver of a training does.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from raysynth import checkpoint, models
from raysynth.checkpoint import Checkpoint
from raysynth.clock import COMMUNICATE, COMPUTE, DATA, Clock, shares
from raysynth.config import TrainConfig, parse
from raysynth.errors import RaysynthError, RunError, Stopped, StorageError
from raysynth.interrupts import noted
from raysynth.learn import Best, Plan, ended, restore
from raysynth.progress import Phase, Show
from raysynth.run import Run, build, finish, plan_of, save_run
from raysynth.stages import cluster, room, worker
from raysynth.stages.board import Board
from raysynth.stages.claim import claimed, staged
from raysynth.stages.data import CODES, encode, examine
from raysynth.stages.meters import DETAILS
from raysynth.stages.staging import Table
from raysynth.stages.watch import watched
from raysynth.storage import Place
from raysynth.table import TableCodec

POLL_S = 0.2
RETRIES = 3
START_S = 20.0  # in which workers find the room there is
GROW_S = 20.0  # that workers train for, at least, before more join
WAIT_S = 60.0  # after which the user is told what training waits for


def train(config: TrainConfig, table: Table | None = None, show: Show | None = None) -> Run:
    """Train `config` to a run, resuming what an interrupted call left under the same name.

    `table` stands in for the path in the settings. Raises `TableError`, `ConfigError`, `RunError`
    (the folder holds a run, or an unfinished one with other settings), `StorageError`.
    """
    clock, show = Clock(), watched(show, config.name)
    parse(models.get(config.family).Config, config.model)  # what is wrong there is told at once
    with claimed(config) as work:
        if run := finish(config.place):
            return run  # its training was over, and stopped in the moment before it was published
        source = staged(config, config.table if table is None else table, work)
        # What files tell without being read is told before Ray starts.
        examined = examine(config, source)
        with clock.of("Ray"):
            own = cluster.connect(config.workers)
        with clock.of("rows"), cluster.own_errors():
            codecs, rows = encode(config, source, work, show, examined)
        cpus = cluster.cpus_per_worker(config.cpus, config.workers, own)
        return learned(config, codecs, rows, work / CODES, work, cpus, show, clock)


def learned(
    config: TrainConfig,
    codecs: TableCodec,
    rows: int,
    codes: Place,
    work: Place,
    cpus: int,
    show: Show,
    clock: Clock | None = None,
) -> Run:
    """Train on the codes of `rows` rows at `codes`, with checkpoints in `work`, and save the run.

    Each worker has `cpus` cores. `clock` has what was spent before, to be told when the workers
    have started. Raises `RunError`, `StorageError`.
    """
    plan = plan_of(config, rows, config.workers)
    with show.phase("train", plan.epochs * rows) as phase, cluster.own_errors():
        follower = _Follower(config, plan, phase, show, clock or Clock())
        _fit(config, codecs, rows, codes, work, cpus, follower)
    with show.phase("save", rows) as phase:
        model = build(config, codecs)
        last, best = checkpoint.newest(work / worker.CHECKPOINTS), Best()
        if last is not None:
            restore(model, last.state, str(work), best)
        if last is None or not ended(plan, best, last.epoch):
            raise RunError(f"{work}: the last checkpoint is torn or altered; repeat the command")
        best.put(model)
        show.say(_kept(best, last))
        run = save_run(config, codecs, model, last.losses, rows, best.epoch or last.epoch)
        phase.at(rows, str(run.place))
    return run


def _kept(best: Best, last: Checkpoint) -> str:
    """Which weights the run has, and what their figure means."""
    if not best.epoch:
        return f"weights: those of epoch {last.epoch}, the last; no rows were held out to choose by"
    told = json.loads(last.losses.splitlines()[best.epoch - 1])
    why = (
        f"{told['held']:.2f} bits a row held out, the fewest"
        if "held" in told
        else f"fidelity {told['fidelity']:.3f} to rows held out, the highest"
    )
    meaning = "" if "held" in told else " (1: a quick look tells none from a real one)"
    return f"weights: those of epoch {best.epoch} of {last.epoch}, {why}{meaning}"


def _fit(
    config: TrainConfig,
    codecs: TableCodec,
    rows: int,
    codes: Place,
    work: Place,
    cpus: int,
    follower: "_Follower",
) -> None:
    """Train on Ray, to a checkpoint of the last epoch."""
    # Beside this process: what it is told outlives any worker.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    board = Board.options(label_selector=here).remote()  # type: ignore[attr-defined]
    told = {
        "config": config.model_dump(mode="json"),
        "codecs": codecs.to_json(),
        "rows": rows,
        "codes": codes.text,
        "work": work.text,
        "threads": cpus,
        "board": board,
    }
    need, labels = _resources(config, cpus), cluster.pool("train")
    fewest, failed = config.min_workers or config.workers, 0
    while not follower.over:
        workers, before = config.workers, _reached(work)
        if fewest < config.workers:
            workers = room.awaited(fewest, config.workers, need, labels, follower.waiting)
        try:
            with room.Places(config.workers - workers, need, labels) as more, _waits(config):
                _attempt(config, told, need, labels, workers, more, follower)
        except Stopped:
            raise
        except Exception as error:
            if isinstance(cluster.own(error), RaysynthError):
                raise
            failed = failed + 1 if _reached(work) == before else 0
            if failed > _retries(config):
                raise


def _retries(config: TrainConfig) -> int:
    """How often training may fail to come further than it was, beyond what Ray tries by itself."""
    return RETRIES if config.min_workers is not None else 0


@contextmanager
def _waits(config: TrainConfig) -> Iterator[None]:
    """How long Ray Train waits, which it reads in the environment of who starts it.

    For a worker that the machine has stopped, by itself ten minutes. For room that there was just
    now, if fewer workers will do, not as long as for an autoscaler.
    """
    waits = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(config.stall_s)}
    if config.min_workers is not None:
        waits["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(START_S)
    before = {name: os.environ.get(name) for name in waits}
    os.environ |= waits
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def _reached(work: Place) -> checkpoint.Reached | None:
    last = checkpoint.newest(work / worker.CHECKPOINTS)
    return last.place if last else None


def _attempt(
    config: TrainConfig,
    told: dict[str, Any],
    need: dict[str, float],
    labels: dict[str, str],
    workers: int,
    more: room.Places,
    follower: "_Follower",
) -> None:
    """Have Ray Train train with so many workers, until it is over or `more` could join.

    Where their number may change, it is not for Ray to begin anew.
    """
    home, fixed = os.environ.get("RAY_TMPDIR", ""), config.min_workers is None
    scratch = tempfile.TemporaryDirectory(
        prefix="raysynth-",
        dir=home if home and Path(home).is_dir() else None,
        ignore_cleanup_errors=True,
    )
    trainer = ray.train.torch.TorchTrainer(
        worker.work,
        train_loop_config=told,
        torch_config=ray.train.torch.TorchConfig(timeout_s=config.stall_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=config.gpu,
            resources_per_worker=need,
            label_selector=labels or None,
        ),
        run_config=ray.train.RunConfig(
            name=config.name,
            storage_path=scratch.name,  # for what Ray notes of its own: checkpoints are ours
            failure_config=ray.train.FailureConfig(
                max_failures=RETRIES if fixed else 0, controller_failure_limit=RETRIES
            ),
            logging_config=ray.train.LoggingConfig("ERROR"),
        ),
    )
    outcome: dict[str, Any] = {}
    over = threading.Event()

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 (raised again on the user's thread)
            outcome["error"] = error
        over.set()

    # On a thread of its own, so that this one can show progress and hear Ctrl-C.
    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    with scratch:
        stopped = follower.follow(over, told["board"], more)
    if stopped is not None:
        raise Stopped(stopped)  # also where a worker was lost meanwhile
    if "error" in outcome:
        raise outcome["error"]


def _resources(config: TrainConfig, cpus: int) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": 1} if config.gpu else {})}


@dataclass
class _Follower:
    """Shows what the board says, and tells it when to stop."""

    config: TrainConfig
    plan: Plan
    phase: Phase
    show: Show
    clock: Clock
    over: bool = False
    _attempts: int = 0
    _heard: list[str] = field(default_factory=list)
    _lost_s: float = 0.0
    _told: bool = False

    def follow(self, over: threading.Event, board: Any, more: room.Places) -> int | None:
        """Until workers have ended; the epoch training was stopped at, if the user did.

        Where `more` workers could join, training is stopped at its next place, for another attempt
        to go on from. An event tells the end: `Thread.join` that Ctrl-C interrupts takes the thread
        for ended.
        """
        stopping = growing = False
        called, begun = time.monotonic(), 0.0
        ray.get(board.go_on.remote())
        with ExitStack() as starting, noted() as asked:
            starting.enter_context(self.clock.of("workers"))
            while not over.wait(POLL_S):
                news = ray.get(board.read.remote())
                if len(news["attempts"]) > self._attempts:
                    starting.close()
                    begun = time.monotonic()
                    more.ask()  # not before, or it would take the room of those that begin
                elif not begun:
                    self.waiting(time.monotonic() - called)
                self._tell(news)
                if asked and not stopping:
                    stopping = True
                    self.show.say(
                        "stopping after this epoch, with a checkpoint (once more: at once) ..."
                    )
                    board.stop.remote()
                old = begun and time.monotonic() - begun > GROW_S
                if old and not growing and more.ready:
                    growing = True
                    self.show.say("there is room for more workers: going on with them ...")
                    board.stop.remote()
        news = ray.get(board.read.remote())
        self._tell(news)  # also where training was over before it was ever asked for
        if news["failed"]:
            raise StorageError(news["failed"])
        self.over = news["over"]
        if self.over or stopping:
            self._tell_end(news)
        return news["epoch"] if stopping else None

    def _tell_end(self, news: Mapping[str, Any]) -> None:
        self.phase.at(self._rows(news), f"epoch {news['epoch']}/{self.plan.epochs}")
        if news["seconds"]:
            self.show.say(f"time of worker 0: {shares(news['seconds'])}; {_pace(news)}")
        if self._lost_s:
            times = self._attempts - 1
            self.show.say(
                f"begun anew {times} time{'s' if times > 1 else ''}: {self._lost_s:.1f} s of work "
                "done again and of waiting"
            )

    def waiting(self, seconds: float) -> None:
        """No worker has begun for so long."""
        if seconds < WAIT_S or self._told:
            return
        self._told = True
        pool = ", ".join(f"{key}={value}" for key, value in cluster.pool("train").items())
        where = f"nodes labelled {pool}" if pool else "nodes"
        self.show.say(
            f"waiting for {where} with room for workers ({self.config.min_workers or 'all'} of "
            f"{self.config.workers}): see the cluster's dashboard, or ask for fewer"
        )

    def _tell(self, news: Mapping[str, Any]) -> None:
        """Show what is new."""
        for attempt in news["attempts"][self._attempts :]:
            self._begun(attempt)
        if news["epoch"] or news["share"]:
            self.phase.at(self._rows(news), _progress(news, self.plan))
        unheard = news["alarms"][len(self._heard) :]
        self._heard.extend(unheard)
        list(map(self.show.say, unheard))

    def _begun(self, attempt: Mapping[str, Any]) -> None:
        """Workers have begun."""
        epoch, share = attempt["reached"][0], attempt["share"]
        where = f"epoch {epoch} of {self.plan.epochs}"
        where += f" and {share:.0%} of the next" if share else ""
        if self._attempts == 0:
            self.phase.begin(int((epoch + share) * self.plan.rows))
            spent = self.clock.seconds
            parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in spent.items())
            self.show.say(f"training begins after {sum(spent.values()):.1f} s: {parts}")
            if epoch or share:
                self.show.say(f"resuming '{self.config.name}' from {where}")
        else:
            self._lost_s += attempt["lost_s"]
            self.show.say(
                f"workers were lost or joined: {attempt['workers']} go on from {where}, "
                f"{attempt['lost_s']:.1f} s after it was reached"
            )
        self._attempts += 1

    def _rows(self, news: Mapping[str, Any]) -> int:
        return int((news["epoch"] + news["share"]) * self.plan.rows)


def _pace(news: Mapping[str, Any]) -> str:
    steps, seconds = news["steps"], news["seconds"]
    working = sum(spent for part, spent in seconds.items() if part in (DATA, COMPUTE, COMMUNICATE))
    return f"{steps:,} steps of {1_000 * working / max(1, steps):.1f} ms"


def _progress(news: Mapping[str, Any], plan: Plan) -> str:
    shown = {name: loss for name, loss in news["losses"].items() if name not in DETAILS}
    notes = "  ".join(f"{name} {loss:+.2f}" for name, loss in shown.items())
    return f"epoch {news['epoch']}/{plan.epochs}  {notes}"
