"""Sampling over Ray gives the rows that one process gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.run import Run
from raysynth.stages.sample import PIECE, sample

pytestmark = pytest.mark.usefixtures("cluster")

ROWS = 2 * PIECE + 1_234  # three pieces, the last one short


def test_two_workers_write_the_rows_of_one_process_in_their_order(
    small_run: Run, tmp_path: Path
) -> None:
    tables = _both(small_run.path, tmp_path, ROWS, None)
    assert tables[0].num_rows == ROWS
    assert tables[0].equals(tables[1])


def test_what_is_given_holds_over_ray_too(small_run: Run, tmp_path: Path) -> None:
    given = {"sex": "Female", "income": "<=50K"}
    tables = _both(small_run.path, tmp_path, PIECE + 10, given, start=PIECE - 5)  # three pieces
    assert tables[0].equals(tables[1])
    for name, value in given.items():
        assert tables[0].column(name).unique().to_pylist() == [value]


def test_the_command_draws_over_ray_what_it_draws_alone(
    cli: Callable[..., Any], small_run: Run, tmp_path: Path
) -> None:
    outs = [tmp_path / "one.csv", tmp_path / "ray.csv"]
    same = ["--rows", ROWS, "--offset", 700, "--select", "sex", "--select", "age", "--json"]
    for out, words in zip(outs, ([], ["--workers", 2]), strict=True):
        end = cli("sample", small_run.path, *same, "--out", out, *words)
        assert end.code == 0, end.err
        assert json.loads(end.out)["rows"] == ROWS
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_text().startswith('"sex","age"')
    end = cli("sample", small_run.path, *same, "--out", outs[0], "--select", "hours")
    assert end.code == 2
    assert end.err.startswith("error: no column is called 'hours'; did you mean 'hours-per-week'?")


def _both(
    run: Path, folder: Path, rows: int, given: dict[str, str] | None, start: int = 0
) -> list[pa.Table]:
    outs = [folder / "one.parquet", folder / "ray.parquet"]
    told = [
        sample(run, out, rows, 5, given, workers, start=start)
        for out, workers in zip(outs, (None, 2), strict=True)
    ]
    counts = [(one.rows, one.tried, one.forced) for one in told]
    assert counts[0] == counts[1]
    return [pq.read_table(out) for out in outs]
