"""Training from everything a table can come as, with one worker and with two."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import raysynth
from raysynth.run import Run, open_run

pytestmark = pytest.mark.usefixtures("cluster")

ADULT_TEST = Path(__file__).parents[2] / "jobs" / "data" / "adult_test.parquet"
FILES = [
    "config.toml",
    "losses.jsonl",
    "manifest.json",
    "schema.json",
    "table.json",
    "weights.safetensors",
]
FOREIGN = {
    "when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "day": dt.date(2026, 1, 1),
    "list": [1, 2],
    "struct": {"a": 1},
    "bytes": b"x",
    "exact": Decimal("1.5"),
    "took": dt.timedelta(seconds=1),
}


def _with(people: pa.Table, *names: str) -> pa.Table:
    """The table with columns of kinds that are not supported put before its own."""
    for name in names:
        people = people.add_column(0, name, pa.array([FOREIGN[name]] * people.num_rows))
    return people


def _check(run: Run, people: pa.Table) -> None:
    """A run of `adult` that holds what a run holds, and nothing else is left of the training."""
    assert sorted(path.name for path in run.path.iterdir()) == FILES
    assert run.rows == people.num_rows
    drawn = raysynth.open(run.path).sample(50)
    assert drawn.num_rows == 50
    assert drawn.schema.equals(people.schema.remove_metadata())


def test_a_parquet_file_with_columns_of_other_kinds_dropped(
    people: pa.Table, tmp_path: Path, settings: dict[str, Any]
) -> None:
    foreign = ["when", "day", "list", "struct", "bytes", "exact"]
    pq.write_table(_with(people, *foreign), tmp_path / "t.parquet", row_group_size=250)
    run = raysynth.train(tmp_path / "t.parquet", drop=foreign, **settings)
    assert run.path == Path(settings["storage"]) / "t-autoregressive"
    _check(run, people)


def test_a_csv_file_with_two_workers_and_a_column_dropped(
    people: pa.Table, tmp_path: Path, settings: dict[str, Any]
) -> None:
    pa.csv.write_csv(_with(people, "day"), tmp_path / "t.csv")
    run = raysynth.train(tmp_path / "t.csv", drop=["day"], workers=2, **settings)
    _check(run, people)


def test_a_pandas_frame_through_the_whole_python_interface(
    people: pa.Table, settings: dict[str, Any]
) -> None:
    frame = people.to_pandas(types_mapper=pd.ArrowDtype)
    settings |= {"family": "autoregressive", "epochs": 2}  # a curve has two points or more
    run = raysynth.train(frame, name="frame", **settings)
    _check(run, people)
    women = run.sample(40, seed=1, given={"sex": "Female"})
    assert women.column("sex").to_pylist() == ["Female"] * 40
    report = run.evaluate(ADULT_TEST, train=frame, target="income")
    assert {figure.name for figure in report.figures} >= {"shape", "trend", "detection", "utility"}
    told = open_run(run.path)
    held = [epoch["held"] for epoch in told.losses]
    assert told.kept == 1 + held.index(min(held))
    assert f"those of epoch {told.kept}," in (run.path / "report.html").read_text()
    assert raysynth.open(run.path).rows == people.num_rows


def test_an_arrow_table_with_a_kind_that_parquet_has_not(
    people: pa.Table, settings: dict[str, Any]
) -> None:
    table = _with(people, "took")
    _check(raysynth.train(table, name="arrow", drop=["took"], **settings), people)


def test_a_ray_dataset_with_two_workers(people: pa.Table, settings: dict[str, Any]) -> None:
    import ray.data

    data = ray.data.from_arrow([people.slice(0, 333), people.slice(333)])
    _check(raysynth.train(data, name="dataset", workers=2, **settings), people)
