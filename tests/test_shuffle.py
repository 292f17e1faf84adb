"""The two-step shuffle: every row once, in the order of its key, whatever is repeated."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.hashing import mix
from raysynth.shards import KEY, ROW
from raysynth.stages import shuffle
from raysynth.storage import Place


def _packed(rows: int) -> tuple[np.ndarray, pa.Table]:
    ids = np.arange(rows, dtype=np.uint64)
    codes = pa.array([int(row).to_bytes(8, "little") for row in ids], pa.binary(8))
    return ids, pa.table({KEY: mix(ids, 1), ROW: codes})


@given(
    rows=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    buckets=st.integers(1, 9),
    spill=st.integers(1, 4_000),
)
def test_buckets_put_together_are_all_rows_by_key(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    cuts: list[int],
    buckets: int,
    spill: int,
) -> None:
    path = tmp_path_factory.mktemp("spilled")
    folder = Place.of(path)
    ids, packed = _packed(rows)
    cuts = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    pieces = [(ids[a:b], packed.slice(a, b - a)) for a, b in pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "SPILL", spill)
        written = list(shuffle.spill(pieces, folder, buckets))
        before = {file.name: file.read_bytes() for file in path.iterdir()}
        assert list(shuffle.spill(pieces, folder, buckets)) == written
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert sum(count for _, count in written) == rows
    if rows:
        names = [name for name, _ in reversed(written)]
        found = [shuffle.gather(folder, names, bucket) for bucket in range(buckets)]
        order = np.argsort(packed.column(KEY).to_numpy())
        assert pa.concat_tables(found).equals(packed.take(order))


def test_buckets_are_of_a_size() -> None:
    assert [shuffle.buckets_of(rows, 32) for rows in (1, 2**20, 2**20 + 1, 10**9)] == [1, 1, 2, 954]
