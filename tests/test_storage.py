"""Tables and files: read in numbered fragments, written whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysynth.errors import StorageError, TableError
from raysynth.source import fragments, read
from raysynth.storage import whole, write, write_bytes

SENTINEL = "sentinel-93ab"
TABLE = pa.table({"a": pa.array(range(100)), "b": [f"v{i % 7}" for i in range(100)]})


def test_fragments_number_all_rows_through_files_and_row_groups(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 60), tmp_path / "1.parquet", row_group_size=25)
    pq.write_table(TABLE.slice(60), tmp_path / "2.parquet", row_group_size=30)
    schema, found = fragments(tmp_path)
    assert schema == TABLE.schema
    assert [(f.start, f.rows) for f in found] == [(0, 25), (25, 25), (50, 10), (60, 30), (90, 10)]
    assert pa.concat_tables([f.read() for f in found]).equals(TABLE)
    assert read(tmp_path).equals(TABLE)
    assert found[1].read(["b"]).column_names == ["b"]


def test_a_file_that_vanishes_after_listing_is_told(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    _, (fragment,) = fragments(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(StorageError, match="cannot be read any more"):
        fragment.read()


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "noise.parquet").write_bytes(SENTINEL.encode() + bytes(range(200)))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "folder").mkdir()
    for name, says in {
        "none.parquet": "no such file",
        "none.csv": "no such file",
        "folder": "no such file or folder of .parquet",
        "noise.parquet": "not a Parquet table",
        "empty.csv": "the file is empty",
    }.items():
        with pytest.raises(TableError, match=says) as error:
            read(tmp_path / name)
        assert SENTINEL not in str(error.value)


def test_files_of_different_columns_are_told(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "1.parquet")
    pq.write_table(TABLE.rename_columns(["a", "c"]), tmp_path / "2.parquet")
    with pytest.raises(TableError, match=r"2\.parquet: its columns differ from.*1\.parquet"):
        fragments(tmp_path)


def test_a_row_that_does_not_fit_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"n,m\n1,2\n3,{SENTINEL},5\n")
    with pytest.raises(TableError, match="not a CSV table that can be read") as error:
        read(tmp_path / "t.csv")
    assert SENTINEL not in str(error.value)
    assert error.value.__suppress_context__


def test_the_types_of_a_csv_are_settled_over_the_whole_file(tmp_path: Path) -> None:
    lines = "\n".join(str(i) for i in range(400_000))
    (tmp_path / "t.csv").write_text(f"n\n{lines}\nlate text\n")
    assert read(tmp_path / "t.csv").schema.field("n").type == pa.string()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_are_written_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"t{suffix}"
    assert write((TABLE.slice(start, 30) for start in range(0, 100, 30)), path) == 100
    back = pq.read_table(path) if suffix == ".parquet" else pa.csv.read_csv(path)
    assert back.equals(TABLE)


def test_a_table_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write([TABLE], path)

    def failing() -> Iterator[pa.Table]:
        yield TABLE.slice(0, 5)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write(failing(), path)
    assert pq.read_table(path).equals(TABLE)
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"ends in \.parquet or \.csv"):
        write([TABLE], tmp_path / "t.xlsx")


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file is in the way"):
        write_bytes(tmp_path / "file" / "t", b"")


def test_what_is_not_readable_is_told(
    public: Path, outsider: Callable[[], AbstractContextManager[None]]
) -> None:
    for name in ("t.parquet", "t.csv"):
        write([TABLE], public / name)
        (public / name).chmod(0)
    (public / "folder").mkdir(mode=0)
    for name in ("t.parquet", "t.csv", "folder/t.csv", "folder/t.parquet"):
        with outsider(), pytest.raises(TableError, match=rf"{name}.*: .*permission denied"):
            read(public / name)
    with outsider(), pytest.raises(TableError, match="folder: no such file or folder"):
        read(public / "folder")


def test_what_is_not_writable_is_told(
    public: Path, outsider: Callable[[], AbstractContextManager[None]]
) -> None:
    public.chmod(0o555)
    for name in ("t.parquet", "t.csv", "below/t.parquet"):
        with outsider(), pytest.raises(StorageError, match=f"{name}: .*permission denied"):
            write([TABLE], public / name)
    with outsider(), pytest.raises(StorageError, match="permission denied"):
        write_bytes(public / "small", b"")
    assert not list(public.iterdir())


def test_who_reads_a_file_reads_it_to_its_end_while_another_takes_its_place(
    tmp_path: Path,
) -> None:
    write_bytes(tmp_path / "f", b"old" * 1_000)
    with (tmp_path / "f").open("rb", buffering=0) as file:
        head = file.read(3)
        write_bytes(tmp_path / "f", b"new" * 10)
        assert head + file.read() == b"old" * 1_000
    assert (tmp_path / "f").read_bytes() == b"new" * 10


def test_a_small_file_appears_whole(tmp_path: Path) -> None:
    with whole(tmp_path / "f") as file:
        file.write(np.zeros(10, np.uint8).tobytes())
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f").stat().st_size == 10
