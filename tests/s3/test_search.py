"""A search whose study lies in a bucket, killed and gone on with."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import AbsentError
from raysynth.run import open_run
from raysynth.sampler import Sampler
from raysynth.storage import Place, write

pytestmark = [pytest.mark.timeout(300), pytest.mark.operate]

TRIALS = 4
COMPLETE = {"op_code": 6, "state": 1}  # Optuna's journal: a trial's state is set, to complete


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # socket names end at 107 bytes
    (path / "token").write_text(secrets.token_hex(32))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def begin(home: Path, bucket: Place) -> "subprocess.Popen[str]":
    words = ["tune", bucket / "people.parquet", "--name", "study", "--storage", bucket]
    words += ["--family", "independent", "--family", "rnn", "--trials", TRIALS, "--workers", 1]
    words += ["--epochs", 1, "--no-early", "--space", "hidden=64", "--space", "mixtures=4"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_TMPDIR": str(home),
        "RAY_memory_usage_threshold": "0.98",
    }
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "raysynth", *map(str, words), "--json"],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def complete(journal: Place) -> int:
    try:
        lines = map(json.loads, journal.read_bytes().splitlines())
    except AbsentError:
        return 0
    return sum(COMPLETE.items() <= line.items() for line in lines)


def test_a_search_in_a_bucket_that_is_killed_ends_with_as_many_trials(
    bucket: Place, home: Path, adult: pa.Table
) -> None:
    write([adult.slice(0, 800)], bucket / "people.parquet")
    place = bucket / "study"
    with begin(home, bucket) as process:
        while complete(place / "study.journal") < 2:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        process.kill()
    with begin(home, bucket) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    numbers = [one["number"] for one in told["trials"]]
    assert numbers[:2] == [0, 1]
    assert len(set(numbers)) == TRIALS
    assert {one["state"] for one in told["trials"]} == {"complete"}
    assert len({str(one["parameters"]) for one in told["trials"]}) == TRIALS
    assert complete(place / "study.journal") == TRIALS, "none was made twice"
    (path,) = told["runs"]
    left = {file.key.removeprefix("study/").partition("/")[0] for file, _ in place.files()}
    assert left == {"study.json", "study.journal", "study.parquet", "study.html", "trials"}
    assert all(file.text.startswith(path) for file, _ in (place / "trials").files())
    assert (place / "study.parquet").read(pq.read_table).num_rows == TRIALS
    assert Sampler.open(open_run(path)).sample(10).num_rows == 10
