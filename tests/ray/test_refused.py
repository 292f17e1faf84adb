"""What only a pass over the table tells: refused with one message, nothing left, no cell told."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.usefixtures("cluster")

SENTINEL = "Zq-sentinel-918273645"
NUMBER = 918273645.918


@pytest.fixture
def refused(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Training on a table ends with code 2 and one message that says all of `said`."""
    monkeypatch.chdir(tmp_path)
    handler = _handler(tmp_path / "ray.log", monkeypatch)

    def run(table: Path, *said: str) -> None:
        end = cli("train", table, "--name", "mine", "--json")
        assert end.code == 2, end
        assert end.out == ""
        last = end.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "Traceback" not in end.err
        for part in said:
            assert part in last
        assert not list((tmp_path / "runs").iterdir())
        for text in (end.err, (tmp_path / "ray.log").read_text()):
            assert SENTINEL not in text
            assert str(int(NUMBER)) not in text

    yield run
    monkeypatch.undo()
    handler.close()


def _handler(path: Path, monkeypatch: pytest.MonkeyPatch) -> logging.Handler:
    """Have what Ray says in this process in a file: its handlers hold streams of other tests."""
    handler = logging.FileHandler(path)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("ray")]:
        if logging.getLogger(name).handlers:
            monkeypatch.setattr(logging.getLogger(name), "handlers", [handler])
    return handler


def _with(people: pa.Table, column: Any, path: Path) -> Path:
    pq.write_table(people.append_column("odd", column), path, row_group_size=100)
    return path


def _spelled(number: int) -> str:
    return "sentinel" + "".join("abcdefghij"[int(digit)] for digit in str(number))


COLUMNS = {
    "all null": (pa.nulls(600, pa.string()), "is all null"),
    "all nan": (pa.array([np.nan] * 600), "is all null"),
    "infinite": (pa.array([NUMBER, np.inf, -np.inf] * 200), "holds 400 infinite values; make"),
    "few numbers": (pa.array([NUMBER, 1.0] + [None] * 598), "has 2 values that are not null"),
    "sentences": (pa.array([f"{SENTINEL} said {n}" for n in range(600)]), "free text"),
    "own words": (pa.array([_spelled(n) for n in range(600)]), "no value is shared by 10 rows"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_cannot_be_modelled_is_named_with_the_way_out(
    refused: Callable[..., None], people: pa.Table, tmp_path: Path, name: str
) -> None:
    column, said = COLUMNS[name]
    path = _with(people, column, tmp_path / "t.parquet")
    refused(path, "column 'odd'", said, "leave it out with --drop 'odd'")


def test_a_bad_cell_that_makes_a_csv_column_text_is_not_told(
    refused: Callable[..., None], people: pa.Table, tmp_path: Path
) -> None:
    pa.csv.write_csv(people.append_column("odd", pa.array(np.arange(600) / 7)), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open("a") as file:
        file.write("," * people.num_columns + f"{SENTINEL}\n")
    refused(tmp_path / "t.csv", "column 'odd'", "no value is shared", "--drop 'odd'")


def test_damaged_pages_of_a_parquet_file_are_told_by_file_and_row_groups(
    refused: Callable[..., None], people: pa.Table, tmp_path: Path
) -> None:
    path = _with(people, pa.array([SENTINEL, "b"] * 300), tmp_path / "t.parquet")
    chunk = pq.ParquetFile(path).metadata.row_group(4).column(0)
    data = bytearray(path.read_bytes())
    for place in range(chunk.dictionary_page_offset, chunk.data_page_offset):
        data[place] ^= 0x5A
    path.write_bytes(data)
    refused(path, f"{path}: row groups 0 to 5 cannot be read any more", "put the file back")
