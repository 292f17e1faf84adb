"""Order encoded rows by their keys in two steps, of which none holds more than a stated memory.

First whoever has rows cuts them by key into as many **buckets** as the table needs, and **spills**
them: a file with a record batch a bucket. Then whoever has a bucket to himself gathers its record
batches out of every file and sorts them. Keys are distinct, so the order is theirs alone. A spilled
file is named by its first row's id: a task that is repeated writes its own file anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import IO

import numpy as np
import pyarrow as pa

from raysynth.hashing import Ids
from raysynth.shards import KEY
from raysynth.storage import Place, whole

SPILL, BUCKET = 32 * 2**20, 32 * 2**20  # bytes of codes


def buckets_of(rows: int, row_bytes: int) -> int:
    """The number of buckets for which one holds about `BUCKET` bytes."""
    return max(1, -(-rows * row_bytes // BUCKET))


def spill(
    packed: Iterable[tuple[Ids, pa.Table]], folder: Place, buckets: int
) -> Iterator[tuple[str, int]]:
    """Write packed codes, with the ids of their rows, by `SPILL` bytes; gives names and rows."""
    held: list[pa.Table] = []
    first, size = 0, 0

    def written() -> tuple[str, int]:
        name, table = f"{first:020d}.arrow", pa.concat_tables(held).combine_chunks()
        held.clear()  # before the rows are copied once more
        with whole(folder / name) as file:
            _cut(table, buckets, file)
        return name, table.num_rows

    for ids, table in packed:
        if not table.num_rows:
            continue
        first = first if held else int(ids[0])
        held.append(table)
        size += table.nbytes
        if size >= SPILL:
            yield written()
            size = 0
    if held:
        yield written()


def gather(folder: Place, names: Sequence[str], bucket: int) -> pa.Table:
    """The rows of one bucket out of all spilled files, in the order of their keys."""
    packed = pa.concat_tables(_read(folder / name, bucket) for name in names)
    return packed.take(np.argsort(packed.column(KEY).to_numpy()))


def _cut(packed: pa.Table, buckets: int, file: IO[bytes]) -> None:
    """Write an Arrow file with a record batch a bucket: the rows whose key lies in its range."""
    keys = packed.column(KEY).to_numpy()
    bucket = ((keys >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)
    # A stable sort of 16-bit numbers is a radix sort.
    bucket = bucket.astype(np.uint16 if buckets <= 2**16 else np.uint32)
    order = np.argsort(bucket, kind="stable")
    ends = np.cumsum(np.bincount(bucket, minlength=buckets))
    with pa.ipc.new_file(file, packed.schema) as writer:
        none = pa.RecordBatch.from_pylist([], packed.schema)
        for start, end in pairwise([0, *ends.tolist()]):
            rows = packed.take(order[start:end]).to_batches()
            writer.write_batch(rows[0] if rows else none)


def _read(place: Place, bucket: int) -> pa.Table:
    def batch(file: pa.NativeFile) -> pa.Table:
        with pa.ipc.open_file(file) as batches:
            return pa.Table.from_batches([batches.get_batch(bucket)])

    return place.read(batch)
