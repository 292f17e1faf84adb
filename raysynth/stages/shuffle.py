"""Order encoded rows by their keys in steps of which none holds more than a stated memory.

First whoever has rows cuts them by key into as many **buckets** as the table needs, and **spills**
them: a file with a record batch a bucket. Then whoever has a bucket to himself gathers its record
batches out of every file and sorts them. Keys are distinct, so the order is theirs alone. A spilled
file is named by its first row's id: a task that is repeated writes its own file anew.

Each bucket looks into every file, and there are as many of either as the table has rows: visits
grow with its square. So where there are more than `DIRECT` buckets, files are first cut into
**groups** of buckets, about as many as a group has buckets. Whoever has a group to himself gathers
it and spills it again, cut into its buckets, which then look into the files of their group alone:
rows are written once more, and visits grow with the power of 3/2. 17,882 buckets of 12,032 files
are 4 million visits and not 215 million. The codes are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.hashing import Ids
from raysynth.shards import KEY
from raysynth.storage import Place, whole

SPILL, BUCKET = 32 * 2**20, 32 * 2**20  # bytes of codes
DIRECT = 256  # buckets up to which every file is cut into all of them: 8 GiB of codes


@dataclass(frozen=True)
class Cut:
    """How files are cut: the buckets from `first` to before `stop`, of `buckets`, into `parts`."""

    buckets: int
    first: int
    stop: int
    parts: int

    @classmethod
    def of(cls, rows: int, row_bytes: int) -> "Cut":
        """The first cut of so many rows: into buckets, or into groups where those are many."""
        buckets = buckets_of(rows, row_bytes)
        return cls(buckets, 0, buckets, buckets if buckets <= DIRECT else ceil(sqrt(buckets)))

    def part(self, number: int) -> "Cut":
        """The cut of a group into its buckets."""
        width = self.stop - self.first
        first, stop = (self.first - -place * width // self.parts for place in (number, number + 1))
        return Cut(self.buckets, first, stop, stop - first)

    @property
    def last(self) -> bool:
        """Whether its parts are buckets."""
        return self.parts == self.stop - self.first

    def places(self, keys: Ids) -> NDArray[np.uint64]:
        """The part that each key lies in."""
        bucket = ((keys >> np.uint64(32)) * np.uint64(self.buckets)) >> np.uint64(32)
        width = np.uint64(self.stop - self.first)
        return (bucket - np.uint64(self.first)) * np.uint64(self.parts) // width


def buckets_of(rows: int, row_bytes: int) -> int:
    """The number of buckets for which one holds about `BUCKET` bytes."""
    return max(1, -(-rows * row_bytes // BUCKET))


def spill(
    packed: Iterable[tuple[Ids, pa.Table]], folder: Place, cut: Cut
) -> Iterator[tuple[str, int]]:
    """Write packed codes, with the ids of their rows, by `SPILL` bytes; gives names and rows."""
    held: list[pa.Table] = []
    first, size = 0, 0

    def written() -> tuple[str, int]:
        name, table = f"{first:020d}.arrow", pa.concat_tables(held).combine_chunks()
        held.clear()  # before the rows are copied once more
        with whole(folder / name) as file:
            _write(table, cut, file)
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


def regroup(
    folder: Place, names: Sequence[str], group: int, to: Place, cut: Cut
) -> Iterator[tuple[str, int]]:
    """Spill one group out of all files once more, cut into its buckets; gives names and rows.

    `names` are in the same order whoever asks, so that a task that is repeated writes the same.
    """
    read = (_read(folder / name, group) for name in names)
    return spill(((table.column(KEY).to_numpy(), table) for table in read), to, cut)


def gather(folder: Place, names: Sequence[str], part: int) -> pa.Table:
    """The rows of one bucket, a file's `part`, out of all of them, in the order of their keys."""
    packed = pa.concat_tables(_read(folder / name, part) for name in names)
    return packed.take(np.argsort(packed.column(KEY).to_numpy()))


def _write(packed: pa.Table, cut: Cut, file: IO[bytes]) -> None:
    """Write an Arrow file with a record batch a part: the rows whose key lies in its range."""
    places = cut.places(packed.column(KEY).to_numpy())
    # A stable sort of 16-bit numbers is a radix sort.
    places = places.astype(np.uint16 if cut.parts <= 2**16 else np.uint32)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=cut.parts))
    with pa.ipc.new_file(file, packed.schema) as writer:
        none = pa.RecordBatch.from_pylist([], packed.schema)
        for start, end in pairwise([0, *ends.tolist()]):
            rows = packed.take(order[start:end]).to_batches()
            writer.write_batch(rows[0] if rows else none)


def _read(place: Place, part: int) -> pa.Table:
    def batch(file: pa.NativeFile) -> pa.Table:
        with pa.ipc.open_file(file) as batches:
            return pa.Table.from_batches([batches.get_batch(part)])

    return place.read(batch)
