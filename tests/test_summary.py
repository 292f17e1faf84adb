"""A summary is a function of the rows alone: not of blocks, their order, or how merges group."""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysynth.errors import TableError
from raysynth.hashing import mix, seed_of, uniform
from raysynth.schema import Schema
from raysynth.summary import Summary, merge, summarise

FLOATS = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, -0.0, 1e300, 2.5]))
WHOLE = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.one_of(st.none(), st.text(max_size=3), st.sampled_from("ab"))
ROWS = st.tuples(FLOATS, WHOLE, TEXTS, st.one_of(st.none(), st.booleans()))
SCHEMA = Schema.infer(
    pa.schema([("f", pa.float64()), ("i", pa.int64()), ("s", pa.string()), ("b", pa.bool_())])
)


def table_of(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[]] * 4
    return pa.table(
        [pa.array(c, k) for c, k in zip(columns, SCHEMA.arrow.types, strict=True)], SCHEMA.names
    )


def summarised(rows: Sequence[tuple[object, ...]], ids: Sequence[int], size: int) -> Summary:
    return summarise(table_of(rows), np.array(ids, dtype=np.uint64), SCHEMA, size)


def merged(draw: st.DrawFn, parts: list[Summary]) -> Summary:
    """All parts, merged two at a time in a drawn order."""
    while len(parts) > 1:
        place = draw(st.integers(0, len(parts) - 2))
        parts[place : place + 2] = [parts[place].merge(parts[place + 1])]
    return parts[0]


@given(st.data(), st.lists(ROWS, max_size=30), st.integers(1, 12), st.integers(0, 2**40))
def test_equal_for_any_blocks_order_and_grouping(
    data: st.DataObject, rows: list[tuple[object, ...]], size: int, first: int
) -> None:
    ids = list(range(first, first + len(rows)))
    whole = summarised(rows, ids, size)
    order = data.draw(st.permutations(range(len(rows))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    blocks = [order[i:j] for i, j in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    parts = [summarised([rows[i] for i in b], [ids[i] for i in b], size) for b in blocks]
    empty = summarised([], [], size)
    for place in data.draw(st.lists(st.integers(0, len(parts)), max_size=3)):
        parts.insert(place, empty)
    one = merged(data.draw, data.draw(st.permutations(parts)))
    assert one.to_bytes() == whole.to_bytes()
    assert one.rows == len(rows)


@given(st.lists(ROWS, max_size=20), st.integers(1, 12))
def test_bytes_bring_back_an_equal_summary(rows: list[tuple[object, ...]], size: int) -> None:
    one = summarised(rows, range(len(rows)), size)
    two = Summary.from_bytes(one.to_bytes())
    assert two.to_bytes() == one.to_bytes()
    assert (two.schema, two.rows, two.counters, two.size) == (
        *(one.schema, one.rows, one.counters, one.size),
    )
    assert two.sample.equals(one.sample)
    assert np.array_equal(two.hashes, one.hashes)
    assert summarised(rows, range(99, 99 + len(rows)), size).merge(two).rows == 2 * len(rows)


@given(st.lists(ROWS, max_size=40))
def test_counters_are_exact(rows: list[tuple[object, ...]]) -> None:
    """Nulls, NaN as null, infinities, ends of 64-bit numbers, counts of every value."""
    found = summarised(rows, range(len(rows)), 5).counters
    real = [row[0] for row in rows if row[0] is not None and not np.isnan(row[0])]
    whole = [row[1] for row in rows if row[1] is not None]
    assert found[0].nulls == len(rows) - len(real)
    assert found[0].infinities == sum(map(np.isinf, real))
    assert (found[0].minimum, found[0].maximum) == (
        min(real, default=None),
        max(real, default=None),
    )
    assert (found[1].minimum, found[1].maximum) == (
        *(min(whole, default=None), max(whole, default=None)),
    )
    for place in (2, 3):
        cells = Counter(row[place] for row in rows if row[place] is not None)
        assert found[place].nulls == len(rows) - sum(cells.values())
        assert found[place].counts == tuple(sorted(cells.items()))


@pytest.mark.parametrize("distinct", [5, 6])
def test_counts_stop_past_the_cap_wherever_blocks_are_cut(
    distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysynth.summary.COUNTED", 5)
    rows = [(None, None, f"v{i % distinct}", None) for i in range(60)]
    whole = summarised(rows, range(60), 60)
    halves = [summarised(rows[i : i + 3], range(i, i + 3), 60) for i in range(0, 60, 3)]
    assert merge(halves).to_bytes() == whole.to_bytes()
    assert (whole.counters[2].counts is None) == (distinct > 5)
    # The sample, here all rows, stands in.
    assert whole["s"].counts == tuple((f"v{i}", 60 // distinct) for i in range(distinct))


def test_sample_is_the_rows_of_the_smallest_hashes() -> None:
    rows = [(float(i), i, None, None) for i in range(500)]
    found = summarised(rows, range(500), 40)
    order = np.argsort(mix(np.arange(500, dtype=np.uint64), seed=0))[:40]
    assert found.sample.column("i").to_pylist() == order.tolist()
    assert (np.diff(found.hashes.astype(object)) > 0).all()


def test_sample_is_uniform_over_consecutive_ids() -> None:
    """Rows of any stretch of the table are as likely to be in it; chi-square on 200 stretches."""
    rows, size = 200_000, 20_000
    table = pa.table({"i": np.arange(rows)})
    ids = np.arange(rows, dtype=np.uint64)
    sample = summarise(table, ids, Schema.infer(table.schema), size).sample.column("i").to_numpy()
    for counts in (np.bincount(sample // 1_000), np.bincount(sample % 200)):
        # Drawn without replacement, counts vary by 1 - size / rows of what they would otherwise.
        statistic = stats.chisquare(counts).statistic / (1 - size / rows)
        assert 1e-3 < stats.chi2(199).cdf(statistic) < 1 - 1e-3


def test_hashes_are_one_to_one_and_uniform() -> None:
    ids = np.arange(100_000, dtype=np.uint64)
    for seed, stream in ((0, 0), (0, 1), (2**64 - 1, 7)):
        assert len(np.unique(mix(ids, seed, stream))) == len(ids)
        drawn = uniform(ids, seed, stream)
        assert drawn.min() >= 0
        assert drawn.max() < 1
        assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    streams = [uniform(ids, seed, stream) for seed in (0, 1) for stream in (0, 1)]
    assert np.abs(np.corrcoef(streams) - np.eye(4)).max() < 0.02


def test_seeds_differ_by_every_counter() -> None:
    seeds = {seed_of(s, a, b) for s in range(20) for a in range(20) for b in range(20)}
    assert len(seeds) == 8_000
    assert max(seeds) < 2**63


def test_a_block_of_another_type_is_refused_without_its_cells() -> None:
    table = table_of([(1.0, 1, "a", True)]).set_column(1, "i", pa.array(["sentinel-7391"]))
    with pytest.raises(TableError, match="column 'i' should be int64 but is string") as error:
        summarise(table, np.zeros(1, np.uint64), SCHEMA)
    assert "7391" not in str(error.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="the table lacks 's'"):
        summarise(table_of([]).drop_columns(["s"]), np.zeros(0, np.uint64), SCHEMA)


def test_a_schema_goes_to_json_and_back() -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA
