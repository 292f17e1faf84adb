"""The head of a cluster lost and started again, its state in Redis, while rows are served."""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysynth.run import Run
from tests.ray.nodes import Cluster, cluster
from tests.server import free, until

pytestmark = pytest.mark.operate

SETTINGS = """
table = "{people}"
storage = "{home}/runs"
name = "long"
family = "rnn"
epochs = 5000
cpus = 1
checkpoint_s = 0.001
[model]
hidden = 32
batch = 100
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A Redis of its own: its port, and the password that it asks for."""
    if (program := shutil.which("redis-server")) is None:
        pytest.skip("no Redis here; install Debian's redis-server")
    port, password = free(), secrets.token_hex(16)
    settings = f"port {port}\nbind 127.0.0.1\nrequirepass {password}\nsave ''\ndir {tmp_path}\n"
    (tmp_path / "redis.conf").write_text(settings.replace("''", '""'))
    with subprocess.Popen([program, tmp_path / "redis.conf"], stdout=subprocess.DEVNULL) as process:
        yield port, password
        process.kill()


@pytest.fixture
def nodes(redis: tuple[int, str]) -> Iterator[Cluster]:
    port, password = redis
    kinds, head = {"data": (3,), "train": (1,)}, {"redis-password": password}
    with cluster(kinds, head, RAY_REDIS_ADDRESS=f"127.0.0.1:{port}") as found:
        yield found


def test_rows_are_served_and_a_training_goes_on_while_the_head_is_away(
    nodes: Cluster, small_run: Run
) -> None:
    folder = Path(small_run.place.text)
    shutil.copytree(folder, nodes.home / "runs" / "small")
    people = folder.parent.parent / "people.parquet"
    (nodes.home / "job.toml").write_text(SETTINGS.format(home=nodes.home, people=people))
    number = nodes.told("submit", "train", "job.toml")["job"]
    _, client = nodes.serve()
    expected = client.table("small", 10, seed=1)

    def kept() -> int:
        folder = nodes.home / "runs" / "long" / "work" / "checkpoints"
        return max((int(one.name[:8]) for one in folder.glob("[0-9]*.*")), default=0)

    def ask() -> None:
        assert client.table("small", 10, seed=1).equals(expected)

    until(kept, 120)
    nodes.nodes[0].kill()
    nodes.nodes[0].wait()
    for _ in range(10):
        ask()
        time.sleep(0.1)
    before = kept()
    until(lambda: kept() > before, 30)
    ask()
    nodes.start("head", 0, again=0)
    until(lambda: nodes.run("jobs").code == 0, 60)
    nodes.wait()

    def found() -> Any:
        ask()
        (one,) = nodes.told("jobs")["jobs"]
        return one

    assert (found()["job"], found()["state"]) == (number, "running")
    pools = [one["labels"]["raysynth/pool"] for one in nodes.listed("nodes") if _alive(one)]
    assert sorted(pools) == ["data", "head", "train"]
    assert nodes.told("cancel", number)["state"] == "stopped"
    assert kept() > before
    ask()
    status = json.loads(nodes.get("/api/serve/applications/"))["applications"]["raysynth"]
    assert status["status"] == "RUNNING"


def _alive(node: dict[str, Any]) -> bool:
    return bool(node["state"] == "ALIVE")
