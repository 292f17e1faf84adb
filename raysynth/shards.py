"""Encoded rows on disk, and a worker's share of them, read in windows that fit a stated memory.

A row is one fixed-size binary: its indices, then its float32 scalars, as they lie in memory. One
column instead of two lists: it holds tables without numbers or without categories alike, and goes
from disk to tensor without touching a cell. Rows are written in the order of a hash of their id,
so any stretch of them is a uniform random sample and shuffling is done once.

Encoded rows are as private as the table: they live in the run's `work` folder and go with it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raysynth.errors import AbsentError, RunError
from raysynth.hashing import Ids, mix
from raysynth.layout import Codes, Layout
from raysynth.storage import Place, whole, write_bytes

ROW, KEY, INDEX = "row", "key", "index.json"
_SHUFFLE = 2**32  # the stream of the hash that orders rows, apart from those of the columns


def keys(ids: Ids, seed: int) -> Ids:
    """What rows of these ids (B,) are sorted by, (B,)."""
    return mix(ids, seed, _SHUFFLE)


def pack(codes: Codes, keys: Ids) -> pa.Table:
    """Codes (B rows) and the hash each row is sorted by, as an Arrow table."""
    indices, scalars = codes.indices.numpy(), codes.scalars.numpy()
    parts = [np.ascontiguousarray(part).view(np.uint8) for part in (indices, scalars)]
    data = np.concatenate(parts, axis=1)
    size = data.shape[1]
    buffer = pa.py_buffer(np.ascontiguousarray(data))
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), codes.rows, [None, buffer])
    return pa.table({KEY: pa.array(keys), ROW: rows})


def unpack(table: pa.Table, layout: Layout) -> Codes:
    """The codes that `pack` packed."""
    column = table.column(ROW).combine_chunks()
    size, count = column.type.byte_width, len(column)
    data = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * size :][: count * size]
    data = data.reshape(count, size)
    dtype = torch.empty(0, dtype=layout.index_dtype).numpy().dtype
    cut = len(layout.choices) * dtype.itemsize
    indices = data[:, :cut].copy().view(dtype)
    scalars = data[:, cut:].copy().view(np.float32)
    return Codes(torch.from_numpy(indices), torch.from_numpy(scalars))


def write(table: pa.Table, folder: Place) -> tuple[str, int]:
    """Write one packed piece that is sorted by key; gives (file name, rows).

    The name is the first key, so a repeated attempt overwrites its own file, and names sort as
    keys do.
    """
    name = f"{table.column(KEY)[0].as_py():020d}.parquet"
    with whole(folder / name) as file:
        pq.write_table(table.select([ROW]), file, compression="zstd")
    return name, table.num_rows


def publish(folder: Place, pieces: list[tuple[str, int]]) -> None:
    """Name the pieces that make the whole: written last, read first."""
    write_bytes(folder / INDEX, json.dumps({"files": sorted(pieces)}).encode())


@dataclass(frozen=True)
class Share:
    """The rows of one of `workers` workers: a stretch of the published pieces.

    Stretches differ by one row at most, and every worker has as many windows.
    """

    folder: Place
    layout: Layout
    worker: int
    workers: int
    window_bytes: int

    def _files(self) -> list[tuple[str, int]]:
        try:
            index = json.loads((self.folder / INDEX).read_bytes())
        except (AbsentError, json.JSONDecodeError, UnicodeDecodeError):
            raise self._torn() from None
        return [(name, rows) for name, rows in index["files"]]

    def _torn(self) -> RunError:
        return RunError(
            f"{self.folder}: the encoded rows are not whole; delete the folder and repeat the "
            "command to encode again"
        )

    @property
    def total(self) -> int:
        """Rows of all workers together."""
        return sum(rows for _, rows in self._files())

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First and last-but-one row of every window, of all the rows in key order."""
        total = self.total
        start, stop = (total * place // self.workers for place in (self.worker, self.worker + 1))
        # Beside the codes, drawing by category keeps one int64 row number a category column.
        row_bytes = self.layout.row_bytes + 8 * len(self.layout.categories)
        longest = -(-total // self.workers)
        count = max(1, -(-longest // max(1, self.window_bytes // row_bytes)))
        cuts = [start + (stop - start) * place // count for place in range(count + 1)]
        return list(pairwise(cuts))

    def window(self, bounds: tuple[int, int], device: torch.device) -> Codes:
        """The rows between `bounds`, on `device`."""
        start, stop = bounds
        pieces, first = [], 0
        for name, rows in self._files():
            low, high = max(start, first), min(stop, first + rows)
            if low < high:
                table = self._piece(name, rows)
                pieces.append(unpack(table.slice(low - first, high - low), self.layout))
            first += rows
        return Codes.concat(pieces).to(device)

    def _piece(self, name: str, rows: int) -> pa.Table:
        try:
            table = (self.folder / name).read(pq.read_table)
        except (AbsentError, OSError, pa.ArrowException):
            table = None
        if table is None or table.num_rows != rows:
            raise self._torn()
        return table

    def windows(self, device: torch.device) -> "Windows":
        """All windows; a single one is read once and stays on the device."""
        return Windows(self, device)


class Windows:
    """The windows of a share, of which the last one read stays on the device."""

    def __init__(self, share: Share, device: torch.device) -> None:
        self.share, self.device = share, device
        self.bounds = share.bounds
        self._held: tuple[int, Codes] | None = None

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, number: int) -> Codes:
        if self._held is None or self._held[0] != number:
            self._held = None  # lets go of the old window before the new one is read
            self._held = number, self.share.window(self.bounds[number], self.device)
        return self._held[1]

    def in_order(self, seed: int, first: int = 0) -> Iterator[tuple[int, Codes]]:
        """Every window once, in an order of its own for each `seed`; `first` are passed over."""
        for number in np.random.default_rng(seed).permutation(len(self))[first:]:
            yield int(number), self[int(number)]
