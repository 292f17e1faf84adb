"""Files: tables to read and write, and small files written whole or not at all.

A table is a Parquet file, a folder of them, or a CSV file. It is read in fragments (row groups)
numbered through, so every row has a stable id whatever reads it.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysynth.errors import StorageError, TableError

TABLES = (".parquet", ".csv")


@dataclass(frozen=True)
class Fragment:
    """A row group of a Parquet file: `rows` rows, the first of which has the id `start`."""

    path: str
    group: int
    start: int
    rows: int

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The fragment's rows. Raises `StorageError` where the file is gone or damaged."""
        try:
            with pq.ParquetFile(self.path) as file:
                return file.read_row_group(self.group, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{self.path}: row group {self.group} cannot be read any more "
                f"({type(error).__name__}); put the file back as it was and repeat the command"
            ) from None


def files_of(path: str | Path) -> list[Path]:
    """The files of a table, in name order. Raises `TableError` where there is none."""
    path = Path(path)
    try:
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        found = bool(files) and path.exists()
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {reason(error)}") from None
    if not found:
        raise TableError(f"{path}: no such file or folder of .parquet files; check the path")
    return files


def fragments(path: str | Path) -> tuple[pa.Schema, list[Fragment]]:
    """The Arrow schema of a Parquet file or folder, and its row groups in name order.

    Raises `TableError` where there is no such file, it is no Parquet, or schemas differ.
    """
    schema, found, start = None, [], 0
    files = files_of(path)
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise TableError(
                f"{file}: not a Parquet table ({reason(error)}); expected a .parquet or .csv file"
            ) from None
        with parquet:
            if schema is None:
                schema = parquet.schema_arrow.remove_metadata()
            elif not schema.equals(parquet.schema_arrow.remove_metadata()):
                raise TableError(f"{file}: its columns differ from those of {files[0]}")
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                found.append(Fragment(str(file.absolute()), group, start, rows))
                start += rows
    return schema, found


def read(path: str | Path) -> pa.Table:
    """A whole table into memory. Raises `TableError` where it is absent or no table."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    schema, found = fragments(path)
    return pa.concat_tables([fragment.read() for fragment in found] or [schema.empty_table()])


def _read_csv(path: Path) -> pa.Table:
    try:
        if not path.is_file():
            raise TableError(f"{path}: no such file; check the path")
        if path.stat().st_size == 0:
            raise TableError(f"{path}: the file is empty; expected a header line and rows")
        # Arrow's own error quotes the cell or line it stumbles over, so it is not passed on.
        return pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(strings_can_be_null=True),
        )
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{path}: not a CSV table that can be read ({reason(error)}); expected a header line, "
            "commas, and one type a column; or convert it to Parquet"
        ) from None


def write(tables: Iterable[pa.Table], path: str | Path) -> int:
    """Write tables of one schema, one after the other, to a .parquet or .csv file; count its rows.

    The file appears whole when the last table is in; memory holds one table at a time. Raises
    `StorageError` where it cannot be written or the disk is full.
    """
    path = Path(path)
    if path.suffix.lower() not in TABLES:
        raise StorageError(f"{path}: expected a name that ends in {' or '.join(TABLES)}")
    rows = 0
    with whole(path) as part:
        writer = None
        try:
            for table in tables:
                writer = writer or _writer(part, path.suffix.lower(), table.schema)
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows


def _writer(part: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".csv":
        return pa.csv.CSVWriter(str(part), schema)
    return pq.ParquetWriter(str(part), schema, compression="zstd")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` at the end, or leaves nothing behind.

    Turns what the operating system says into a `StorageError` with a remedy.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[IO[bytes]]:
    """A log to append to; `StorageError` where its place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from None
    with file:
        yield file


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all; `StorageError` where that fails."""
    with whole(path) as part:
        part.write_bytes(data)


def reason(error: Exception) -> str:
    """What an error of the operating system means for the user, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full; free some space and repeat the command, nothing done is lost"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "permission denied; choose another place or change its rights"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "a file is in the way of a folder; choose another place"
    return os.strerror(number) if number else type(error).__name__
