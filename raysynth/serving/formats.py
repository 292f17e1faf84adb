"""Tables as bytes that leave while the rest is still being drawn: one entry a format.

Each writer takes pieces of a table and gives the bytes they come to, so memory holds one piece
however many rows are asked for. The same pieces give the same bytes. Sources of the media types:
https://www.iana.org/assignments/media-types for Arrow, Parquet, CSV (RFC 4180) and JSON (RFC 8259);
NDJSON has no registered one, `application/x-ndjson` is what its specification names.
"""

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from raysynth.arrays import is_text, is_time

MOST = 2**20  # bytes handed on at once
GROUP = 100_000  # rows of a Parquet row group at least, so that a large table's footer stays small


class Chunk(NamedTuple):
    """Some bytes of an answer, and how many rows they come to, rounded up."""

    data: bytes
    rows: int


class Sink(io.RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def tell(self) -> int:
        """Bytes written so far, taken or not."""
        return self._place

    def write(self, data: Any) -> int:
        """Keep a copy of `data`."""
        kept = bytes(data)
        self._written.append(kept)
        self._place += len(kept)
        return len(kept)

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken = b"".join(self._written)
        self._written.clear()
        return taken


class Writer(ABC):
    """A format at work on one table; `sink` has what it has written."""

    media: ClassVar[str]
    suffix: ClassVar[str]
    others: ClassVar[tuple[str, ...]] = ()  # further media types it answers to

    def __init__(self, schema: pa.Schema) -> None:
        self.sink = Sink()
        self.schema = schema

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Write a piece of the table, or keep it until `close` at the latest."""

    @abstractmethod
    def close(self) -> None:
        """Write the end."""


class Arrow(Writer):
    """An Arrow IPC stream: every type comes back as it was."""

    media, suffix = "application/vnd.apache.arrow.stream", "arrows"

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._stream = pa.ipc.new_stream(self.sink, schema)

    def write(self, table: pa.Table) -> None:
        """One record batch a piece."""
        for batch in table.combine_chunks().to_batches():
            self._stream.write_batch(batch)

    def close(self) -> None:
        """The marker by which a reader knows that nothing is missing."""
        self._stream.close()


class Parquet(Writer):
    """Parquet, its row groups of `GROUP` rows or more."""

    media, suffix = "application/vnd.apache.parquet", "parquet"
    others = ("application/parquet", "application/x-parquet")

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._file = pq.ParquetWriter(self.sink, schema, compression="zstd")
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Keep the piece until a group is full."""
        self._waiting.append(table)
        if sum(one.num_rows for one in self._waiting) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            whole = pa.concat_tables(self._waiting)
            self._file.write_table(whole, row_group_size=max(1, whole.num_rows))
            self._waiting.clear()

    def close(self) -> None:
        """The last group and the footer."""
        self._flush()
        self._file.close()


class Csv(Writer):
    """CSV with a header; a null is empty and an empty text is quoted."""

    media, suffix = "text/csv", "csv"

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._plain = pa.schema([(field.name, _written_as(field.type)) for field in schema])
        self._file = csv.CSVWriter(self.sink, self._plain)

    def write(self, table: pa.Table) -> None:
        """Its lines."""
        self._file.write_table(table.cast(self._plain))

    def close(self) -> None:
        """Nothing marks the end: a client counts rows, or trusts that HTTP says when it is cut."""
        self._file.close()


class Lines(Writer):
    """NDJSON: an object a line. Times are ISO 8601 text, durations whole numbers of their unit."""

    media, suffix = "application/x-ndjson", "ndjson"
    others = ("application/ndjson", "application/jsonl", "application/x-jsonlines")

    def write(self, table: pa.Table) -> None:
        """Its lines."""
        self.sink.write("".join(f"{text}\n" for text in objects(table)).encode())

    def close(self) -> None:
        """Nothing to add."""


class Json(Writer):
    """One JSON array of objects, a row each."""

    media, suffix = "application/json", "json"

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._before = "[\n"

    def write(self, table: pa.Table) -> None:
        """Its rows, with what goes between them."""
        if table.num_rows:
            self.sink.write((self._before + ",\n".join(objects(table))).encode())
            self._before = ",\n"

    def close(self) -> None:
        """Close the array."""
        self.sink.write(b"[]\n" if self._before == "[\n" else b"\n]\n")


FORMATS: tuple[type[Writer], ...] = (Csv, Arrow, Parquet, Lines, Json)


def encode(tables: Iterable[pa.Table], schema: pa.Schema, form: type[Writer]) -> Iterator[Chunk]:
    """The bytes of tables of one schema, one after the other, `MOST` at once at most."""
    writer, rows = form(schema), 0
    for table in tables:
        writer.write(table)
        rows += table.num_rows
        if data := writer.sink.take():
            yield from _cut(data, rows)
            rows = 0
    writer.close()
    yield from _cut(writer.sink.take(), rows)


def choose(accept: str | None) -> type[Writer] | None:
    """The format that an `Accept` header likes best (RFC 9110, 12.5.1); CSV where it says nothing.

    None where it names no format there is.
    """
    wishes = _wishes(accept or "*/*")
    liked = [(_liking(form, wishes), -place) for place, form in enumerate(FORMATS)]
    best, place = max(liked)
    return FORMATS[-place] if best > 0 else None


def objects(table: pa.Table) -> list[str]:
    """A JSON object for each row, column by column: no cell is a Python object but for text."""
    if not table.num_rows:
        return []
    if not table.num_columns:
        return ["{}"] * table.num_rows
    parts: list[Any] = []
    for place, (name, column) in enumerate(zip(table.schema.names, table.columns, strict=True)):
        key = f"{', ' if place else '{'}{json.dumps(name, ensure_ascii=False)}: "
        parts += [pa.scalar(key, pa.large_string()), _json(column.combine_chunks())]
    parts.append(pa.scalar("}", pa.large_string()))
    joined = pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))
    rows: list[str] = joined.to_pylist()
    return rows


def _json(values: pa.Array) -> pa.Array:
    """Values (B,) as JSON text."""
    kind = _written_as(values.type)
    values = values.cast(kind)
    if is_text(kind):
        coded = values.dictionary_encode()
        words = [json.dumps(word, ensure_ascii=False) for word in coded.dictionary.to_pylist()]
        text = pa.array(words, pa.large_string()).take(coded.indices)
    elif is_time(kind) and not pa.types.is_integer(kind):
        text = pc.replace_substring(values.cast(pa.large_string()), " ", "T")
        text = pc.binary_join_element_wise('"', text, '"', pa.scalar("", pa.large_string()))
    else:
        text = values.cast(pa.large_string())
        if pa.types.is_floating(kind):  # JSON knows neither NaN nor infinities
            text = pc.if_else(pc.is_finite(values), text, pa.scalar(None, pa.large_string()))
    return pc.fill_null(text, "null")


def _written_as(kind: pa.DataType) -> pa.DataType:
    """The type in which text formats write what is of `kind`."""
    if pa.types.is_dictionary(kind):
        return _written_as(kind.value_type)
    if pa.types.is_duration(kind):
        return pa.int64()
    return pa.string() if kind == pa.string_view() else kind


def _cut(data: bytes, rows: int) -> Iterator[Chunk]:
    """`data` in chunks. Each counts for rows, so that nobody has the first of them for nothing."""
    counted = 0
    for start in range(0, len(data), MOST):
        piece = data[start : start + MOST] if len(data) > MOST else data
        so_far = -(-rows * min(start + MOST, len(data)) // len(data))
        yield Chunk(piece, so_far - counted)
        counted = so_far


def _wishes(accept: str) -> dict[str, float]:
    """Media ranges of an `Accept` header and how much each is liked, 0 to 1."""
    wishes: dict[str, float] = {}
    for part in accept.split(","):
        media, *options = (text.strip().lower() for text in part.split(";"))
        liked = 1.0
        for option in options:
            name, _, value = option.partition("=")
            if name.strip() == "q":
                try:
                    liked = min(1.0, max(0.0, float(value)))
                except ValueError:
                    liked = 0.0
        wishes[media] = liked
    return wishes


def _liking(form: type[Writer], wishes: dict[str, float]) -> float:
    """How much a format is liked: the most precise range that has it counts."""
    named = [wishes[media] for media in (form.media, *form.others) if media in wishes]
    if named:
        return max(named)
    return wishes.get(f"{form.media.partition('/')[0]}/*", wishes.get("*/*", 0.0))
