"""The files of a table: listed once, and held to that list whenever they are read.

A table is a file, a folder of files at any depth, or a glob (`part-*.parquet`, `**`, `year=202?`;
what matches may be a folder, too). In folders and globs, files that end in .parquet, .csv or
.csv.gz are data; names that start with "." or "_" are not. Below a folder, `key=value` folders are
Hive partitions: their keys are columns that the files themselves do not hold.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from raysynth.errors import StorageError, TableError
from raysynth.schema import quoted
from raysynth.storage import Place, reason

Format = Literal["parquet", "csv"]

ENDINGS: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
NULL = "__HIVE_DEFAULT_PARTITION__"
_MAGIC = re.compile(r"[*?\[]")
_SECOND = 10**9


@dataclass(frozen=True)
class File:
    """A file as it was listed; `keys` are the (name, value) pairs of its Hive partition."""

    path: str
    size: int
    time_ns: int | None
    keys: tuple[tuple[str, str], ...] = ()

    def open(self) -> pa.NativeFile:
        """The file, for reading. Raises `StorageError` where it is not what was listed."""
        self.check()
        return self.place.open()

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place.of(self.path)

    def check(self) -> None:
        """Raise `StorageError` where the file is gone, or of another size or time."""
        info = self.place.info()
        if info.type == fs.FileType.NotFound:
            raise StorageError(
                f"{self.path}: cannot be read any more, it is gone since it was listed; put the "
                "file back as it was and repeat the command"
            )
        if info.size != self.size or _differ(self.time_ns, info.mtime_ns):
            raise StorageError(
                f"{self.path}: cannot be read any more, it has changed since it was listed "
                f"({self.size:,} bytes then, {info.size:,} now); put the file back as it was and "
                "repeat the command"
            )


@dataclass(frozen=True)
class Listing:
    """The files of one table, all of one format, in name order."""

    format: Format
    files: tuple[File, ...]

    @property
    def keys(self) -> pa.Schema:
        """The Hive partition keys as columns: int64 where every value is whole, else string.

        Raises `TableError` where the files do not all lie in partitions of the same keys.
        """
        first = self.files[0]
        names = [name for name, _ in first.keys]
        for file in self.files:
            mine = [name for name, _ in file.keys]
            if mine != names or len({*mine}) < len(mine):
                raise TableError(
                    f"{file.path}: lies in a partition by {_named(mine)}, but {first.path} by "
                    f"{_named(names)}; every file needs the same keys, each once, in one order"
                )
        values = ([file.keys[place][1] for file in self.files] for place in range(len(names)))
        return pa.schema([(name, _type(found)) for name, found in zip(names, values, strict=True)])


def listing(path: "str | Path | Place") -> Listing:
    """The files of the table at `path`. Raises `TableError` where there is none."""
    place = Place.of(path)
    try:
        found = _found(place)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: cannot be read: {reason(error)}") from None
    if not found:
        raise TableError(
            f"{path}: no such file or folder of .parquet files (or .csv, .csv.gz); check the path"
        )
    formats = {ending(file.path) or "parquet" for file in found}
    if len(formats) > 1:
        raise TableError(
            f"{path}: holds Parquet and CSV files side by side; expected one of them: name them by "
            "a glob such as '*.parquet'"
        )
    return Listing(formats.pop(), tuple(sorted(found, key=lambda file: file.path)))


def check_names(path: str, names: Sequence[str]) -> None:
    """Refuse, by `TableError`, a file of which two columns have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(
            f"{path}: column names must be unique, but {quoted(twice)} occurs more than once; "
            "rename one of them"
        )


def ending(path: str) -> Format | None:
    """The format that a file's name tells; None where it tells none."""
    name = path.lower()
    return next((form for end, form in ENDINGS.items() if name.endswith(end)), None)


def _found(place: Place) -> list[File]:
    there = place.info()
    if there.type == fs.FileType.File:
        return [_file(place, there, ())]
    if there.type == fs.FileType.Directory:
        found = _below(place, ())
    elif _MAGIC.search(place.text):
        root, pattern = _split(place)
        found = _matched(root, (), pattern)
    else:
        return []
    return [
        _file(at, info, parts[:-1])
        for at, parts, info in found
        if ending(at.text) and not any(map(_hidden, parts))
    ]


_Found = tuple[Place, tuple[str, ...], fs.FileInfo]


def _below(folder: Place, above: tuple[str, ...]) -> Iterator[_Found]:
    for place, info in folder.files():
        inside = place.text.removeprefix(folder.text).strip("/").split("/")
        yield place, (*above, *inside), info


def _matched(folder: Place, above: tuple[str, ...], pattern: tuple[str, ...]) -> Iterator[_Found]:
    """Files below `folder` that the pattern matches, a folder being matched with all below it."""
    if folder.bucket or not pattern or pattern[0] == "**":
        for found in _below(folder, above):
            if _matches(found[1][len(above) :], pattern):
                yield found
        return
    # Folder by folder, so that what the pattern does not name is not walked through.
    for info in folder.filesystem.get_file_info(fs.FileSelector(folder.path, recursive=False)):
        name = info.base_name
        if not fnmatchcase(name, pattern[0]):
            continue
        if info.type == fs.FileType.Directory:
            yield from _matched(folder / name, (*above, name), pattern[1:])
        elif len(pattern) == 1:
            yield folder / name, (*above, name), info


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _split(place: Place) -> tuple[Place, tuple[str, ...]]:
    """The deepest folder without a wildcard, and the rest."""
    parts = place.text.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    root = Place.of("/".join(parts[:first]) or "/")
    return root, tuple(part for part in parts[first:] if part)


def _file(place: Place, info: fs.FileInfo, folders: Sequence[str]) -> File:
    keys = (part.partition("=") for part in folders if "=" in part[1:])
    named = tuple((unquote(name), unquote(value)) for name, _, value in keys)
    return File(place.text, info.size, info.mtime_ns, named)


def _hidden(name: str) -> bool:
    # A partition whose key starts with an underscore holds rows for all that.
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _type(values: Sequence[str]) -> pa.DataType:
    known = [value for value in values if value != NULL]
    whole = all(re.fullmatch(r"-?\d{1,18}", value, re.ASCII) for value in known)
    return pa.int64() if known and whole else pa.string()


def _differ(then: int | None, now: int | None) -> bool:
    """Whether times differ. Object stores list fractions of a second that they forget later."""
    if then is None or now is None:
        return False
    exact = then % _SECOND and now % _SECOND
    return then != now if exact else abs(then - now) >= _SECOND


def _named(names: Sequence[str]) -> str:
    return quoted(names) or "no key"
