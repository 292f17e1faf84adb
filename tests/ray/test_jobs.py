"""Jobs on a cluster that was started as an operator does, with a dashboard and a token."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.run import open_run
from tests.server import free, until

SETTINGS = """
table = "{home}/people.parquet"
storage = "{home}/runs"
name = "job"
family = "rnn"
epochs = 20
cpus = 1
checkpoint_s = 0.001
[model]
hidden = 64
batch = 128
"""


@dataclass
class Head:
    """A cluster of one node, and the commands of somebody who has its token."""

    home: Path
    address: str
    environment: dict[str, str]

    def run(self, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "raysynth", *map(str, words), "--address", self.address],
            cwd=self.home,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def told(self, *words: object) -> Any:
        end = self.run(*words, "--json")
        assert end.returncode == 0, end.stderr
        return json.loads(end.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def head(adult: pa.Table) -> Iterator[Head]:
    home = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # socket names end at 107 bytes
    (home / "token").write_text(secrets.token_hex(32))
    (home / "token").chmod(0o600)
    pq.write_table(adult.slice(0, 600), home / "people.parquet")
    (home / "job.toml").write_text(SETTINGS.format(home=home))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_memory_usage_threshold": "0.98",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        environment.pop(name, None)
    port = free()
    options = ["--head", "--block", f"--port={free()}", f"--dashboard-port={port}"]
    options += ["--dashboard-host=127.0.0.1", "--num-cpus=3", f"--temp-dir={home / 'ray'}"]
    options += [f"--ray-client-server-port={free()}", "--disable-usage-stats"]
    options += [f"--dashboard-agent-listen-port={free()}"]  # what takes jobs; else one a machine
    with (home / "log").open("w") as log:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        process = subprocess.Popen(
            ray, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    found = Head(home, f"http://127.0.0.1:{port}", environment)
    try:
        until(lambda: found.run("jobs").returncode == 0, 90)
        yield found
    finally:
        end(str(home))
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def end(home: str) -> None:
    """Kill every process that was started with this folder: 'ray stop' ends all on the machine."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if home.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def test_a_training_is_submitted_once_cancelled_and_gone_on_with(head: Head) -> None:
    number = head.told("submit", "train", "job.toml")["job"]
    again = head.run("submit", "train", "job.toml")
    assert f"{number}: is there already" in again.stderr
    checkpoints = head.home / "runs" / "job" / "work" / "checkpoints"
    until(lambda: any(checkpoints.glob("*")), 120)
    assert head.told("cancel", number)["state"] == "stopped"
    (listed,) = head.told("jobs")["jobs"]
    assert (listed["job"], listed["state"]) == (number, "stopped")
    end = head.run("submit", "train", "job.toml", "--wait", "--json")
    assert end.returncode == 0, end.stderr
    assert "stopped before, and submitted anew" in end.stderr
    assert "resuming 'job' from epoch" in end.stderr
    assert json.loads(end.stdout)["state"] == "succeeded"
    assert open_run(head.home / "runs" / "job").rows == 600
    assert "resuming 'job'" in head.run("logs", number).stdout
    begun = time.monotonic()
    assert head.told("submit", "train", "job.toml", "--wait")["state"] == "succeeded"
    assert time.monotonic() - begun < 30, "nothing is trained twice"


def test_what_is_wrong_ends_with_the_commands_own_code(head: Head) -> None:
    words = ["train", head.home / "people.parquet", "--storage", head.home / "runs"]
    end = head.run("submit", *words, "--drop", "nothing", "--wait", "--retries", 3)
    assert end.returncode == 2
    assert "error: " in end.stderr
    assert "tried again" not in end.stderr


def test_who_has_another_token_is_refused(head: Head, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another")
    end = head.run("jobs", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert end.returncode == 2
    assert "the token is refused" in end.stderr
