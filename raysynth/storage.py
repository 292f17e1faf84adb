"""Where things are kept: tables and small files, written whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyarrow import fs

from raysynth.errors import StorageError

TABLES = (".parquet", ".csv")


@dataclass(frozen=True)
class Place:
    """A file or folder, wherever it lies. A frozen value that pickles as its text alone.

    What it takes to reach it (connections, credentials) is looked up in the process that reaches
    for it, so it never travels in a plan, a log or a run.
    """

    text: str

    @classmethod
    def of(cls, path: "str | os.PathLike[str] | Place") -> Self:
        """The place a user means; relative paths are taken from this process's folder."""
        return cls(path.text if isinstance(path, Place) else str(Path(path).absolute()))

    def __truediv__(self, name: str) -> Self:
        return type(self)(f"{self.text.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of its name, in lower case, with the dot; empty where it has none."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem it is in, opened in this process."""
        return fs.LocalFileSystem()

    @property
    def path(self) -> str:
        """Its path within `filesystem`."""
        return self.text

    def info(self) -> fs.FileInfo:
        """What there is: its type (`NotFound` where there is nothing), size and time."""
        return self.filesystem.get_file_info(self.path)

    def files(self) -> list[tuple[Self, fs.FileInfo]]:
        """Every file below this folder, at any depth, by name."""
        selector = fs.FileSelector(self.path, recursive=True)
        found = [info for info in self.filesystem.get_file_info(selector) if info.is_file]
        places = ((self / info.path.removeprefix(f"{self.path}/"), info) for info in found)
        return sorted(places, key=lambda pair: pair[0].text)

    def open(self) -> pa.NativeFile:
        """The file, for reading anywhere in it."""
        return self.filesystem.open_input_file(self.path)


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
