"""CSV tables, streamed, with types settled over all of their rows.

Types are not guessed from the first block, where the rest would fail or lose digits: one pass over
the text finds, for each column, the types that fit every value, a second one converts. Both read
blocks of `BLOCK` bytes; memory holds one, as text. Of the types that fit the first counts:

    boolean      true and false, as True, TRUE, ...
    int64        whole numbers; a leading zero (00123) makes a column text, as do more digits than
                 64 bits hold, which a float would lose
    float64      numbers
    date32       2024-01-31
    timestamp    2024-01-31 12:00:00, in the coarsest of s, ms, us, ns that holds all; where every
                 value has a zone, in UTC
    string       everything else, as it stands

Space around a value is not looked at, save in text. A value that is empty, or one of the usual
spellings of null (NA, N/A, NULL, null, nan, NaN, #N/A, ...), is null, quoted or not. A column of
nulls only has the type null.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from raysynth.errors import TableError
from raysynth.listing import File, check_names
from raysynth.storage import reason

BLOCK = 8 * 2**20

_TRUTHS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE"])
_UNITS = ("s", "ms", "us", "ns")
_PLAIN = [pa.timestamp(unit) for unit in _UNITS]
_ZONED = [pa.timestamp(unit, tz="UTC") for unit in _UNITS]
TYPES = (pa.bool_(), pa.int64(), pa.float64(), pa.date32(), *_PLAIN, *_ZONED)

# Who fits a type fits all of these; it saves trying them.
_IMPLIED = {
    pa.int64(): {pa.float64()},
    pa.date32(): set(_PLAIN[:3]),
    **{
        one: set(chain[place + 1 : 3])
        for chain in (_PLAIN, _ZONED)
        for place, one in enumerate(chain)
    },
}
_PADDED = r"^[-+]?0\d"
_DIGITS = r"^[-+]?\d{16,}$"


def settle(files: Sequence[File]) -> pa.Schema:
    """The columns of CSV files of one header, each with the type that fits all of its values.

    Raises `TableError` where a file is no CSV, or their headers differ.
    """
    names = header(files[0])
    fitting: list[set[pa.DataType]] = [set(TYPES) for _ in names]
    seen = [False] * len(names)
    for file in files:
        if header(file) != names:
            raise TableError(
                f"{file.path}: its header differs from that of {files[0].path}; every CSV file of "
                "a table needs the same columns in the same order"
            )
        for block in _blocks(file, names):
            for place, column in enumerate(block.columns):
                values = column.drop_null()
                if len(values) and fitting[place]:
                    fitting[place] = _fitting(values, fitting[place])
                seen[place] |= len(values) > 0
    kinds = (
        _first(fits) if known else pa.null() for fits, known in zip(fitting, seen, strict=True)
    )
    return pa.schema(list(zip(names, kinds, strict=True)))


def tables(
    files: Sequence[File], schema: pa.Schema, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of the files in order, by blocks; only `columns` have cells, where they are given.

    Raises `TableError` where a file is no CSV, `StorageError` where it changed since it was listed.
    """
    for file in files:
        for block in _blocks(file, schema.names):
            arrays = [
                _converted(column, field.type)
                if columns is None or field.name in columns
                else pa.nulls(len(column), field.type)
                for column, field in zip(block.columns, schema, strict=True)
            ]
            yield pa.table(arrays, schema=schema)
        file.check()


def header(file: File) -> list[str]:
    """The column names of a CSV file."""
    with _told(file), _text(file) as stream:
        # Not all that is read ahead need be text for the header to be.
        text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        names = next((line for line in csv.reader(text) if line), [])
        "".join(names).encode()
    if not names:
        raise TableError(f"{file.path}: the file is empty; expected a header line and rows")
    check_names(file.path, names)
    return names


@contextmanager
def _text(file: File) -> Iterator[pa.NativeFile]:
    with file.open() as stream:
        packed = file.path.lower().endswith(".gz")
        yield pa.CompressedInputStream(stream, "gzip") if packed else stream


def _blocks(file: File, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The file's rows, every cell as text."""
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    with _told(file, ragged), _text(file) as stream:
        yield from pa.csv.open_csv(
            stream,
            # On one thread, or a row that does not fit would have no number.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(
                strings_can_be_null=True, column_types=dict.fromkeys(names, pa.string())
            ),
        )


@contextmanager
def _told(file: File, ragged: Sequence[Any] = ()) -> Iterator[None]:
    """Turn what stops the reading into an error of ours; Arrow's own quotes cells and lines."""
    try:
        yield
    except (UnicodeError, csv.Error):
        raise TableError(
            f"{file.path}: not a CSV table that can be read: its header is no UTF-8 text; save it "
            "as UTF-8"
        ) from None
    except (OSError, EOFError, pa.ArrowException) as error:
        raise TableError(
            f"{file.path}: not a CSV table that can be read: {_problem(error, ragged)}; expected a "
            "header line, commas, and UTF-8 text; or convert it to Parquet"
        ) from None


def _problem(error: Exception, ragged: Sequence[Any]) -> str:
    """What went wrong, with the row's number where it has one and nothing of what is in it."""
    if ragged:
        row = ragged[0]
        return (
            f"row {row.number} (the header is row 1) has {row.actual_columns} cells where "
            f"{row.expected_columns} were expected"
        )
    said = str(error)
    if found := re.search(
        r"#(\d+): Row #(\d+): CSV conversion error to string: invalid UTF8", said
    ):
        return f"row {found[2]} (the header is row 1) holds text that is not UTF-8"
    if "straddl" in said or "out of sync" in said:
        return f"a row is longer than {BLOCK // 2**20} MiB, or a quote is not closed"
    if isinstance(error, OSError) and getattr(error, "errno", None) is None:
        return "it is damaged or incomplete"
    return reason(error)


def _fitting(values: pa.Array, candidates: set[pa.DataType]) -> set[pa.DataType]:
    """Those of the candidate types that fit all of `values`, which are text without null."""
    trimmed = pc.utf8_trim_whitespace(values)
    fits: set[pa.DataType] = set()
    for kind in TYPES:
        if kind in candidates and (kind in fits or _fits(trimmed, kind)):
            fits |= {kind} | (_IMPLIED.get(kind, set()) & candidates)
    return fits


def _fits(values: pa.Array, kind: pa.DataType) -> bool:
    if pa.types.is_boolean(kind):
        return bool(pc.all(pc.is_in(values, value_set=_TRUTHS)).as_py())
    if not _casts(values.slice(0, 1), kind) or not _casts(values, kind):
        return False
    if pa.types.is_integer(kind):
        return not pc.any(pc.match_substring_regex(values, _PADDED)).as_py()
    if pa.types.is_floating(kind):
        odd = pc.match_substring_regex(values, _PADDED)
        long = values.filter(pc.match_substring_regex(values, _DIGITS))
        return not pc.any(odd).as_py() and _casts(long, pa.int64())
    return True


def _casts(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _first(fits: set[pa.DataType]) -> pa.DataType:
    return next((kind for kind in TYPES if kind in fits), pa.string())


def _converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return values
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.utf8_lower(trimmed).cast(kind) if pa.types.is_boolean(kind) else trimmed.cast(kind)
