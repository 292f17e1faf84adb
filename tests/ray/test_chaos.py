"""A training whose workers and nodes are killed, one after the other; each goes on from the last.

The longer story, with what is hung, drained or killed at random, is `jobs/benchmark.py chaos`.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth import local
from raysynth.config import TrainConfig
from raysynth.run import Run, open_run
from raysynth.sampler import Sampler
from tests.ray.nodes import Cluster, cluster
from tests.server import until

EPOCHS = 48
WORKERS = "RayTrainWorker"
SETTINGS: dict[str, Any] = {
    "family": "rnn",
    "epochs": EPOCHS,
    "cpus": 1,
    "workers": 2,
    "min_workers": 1,
    "checkpoint_s": 0.001,
    "model": {"hidden": 64, "batch": 250},
}


@dataclass
class Story:
    """What was done to the training, how long it took to train again, and what became of it."""

    run: Run
    said: list[str]
    back_s: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def nodes(adult: pa.Table) -> Iterator[Cluster]:
    with cluster({"data": (2,), "train": (1, 1)}) as found:
        _job(found, adult)
        yield found


def _job(nodes: Cluster, adult: pa.Table, **more: Any) -> None:
    pq.write_table(adult.slice(0, 3_000), nodes.home / "people.parquet")
    table, runs = str(nodes.home / "people.parquet"), str(nodes.home / "runs")
    config = TrainConfig(table=table, storage=runs, name="job", **(SETTINGS | more))
    (nodes.home / "job.toml").write_text(config.to_toml())


def _epoch(nodes: Cluster) -> int:
    """The last epoch of which there is a checkpoint."""
    folder = nodes.home / "runs" / "job" / "work" / "checkpoints"
    return max((int(one.parent.name[:8]) for one in folder.glob("*/index.json")), default=0)


@pytest.fixture(scope="module")
def story(nodes: Cluster) -> Story:
    """A worker is killed, then a node, then, another having come, the node of all workers left."""
    number = nodes.told("submit", "train", "job.toml")["job"]
    back_s = {}

    def after(what: str, least: int) -> None:
        """Wait until epochs are over that were not when `what` happened."""
        begun = time.monotonic()
        reached = max(_epoch(nodes), least)
        until(lambda: _epoch(nodes) > reached, 120)
        back_s[what] = time.monotonic() - begun

    after("submitted", 4)
    os.kill(next(iter(nodes.processes(WORKERS))), signal.SIGKILL)
    after("a worker was killed", 12)
    first, last = sorted(set(nodes.processes(WORKERS).values()))
    nodes.kill(first)
    after("a node was killed", 22)
    assert set(nodes.processes(WORKERS).values()) == {last}
    nodes.start("train", 1)
    nodes.wait()
    nodes.kill(last)
    after("the node of the first worker was killed", 32)
    end = nodes.run("submit", "train", "job.toml", "--wait")
    assert end.code == 0, end.err
    return Story(open_run(nodes.home / "runs" / "job"), nodes.said(number), back_s)


def test_a_training_ends_well_whatever_it_loses(story: Story) -> None:
    assert [epoch["epoch"] for epoch in story.run.losses] == [*range(1, EPOCHS + 1)]


def test_it_says_with_how_many_workers_it_goes_on_and_what_that_cost(story: Story) -> None:
    again = [line for line in story.said if line.startswith("workers were lost or joined: ")]
    assert [line.split()[5] for line in again] == ["2", "1", "1"]
    assert any(line.startswith("begun anew 3 times: ") for line in story.said)


def test_it_is_back_within_a_minute_of_a_kill(story: Story) -> None:
    assert max(story.back_s.values()) < 60, story.back_s


def test_what_it_learned_is_what_an_undisturbed_training_does(
    story: Story, nodes: Cluster, adult: pa.Table
) -> None:
    alone = SETTINGS | {"workers": 1, "min_workers": None}
    config = TrainConfig(table="people", name="alone", **alone)
    samplers = [local.train(config, adult.slice(0, 3_000)), Sampler.open(story.run, "cpu")]
    others, ids = adult.slice(3_000, 3_000), np.arange(3_000, dtype=np.uint64)
    mine, theirs = (float(one.model.score(one.table.encode(others, ids, 0))) for one in samplers)
    assert mine == pytest.approx(theirs, rel=0.03)  # bits a row


def test_a_worker_in_which_nothing_happens_ends_itself_and_says_where(tmp_path: Path) -> None:
    program = """
        import time
        from raysynth.clock import Clock
        from raysynth.stages.worker import _watched

        clock = Clock()
        with _watched(clock, 0.6):
            for _ in range(4):
                with clock.of("compute"):
                    time.sleep(0.3)
            print("works", flush=True)
            time.sleep(60)  # hung
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 70
    assert done.stdout == "works\n"
    assert "in <module>" in done.stderr


@pytest.mark.operate
def test_a_checkpoint_is_kept_when_a_nodes_end_is_announced_and_a_hung_worker_given_up(
    adult: pa.Table,
) -> None:
    """No other checkpoint is due: what training goes on from is that of the announcement."""
    watched = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
    kinds = {"data": (2,), "train": (1, 1)}
    with cluster(kinds, None, **watched) as nodes:
        _job(nodes, adult, epochs=10_000, checkpoint_s=1e6, stall_s=8.0)
        number = nodes.told("submit", "train", "job.toml")["job"]
        until(lambda: nodes.processes(WORKERS), 120)
        time.sleep(15)
        assert _epoch(nodes) == 0
        first, last = sorted(set(nodes.processes(WORKERS).values()))
        nodes.drain(first, 60)
        until(lambda: _epoch(nodes), 30)
        nodes.kill(first)
        until(lambda: "workers were lost or joined: 1 go on from" in _log(nodes, number), 60)
        (worker,) = nodes.processes(WORKERS)
        os.kill(worker, signal.SIGSTOP)
        until(lambda: _log(nodes, number).count("workers were lost or joined: 1") == 2, 120)
        assert set(nodes.processes(WORKERS).values()) == {last}
        assert nodes.told("cancel", number)["state"] == "stopped"


def _log(nodes: Cluster, number: str) -> str:
    return nodes.run("logs", number).out
