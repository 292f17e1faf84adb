"""Who trains a run in a bucket: one at a time, as far as an object can say."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from raysynth.config import TrainConfig
from raysynth.errors import AbsentError, RunError, StorageError
from raysynth.run import MANIFEST
from raysynth.stages import claim
from raysynth.storage import Place, write_bytes


@pytest.fixture
def config(bucket: Place) -> TrainConfig:
    return TrainConfig(table="t.parquet", name="mine", storage=f"{bucket}/runs")


def _claimed_by(config: TrainConfig, host: str, pid: int, age_s: float) -> Place:
    at = config.place / "work" / claim.CLAIM
    value = {"host": host, "pid": pid, "mark": "theirs", "time": time.time() - age_s}
    write_bytes(at, json.dumps(value).encode())
    return at


def _dead() -> int:
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_a_run_that_another_is_training_is_left_alone(config: TrainConfig, host: str) -> None:
    at = _claimed_by(config, host, os.getpid(), 5)
    theirs = at.read_bytes()
    said = rf"another process is at work on it \(process {os.getpid()} on {host}, .*choose another"
    with pytest.raises(RunError, match=said), claim.claimed(config):
        pass
    assert at.read_bytes() == theirs


def test_who_is_dead_or_long_silent_holds_nobody_up(config: TrainConfig) -> None:
    for host, pid, age_s in ((socket.gethostname(), _dead(), 1), ("elsewhere", 1, 200)):
        at = _claimed_by(config, host, pid, age_s)
        with claim.claimed(config):
            mine = json.loads(at.read_bytes())
            assert (mine["host"], mine["pid"]) == (socket.gethostname(), os.getpid())
        assert not config.place.exists()


def test_a_claim_is_said_again_and_again(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "FRESH_S", 0.01)
    at = config.place / "work" / claim.CLAIM
    with claim.claimed(config):
        seen, end = set(), time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < end:
            with contextlib.suppress(AbsentError):  # as Swift says while one takes another's place
                seen.add(at.read_bytes())
    assert len({json.loads(value)["time"] for value in seen}) == 3


def test_nothing_is_left_of_what_came_to_nothing_and_all_of_what_can_be_resumed(
    config: TrainConfig,
) -> None:
    with contextlib.suppress(KeyboardInterrupt), claim.claimed(config) as work:
        write_bytes(work / "table.parquet", b"private")
        raise KeyboardInterrupt
    assert not config.place.exists()
    with claim.claimed(config) as work:
        write_bytes(work / "codes" / "index.json", b"{}")
    assert sorted(at.name for at, _ in config.place.files()) == ["index.json", "settings.json"]
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(RunError, match=r"other settings \(seed\)"), claim.claimed(other):
        pass


@pytest.mark.parametrize(("name", "said"), [(MANIFEST, "already holds"), ("a", "is not empty")])
def test_what_is_there_is_not_trained_over(config: TrainConfig, name: str, said: str) -> None:
    write_bytes(config.place / name, b"{}")
    with pytest.raises(RunError, match=said), claim.claimed(config):
        pass
    assert [at.name for at, _ in config.place.files()] == [name]


def test_a_store_that_goes_away_is_told_by_what_it_stopped(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSYNTH_RETRY_S", "0")

    def train() -> None:
        with claim.claimed(config) as work:
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            (work / "codes").read_bytes()

    with pytest.raises(StorageError, match="codes: cannot be read"):
        train()
