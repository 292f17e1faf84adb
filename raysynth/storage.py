"""Where things are kept: tables and small files, written whole or not at all.

A `Place` is on this machine or in a bucket, and everything here does the same with either.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv, fs

from raysynth.errors import ABSENT, AbsentError, StorageError

if TYPE_CHECKING:  # most processes never see a bucket, and do not wait for its client
    from raysynth.s3 import Found

TABLES = (".parquet", ".csv")
_S3 = "s3://"

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A file or folder, wherever it lies: a path on this machine, or s3://bucket/key. Frozen text.

    What it takes to reach it (connections, credentials) is looked up in the
    process that reaches for it, so it never travels in a plan, a log or a run. `text` is what to
    pass on; as a string it reads as the user gave it, for messages.

    Each method raises `StorageError` for what cannot be reached, `AbsentError` for what is not
    there. In a bucket, an operation is tried again for as long as `client.patiently` has it.
    """

    text: str
    shown: str = field(default="", compare=False)

    @classmethod
    def of(cls, path: "str | os.PathLike[str] | Place") -> Self:
        """The place a user means; relative paths are taken from this process's folder."""
        if isinstance(path, Place):
            return cls(path.text, path.shown)
        text = os.fspath(path)
        if not text.startswith(_S3):
            if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text):
                said = "expected a path on this machine or s3://bucket/key"
                raise StorageError(f"{scheme[1]}://...: {said}")
            return cls(str(Path(text).absolute()), text)
        bucket = text.removeprefix(_S3).partition("/")[0]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
            # Not repeated: some put credentials there.
            raise StorageError(
                "s3://...: expected s3://bucket/key, and nothing but the name of a bucket before "
                "the key; credentials come from the environment, a profile or a role"
            )
        return cls(text.rstrip("/"), text.rstrip("/"))

    def __truediv__(self, name: str) -> Self:
        text = f"{self.text.rstrip('/')}/{name}"
        return type(self)(text, text if self.bucket else str(PurePosixPath(str(self), name)))

    def __str__(self) -> str:
        return self.shown or self.text

    @property
    def bucket(self) -> str:
        """The bucket it is in; empty on this machine."""
        return self.text.removeprefix(_S3).partition("/")[0] if self.text.startswith(_S3) else ""

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return self.text.removeprefix(_S3).partition("/")[2]

    @property
    def local(self) -> Path:
        """Its path on this machine, as the user gave it."""
        if self.bucket:
            raise StorageError(f"{self}: lies in a bucket; expected a path on this machine")
        return Path(self.shown or self.text)

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
        """The filesystem it is in, opened in this process. Never to be pickled: it holds keys."""
        if not self.bucket:
            return fs.LocalFileSystem()
        from raysynth.client import filesystem

        return filesystem(self.bucket)

    @property
    def path(self) -> str:
        """Its path within `filesystem`."""
        return self.text.removeprefix(_S3)

    def info(self) -> fs.FileInfo:
        """What there is: its type (`NotFound` where there is nothing), size and time."""
        if not self.bucket:
            with _told(self, "read"):
                return self.filesystem.get_file_info(self.path)
        from raysynth import s3

        found = s3.find(self.bucket, self.key)
        if found is None:
            return fs.FileInfo(self.path, fs.FileType.NotFound)
        return _info(self.bucket, found)

    def exists(self) -> bool:
        """Whether there is a file, or a folder with something in it."""
        return self.info().type is not fs.FileType.NotFound

    def files(self) -> list[tuple[Self, fs.FileInfo]]:
        """Every file below this folder, at any depth, by name. Complete, or an error."""
        if self.bucket:
            from raysynth import s3

            prefix = f"{self.key}/" if self.key else ""
            found = [_info(self.bucket, one) for one in s3.listed(self.bucket, prefix)]
        else:
            with _told(self, "listed"):
                selector = fs.FileSelector(self.path, recursive=True)
                found = [one for one in self.filesystem.get_file_info(selector) if one.is_file]
        places = ((self / info.path.removeprefix(f"{self.path}/"), info) for info in found)
        return sorted(places, key=lambda pair: pair[0].text)

    def open(self) -> pa.NativeFile:
        """The file, for reading anywhere in it."""
        if not self.bucket:
            with _told(self, "read"):
                return self.filesystem.open_input_file(self.path)
        from raysynth import s3

        return pa.PythonFile(s3.Reader(self.bucket, self.key), mode="r")

    def read(self, make: Callable[[pa.NativeFile], T]) -> T:
        """What `make` makes of the open file. What it raises passes through."""
        with self.open() as file:
            return make(file)

    def read_bytes(self) -> bytes:
        """All of a small file."""
        if self.bucket:
            from raysynth import s3

            return s3.get(self.bucket, self.key)
        with _told(self, "read"):
            return Path(self.text).read_bytes()

    def remove(self, but: Self | None = None) -> None:
        """Delete the file, or the folder with all that is in it `but` one file.

        Nothing happens where there is nothing.
        """
        if self.bucket:
            from raysynth import s3

            found = [one.key for one in s3.listed(self.bucket, f"{self.key}/")]
            kept = None if but is None else but.key
            s3.delete(self.bucket, [key for key in (*found, self.key) if key != kept])
        elif but is not None:
            for file in (file for file, _ in self.files() if file != but):
                file.remove()
        else:
            with _told(self, "deleted"), contextlib.suppress(FileNotFoundError):
                path = Path(self.text)
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def write(tables: Iterable[pa.Table], path: str | os.PathLike[str] | Place) -> int:
    """Write tables of one schema, one after the other, to a .parquet or .csv file; count its rows.

    The file appears whole when the last table is in; memory holds one table at a time. Raises
    `StorageError` where it cannot be written or the disk is full.
    """
    place = Place.of(path)
    if place.suffix not in TABLES:
        raise StorageError(f"{place}: expected a name that ends in {' or '.join(TABLES)}")
    rows = 0
    with whole(place) as file:
        writer = None
        try:
            for table in tables:
                writer = writer or _writer(file, place.suffix, table.schema)
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows


def _writer(file: IO[bytes], suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".csv":
        return csv.CSVWriter(file, schema)
    return pq.ParquetWriter(file, schema, compression="zstd")


@contextlib.contextmanager
def whole(path: str | os.PathLike[str] | Place) -> Iterator[IO[bytes]]:
    """A file to write to that is at `path` when all is written, or leaves nothing behind.

    What the operating system or the store says becomes a `StorageError` with a remedy.
    """
    place = Place.of(path)
    if not place.bucket:
        with _whole_on_disk(place) as file:
            yield file
        return
    from raysynth import s3

    upload = s3.Upload(place.bucket, place.key)
    try:
        yield cast(IO[bytes], upload)
        upload.finish()
    except BaseException:
        upload.abort()
        raise


@contextlib.contextmanager
def _whole_on_disk(place: Place) -> Iterator[IO[bytes]]:
    path = Path(place.text)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {reason(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[IO[bytes]]:
    """A log on this machine to append to; `StorageError` where its place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from None
    with file:
        yield file


def write_bytes(path: str | os.PathLike[str] | Place, data: bytes) -> None:
    """Write a small file, whole or not at all; `StorageError` where that fails."""
    with whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def _told(place: Place, doing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise AbsentError(f"{place}: cannot be {doing}: {ABSENT}") from None
    except OSError as error:
        raise StorageError(f"{place}: cannot be {doing}: {reason(error)}") from None


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


def _info(bucket: str, found: "Found") -> fs.FileInfo:
    path = f"{bucket}/{found.key}".rstrip("/")
    if found.size is None:
        return fs.FileInfo(path, fs.FileType.Directory)
    return fs.FileInfo(path, fs.FileType.File, size=found.size, mtime=found.time)
