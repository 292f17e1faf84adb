"""Ray Train: one configuration to one run, with one worker or many.

Everything a training needs to resume lies in `work` inside the run folder: the settings it began
with, codecs, codes, and Ray Train's checkpoints. The same command under the same name goes on where
the last one stopped; when the run is saved, `work` is gone.
"""

import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train.v2.api.exceptions import TrainingFailedError

from raysynth import models, parallel
from raysynth.config import TrainConfig, parse
from raysynth.errors import RaysynthError, RunError
from raysynth.learn import Plan, capture, learn, restore
from raysynth.progress import Show, Silent
from raysynth.run import MANIFEST, WORK, Run, build, save_run
from raysynth.shards import Share
from raysynth.stages import cluster
from raysynth.stages.data import CODES, Table, encode, stage
from raysynth.storage import fragments, write_bytes
from raysynth.table import TableCodec

SETTINGS, STATE, LOSSES = "settings.json", "state.safetensors", "losses.jsonl"
POLL_S = 0.2
RETRIES = 3


class Stopped(KeyboardInterrupt):
    """The user stopped a training, which left a checkpoint of `epoch` to resume from."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"stopped after epoch {epoch}; repeat the command to resume")
        self.epoch = epoch


def train(config: TrainConfig, table: Table | None = None, show: Show | None = None) -> Run:
    """Train `config` to a run, resuming what an interrupted call left under the same name.

    `table` stands in for the path in the settings. Raises `TableError`, `ConfigError`, `RunError`
    (the folder holds a run, or an unfinished one with other settings), `StorageError`.
    """
    show = show or Silent()
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    work = _claim(config)
    source = table if table is not None else config.table
    if isinstance(source, str | Path) and Path(source).suffix.lower() != ".csv":
        fragments(source)  # a wrong path is told before a cluster is started
    own = cluster.connect(config.workers)
    codecs, rows = encode(config, _staged(source, work), work, show)
    batch = family.batch_rows(max(1, settings.batch // config.workers), settings)
    plan = Plan(rows, batch, config.epochs, config.seed)
    with show.phase("train", config.epochs * rows) as phase:
        checkpoint = _fit(config, codecs, plan, work, own, phase, show)
    with show.phase("save", rows) as phase:
        model = build(config, codecs)
        restore(model, str(checkpoint / STATE))
        run = save_run(config, codecs, model, (checkpoint / LOSSES).read_text(), rows)
        phase.at(rows, str(run.path))
    return run


def _claim(config: TrainConfig) -> Path:
    """The work folder, made for this configuration or left by an interrupted training of it."""
    path = config.path.absolute()
    if (path / MANIFEST).exists():
        raise RunError(
            f"{config.path}: already holds a run; choose another --name, or delete the folder to "
            "train anew"
        )
    work, mine = path / WORK, config.meaning
    if (work / SETTINGS).is_file():
        theirs = json.loads((work / SETTINGS).read_text())
        apart = sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key))
        if apart:
            raise RunError(
                f"{config.path}: holds an unfinished training with other settings "
                f"({', '.join(apart)}); repeat its own settings to resume it, choose another "
                "--name, or delete the folder"
            )
    elif path.exists() and any(path.iterdir()):
        raise RunError(f"{config.path}: is not empty and holds no run; choose another --name")
    write_bytes(work / SETTINGS, json.dumps(mine).encode())
    os.chmod(work, 0o700)  # encoded rows are as private as the table
    return work


def _staged(source: Table, work: Path) -> Path:
    """`stage`, once: a resumed training reads the copy its first attempt made."""
    note = work / "source.json"
    if note.is_file():
        return Path(json.loads(note.read_text()))
    path = stage(source, work)
    write_bytes(note, json.dumps(str(path.absolute())).encode())
    return path


def _fit(
    config: TrainConfig, codecs: TableCodec, plan: Plan, work: Path, own: bool, phase: Any, show: Show
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
            num_workers=config.workers, use_gpu=config.gpu, resources_per_worker=_resources(config, cpus)
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(work),
            failure_config=ray.train.FailureConfig(max_failures=RETRIES, controller_failure_limit=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            logging_config=ray.train.LoggingConfig("ERROR"),
        ),
    )
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:  # noqa: BLE001 (raised again on the user's thread)
            outcome["error"] = error

    # On a thread of its own, so that this one can show progress and hear Ctrl-C.
    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    stopped = _follow(thread, board, config, plan, phase, show)
    if "error" in outcome:
        raise _cause(outcome["error"]) from None
    if stopped is not None:
        raise Stopped(stopped)
    return Path(outcome["result"].checkpoint.path)


def _resources(config: TrainConfig, cpus: int) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": 1} if config.gpu else {})}


def _follow(
    thread: threading.Thread, board: Any, config: TrainConfig, plan: Plan, phase: Any, show: Show
) -> int | None:
    """Show what the board says until training ends; the epoch it was stopped at, if it was."""
    resumed: int | None = None
    news: dict[str, Any] = {"epoch": 0}
    while thread.is_alive():
        try:
            thread.join(POLL_S)
            news = ray.get(board.read.remote())
            if resumed is None and news["from"] is not None:
                resumed = news["from"]
                if resumed:
                    show.say(f"resuming '{config.name}' from epoch {resumed} of {config.epochs}")
            if news["epoch"]:
                notes = "  ".join(f"{name} {loss:+.2f}" for name, loss in news["losses"].items())
                phase.at(news["epoch"] * plan.rows, f"epoch {news['epoch']}/{config.epochs}  {notes}")
        except KeyboardInterrupt:
            if news.get("stopping"):
                raise
            news["stopping"] = True
            show.say("stopping after this epoch, with a checkpoint to resume from ...")
            stopped = ray.get(board.stop.remote())
            thread.join(60)
            return int(ray.get(board.read.remote())["epoch"] or stopped)
    if not thread.is_alive():
        news = ray.get(board.read.remote())
        phase.at(news["epoch"] * plan.rows, f"epoch {news['epoch']}/{config.epochs}")
    return None


def _cause(error: BaseException) -> BaseException:
    """What went wrong in a worker, where that is ours to say; else Ray's own error."""
    if isinstance(error, TrainingFailedError):
        for failure in getattr(error, "worker_failures", {}).values():
            inner = getattr(failure, "cause", failure)
            if isinstance(inner, RaysynthError | ArithmeticError):
                return inner
    return error


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

    def stop(self) -> int:
        """Ask to stop; gives the last finished epoch."""
        self.stopping = True
        return int(self.news["epoch"])


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
            _checkpoint(model, epoch.number, losses)
            saved = time.monotonic()
        if stop:
            return


def _resume(model: Any) -> tuple[int, list[str]]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        done = restore(model, os.path.join(folder, STATE))
        return done, Path(folder, LOSSES).read_text().splitlines()


def _checkpoint(model: Any, epoch: int, losses: list[str]) -> None:
    """A barrier: every worker comes here, worker 0 with the state of all."""
    parallel.average_statistics(model)
    if parallel.rank() != 0:
        ray.train.report({"epoch": epoch})
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE).write_bytes(capture(model, epoch))
        Path(folder, LOSSES).write_text("".join(f"{line}\n" for line in losses))
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"epoch": epoch}, checkpoint=checkpoint)
