"""The shuffle, in two or three steps: every row once, by its key, whatever is repeated."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

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
    parts=st.integers(1, 9),
)
def test_buckets_put_together_are_all_rows_by_key(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    cuts: list[int],
    buckets: int,
    spill: int,
    parts: int,
) -> None:
    path = tmp_path_factory.mktemp("spilled")
    folder, grouped = Place.of(path / "spilled"), Place.of(path / "grouped")
    ids, packed = _packed(rows)
    cuts = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    pieces = [(ids[a:b], packed.slice(a, b - a)) for a, b in pairwise(cuts)]
    cut = shuffle.Cut(buckets, 0, buckets, min(parts, buckets))

    def twice(spilling: Callable[[], Iterable[tuple[str, int]]], to: Place) -> list[str]:
        """What is spilled, the same when it is done again: names, in another order."""
        written = list(spilling())
        before = {file.name: file.read_bytes() for file in Path(to.text).glob("*")}
        assert list(spilling()) == written
        assert {file.name: file.read_bytes() for file in Path(to.text).glob("*")} == before
        counts.append(sum(count for _, count in written))
        return [name for name, _ in reversed(written)]

    counts: list[int] = []
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "SPILL", spill)
        names = twice(lambda: shuffle.spill(pieces, folder, cut), folder)
        assert counts == [rows]
        for group in range(cut.parts if rows else 0):
            mine, to = cut.part(group), grouped / str(group)
            again = partial(shuffle.regroup, folder, names, group, to, mine)
            if files := twice(again, to):
                found += [shuffle.gather(to, files, part) for part in range(mine.parts)]
            else:
                found += [packed.slice(0, 0)] * mine.parts
    assert sum(counts) == 2 * rows
    if rows:
        order = np.argsort(packed.column(KEY).to_numpy())
        assert len(found) == buckets
        assert pa.concat_tables(found).equals(packed.take(order))
        buckets_alone = shuffle.Cut(buckets, 0, buckets, buckets)
        names = [name for name, _ in shuffle.spill(pieces, folder, buckets_alone)]
        assert [shuffle.gather(folder, names, at) for at in range(buckets)] == found


def test_buckets_are_of_a_size() -> None:
    assert [shuffle.buckets_of(rows, 32) for rows in (1, 2**20, 2**20 + 1, 10**9)] == [1, 1, 2, 954]


@pytest.mark.parametrize("buckets", [1, 2, 256, 257, 1_163, 17_882])
def test_groups_are_of_all_buckets(buckets: int) -> None:
    cut = shuffle.Cut.of(buckets * shuffle.BUCKET, 1)
    assert (cut.buckets, cut.last) == (buckets, buckets <= shuffle.DIRECT)
    groups = [cut.part(group) for group in range(cut.parts)]
    assert [group.first for group in groups[1:]] == [group.stop for group in groups[:-1]]
    assert (groups[0].first, groups[-1].stop) == (0, buckets)
    assert all(group.last for group in groups)
    if not cut.last:
        assert abs(cut.parts - max(group.parts for group in groups)) <= 1, "about as many of either"
