"""Tables and files: written whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysynth.errors import StorageError
from raysynth.storage import whole, write, write_bytes

TABLE = pa.table({"a": pa.array(range(100)), "b": [f"v{i % 7}" for i in range(100)]})


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
