"""What one pass over a table leaves: exact counters and a uniform sample of its rows.

Summaries of the blocks of a table merge into the summary of the table, in any order and grouping:
counters add, and the sample holds the rows whose hashed id is smallest, so the union of two samples
cut to size is the sample of the union. All that is fitted later (modes, kept categories) is a
function of the summary alone, so its cost does not grow with the table and its result does not
depend on partitioning, worker count or retries.

What is counted follows from a column's Arrow type, not from its kind: the kind is settled on the
counters, after the one pass. Only integers are added up; float sums would depend on the order.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import is_text, is_time, is_whole, plain, plain_type, stored
from raysynth.counts import Counts
from raysynth.hashing import Ids, mix
from raysynth.schema import Column, Schema, select

SAMPLE = 65_536
# Distinct values counted exactly; past that the sample's counts stand in. Numbers and times are
# counted to tell codes from measures, which takes few.
COUNTED, CODES = 1_000_000, 10_000
_HASH = "\x00hash"


@dataclass(frozen=True)
class Counters:
    """Exact facts of one column.

    `minimum` and `maximum` are those of numbers (float for fractions, else int), of times as the
    integers that store them, and of text; None where there is no value, and for booleans. `longest`
    is the most characters of a text. `counts` is None past the cap, and for fractions.
    """

    nulls: int
    infinities: int
    minimum: Any
    maximum: Any
    counts: Counts | None
    longest: int | None = None


@dataclass(frozen=True)
class ColumnSummary:
    """One column's part of a summary: what a codec is fitted on. The sample is `arrays.plain`.

    `holders` (B,) int64 says whose each row of the sample is: rows of one subject share a number.
    Whatever must be shared to be written down is counted in holders, not in rows; `grouped` says
    that some may hold several.
    """

    column: Column
    rows: int
    counters: Counters
    sample: pa.Array
    holders: NDArray[np.int64]
    grouped: bool = False

    @cached_property
    def counts(self) -> Counts:
        """Values and their rows: exact, or the sample's where there are too many to count."""
        return Counts.of(self.sample) if self.counters.counts is None else self.counters.counts

    @cached_property
    def held(self) -> NDArray[np.int64]:
        """How many are known to hold each of `counts`, (D,): rows, or subjects in the sample.

        Subjects outside the sample are not counted, so this may be too low and is never too high.
        """
        if not self.grouped:
            return self.counts.rows
        codes = pc.index_in(stored(self.sample), value_set=self.counts.values)
        found = np.asarray(codes.is_valid())
        pairs = np.stack([np.asarray(codes.drop_null()), self.holders[found]])
        return np.bincount(np.unique(pairs, axis=1)[0], minlength=len(self.counts))

    def holders_of(self, rows: NDArray[np.bool_]) -> int:
        """How many hold the marked rows of the sample, (B,)."""
        return len(np.unique(self.holders[rows]))

    @property
    def null_rows(self) -> int:
        """Null rows, among those that `counts` are of."""
        return self.sample.null_count if self.counters.counts is None else self.counters.nulls

    @property
    def null_holders(self) -> int:
        """How many are known to hold null."""
        if not self.grouped:
            return self.counters.nulls
        return self.holders_of(np.asarray(self.sample.is_null()))

    @property
    def counted(self) -> int:
        """The rows that `counts` are of: the table's, or the sample's."""
        return len(self.sample) if self.counters.counts is None else self.rows

    def counted_nulls(self, least: int) -> int:
        """`null_rows`, or 0 where fewer than `least` of them or of their holders are known."""
        return self.null_rows if min(self.null_rows, self.null_holders) >= least else 0


@dataclass(frozen=True)
class Summary:
    """Counters of every column and the bottom-k sample of rows, by ascending hash.

    `subject` is the column that says whose a row is; without one every row is another's.
    """

    schema: Schema
    rows: int
    counters: tuple[Counters, ...]
    sample: pa.Table
    hashes: Ids
    size: int = SAMPLE
    subject: str | None = None

    def __getitem__(self, name: str) -> ColumnSummary:
        """The part of the column called `name`."""
        place = self.schema.names.index(name)
        sample = self.sample.column(name).combine_chunks()
        column, counters = self.schema.columns[place], self.counters[place]
        grouped = self.subject is not None
        return ColumnSummary(column, self.rows, counters, sample, self.holders, grouped)

    @cached_property
    def holders(self) -> NDArray[np.int64]:
        """Whose each sampled row is, (B,); rows of no known subject are one's."""
        if self.subject is None:
            return np.arange(self.sample.num_rows, dtype=np.int64)
        column = stored(self.sample.column(self.subject)).combine_chunks()
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        return np.asarray(encoded.indices).astype(np.int64)

    def merge(self, other: "Summary") -> "Summary":
        """The summary of both tables' rows together."""
        return merge([self, other])

    def to_bytes(self) -> bytes:
        """A JSON header and Arrow streams: equal summaries give equal bytes."""
        sample = self.sample.append_column(_HASH, pa.array(self.hashes))
        counted = [part.counts for part in self.counters]
        streams = [
            _stream(sample),
            *(
                _stream(pa.table({"value": counts.values, "rows": counts.rows}))
                for counts in counted
                if counts is not None
            ),
        ]
        facts = {
            "rows": self.rows,
            "size": self.size,
            "subject": self.subject,
            "schema": self.schema.to_json(),
            "counters": [
                {**vars(part), "counts": part.counts is not None} for part in self.counters
            ],
            "streams": [len(stream) for stream in streams],
        }
        header = json.dumps(facts).encode()
        return b"".join([len(header).to_bytes(8, "little"), header, *streams])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Summary":
        """The summary that `to_bytes` wrote."""
        start = 8 + int.from_bytes(data[:8], "little")
        facts = json.loads(data[8:start])
        tables = []
        for size in facts["streams"]:
            tables.append(pa.ipc.open_stream(data[start : start + size]).read_all())
            start += size
        table, *counted = tables
        left = iter(counted)
        counters = []
        for value in facts["counters"]:
            counts = None
            if value.pop("counts"):
                pair = next(left)
                values = pair.column("value").combine_chunks()
                counts = Counts(values, pair.column("rows").to_numpy())
            counters.append(Counters(**value, counts=counts))
        return cls(
            Schema.from_json(facts["schema"]),
            facts["rows"],
            tuple(counters),
            table.drop_columns([_HASH]),
            table.column(_HASH).to_numpy(),
            facts["size"],
            facts["subject"],
        )


def summarise(table: pa.Table, ids: Ids, schema: Schema, size: int = SAMPLE) -> Summary:
    """Summarise one block: `table` with one stable, unique id a row, (B,) uint64.

    Raises `TableError` where the block lacks a column or a type does not convert.
    """
    table = select(table, schema, encoded=True)
    hashes = mix(ids, seed=0)
    counters = tuple(_counters(table.column(column.name)) for column in schema.columns)
    return Summary(schema, table.num_rows, counters, size=size, **_smallest(table, hashes, size))


def merge(summaries: Iterable[Summary]) -> Summary:
    """The summary of all blocks together; at least one is needed. Many at once cost the least."""
    parts = list(summaries)
    if len(parts) == 1:
        return parts[0]
    sample = pa.concat_tables([part.sample for part in parts])
    hashes = np.concatenate([part.hashes for part in parts])
    counters = zip(*(part.counters for part in parts), strict=True)
    return replace(
        parts[0],
        rows=sum(part.rows for part in parts),
        counters=tuple(map(_merged, counters)),
        **_smallest(sample, hashes, parts[0].size),
    )


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _smallest(table: pa.Table, hashes: Ids, size: int) -> dict[str, Any]:
    least = np.argpartition(hashes, size)[:size] if size < len(hashes) else np.arange(len(hashes))
    order = least[np.argsort(hashes[least])]
    taken = table.take(order).combine_chunks()
    sample = pa.table([plain(column) for column in taken.columns], table.column_names)
    return {"sample": sample, "hashes": hashes[order]}


def _counters(array: pa.ChunkedArray) -> Counters:
    kind = array.type
    infinities, longest = 0, None
    if pa.types.is_floating(kind):
        infinities = pc.sum(pc.is_inf(array)).as_py() or 0
    counts = None if pa.types.is_floating(kind) else Counts.of(array)
    known = array if counts is None else counts.values  # ends are those of the distinct values
    if is_text(kind):
        longest = pc.max(pc.utf8_length(known)).as_py()
    ends = _ends(known, plain_type(kind))
    capped = None if counts is None else _capped(counts, kind)
    return Counters(array.null_count, infinities, *ends, capped, longest)


def _ends(array: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> tuple[Any, Any]:
    if pa.types.is_boolean(kind):
        return None, None
    ends = [end for end in pc.min_max(stored(array)).as_py().values() if end is not None]
    if not ends:
        return None, None
    if is_whole(kind) or is_time(kind):
        ends = list(map(int, ends))
    elif not is_text(kind):
        # Of -0.0 and 0.0 either may come first; adding 0 makes both 0.0.
        ends = [float(end) + 0 for end in ends]
    return ends[0], ends[1]


def _capped(counts: Counts, kind: pa.DataType) -> Counts | None:
    return counts if len(counts) <= (COUNTED if is_text(kind) else CODES) else None


def _merged(parts: tuple[Counters, ...]) -> Counters:
    counts = [part.counts for part in parts]
    total = None
    if not any(count is None for count in counts):
        some = [count for count in counts if count is not None and len(count)] or counts[:1]
        total = Counts.sum([count for count in some if count is not None])
        total = _capped(total, total.values.type)
    return Counters(
        sum(part.nulls for part in parts),
        sum(part.infinities for part in parts),
        min((part.minimum for part in parts if part.minimum is not None), default=None),
        max((part.maximum for part in parts if part.maximum is not None), default=None),
        total,
        max((part.longest for part in parts if part.longest is not None), default=None),
    )
