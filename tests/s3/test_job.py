"""The whole job from bucket to bucket, undisturbed and with the store stopped in the middle of it.

Each training is the command `raysynth train` with two workers on 2,000 rows of Adult. It reaches
the store over a `Line`, on which the test sees a request coming and stops the store before the
server has all of it. The store is started again only after requests have found it away.
"""

import functools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysynth import client
from raysynth.storage import Place, write, write_bytes
from tests.s3.line import Line, Watch, interruption

pytestmark = [pytest.mark.timeout(900)]

ROWS, EPOCHS, CHECKPOINTS = 2_000, 4, "work/checkpoints/0000000"
SETTINGS = """
table = "s3://{bucket}/table"
storage = "s3://{bucket}/runs"
epochs = 4
workers = 2
cpus = 1
checkpoint_s = 0.001
[model]
batch = 100
hidden = 32
"""
RUN = [
    "config.toml",
    "losses.jsonl",
    "manifest.json",
    "schema.json",
    "table.json",
    "weights.safetensors",
]


@dataclass
class Job:
    """A bucket with a table, a line to it, and what came of each command."""

    folder: Path
    bucket: Place
    line: Line
    environment: dict[str, str]
    store: Callable[..., str]
    ends: dict[str, "subprocess.CompletedProcess[str]"] = field(default_factory=dict)
    codes: dict[str, list[bytes]] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)
    stopped: list[bool] = field(default_factory=list)

    def run(self, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        """The command, over the line."""
        with self.begin(*words, **more) as process:
            out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def begin(self, *words: object, **more: str) -> "subprocess.Popen[str]":
        """The command, begun."""
        return subprocess.Popen(
            [sys.executable, "-m", "raysynth", *map(str, words)],
            cwd=self.folder,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def train(self, name: str, *watches: Watch, **more: str) -> None:
        """Train under this name. At the first checkpoint, all that lies in the run is looked at."""
        asked = f"PUT /{self.bucket.bucket}/runs/{name}/{CHECKPOINTS}1.{0:010d}/state"
        look = Watch(asked, functools.partial(self.look, name))
        self.line.watches = [look, *watches]
        end = self.run("train", "job.toml", "--name", name, **more)
        self.ends[name] = end

    def look(self, name: str) -> None:
        """Keep every object there is, and the encoded rows by themselves."""
        self.seen |= {f"{name}: {at.key}": at.read_bytes() for at, _ in self.bucket.files()}
        folder = self.bucket / "runs" / name / "work" / "codes"
        pieces = json.loads((folder / "index.json").read_bytes())["files"]
        rows = [(folder / piece).read(pq.read_table).column("row") for piece, _ in pieces]
        self.codes[name] = pa.chunked_array([c for row in rows for c in row.chunks]).to_pylist()
        published = {piece for piece, _ in pieces}
        there = {at.name for at, _ in folder.files()} - {"index.json"}
        assert there == published, "codes that no index names"

    def contents(self, name: str) -> dict[str, bytes]:
        """The objects of a run."""
        run = self.bucket / "runs" / name
        return {at.key.removeprefix(f"{run.key}/"): at.read_bytes() for at, _ in run.files()}


@pytest.fixture(scope="module")
def job(started: Callable[..., str], adult: pa.Table) -> Iterator[Job]:
    home = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # socket names end at 107 bytes
    (home / "token").write_text(secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, text in started.environment().items():
            patch.setenv(name, text)
        bucket = Place.of(f"s3://job-{secrets.token_hex(6)}")
        client.client().create_bucket(Bucket=bucket.bucket)
        line = Line(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.port}",
            "RAYSYNTH_RETRY_S": "200",  # the store takes its time to start on a busy machine
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_TMPDIR": str(home),
            "RAY_memory_usage_threshold": "0.98",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        }
        environment.pop("RAY_ADDRESS", None)
        write_bytes(home / "job.toml", SETTINGS.format(bucket=bucket.bucket).encode())
        for number in range(4):
            rows = adult.slice(number * ROWS // 4, ROWS // 4)
            write([rows], bucket / "table" / f"part-{number}.parquet")
        write([adult.slice(ROWS, 500)], bucket / "real.parquet")
        yield Job(home, bucket, line, environment, started)
        line.close()
        started("start")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(job: Job) -> Job:
    job.train("undisturbed")
    return job


@pytest.fixture(scope="module")
def disturbed(undisturbed: Job) -> Job:
    """A training during which the store is stopped five times, each time in another act."""
    job, bucket, name = undisturbed, undisturbed.bucket.bucket, "disturbed"
    stopping = functools.partial(interruption, job.line, job.store)
    work, reads = f"/{bucket}/runs/{name}/work", f"GET /{bucket}/table/part-"
    second = stopping(reads, turn=2)
    watches = [
        stopping(f"{reads}3"),  # to list the table's row groups
        # The codecs are fitted: what is read from now on is read to be encoded.
        Watch(f"PUT {work}/table.json", lambda: job.line.watches.append(second)),
        stopping(f"PUT {work}/spilled/"),
        stopping(f"PUT {work}/codes/0"),
        stopping(f"PUT /{bucket}/runs/{name}/{CHECKPOINTS}2.{0:010d}/state"),
    ]
    job.train(name, *watches)
    job.stopped = [watch.seen for watch in (*watches, second)]
    return job


def _figures(end: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    assert end.returncode == 0, end.stderr
    value: dict[str, object] = json.loads(end.stdout.splitlines()[-1])
    return value


def test_a_training_from_bucket_to_bucket_leaves_a_run_and_nothing_private(
    undisturbed: Job,
) -> None:
    end = undisturbed.ends["undisturbed"]
    assert end.returncode == 0, end.stderr
    assert sorted(undisturbed.contents("undisturbed")) == RUN
    assert f"run: {undisturbed.bucket}/runs/undisturbed  (2,000 rows" in end.stderr
    assert (undisturbed.folder / "runs" / "undisturbed.log").is_file(), "Ray's log is here"
    assert sorted(path.name for path in undisturbed.folder.iterdir() if path.is_file()) == [
        "job.toml",
        "token",
    ]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_run_in_a_bucket_is_sampled_into_the_bucket(
    undisturbed: Job, adult: pa.Table, name: str
) -> None:
    out = undisturbed.bucket / name
    words = ("sample", "undisturbed", "--storage", undisturbed.bucket / "runs", "--json")
    told = _figures(undisturbed.run(*words, "--rows", 1_500, "--out", out))
    assert (told["path"], told["rows"]) == (out.text, 1_500)
    read = pq.read_table if name.endswith("parquet") else pa.csv.read_csv
    table = out.read(read)
    assert table.num_rows == 1_500
    assert table.column_names == adult.column_names
    if read is pq.read_table:
        assert table.schema.equals(adult.schema.remove_metadata())


def test_a_run_in_a_bucket_is_judged_there_with_the_table_it_was_trained_on(
    undisturbed: Job,
) -> None:
    run = undisturbed.bucket / "runs" / "undisturbed"
    words = ("evaluate", run, "--real", undisturbed.bucket / "real.parquet", "--json")
    told = _figures(undisturbed.run(*words))
    assert told["html"] == (run / "report.html").text
    assert told["figures"][0]["ceiling"] is not None, "the training table was found again"
    left = undisturbed.contents("undisturbed")
    assert sorted(left) == sorted([*RUN, "report.json", "report.html"])
    assert set(json.loads(left["manifest.json"])["files"]) == {*left} - {"manifest.json"}


def test_from_python_a_run_in_a_bucket_is_opened_like_any_other(
    undisturbed: Job, store: object
) -> None:
    import raysynth

    run = raysynth.open(f"{undisturbed.bucket}/runs/undisturbed")
    assert run.rows == ROWS
    assert run.sample(10, seed=3).num_rows == 10


def test_a_store_that_is_stopped_and_started_again_costs_nothing(disturbed: Job) -> None:
    end = disturbed.ends["disturbed"]
    assert end.returncode == 0, end.stderr
    assert all(disturbed.stopped)
    mine, theirs = (disturbed.contents(name) for name in ("disturbed", "undisturbed"))
    for name in ("weights.safetensors", "table.json", "schema.json", "losses.jsonl"):
        assert mine[name] == theirs[name], name


def test_no_row_is_lost_or_doubled_in_the_codes(disturbed: Job) -> None:
    for codes in disturbed.codes.values():
        assert len(codes) == ROWS
    assert disturbed.codes["disturbed"] == disturbed.codes["undisturbed"]


def test_a_training_the_store_or_a_kill_has_ended_goes_on_by_the_same_command(
    undisturbed: Job,
) -> None:
    """The store stays away when epoch 2 is to be kept; next the driver is killed at epoch 3."""
    job, name = undisturbed, "ended"
    asked = f"PUT /{job.bucket.bucket}/runs/{name}/{CHECKPOINTS}"
    never = interruption(job.line, job.store, f"{asked}2.{0:010d}/state", refusals=10**9)
    job.train(name, never, RAYSYNTH_RETRY_S="1")
    end = job.ends[name]
    assert end.returncode == 2, end.stderr
    said = end.stderr.splitlines()[-1]
    assert said.startswith("error: a checkpoint cannot be kept: s3://")
    assert "cannot be reached; check AWS_ENDPOINT_URL and the network, and repeat" in said
    job.store("start")
    reached, over = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        over.wait(300)
        raise ConnectionAbortedError  # the rest of it never comes

    job.line.watches = [Watch(f"{asked}3.{0:010d}/index", hold)]
    with job.begin("train", "job.toml", "--name", name) as process:
        assert reached.wait(300)
        other = job.run("train", "job.toml", "--name", name)
        job.look(name)
        os.kill(process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert f"resuming '{name}' from epoch 1 of {EPOCHS}" in err
    assert other.returncode == 2, "a living training is left alone"
    said = f"another process is at work on it \\(process {process.pid} on .*choose another --name"
    assert re.search(said, other.stderr)
    end = job.run("train", "job.toml", "--name", name)
    over.set()
    assert end.returncode == 0, end.stderr
    assert f"resuming '{name}' from epoch 2 of {EPOCHS}" in end.stderr
    weights = [job.contents(run)["weights.safetensors"] for run in (name, "undisturbed")]
    assert weights[0] == weights[1]
    assert sorted(job.contents(name)) == RUN


def test_a_key_that_may_not_is_told_before_anything_is_begun(undisturbed: Job) -> None:
    job = undisturbed
    stranger = {**job.store.environment("stranger")}
    stranger["AWS_ENDPOINT_URL"] = job.environment["AWS_ENDPOINT_URL"]
    end = job.run("train", "job.toml", "--name", "denied", **stranger)
    assert end.returncode == 2
    assert "access denied; use credentials that may do this" in end.stderr
    assert len(end.stderr.splitlines()) == 1
    assert not job.contents("denied")


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json", "table.json"])
def test_a_truncated_object_of_a_run_is_told(undisturbed: Job, name: str, store: object) -> None:
    copy = undisturbed.bucket / "runs" / f"torn-{name}"
    for file, data in undisturbed.contents("undisturbed").items():
        write_bytes(copy / file, data[:-10] if file == name else data)
    end = undisturbed.run("sample", copy, "--rows", 5, "--out", undisturbed.bucket / "o.csv")
    assert end.returncode == 2
    assert re.search(f"{copy}: .*{name}.* (is not what was saved|is damaged)", end.stderr)


def test_a_truncated_table_is_told(undisturbed: Job, adult: pa.Table, store: object) -> None:
    at = undisturbed.bucket / "torn" / "table.parquet"
    write([adult.slice(0, 500)], at)
    write_bytes(at, at.read_bytes()[:-100])
    end = undisturbed.run("train", at, "--storage", undisturbed.bucket / "runs", "--name", "torn")
    assert end.returncode == 2
    assert f"{at}: not a Parquet table" in end.stderr
    assert not undisturbed.contents("torn")


def test_no_key_is_in_any_object_message_or_log(disturbed: Job) -> None:
    """Of the runs while they were trained and afterwards, and of Ray's own files."""
    job = disturbed
    secret = job.environment["AWS_SECRET_ACCESS_KEY"].encode()
    seen = dict(job.seen)
    seen |= {at.text: at.read_bytes() for at, _ in job.bucket.files()}
    seen |= {str(path): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}
    seen |= {name: (end.stdout + end.stderr).encode() for name, end in job.ends.items()}
    assert any(name.endswith("claim.json") for name in seen)
    assert any("session_" in name for name in seen)
    assert [name for name, data in seen.items() if secret in data] == []
