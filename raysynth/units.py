"""What one task reads of a table: consecutive rows, out of one file or many, batch by batch."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.errors import StorageError
from raysynth.hashing import Ids
from raysynth.listing import NULL, File


@dataclass(frozen=True)
class Piece:
    """Rows of one file: in the row groups from `first` to before `last`, `rows` past `skip`."""

    file: File
    first: int
    last: int
    skip: int
    rows: int

    def batches(
        self, columns: Sequence[str], size: int, whole: bool, encoded: Sequence[str] = ()
    ) -> Iterator[pa.Table]:
        """The rows in batches of at most `size`; `whole` says that the row groups fit in memory.

        Columns of text that are `encoded` come as dictionaries, which is how they lie in the file.
        Raises `StorageError` where the file is not what was listed, or damaged.
        """
        groups = list(range(self.first, self.last))
        # What fits is fetched at once; of a large row group a buffer of each column is held.
        buffer = {"pre_buffer": True} if whole else {"pre_buffer": False, "buffer_size": 2**20}
        try:
            with (
                self.file.open() as opened,
                pq.ParquetFile(opened, read_dictionary=list(encoded), **buffer) as file,
            ):
                stream = file.iter_batches(
                    batch_size=size, row_groups=groups, columns=list(columns), use_threads=False
                )
                yield from _cut(stream, self.skip, self.skip + self.rows)
        except (OSError, pa.ArrowException) as error:
            named = f"row group {self.first}"
            if len(groups) > 1:
                named = f"row groups {self.first} to {self.last - 1}"
            raise StorageError(
                f"{self.file.path}: {named} cannot be read any more "
                f"({type(error).__name__}); put the file back as it was and repeat the command"
            ) from None


def _cut(stream: Iterator[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.Table]:
    """The rows `start` to before `stop` of a stream of batches."""
    at = 0
    for batch in stream:
        low, high = max(start - at, 0), min(stop - at, batch.num_rows)
        if low < high:
            yield pa.Table.from_batches([batch.slice(low, high - low)])
        at += batch.num_rows
        if at >= stop:
            return


@dataclass(frozen=True)
class Unit:
    """Consecutive rows that one task reads; the first has the id `start`.

    It is read in batches of at most `batch` rows. A unit of several pieces is one batch.
    """

    start: int
    batch: int
    pieces: tuple[Piece, ...]
    whole: bool = True

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(piece.rows for piece in self.pieces)

    def batches(
        self, columns: Sequence[str], keys: pa.Schema, encoded: Sequence[str] = ()
    ) -> Iterator[tuple[pa.Table, Ids]]:
        """Its rows and their ids; `keys` are the partition's columns, of which some are wanted.

        Columns of text that are `encoded` come as dictionaries.
        Raises `StorageError` where a file is not what was listed, or damaged.
        """
        start = self.start
        tables = (
            _keyed(table, piece.file, keys).select(columns)
            for piece in self.pieces
            for table in piece.batches(
                [name for name in columns if name not in keys.names],
                self.batch,
                self.whole,
                encoded,
            )
        )
        for table in [pa.concat_tables(tables)] if self.whole and self.rows else tables:
            ids = np.arange(start, start + table.num_rows, dtype=np.uint64)
            start += table.num_rows
            yield table, ids

    def to_json(self) -> str:
        """Text that `from_json` turns back into an equal unit."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The unit that `to_json` described."""
        value = json.loads(text)
        pieces = []
        for piece in value.pop("pieces"):
            file = piece.pop("file")
            keys = tuple((name, key) for name, key in file.pop("keys"))
            pieces.append(Piece(File(**file, keys=keys), **piece))
        return cls(**value, pieces=tuple(pieces))


def _keyed(table: pa.Table, file: File, keys: pa.Schema) -> pa.Table:
    """The rows of a file with the keys of its partition appended as columns."""
    for name, text in file.keys:
        kind = keys.field(name).type
        value = None if text == NULL else int(text) if pa.types.is_integer(kind) else text
        table = table.append_column(name, pa.repeat(pa.scalar(value, kind), table.num_rows))
    return table
