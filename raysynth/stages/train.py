"""Ray Train: one configuration to one run, with one worker or many.

Everything a training needs to resume lies in `work` inside the run folder (`claim`). The same
command under the same name goes on where the last one stopped; when the run is saved, `work` is
gone.
"""

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from raysynth import models, parallel
from raysynth.config import TrainConfig, parse
from raysynth.errors import Stopped, StorageError
from raysynth.learn import Plan, capture, learn, restore
from raysynth.progress import Show, Silent
from raysynth.run import Run, build, save_run
from raysynth.shards import Share
from raysynth.stages import cluster
from raysynth.stages.claim import claimed, staged
from raysynth.stages.data import CODES, encode, examine
from raysynth.stages.staging import Table
from raysynth.storage import reason
from raysynth.table import TableCodec

STATE, LOSSES = "state.safetensors", "losses.jsonl"
POLL_S = 0.2
RETRIES = 3


def train(config: TrainConfig, table: Table | None = None, show: Show | None = None) -> Run:
    """Train `config` to a run, resuming what an interrupted call left under the same name.

    `table` stands in for the path in the settings. Raises `TableError`, `ConfigError`, `RunError`
    (the folder holds a run, or an unfinished one with other settings), `StorageError`.
    """
    show = show or Silent()
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    with claimed(config) as work:
        source = staged(config, config.table if table is None else table, work)
        examine(config, source)  # what files tell without being read is told before Ray starts
        own = cluster.connect(config.workers)
        with cluster.own_errors():
            codecs, rows = encode(config, source, work, show)
        batch = family.batch_rows(max(1, settings.batch // config.workers), settings)
        plan = Plan(rows, batch, config.epochs, config.seed)
        with show.phase("train", config.epochs * rows) as phase, cluster.own_errors():
            checkpoint = _fit(config, codecs, plan, work, own, phase, show)
        with show.phase("save", rows) as phase:
            model = build(config, codecs)
            restore(model, str(checkpoint / STATE))
            run = save_run(config, codecs, model, (checkpoint / LOSSES).read_text(), rows)
            phase.at(rows, str(run.path))
    return run


def _fit(
    config: TrainConfig,
    codecs: TableCodec,
    plan: Plan,
    work: Path,
    own: bool,
    phase: Any,
    show: Show,
) -> Path:
    """Train on Ray; gives the folder of the last checkpoint."""
    cpus = cluster.cpus_per_worker(config.cpus, config.workers, own)
    board = _Board.remote()  # type: ignore[attr-defined]
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "codecs": codecs.to_json(),
            "plan": vars(plan),
            "codes": str(work / CODES),
            "threads": cpus,
            "board": board,
        },
        torch_config=ray.train.torch.TorchConfig(timeout_s=300),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpu,
            resources_per_worker=_resources(config, cpus),
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(work),
            failure_config=ray.train.FailureConfig(
                max_failures=RETRIES, controller_failure_limit=3
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            logging_config=ray.train.LoggingConfig("ERROR"),
        ),
    )
    outcome: dict[str, Any] = {}
    over = threading.Event()

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:  # noqa: BLE001 (raised again on the user's thread)
            outcome["error"] = error
        over.set()

    # On a thread of its own, so that this one can show progress and hear Ctrl-C.
    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    stopped = _follow(over, board, config, plan, phase, show)
    if "error" in outcome:
        raise outcome["error"]
    if stopped is not None:
        raise Stopped(stopped)
    return Path(outcome["result"].checkpoint.path)


def _resources(config: TrainConfig, cpus: int) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": 1} if config.gpu else {})}


def _follow(
    over: threading.Event, board: Any, config: TrainConfig, plan: Plan, phase: Any, show: Show
) -> int | None:
    """Show what the board says until training ends; the epoch it was stopped at, if it was.

    An event tells the end: `Thread.join` that Ctrl-C interrupts takes the thread for ended.
    """
    resumed: int | None = None
    stopping = False
    while True:
        try:
            if over.wait(POLL_S):
                break
            news = ray.get(board.read.remote())
            if resumed is None and news["from"] is not None:
                resumed = news["from"]
                phase.begin(resumed * plan.rows)
                if resumed:
                    show.say(f"resuming '{config.name}' from epoch {resumed} of {config.epochs}")
            if news["epoch"]:
                notes = "  ".join(f"{name} {loss:+.2f}" for name, loss in news["losses"].items())
                phase.at(
                    news["epoch"] * plan.rows, f"epoch {news['epoch']}/{config.epochs}  {notes}"
                )
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            show.say("stopping after this epoch, with a checkpoint (once more: at once) ...")
            board.stop.remote()
    news = ray.get(board.read.remote())
    phase.at(news["epoch"] * plan.rows, f"epoch {news['epoch']}/{config.epochs}")
    return news["epoch"] if stopping else None


@ray.remote(num_cpus=0)
class _Board:
    """Where worker 0 writes how far it is, and the driver that it should stop."""

    def __init__(self) -> None:
        self.news: dict[str, Any] = {"from": None, "epoch": 0, "losses": {}}
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
    done, losses = _resume(model)
    if parallel.rank() == 0:
        ray.get(settings["board"].post.remote(**{"from": done, "epoch": done}))
    share = Share(
        Path(settings["codes"]),
        codecs.layout,
        parallel.rank(),
        parallel.workers(),
        config.window_mib * 2**20,
    )
    saved = time.monotonic()
    draw = models.get(config.family).DRAW
    plan = Plan(**settings["plan"])
    for epoch in learn(model, codecs.layout, draw, share.windows(device), plan, done):
        stop = late = False
        if parallel.rank() == 0:
            losses.append(json.dumps({"epoch": epoch.number, "rows": epoch.rows, **epoch.losses}))
            news = {"epoch": epoch.number, "losses": epoch.losses}
            stop = ray.get(settings["board"].post.remote(**news))
            late = time.monotonic() - saved > config.checkpoint_s or epoch.number == plan.epochs
        stop = parallel.agree(stop, device)
        if parallel.agree(late, device) or stop:
            _checkpoint(config, model, epoch.number, losses)
            saved = time.monotonic()
        if stop:
            return


def _resume(model: Any) -> tuple[int, list[str]]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        done = restore(model, str(Path(folder, STATE)))
        return done, Path(folder, LOSSES).read_text().splitlines()


def _checkpoint(config: TrainConfig, model: Any, epoch: int, losses: list[str]) -> None:
    """A barrier: every worker comes here, worker 0 with the state of all.

    Raises `StorageError` where the checkpoint cannot be written.
    """
    parallel.average_statistics(model)
    if parallel.rank() != 0:
        ray.train.report({"epoch": epoch})
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, STATE).write_bytes(capture(model, epoch))
            Path(folder, LOSSES).write_text("".join(f"{line}\n" for line in losses))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"epoch": epoch}, checkpoint=checkpoint)
    except OSError as error:
        raise StorageError(
            f"{config.path}: a checkpoint cannot be written: {reason(error)}"
        ) from None
