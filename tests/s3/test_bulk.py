"""A server's job into a real bucket: whole or not at all, and nowhere but where it may."""

import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysynth.client import client
from raysynth.run import Run
from raysynth.sampler import Sampler
from raysynth.serving.jobs import Book, Desk, Job, Order, number
from raysynth.serving.problems import Problem
from raysynth.serving.tokens import ANYONE
from raysynth.stages.bulk import carry_out
from raysynth.storage import Place


class Threads:
    """Draws on a thread of this process."""

    def __init__(self) -> None:
        self.running: dict[str, threading.Thread] = {}

    def start(self, order: Order) -> None:
        self.running[order.id] = threading.Thread(target=carry_out, args=(order,))
        self.running[order.id].start()

    def alive(self, number: str) -> bool:
        return self.running[number].is_alive()

    def end(self, number: str) -> None:
        self.running[number].join()


@pytest.fixture
def desk(bucket: Place, tmp_path: Path) -> Desk:
    return Desk(Book(tmp_path), Threads(), (f"{bucket}/out",), 2)


def ordered(desk: Desk, run: Run, to: Place, rows: int, **facts: Any) -> Job:
    manifest = run.manifest
    order = Order(
        *(number(), ANYONE.name, "small", run.place.text, manifest["digest"], rows, 3, 0, {}, None),
        *(desk.target(to.text).text, 0, str(desk.book.state)),
    )
    return desk.submit(order, ANYONE, "")


def test_rows_come_into_the_bucket(desk: Desk, bucket: Place, small_run: Run) -> None:
    to = bucket / "out/deep/rows.parquet"
    job = ordered(desk, small_run, to, 3_000)
    desk.runner.end(job.id)
    assert desk.job(job.id, ANYONE).state == "done"
    assert to.read(pq.read_table).equals(Sampler.open(small_run).sample(3_000, 3))
    with pytest.raises(Problem, match="something is there already"):
        desk.target(to.text)


def test_a_cancelled_one_leaves_neither_file_nor_unfinished_upload(
    desk: Desk, bucket: Place, small_run: Run
) -> None:
    to = bucket / "out/rows.csv"
    job = ordered(desk, small_run, to, 100_000_000)
    while not client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads"):
        assert desk.runner.alive(job.id)
    desk.cancel(job.id, ANYONE)
    desk.runner.end(job.id)
    assert desk.job(job.id, ANYONE).state == "cancelled"
    assert not to.exists()
    assert not client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads")


def test_other_places_are_refused(desk: Desk, bucket: Place) -> None:
    for text in (
        f"{bucket}/rows.csv",
        f"{bucket}/outside/rows.csv",
        f"{bucket}/out/../rows.csv",
        f"{bucket}/out//rows.csv",
        f"{bucket}-other/out/rows.csv",
    ):
        with pytest.raises(Problem, match="is not in a place that this server may write to"):
            desk.target(text)


def test_a_bucket_that_is_not_there_is_told(bucket: Place, tmp_path: Path) -> None:
    desk = Desk(Book(tmp_path), Threads(), (f"{bucket}-none",), 2)
    with pytest.raises(Problem, match="to: the place cannot be reached"):
        desk.target(f"{bucket}-none/rows.csv")
