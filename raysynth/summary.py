"""What one pass over a table leaves: exact counters and a uniform sample of its rows.

Summaries of the blocks of a table merge into the summary of the table, in any order and grouping:
counters add, and the sample holds the rows whose hashed id is smallest, so the union of two samples
cut to size is the sample of the union. All that is fitted later (modes, kept categories) is a
function of the summary alone, so its cost does not grow with the table and its result does not
depend on partitioning, worker count or retries.

Only integers are added up; float sums would depend on the order.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.hashing import Ids, mix
from raysynth.schema import Column, Schema, select

SAMPLE = 65_536
COUNTED = 100_000  # distinct values counted exactly; past that the sample's counts stand in
_HASH = "\x00hash"


@dataclass(frozen=True)
class Counters:
    """Exact counts of one column. `counts` is (value, count) by value, for categories only."""

    nulls: int
    infinities: int
    minimum: float | None
    maximum: float | None
    counts: tuple[tuple[Any, int], ...] | None


@dataclass(frozen=True)
class ColumnSummary:
    """One column's part of a summary: what a codec is fitted on.

    `holders` (B,) int64 says whose each row of the sample is: rows of one subject share a number.
    Whatever must be shared to be written down is counted in holders, not in rows.
    """

    column: Column
    rows: int
    counters: Counters
    sample: pa.Array
    holders: NDArray[np.int64]

    @property
    def counts(self) -> tuple[tuple[Any, int], ...]:
        """(value, count) pairs by value: exact, or the sample's where there are too many."""
        if self.counters.counts is not None:
            return self.counters.counts
        return _pairs(pc.value_counts(self.sample.drop_null()))


@dataclass(frozen=True)
class Summary:
    """Counters of every column and the bottom-k sample of rows, by ascending hash."""

    schema: Schema
    rows: int
    counters: tuple[Counters, ...]
    sample: pa.Table
    hashes: Ids
    size: int = SAMPLE

    def __getitem__(self, name: str) -> ColumnSummary:
        """The part of the column called `name`."""
        place = self.schema.names.index(name)
        sample = self.sample.column(name).combine_chunks()
        holders = np.arange(len(sample), dtype=np.int64)
        column, counters = self.schema.columns[place], self.counters[place]
        return ColumnSummary(column, self.rows, counters, sample, holders)

    def merge(self, other: "Summary") -> "Summary":
        """The summary of both tables' rows together."""
        sample = pa.concat_tables([self.sample, other.sample])
        hashes = np.concatenate([self.hashes, other.hashes])
        counters = tuple(map(_merge, self.counters, other.counters))
        return replace(
            self,
            rows=self.rows + other.rows,
            counters=counters,
            **_smallest(sample, hashes, self.size),
        )

    def to_bytes(self) -> bytes:
        """The summary as an Arrow stream; equal summaries give equal bytes."""
        table = self.sample.append_column(_HASH, pa.array(self.hashes))
        facts = {
            "rows": self.rows,
            "size": self.size,
            "schema": self.schema.to_json(),
            "counters": [vars(counters) for counters in self.counters],
        }
        table = table.replace_schema_metadata({"summary": json.dumps(facts)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Summary":
        """The summary that `to_bytes` wrote."""
        table = pa.ipc.open_stream(data).read_all()
        facts = json.loads(table.schema.metadata[b"summary"])
        counters = []
        for value in facts["counters"]:
            counts = value.pop("counts")
            pairs = None if counts is None else tuple((v, n) for v, n in counts)
            counters.append(Counters(**value, counts=pairs))
        hashes = table.column(_HASH).to_numpy()
        sample = table.drop_columns([_HASH]).replace_schema_metadata(None)
        schema = Schema.from_json(facts["schema"])
        return cls(schema, facts["rows"], tuple(counters), sample, hashes, facts["size"])


def summarise(table: pa.Table, ids: Ids, schema: Schema, size: int = SAMPLE) -> Summary:
    """Summarise one block: `table` with one stable, unique id a row, (B,) uint64.

    Raises `TableError` where the block lacks a column or a type does not convert.
    """
    table = select(table, schema)
    hashes = mix(ids, seed=0)
    counters = tuple(_counters(column, table.column(column.name)) for column in schema.columns)
    return Summary(schema, table.num_rows, counters, size=size, **_smallest(table, hashes, size))


def merge(summaries: Iterable[Summary]) -> Summary:
    """The summary of all blocks together; at least one is needed."""
    return reduce(Summary.merge, summaries)


def _smallest(table: pa.Table, hashes: Ids, size: int) -> dict[str, Any]:
    order = np.argsort(hashes, kind="stable")[:size]
    return {"sample": table.take(order).combine_chunks(), "hashes": hashes[order]}


def _counters(column: Column, array: pa.ChunkedArray) -> Counters:
    if column.kind != "number":
        return Counters(array.null_count, 0, None, None, _count(array))
    infinities = 0
    if pa.types.is_floating(array.type):
        infinities = pc.sum(pc.is_inf(array)).as_py() or 0
    # Of -0.0 and 0.0 either may come first; adding 0 makes both 0.0.
    low, high = (None if end is None else end + 0 for end in pc.min_max(array).as_py().values())
    return Counters(array.null_count, infinities, low, high, None)


def _count(array: pa.ChunkedArray) -> tuple[tuple[Any, int], ...] | None:
    counted = pc.value_counts(array.drop_null())
    return _pairs(counted) if len(counted) <= COUNTED else None


def _pairs(counted: pa.StructArray) -> tuple[tuple[Any, int], ...]:
    values = counted.field("values").to_pylist()
    return tuple(sorted(zip(values, counted.field("counts").to_pylist(), strict=True)))


def _merge(a: Counters, b: Counters) -> Counters:
    lows = [end for end in (a.minimum, b.minimum) if end is not None]
    highs = [end for end in (a.maximum, b.maximum) if end is not None]
    counts = None
    if a.counts is not None and b.counts is not None:
        total = dict(a.counts)
        for value, count in b.counts:
            total[value] = total.get(value, 0) + count
        counts = tuple(sorted(total.items())) if len(total) <= COUNTED else None
    return Counters(
        a.nulls + b.nulls,
        a.infinities + b.infinities,
        min(lows, default=None),
        max(highs, default=None),
        counts,
    )
