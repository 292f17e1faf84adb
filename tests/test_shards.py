"""Encoded rows on disk and the shares of workers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysynth import shards
from raysynth.errors import RunError
from raysynth.layout import Codes, Layout, Part
from raysynth.storage import Place

PARTS = st.one_of(
    st.just((Part("scalar"),)),
    st.integers(1, 300).map(lambda size: (Part("category", size),)),
    st.integers(1, 10).map(lambda size: (Part("scalar"), Part("mode", size))),
)


def a_table_of_codes(layout: Layout, rows: int, seed: int = 0) -> Codes:
    g = np.random.default_rng(seed)
    indices = [g.integers(0, span.size, rows) for span in layout.choices]
    scalars = g.uniform(-1, 1, (rows, len(layout.scalars)))
    return Codes(
        torch.tensor(np.array(indices).reshape(-1, rows).T.copy()).to(layout.index_dtype),
        torch.tensor(scalars, dtype=torch.float32),
    )


def published(folder: Path, layout: Layout, rows: int, piece: int) -> Codes:
    codes = a_table_of_codes(layout, rows)
    keys = np.arange(rows, dtype=np.uint64) + np.uint64(3)
    names = []
    for start in range(0, rows, piece):
        part = slice(start, start + piece)
        names.append(shards.write(shards.pack(codes.take(part), keys[part]), Place.of(folder)))
    shards.publish(Place.of(folder), names[::-1])  # whatever order pieces come in
    return codes


@given(st.lists(PARTS, min_size=1, max_size=5), st.integers(1, 40))
def test_rows_come_back_from_disk_as_they_were(parts: list[tuple[Part, ...]], rows: int) -> None:
    layout = Layout.of([(f"column {place}", part) for place, part in enumerate(parts)])
    codes = a_table_of_codes(layout, rows)
    table = shards.pack(codes, np.arange(rows, dtype=np.uint64))
    for start in (0, rows // 2):
        back = shards.unpack(table.slice(start), layout)
        assert back.indices.dtype == layout.index_dtype
        assert torch.equal(back.indices, codes.indices[start:])
        assert torch.equal(back.scalars, codes.scalars[start:])
    assert table.column(shards.ROW).type.byte_width == codes.row_bytes


LAYOUT = Layout.of([("a", (Part("scalar"), Part("mode", 4))), ("b", (Part("category", 9),))])


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("window_bytes", [2**20, 200])
def test_the_shares_of_all_workers_are_all_rows_once(
    tmp_path: Path, workers: int, window_bytes: int
) -> None:
    codes = published(tmp_path, LAYOUT, rows=101, piece=13)
    device = torch.device("cpu")
    found, counts = [], set()
    for worker in range(workers):
        share = shards.Share(Place.of(tmp_path), LAYOUT, worker, workers, window_bytes)
        windows = share.windows(device)
        counts.add(len(windows))
        held = [windows[number] for number in range(len(windows))]
        assert abs(sum(window.rows for window in held) - 101 / workers) < 1
        found += held
    assert len(counts) == 1, "every worker has as many windows"
    whole = Codes.concat(found)
    assert torch.equal(whole.indices, codes.indices)
    assert torch.equal(whole.scalars, codes.scalars)


def test_a_window_keeps_to_its_memory(tmp_path: Path) -> None:
    """Codes, and the row number that drawing by category keeps for each category column."""
    codes = published(tmp_path, LAYOUT, rows=500, piece=100)
    windows = shards.Share(Place.of(tmp_path), LAYOUT, 0, 1, window_bytes=1_000).windows(
        torch.device("cpu")
    )
    assert len(windows) > 1
    for number in range(len(windows)):
        assert windows[number].rows * (codes.row_bytes + 8) <= 1_000


def test_an_epoch_has_every_window_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    published(tmp_path, LAYOUT, rows=500, piece=100)
    windows = shards.Share(Place.of(tmp_path), LAYOUT, 0, 1, window_bytes=500).windows(
        torch.device("cpu")
    )
    orders = [[number for number, _ in windows.in_order(seed)] for seed in range(5)]
    assert all(sorted(order) == list(range(len(windows))) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert orders[0] == [number for number, _ in windows.in_order(0)]


def test_rows_that_were_never_published_are_refused(tmp_path: Path) -> None:
    codes = a_table_of_codes(LAYOUT, 10)
    shards.write(shards.pack(codes, np.arange(10, dtype=np.uint64)), Place.of(tmp_path))
    with pytest.raises(RunError, match="not whole"):
        _ = shards.Share(Place.of(tmp_path), LAYOUT, 0, 1, 1_000).total
