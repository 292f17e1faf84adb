"""A run ready to draw tables from, without Ray.

Row i of a sample comes from (seed, i // CHUNK): chunks are drawn whole, each with a generator of
its own, and then cut. So the same seed gives the same row i for any number of rows, batch size,
request split or number of workers.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch

from raysynth.errors import GivenError, nearest
from raysynth.hashing import seed_of
from raysynth.layout import Codes
from raysynth.models import TableModel
from raysynth.run import Run, open_run
from raysynth.schema import Column
from raysynth.storage import Place
from raysynth.table import TableCodec

CHUNK = 1_000
GROUP = 25  # chunks decoded together
ROUNDS = 25  # draws of a chunk before a row is made to hold what is given


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
        """A table of `rows` rows; every row holds what `given` asks of category columns.

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
        slots = self.slots(given or {})
        stop = start + rows
        while start < stop:
            end = min(stop, (start // CHUNK + GROUP) * CHUNK)
            yield self._piece(start, end, seed, slots)
            start = end

    def slots(self, given: Mapping[str, Any]) -> dict[int, int]:
        """`given` by slot and index. Values may be text, as a command line has them.

        Raises `GivenError` for an unknown column or value, never repeating the value.
        """
        spans = {span.column: span for span in self.table.layout.categories}
        found = {}
        for name, value in given.items():
            if name not in self.table.schema.names:
                close = nearest(name, spans)
                raise GivenError(f"given: no column is called '{name}'; {close}")
            place = self.table.schema.names.index(name)
            column, codec = self.table.schema.columns[place], self.table.codecs[place]
            if name not in spans:
                raise GivenError(
                    f"given: '{name}' is a {column.kind} column; only category columns can be "
                    f"given: {', '.join(spans) or 'this run has none'}"
                )
            index = codec.index_of(_typed(value, column))
            if index is None:
                raise GivenError(
                    f"given: column '{name}' has no such value, or fewer rows hold it than may be "
                    "shown; the values it has are in the run's table.json"
                )
            found[spans[name].slot] = index
        return found

    def _piece(self, start: int, stop: int, seed: int, slots: dict[int, int]) -> Drawn:
        """Rows `start` to `stop`, from whole chunks decoded together."""
        first, last = start // CHUNK, -(-stop // CHUNK)
        chunks = [self._chunk(number, seed, slots) for number in range(first, last)]
        codes = Codes.concat([chunk[0] for chunk in chunks])
        codes = codes.take(slice(start - first * CHUNK, stop - first * CHUNK))
        ids = np.arange(start, stop, dtype=np.uint64)
        tried, forced = sum(chunk[1] for chunk in chunks), sum(chunk[2] for chunk in chunks)
        return Drawn(self.table.decode(codes, ids, seed), tried, forced)

    def _chunk(self, number: int, seed: int, slots: dict[int, int]) -> tuple[Codes, int, int]:
        """Chunk `number` of the sample: codes, rows tried, rows forced.

        Rows that miss what is given are drawn again; those still missing after `ROUNDS` draws have
        their given columns set, so that a request never comes back short.
        """
        generator = torch.Generator(self.device).manual_seed(seed_of(seed, number))
        codes = self.model.sample(CHUNK, generator, slots)
        if not slots:
            return codes, CHUNK, 0
        kept, have = [_holding(codes, slots)], CHUNK
        rows = kept[0].rows
        for _ in range(ROUNDS):
            if rows >= CHUNK:
                break
            codes = self.model.sample(CHUNK, generator, slots)
            kept.append(_holding(codes, slots))
            have += CHUNK
            rows += kept[-1].rows
        missing = max(0, CHUNK - rows)
        if missing:
            kept.append(_forced(self.model.sample(CHUNK, generator, slots), slots, missing))
            have += CHUNK
        return Codes.concat(kept).take(slice(0, CHUNK)), have, missing


def _holding(codes: Codes, slots: Mapping[int, int]) -> Codes:
    holds = torch.ones(codes.rows, dtype=torch.bool, device=codes.indices.device)
    for slot, index in slots.items():
        holds &= codes.indices[:, slot] == index
    return codes.take(holds)


def _forced(codes: Codes, slots: Mapping[int, int], rows: int) -> Codes:
    indices = codes.indices[:rows].clone()
    for slot, index in slots.items():
        indices[:, slot] = index
    return Codes(indices, codes.scalars[:rows])


def _typed(value: Any, column: Column) -> Any:
    if not isinstance(value, str) or value is None:
        return value
    if column.kind == "boolean":
        return {"true": True, "false": False}.get(value.lower(), value)
    if pa.types.is_integer(column.type):
        with suppress(ValueError):
            return int(value)
    return value
