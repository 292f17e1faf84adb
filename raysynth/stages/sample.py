"""Ray Data: a run to a table of any size, by the same `Sampler` that a small request uses.

Pieces of the table are drawn by `workers` actors and written in order as they come, so memory holds
a few pieces however many rows are asked for.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pyarrow as pa

from raysynth.progress import Show
from raysynth.run import open_run
from raysynth.sampler import CHUNK, GROUP, Drawn, Sampler
from raysynth.stages.watch import watched
from raysynth.storage import Place, write

PIECE = CHUNK * GROUP
LARGE = 5_000_000  # rows past which a request goes to Ray unasked


@dataclass(frozen=True)
class Sampled:
    """What a sample came to: rows written, rows drawn to have them, rows made to fit `given`."""

    place: Place
    rows: int
    tried: int
    forced: int


def sample(
    path: str | PathLike[str] | Place,
    out: str | PathLike[str] | Place,
    rows: int,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    workers: int | None = None,
    show: Show | None = None,
    columns: Sequence[str] | None = None,
    start: int = 0,
) -> Sampled:
    """Draw `rows` rows of the run at `path` into the .parquet or .csv file `out`, wherever it is.

    Those from row `start` on of the table that `seed` means; of `columns` alone where given, in
    their order. In this process by default and for 0 `workers`; over that many Ray actors where
    given, or where rows are many, if there is work for two. The rows are the same either way.
    Raises `RunError`, `GivenError`, `TableError`, `StorageError`.
    """
    place, target = Place.of(path), Place.of(out)
    show = watched(show, place.name)
    sampler = Sampler.open(open_run(place))
    sampler.asked(given or {})  # what cannot be given is told before any row is drawn
    names = sampler.chosen(columns)
    if workers is None and rows > LARGE:
        workers = os.cpu_count() or 1
    counts = [0, 0, 0]

    def tables() -> Iterator[pa.Table]:
        pieces = (
            sampler.stream(rows, seed, given, start)
            if not workers or rows <= PIECE
            else _on_ray(place.text, (start, start + rows), seed, dict(given or {}), workers)
        )
        empty = True
        for drawn in pieces:
            for number, count in enumerate((drawn.table.num_rows, drawn.tried, drawn.forced)):
                counts[number] += count
            phase.at(counts[0])
            empty = False
            yield drawn.table.select(names)
        if empty:
            yield sampler.table.schema.arrow.empty_table().select(names)

    with show.phase("sample", rows) as phase:
        write(tables(), target)
    return Sampled(target, *counts)


def _on_ray(
    path: str, rows: tuple[int, int], seed: int, given: dict[str, Any], workers: int
) -> Iterator[Drawn]:
    """Rows from the first to before the second of `rows`, in their order."""
    import ray  # here, so that a small request does not wait for it

    from raysynth.stages import cluster

    own = cluster.connect(workers)
    threads = cluster.cpus_per_worker(None, workers, own)
    # Cut where the sampler cuts, or chunks at the borders would be drawn twice.
    pieces = -(-rows[1] // PIECE) - rows[0] // PIECE
    data = ray.data.range(pieces, override_num_blocks=max(1, min(pieces, 10_000)))
    # Pieces come in any order but are written in theirs.
    data.context.execution_options.preserve_order = True
    drawn = data.map_batches(
        _Drawer,
        fn_constructor_args=(path, rows, seed, given, threads),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, pieces)),
    )
    for batch in drawn.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        facts = batch.select(_FACTS).slice(0, 1).to_pylist()[0]
        yield Drawn(batch.drop_columns(_FACTS), facts[_FACTS[0]], facts[_FACTS[1]])


_FACTS = ["\x00tried", "\x00forced"]


class _Drawer:
    """An actor with the run open."""

    def __init__(
        self, path: str, rows: tuple[int, int], seed: int, given: dict[str, Any], threads: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.sampler = Sampler.open(path)
        self.rows, self.seed, self.given = rows, seed, given

    def __call__(self, batch: pa.Table) -> pa.Table:
        first, end = self.rows
        piece = first // PIECE + batch.column("id")[0].as_py()
        start, stop = max(first, piece * PIECE), min(end, (piece + 1) * PIECE)
        (drawn,) = self.sampler.stream(stop - start, self.seed, self.given, start)
        table = drawn.table
        for name, fact in zip(_FACTS, (drawn.tried, drawn.forced), strict=True):
            table = table.append_column(name, pa.repeat(fact, table.num_rows))
        return table
