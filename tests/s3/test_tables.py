"""Tables in a bucket are listed and read as on this machine, also while the store goes away."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raysynth.errors import StorageError
from raysynth.listing import listing
from raysynth.selection import WHOLE, Selection
from raysynth.source import Source, read
from raysynth.storage import Place, write, write_bytes
from tests.s3.line import Line, interruption

TABLE = pa.table({"a": pa.array(range(1_000)), "b": [f"v{i % 7}" for i in range(1_000)]})


@pytest.fixture
def parts(bucket: Place) -> Place:
    """The table in partitions below a folder, beside what is no data."""
    for number, year in enumerate((2023, 2024)):
        for part in range(5):
            rows = TABLE.slice(500 * number + 100 * part, 100)
            write([rows], bucket / "t" / f"year={year}" / f"part-{part}.parquet")
    write_bytes(bucket / "t" / "_SUCCESS", b"")
    write_bytes(bucket / "t" / "year=2024" / ".part-9.parquet", b"no table")
    return bucket / "t"


def test_folders_globs_and_partitions(parts: Place) -> None:
    years = pa.array([2023] * 500 + [2024] * 500)
    whole = TABLE.append_column("year", years)
    assert read(parts).equals(whole)
    assert read(f"{parts}/year=*/part-[01].parquet").num_rows == 400
    assert read(f"{parts}/**/part-3.parquet").equals(
        pa.concat_tables([whole.slice(300, 100), whole.slice(800, 100)])
    )
    assert read(f"{parts}/year=2024").equals(TABLE.slice(500))
    part = Selection(("b",), "year == 2024 and a < 600", 0.5)
    assert read(parts, part).equals(part.apply(whole))


def test_csv_files(bucket: Place, tmp_path: Path) -> None:
    write([TABLE.slice(0, 400)], bucket / "c" / "1.csv")
    write([TABLE.slice(400)], tmp_path / "2.csv")
    write_bytes(bucket / "c" / "2.csv.gz", gzip.compress((tmp_path / "2.csv").read_bytes()))
    assert read(bucket / "c").equals(TABLE)


def test_an_object_that_changes_or_goes_after_it_was_listed_is_an_error(parts: Place) -> None:
    found = Source.of(parts)
    (last,) = found.units
    write([TABLE.slice(0, 7)], parts / "year=2024" / "part-1.parquet")
    with pytest.raises(StorageError, match=r"part-1\.parquet: .*changed since it was listed"):
        list(found.batches(last, ["a"], WHOLE, None))
    found = Source.of(parts)
    (parts / "year=2023" / "part-2.parquet").remove()
    with pytest.raises(StorageError, match=r"part-2\.parquet: .*gone since it was listed"):
        list(found.batches(found.units[0], ["a"], WHOLE, None))


@pytest.mark.parametrize("name", ["large.parquet", "large.csv"])
def test_a_large_file_is_read_on_where_the_store_went_away(
    bucket: Place,
    store: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    rows = 2**17
    table = pa.table({"n": np.random.default_rng(0).permutation(rows), "m": np.arange(rows)})
    write([table], bucket / name)
    line = Line(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    line.watches = [interruption(line, store, f"GET /{bucket.bucket}/{name}", turn=2)]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    monkeypatch.setenv("RAYSYNTH_RETRY_S", "200")
    assert read(bucket / name).equals(table)
    assert line.watches[0].seen
    assert line.refused >= 3
    line.close()


def test_a_store_without_the_table_says_so(bucket: Place) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        listing(bucket / "none")
    with pytest.raises(ValueError, match="no such file or folder"):
        listing(f"{bucket}/*.parquet")
