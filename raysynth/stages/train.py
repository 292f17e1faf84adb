"""Ray Train: one configuration to one run, with one worker or many.

Everything a training needs to resume lies in `work` inside the run folder (`claim`). The same
command under the same name goes on where the last one stopped; when the run is saved, `work` is
gone.

Longer than other files: the driver's part of a training, and a worker's.
"""

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from raysynth import checkpoint, models, parallel
from raysynth.checkpoint import Checkpoint
from raysynth.clock import CHECKPOINT, COMMUNICATE, COMPUTE, DATA, Clock, shares
from raysynth.config import TrainConfig, parse
from raysynth.errors import RunError, Stopped, StorageError
from raysynth.interrupts import noted
from raysynth.learn import Best, Epoch, Plan, capture, ended, learn, restore
from raysynth.models import TableModel
from raysynth.progress import Show
from raysynth.run import Run, build, drawing_of, finish, save_run
from raysynth.shards import Share
from raysynth.stages import cluster
from raysynth.stages.claim import claimed, staged
from raysynth.stages.data import CODES, encode, examine
from raysynth.stages.meters import DETAILS, Training
from raysynth.stages.staging import Table
from raysynth.stages.watch import watched
from raysynth.storage import Place
from raysynth.table import TableCodec

CHECKPOINTS = "checkpoints"
POLL_S = 0.2
RETRIES = 3

log = logging.getLogger(__name__)


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
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    batch = family.batch_rows(max(1, settings.batch // config.workers), settings)
    epochs = config.epochs or family.epochs(rows, settings)
    plan = Plan(rows, batch, epochs, config.seed, config.patience)
    with show.phase("train", plan.epochs * rows) as phase, cluster.own_errors():
        _fit(config, codecs, plan, codes, work, cpus, phase, show, clock or Clock())
    with show.phase("save", rows) as phase:
        model = build(config, codecs)
        last, best = checkpoint.newest(work / CHECKPOINTS), Best()
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
    plan: Plan,
    codes: Place,
    work: Place,
    cpus: int,
    phase: Any,
    show: Show,
    clock: Clock,
) -> None:
    """Train on Ray, to a checkpoint of the last epoch."""
    # Beside this process: what it is told outlives any worker.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    board = _Board.options(label_selector=here).remote()  # type: ignore[attr-defined]
    home = os.environ.get("RAY_TMPDIR", "")
    scratch = tempfile.TemporaryDirectory(
        prefix="raysynth-",
        dir=home if home and Path(home).is_dir() else None,
        ignore_cleanup_errors=True,
    )
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "codecs": codecs.to_json(),
            "plan": vars(plan),
            "codes": codes.text,
            "work": work.text,
            "threads": cpus,
            "board": board,
        },
        torch_config=ray.train.torch.TorchConfig(timeout_s=300),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpu,
            resources_per_worker=_resources(config, cpus),
            label_selector=cluster.pool("train") or None,
        ),
        run_config=ray.train.RunConfig(
            name=config.name,
            storage_path=scratch.name,  # for what Ray notes of its own: checkpoints are ours
            failure_config=ray.train.FailureConfig(
                max_failures=RETRIES, controller_failure_limit=3
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
        stopped = _follow(over, board, config, plan, phase, show, clock)
    if "error" in outcome:
        raise outcome["error"]
    if stopped is not None:
        raise Stopped(stopped)


def _resources(config: TrainConfig, cpus: int) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": 1} if config.gpu else {})}


def _follow(
    over: threading.Event,
    board: Any,
    config: TrainConfig,
    plan: Plan,
    phase: Any,
    show: Show,
    clock: Clock,
) -> int | None:
    """Show what the board says until training ends; the epoch it was stopped at, if it was.

    An event tells the end: `Thread.join` that Ctrl-C interrupts takes the thread for ended.
    """
    resumed: int | None = None
    heard: list[str] = []
    stopping = False
    starting = ExitStack()
    starting.enter_context(clock.of("workers"))

    def show_news() -> dict[str, Any]:
        nonlocal resumed
        news: dict[str, Any] = ray.get(board.read.remote())
        if resumed is None and news["from"] is not None:
            phase.begin(news["from"] * plan.rows)
            starting.close()
            parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in clock.seconds.items())
            show.say(f"training begins after {sum(clock.seconds.values()):.1f} s: {parts}")
            if news["from"]:
                show.say(f"resuming '{config.name}' from epoch {news['from']} of {plan.epochs}")
            resumed = news["from"]
        if news["epoch"]:
            phase.at(news["epoch"] * plan.rows, _progress(news, plan))
        unheard = news["alarms"][len(heard) :]
        heard.extend(unheard)
        list(map(show.say, unheard))
        return news

    with noted() as asked:
        while not over.wait(POLL_S):
            show_news()
            if asked and not stopping:
                stopping = True
                show.say("stopping after this epoch, with a checkpoint (once more: at once) ...")
                board.stop.remote()
    news = show_news()  # also where training was over before it was ever asked for
    if news["failed"]:
        raise StorageError(news["failed"])
    phase.at(news["epoch"] * plan.rows, f"epoch {news['epoch']}/{plan.epochs}")
    if news["seconds"]:
        show.say(f"time of worker 0: {shares(news['seconds'])}; {_pace(news)}")
    return news["epoch"] if stopping else None


def _pace(news: Mapping[str, Any]) -> str:
    steps, seconds = news["steps"], news["seconds"]
    working = sum(spent for part, spent in seconds.items() if part in (DATA, COMPUTE, COMMUNICATE))
    return f"{steps:,} steps of {1_000 * working / max(1, steps):.1f} ms"


def _progress(news: Mapping[str, Any], plan: Plan) -> str:
    shown = {name: loss for name, loss in news["losses"].items() if name not in DETAILS}
    notes = "  ".join(f"{name} {loss:+.2f}" for name, loss in shown.items())
    return f"epoch {news['epoch']}/{plan.epochs}  {notes}"


@ray.remote(num_cpus=0)
class _Board:
    """Where worker 0 writes how far it is, and the driver that it should stop."""

    def __init__(self) -> None:
        self.news: dict[str, Any] = {
            "from": None,
            "epoch": 0,
            "losses": {},
            "alarms": [],
            "failed": "",
            "seconds": {},
            "steps": 0,
        }
        self.stopping = False

    def post(self, **news: Any) -> bool:
        """Take news; True asks to stop."""
        self.news |= news
        return self.stopping

    def read(self) -> dict[str, Any]:
        """The latest news."""
        return self.news

    def stop(self) -> None:
        """Ask to stop."""
        self.stopping = True


def _worker(settings: dict[str, Any]) -> None:
    """One worker's training, on the rows of its share."""
    torch.set_num_threads(settings["threads"])
    config = TrainConfig(**settings["config"])
    codecs = TableCodec.from_json(settings["codecs"])
    device = ray.train.torch.get_device()
    model = build(config, codecs, device)
    work = Place.of(settings["work"])
    best = Best()
    done, losses = _resume(model, best, work / CHECKPOINTS, device)
    if parallel.rank() == 0:
        ray.get(settings["board"].post.remote(**{"from": done, "epoch": done}))
    share = Share(
        Place.of(settings["codes"]),
        codecs.layout,
        parallel.rank(),
        parallel.workers(),
        config.window_mib * 2**20,
    )
    plan, clock = Plan(**settings["plan"]), Clock()
    windows, draw = share.windows(device), drawing_of(config)
    epochs = learn(model, codecs.layout, draw, windows, plan, done, best, codecs, clock)
    with Training(config.name, parallel.rank(), plan, clock) as meters:
        _work(epochs, settings["board"], _Kept(work, model, best, losses, meters), config, clock)


def _work(
    epochs: Iterator[Epoch], board: Any, kept: "_Kept", config: TrainConfig, clock: Clock
) -> None:
    """Train until it is over or asked to stop, telling the board, with checkpoints."""
    device = ray.train.torch.get_device()
    saved = time.monotonic()
    shown: dict[str, float] = {}
    alarms: list[str] = []
    for epoch in epochs:
        stop = late = False
        if parallel.rank() == 0:
            told = {"epoch": epoch.number, "rows": epoch.rows, **epoch.losses}
            kept.losses.append(json.dumps(told))
            kept.meters.epoch(epoch)
            log.info("epoch", extra={"run": config.name, **told})
            shown |= epoch.losses  # of a probe, the last one's
            alarms += [epoch.alarm] if epoch.alarm and not alarms else []
            news = {"epoch": epoch.number, "losses": shown, "alarms": alarms}
            news |= {"seconds": dict(clock.seconds), "steps": clock.steps}
            stop = ray.get(board.post.remote(**news))
            late = time.monotonic() - saved > config.checkpoint_s or epoch.last
        stop = parallel.agree(stop, device)
        if parallel.agree(late, device) or stop:
            with clock.of(CHECKPOINT):
                stop = not kept.save(epoch.number, board) or stop
            saved = time.monotonic()
        if stop:
            return


def _resume(model: Any, best: Best, folder: Place, device: torch.device) -> tuple[int, list[str]]:
    """Go on from the checkpoint that worker 0 takes: the epoch, and the losses up to it."""
    found = checkpoint.newest(folder) if parallel.rank() == 0 else None
    done = parallel.of_first(found.epoch if found else 0, device)
    if done == 0:
        return 0, []
    found = found or checkpoint.load(folder, done)
    restore(model, found.state, str(folder), best)
    return done, found.losses.splitlines()


@dataclass
class _Kept:
    """What a checkpoint keeps, and where."""

    work: Place
    model: TableModel
    best: Best
    losses: list[str]
    meters: Training

    def save(self, epoch: int, board: Any) -> bool:
        """Keep one, every worker coming here with its statistics; whether that succeeded.

        Where it did not, the board has why, and training is to end: tried again at once, it would
        only fail again, and from the checkpoint before it nothing is lost.
        """
        parallel.average_statistics(self.model)
        failed = False
        if parallel.rank() == 0:
            text = "".join(f"{line}\n" for line in self.losses)
            try:
                state = capture(self.model, epoch, self.best)
                checkpoint.save(self.work / CHECKPOINTS, Checkpoint(epoch, state, text))
                self.meters.kept()
            except StorageError as error:
                ray.get(board.post.remote(failed=f"a checkpoint cannot be kept: {error}"))
                failed = True
        return not parallel.agree(failed, ray.train.torch.get_device())
