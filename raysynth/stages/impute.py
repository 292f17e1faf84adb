"""A run and a table with nulls to the table without them, in pieces."""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

import pyarrow as pa

from raysynth.progress import Show
from raysynth.run import open_run
from raysynth.sampler import CHUNK, GROUP, Sampler
from raysynth.source import read
from raysynth.stages.watch import watched
from raysynth.storage import Place, write

PIECE = CHUNK * GROUP


@dataclass(frozen=True)
class Imputed:
    """What filling came to: rows written, and cells that were null and no longer are."""

    place: Place
    rows: int
    cells: int


def impute(
    path: str | PathLike[str] | Place,
    table: str,
    out: str | PathLike[str] | Place,
    seed: int = 0,
    show: Show | None = None,
) -> Imputed:
    """Fill `table`, which is read into memory, by the run at `path` into the file `out`.

    Raises `RunError`, `GivenError` where its family cannot fill, `TableError`, `StorageError`.
    """
    show = watched(show, Place.of(path).name)
    target = Place.of(out)
    sampler = Sampler.open(open_run(Place.of(path)))
    real = read(table)
    cells = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal cells
        for start in range(0, max(real.num_rows, 1), PIECE):
            piece = real.slice(start, PIECE)
            filled = sampler.fill(piece, seed, start)
            cells += _nulls(piece) - _nulls(filled)
            phase.at(start + piece.num_rows)
            yield filled

    with show.phase("impute", real.num_rows) as phase:
        write(tables(), target)
    return Imputed(target, real.num_rows, cells)


def _nulls(table: pa.Table) -> int:
    return sum(column.null_count for column in table.columns)
