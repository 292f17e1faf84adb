"""A run ready to draw tables from, without Ray.

A sample is drawn in chunks, whole, each with a generator of its own made of the seed and the
chunk's number, and then cut. So the same seed gives the same row i for any number of rows, batch
size, request split or number of workers. The first chunks are short, for a request of a few rows is
most often one of the first rows; all after the first thousand have a thousand.

Of a larger sample as many threads as torch has draw, and decode, a piece each: chunks are too small
for threads to share their products. Pieces come in order; at most one more than there are threads
waits to be taken.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from raysynth import relate
from raysynth.abreast import abreast
from raysynth.arrays import plain, restored
from raysynth.errors import GivenError, TableError
from raysynth.frames import Floats
from raysynth.given import bounds_of, not_null
from raysynth.hashing import seed_of
from raysynth.layout import Bounds, Codes, ColumnSpans
from raysynth.models import TableModel
from raysynth.run import Run, open_run
from raysynth.schema import quoted, select
from raysynth.storage import Place
from raysynth.table import TableCodec

CHUNK = 1_000
STARTS = (0, 125, 250, 500)  # of the chunks among the first `CHUNK` rows
GROUP = 25  # chunks decoded together
ROUNDS = 25  # draws of a chunk before a row is made to hold what is given
_FILLING = 1


class Drawn(NamedTuple):
    """Rows, how many were drawn to have them, and how many had to be made to fit `given`."""

    table: pa.Table
    tried: int
    forced: int


@dataclass(frozen=True)
class Sampler:
    """A trained model with its codecs."""

    model: TableModel
    table: TableCodec
    device: torch.device

    @classmethod
    def open(cls, run: Run | str | Path | Place, device: torch.device | str | None = None) -> Self:
        """Open a run; by default on the GPU where there is one. Raises `RunError`."""
        run = run if isinstance(run, Run) else open_run(run)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(run.model(chosen).eval(), run.table, chosen)

    def sample(self, rows: int, seed: int = 0, given: Mapping[str, Any] | None = None) -> pa.Table:
        """A table of `rows` rows; every row holds what `given` asks; see `given`.

        Raises `GivenError` for a column or value the run does not know.
        """
        tables = [drawn.table for drawn in self.stream(rows, seed, given)]
        return pa.concat_tables(tables) if tables else self.table.schema.arrow.empty_table()

    def stream(
        self, rows: int, seed: int = 0, given: Mapping[str, Any] | None = None, start: int = 0
    ) -> Iterator[Drawn]:
        """Rows `start` to `start` + `rows` of the sample that `seed` stands for, in pieces."""
        if rows < 0 or start < 0:
            raise GivenError(f"rows and start must be 0 or more, got {rows} and {start}")
        asked = self.asked(given or {})
        ends, stop = [start], start + rows
        while ends[-1] < stop:
            ends.append(min(stop, (ends[-1] // CHUNK + GROUP) * CHUNK))

        def piece(ends: tuple[int, int]) -> Drawn:
            return self._piece(*ends, seed, asked)

        # On a GPU the next piece is drawn while one is decoded.
        threads = torch.get_num_threads() if self.device.type == "cpu" else 2
        yield from abreast(piece, pairwise(ends), min(threads, len(ends) - 1))

    def asked(self, given: Mapping[str, Any]) -> dict[str, Bounds]:
        """`given` as bounds on codes, by column; see `given.bounds_of`. Raises `GivenError`."""
        return bounds_of(self.table, given)

    def chosen(self, columns: Sequence[str] | None) -> list[str]:
        """`columns` of the table, once each, or all of them. Raises `TableError`."""
        schema = self.table.schema
        names = list(schema.names) if columns is None else [schema[name].name for name in columns]
        if len(set(names)) < len(names):
            raise TableError("columns: one is named twice")
        return names

    def fill(self, table: pa.Table, seed: int = 0, start: int = 0) -> pa.Table:
        """`table` (B rows) with a value drawn for every null of a column that was learned from.

        Every cell is drawn given all that the row has; those that have a value, columns that were
        not learned from and columns the run does not know stay as they are. `start` is the number
        of the first row, by which what is drawn for a row depends on the table alone and not on
        how it is cut into pieces of whole chunks. Raises `TableError` where a column of the run is
        missing or of another type, `GivenError` where the family cannot fill.
        """
        if not self.model.fills:
            raise GivenError(
                "this family of generators draws whole rows and cannot fill cells; train an "
                "autoregressive one (--family autoregressive)"
            )
        mine = select(table, self.table.schema)
        pieces = [
            self._filled(mine.slice(at, CHUNK), seed, start + at)
            for at in range(0, table.num_rows, CHUNK)
        ]
        filled = pa.concat_tables(pieces) if pieces else mine.select([])
        for name in filled.schema.names:
            place = table.schema.names.index(name)
            table = table.set_column(place, filled.schema.field(name), filled.column(name))
        return table

    def bits(self, table: pa.Table, seed: int = 0) -> Floats:
        """Bits that each row of `table` takes by the model, (B,): its likelihood, as minus log2.

        Of the codes that `seed` stands for, where a value has several; numbers are measured as
        densities of codes, so bits compare rows and not models of other codecs. A row that breaks
        a relation of the table is measured as if it kept it. Columns that are invented take none,
        and may be missing. Raises `TableError` where another column of the run is missing or of
        another type, `GivenError` where the family has no likelihood.
        """
        if not self.model.scores:
            raise GivenError(
                "this family of generators has no likelihood to measure rows by; train an "
                "autoregressive one (--family autoregressive)"
            )
        for column in self.table.schema.columns:
            if not column.modelled and column.name not in table.schema.names:
                unknown = pa.nulls(table.num_rows, column.type)
                table = table.append_column(column.name, unknown)
        found = np.empty(table.num_rows)
        for at in range(0, table.num_rows, GROUP * CHUNK):
            piece = table.slice(at, GROUP * CHUNK)
            ids = np.arange(at, at + piece.num_rows, dtype=np.uint64)
            codes = self.table.encode(piece, ids, seed).to(self.device)
            found[at : at + piece.num_rows] = self.model.row_bits(codes).cpu().numpy()
        return found

    def _filled(self, table: pa.Table, seed: int, start: int) -> pa.Table:
        """The columns learned from of a chunk's `table`, as `select` gives it, filled."""
        columns, schema, found = self.table.layout.columns, self.table.schema, self.table.relations
        ids = np.arange(start, start + table.num_rows, dtype=np.uint64)
        nulls = {name: np.asarray(table.column(name).is_null()) for name in schema.names}
        unknown = relate.unknown(found, nulls)
        telling = {name for relation in found for name in relation.telling}
        known = ~torch.from_numpy(np.stack([unknown[c.name] for c in columns], 1)).to(self.device)
        fitted = dict(zip(self.table.reduced.names, self.table.codecs, strict=True))
        allowed = {c.name: not_null(fitted[c.name], c) for c in columns if c.name not in telling}
        generator = torch.Generator(self.device)
        generator.manual_seed(seed_of(seed, start // CHUNK, _FILLING))
        codes = self.table.encode(table, ids, seed).to(self.device)
        codes = self.model.fill(codes, known, generator, allowed)
        drawn = self.table.fill(table, unknown, codes, ids, seed)
        learned = {c.name for c in columns} | {name for one in found for name in one.written}
        filled = {}
        for name in (one for one in schema.names if one in learned):
            own, others = table.column(name), plain(drawn.column(name))
            whole = pc.coalesce(own, others.cast(own.type)).combine_chunks()
            filled[name] = restored(whole, schema[name].type)
        return pa.table(filled)

    def _piece(self, start: int, stop: int, seed: int, asked: dict[str, Bounds]) -> Drawn:
        """Rows `start` to `stop`, from whole chunks decoded together."""
        numbers = range(_holder(start), _holder(stop - 1) + 1)
        chunks = [self._chunk(number, seed, asked) for number in numbers]
        codes = Codes.concat([chunk[0] for chunk in chunks])
        first = _start(numbers[0])
        codes = codes.take(slice(start - first, stop - first))
        ids = np.arange(start, stop, dtype=np.uint64)
        tried, forced = sum(chunk[1] for chunk in chunks), sum(chunk[2] for chunk in chunks)
        return Drawn(self.table.decode(codes, ids, seed), tried, forced)

    def _chunk(self, number: int, seed: int, asked: dict[str, Bounds]) -> tuple[Codes, int, int]:
        """Chunk `number` of the sample: codes, rows tried, rows forced.

        Rows that miss what is given are drawn again; those still missing after `ROUNDS` draws have
        what is given set, so that a request never comes back short. Raises `GivenError` where none
        of so many rows had it.
        """
        generator = torch.Generator(self.device).manual_seed(seed_of(seed, number))
        wanted = _start(number + 1) - _start(number)
        codes = self.model.sample(wanted, generator, asked)
        if not asked:
            return codes, wanted, 0
        columns = [(c, asked[c.name]) for c in self.table.layout.columns if c.name in asked]
        kept, have = [_holding(codes, columns)], wanted
        rows = kept[0].rows
        for _ in range(ROUNDS):
            if rows >= wanted:
                break
            codes = self.model.sample(CHUNK, generator, asked)
            kept.append(_holding(codes, columns))
            have += CHUNK
            rows += kept[-1].rows
        if not rows:
            raise GivenError(
                f"given: of {have:,} rows drawn none has all that is asked of "
                f"{quoted(sorted(asked))} at once; ask for less, or train an autoregressive "
                "generator, which draws such rows straight away"
            )
        missing = max(0, wanted - rows)
        if missing:
            drawn = self.model.sample(CHUNK, generator, asked).take(slice(0, missing))
            kept.append(_forced(drawn, columns))
            have += CHUNK
        return Codes.concat(kept).take(slice(0, wanted)), have, missing


def _holder(row: int) -> int:
    """The number of the chunk that holds `row`."""
    return bisect_right(STARTS, row) - 1 if row < CHUNK else len(STARTS) + row // CHUNK - 1


def _start(number: int) -> int:
    """The first row of chunk `number`."""
    first = len(STARTS)
    return STARTS[number] if number < first else (number - first + 1) * CHUNK


Asked = Sequence[tuple[ColumnSpans, Bounds]]


def _holding(codes: Codes, asked: Asked) -> Codes:
    holds = torch.ones(codes.rows, dtype=torch.bool, device=codes.indices.device)
    for column, bounds in asked:
        holds &= bounds.hold(column.index(codes), column.scalar_of(codes))
    return codes.take(holds)


def _forced(codes: Codes, asked: Asked) -> Codes:
    """The rows (B), what misses bounds moved into them: to the first index allowed, by scalar."""
    codes = Codes(codes.indices.clone(), codes.scalars.clone())
    for column, here in asked:
        bounds = here.to(codes.indices.device)
        index, scalars = column.index(codes), column.scalar_of(codes)
        index = torch.where(bounds.hold(index, None), index, bounds.allowed[0])
        if column.choice is not None:
            codes.indices[:, column.choice.slot] = index.to(codes.indices.dtype)
        if column.scalar is not None and scalars is not None:
            inside = torch.minimum(torch.maximum(scalars, bounds.lows[index]), bounds.highs[index])
            codes.scalars[:, column.scalar.slot] = inside * column.says(index)
    return codes
