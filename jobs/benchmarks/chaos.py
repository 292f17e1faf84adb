"""Trainings on a cluster of several nodes where something is lost all the time.

The nodes are those of the tests, each started by the commands in cluster.yaml in a process
namespace of its own (`tests/ray/nodes.py`), so this needs Linux and the extra `test`.

**Encoding.** Once undisturbed, once while the processes of Ray Data's tasks are killed: the codes
are the same bytes, so every row was encoded exactly once.

**Training.** Every so many seconds something happens, drawn at random: a worker is killed, or
stopped as if hung; a node is killed, or told that it will be and then killed, and another started;
the driver is killed. Where the job has ended by that, its command is repeated, as a user would.
When it is over, one undisturbed training a seed says what it should have come to: bits a row of
rows that none has seen.
"""

import hashlib
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console

from benchmarks import peers, sides

ADULT = sides.JOBS / "data" / "adult_train.parquet"
TEST = sides.JOBS / "data" / "adult_test.parquet"
OUT = Path(".benchmark") / "chaos.json"
WORKER = "RayTrainWorker"
# How often of each: what is likely on a cluster of spot nodes more than what is not.
HAPPENS = {"worker": 4, "node": 3, "driver": 2, "drained": 2, "hung": 1}
STALL_S = 8.0
NOTICE_S = 8  # spot nodes have two minutes
KILLS = 8  # or it would never end: a task takes some seconds, and then another is killed
LULL_S = 3.0  # between two of them, at most
RNN = {"hidden": 64, "batch": 250}


def chaos(
    seconds: Annotated[int, typer.Option(help="How long training is disturbed.", min=1)] = 600,
    every: Annotated[int, typer.Option(help="Seconds between two disturbances.", min=1)] = 20,
    rows: Annotated[int, typer.Option(help="Rows to encode, of Adult tiled.", min=1)] = 400_000,
    epochs: Annotated[int, typer.Option(help="Epochs to train for.", min=1)] = 100,
    seeds: Annotated[int, typer.Option(help="Undisturbed trainings beside.", min=2)] = 3,
    chance: Annotated[int, typer.Option(help="Seed of what happens.")] = 0,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = OUT,
) -> None:
    """Kill workers, nodes, drivers and tasks; state what is lost, and what training comes to."""
    log, console = Console(stderr=True), Console()

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    found = peers.read_with((sides.ours(),), {"table": str(ADULT), "test": str(TEST)})
    with _nodes() as nodes:
        found["encoding"] = _encoding(nodes, rows, chance, say)
        found["training"] = _training(nodes, seconds, every, epochs, chance, say)
    found["training"] |= _judged(found["training"].pop("run"), epochs, seeds, say)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    console.print(*shown(found), sep="\n", highlight=False)
    say(f"written: {out}")


def shown(found: dict[str, Any]) -> list[str]:
    """What the terminal shows."""
    encoding, training = found["encoding"], found["training"]
    same = "the same bytes" if encoding["same"] else "OTHER BYTES"
    happened = ", ".join(f"{count} x {what}" for what, count in training["happened"].items())
    others, back = training["undisturbed_bits"], training["back_s"]
    mean, spread = statistics.mean(others), statistics.stdev(others)
    lines = (
        f"encoding: {encoding['rows']:,} rows, {encoding['killed']} processes killed: {same}",
        f"training: {happened}",
        f"  submitted {training['submitted']} times, begun anew {training['begun_anew']} times,",
        f"  {training['state']}; every epoch once: {training['every_epoch_once']}",
        f"  disturbed {training['disturbed_s']:.0f} s, then {training['rest_s']:.0f} s to its end;",
        f"  {training['lost_s']:.0f} s of work done again and of waiting",
        f"  a new checkpoint after {back['median']:.0f} s (median; most {back['most']:.0f}),",
        f"  {len(back['times'])} times; else something else happened first",
        f"  {training['bits']:.3f} bits a row that it had not seen; undisturbed {mean:.3f}",
        f"  (standard deviation of seeds {spread:.3f})",
    )
    return list(lines)


@contextmanager
def _nodes() -> Iterator[Any]:
    """A head, a node of data and two that train; the environment of Ray's tests, set first."""
    sys.path.insert(0, str(sides.JOBS.parent))
    import_module("tests.ray.conftest")
    cluster = import_module("tests.ray.nodes").cluster
    kinds = {"data": (2,), "train": (1, 1)}
    with cluster(kinds, RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="1") as nodes:
        yield nodes


def _settings(nodes: Any, name: str, table: Path, **more: Any) -> str:
    """A file of settings in the nodes' home; its name."""
    from raysynth.config import TrainConfig

    config = TrainConfig(table=str(table), storage=str(nodes.home / "runs"), name=name, **more)
    (nodes.home / f"{name}.toml").write_text(config.to_toml())
    return f"{name}.toml"


# -- encoding -------------------------------------------------------------------------------------


def _encoding(nodes: Any, rows: int, chance: int, say: Any) -> dict[str, Any]:
    table = nodes.home / "tiled.parquet"
    one = pq.read_table(ADULT)
    tiled = pa.concat_tables([one] * -(-rows // one.num_rows)).slice(0, rows)
    pq.write_table(tiled, table, row_group_size=20_000)
    draw, killed, digests = random.Random(chance), 0, []
    for name in ("undisturbed", "disturbed"):
        say(f"encoding {rows:,} rows, {name}")
        long = {"family": "rnn", "epochs": 1_000, "cpus": 1, "model": RNN}
        number = nodes.told("submit", "train", _settings(nodes, name, table, **long))["job"]
        codes = nodes.home / "runs" / name / "work" / "codes"
        while not (codes / "index.json").exists():
            tasks = sorted(_tasks(nodes))
            if name == "disturbed" and tasks and killed < KILLS:
                killed += _kill(draw.choice(tasks))
                time.sleep(draw.uniform(0.0, LULL_S))
            time.sleep(0.1)
        digests.append(_digest(codes))
        nodes.told("cancel", number)
    return {"rows": rows, "killed": killed, "same": digests[0] == digests[1]}


def _tasks(nodes: Any) -> list[int]:
    """Processes that read, summarise, encode or sort; not who drives the job, newly begun."""
    found: set[int] = set()
    for title in ("ray::Read", "ray::Map", "ray::_", "ray::Custom"):
        found |= nodes.processes(title).keys()
    return sorted(found - nodes.processes("Actor").keys() - nodes.processes("_job_actor").keys())


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


# -- training -------------------------------------------------------------------------------------


def _training(
    nodes: Any, seconds: int, every: int, epochs: int, chance: int, say: Any
) -> dict[str, Any]:
    settings = _settings(
        nodes,
        "soak",
        ADULT.absolute(),
        family="rnn",
        epochs=epochs,
        cpus=1,
        workers=2,
        min_workers=1,
        checkpoint_s=1.0,
        stall_s=STALL_S,
        model=RNN,
    )
    folder = nodes.home / "runs" / "soak" / "work" / "checkpoints"
    draw, happened, back = random.Random(chance), Counter[str](), list[float]()
    jobs = [nodes.told("submit", "train", settings)["job"]]
    import_module("tests.server").until(lambda: _newest(folder), 120)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        what = draw.choices(list(HAPPENS), list(HAPPENS.values()))[0]
        before, at = _newest(folder), time.monotonic()
        if _happen(nodes, what, draw):
            happened[what] += 1
            say(f"{time.monotonic() - begun:5.0f} s: {what}; at {before or 'nothing'}")
        returned = False
        while time.monotonic() < at + every:
            if _newest(folder) > before and not returned:
                returned = True
                back.append(time.monotonic() - at)
            if (state := nodes.told("jobs")["jobs"]) and not _running(state):
                if (nodes.home / "runs" / "soak" / "manifest.json").exists():
                    break
                jobs.append(nodes.told("submit", "train", settings)["job"])
                say(f"{time.monotonic() - begun:5.0f} s: submitted again")
            time.sleep(0.5)
        if (nodes.home / "runs" / "soak" / "manifest.json").exists():
            break
    disturbed = time.monotonic() - begun
    say("left alone")
    end = nodes.run("submit", "train", settings, "--wait", "--json")
    told = json.loads(end.out.splitlines()[-1]) if end.out else {"state": end.err.strip()}
    jobs.append(told.get("job", jobs[-1]))
    said = [line for one in dict.fromkeys(jobs) for line in nodes.said(one)]
    lost = [line for line in said if line.startswith("workers were lost or joined: ")]
    copy = Path(".benchmark") / "soak"
    subprocess.run(["rm", "-rf", str(copy)], check=True)
    copy.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", str(nodes.home / "runs" / "soak"), str(copy)], check=True)
    return {
        "run": copy,
        "happened": dict(happened),
        "submitted": len(dict.fromkeys(jobs)),
        "begun_anew": len(lost),
        "lost_s": sum(float(line.rpartition(", ")[2].split()[0]) for line in lost),
        "state": told["state"],
        "disturbed_s": disturbed,
        "rest_s": time.monotonic() - begun - disturbed,
        "back_s": {
            "median": statistics.median(back or [math.nan]),
            "most": max(back, default=math.nan),
            "times": back,
        },
    }


def _happen(nodes: Any, what: str, draw: random.Random) -> bool:
    """Have it happen; False where there is nothing that it could happen to."""
    workers = nodes.processes(WORKER)
    if what in ("worker", "hung") and workers:
        number = signal.SIGSTOP if what == "hung" else signal.SIGKILL
        return _kill(draw.choice(sorted(workers)), number)
    if what == "driver":
        drivers = nodes.processes("-m raysynth train")
        return sum(map(_kill, sorted(drivers))) > 0  # the shell around it as well
    training = [number for number, _ in nodes.alive() if number > 1]
    if what in ("node", "drained") and training:
        number = draw.choice(sorted(set(workers.values())) or training)
        if what == "drained":
            nodes.drain(number, NOTICE_S)
            time.sleep(NOTICE_S)
        nodes.kill(number)
        nodes.start("train", 1)
        return True
    return False


def _kill(process: int, number: int = signal.SIGKILL) -> bool:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def _newest(folder: Path) -> str:
    """The last checkpoint that is whole, as its folder is called."""
    return max((one.parent.name for one in folder.glob("*/index.json")), default="")


def _running(jobs: list[dict[str, Any]]) -> bool:
    return any(one["state"] in ("running", "pending") for one in jobs)


def _judged(run: Path, epochs: int, seeds: int, say: Any) -> dict[str, Any]:
    """Bits a row that none has seen, of the run and of undisturbed trainings."""
    import numpy as np

    from raysynth import local
    from raysynth.config import TrainConfig
    from raysynth.run import open_run
    from raysynth.sampler import Sampler

    others = pq.read_table(TEST)
    ids = np.arange(others.num_rows, dtype=np.uint64)

    def bits(sampler: Sampler) -> float:
        return float(sampler.model.score(sampler.table.encode(others, ids, 0)))

    found = open_run(run)
    whole = [epoch["epoch"] for epoch in found.losses] == [*range(1, epochs + 1)]
    alone = []
    for seed in range(seeds):
        say(f"undisturbed, seed {seed}")
        config = TrainConfig(
            table=str(ADULT), name="alone", family="rnn", epochs=epochs, seed=seed, model=RNN
        )
        alone.append(bits(local.train(config, pq.read_table(ADULT))))
    mine = bits(Sampler.open(found, "cpu"))
    return {"bits": mine, "undisturbed_bits": alone, "every_epoch_once": whole}
