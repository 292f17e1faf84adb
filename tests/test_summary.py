"""A summary is a function of the rows alone: not of blocks, their order, or how merges group."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysynth.arrays import unstored
from raysynth.errors import TableError
from raysynth.hashing import mix, seed_of, uniform
from raysynth.schema import Schema
from raysynth.summary import Summary, merge, summarise

FLOATS = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, -0.0, 1e300, 2.5]))
WHOLE = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.one_of(st.none(), st.text(max_size=3), st.sampled_from("ab"))
DAYS = st.one_of(st.none(), st.dates())
TIMES = st.one_of(st.none(), st.integers(-(2**62), 2**62))
PRICES = st.one_of(st.none(), st.decimals(-9, 9, places=2))
SMALL = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("inf")]))
ROWS = st.tuples(
    *(FLOATS, WHOLE, TEXTS, st.one_of(st.none(), st.booleans())),
    *(st.one_of(st.none(), st.sampled_from("xyz")), DAYS, TIMES, TIMES, PRICES, PRICES, SMALL),
)
TYPES = {
    "f": pa.float64(),
    "i": pa.int64(),
    "s": pa.string(),
    "b": pa.bool_(),
    "d": pa.dictionary(pa.int8(), pa.string(), ordered=True),
    "day": pa.date32(),
    "at": pa.timestamp("ns", "Europe/Oslo"),
    "long": pa.duration("us"),
    "m": pa.decimal128(9, 2),
    "n": pa.decimal32(5, 2),
    "h": pa.float16(),
}
SCHEMA = Schema.infer(pa.schema(list(TYPES.items())))


def table_of(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[]] * len(TYPES)
    return pa.table(
        [_array(c, k) for c, k in zip(columns, TYPES.values(), strict=True)], list(TYPES)
    )


def _array(cells: Sequence[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return pa.array(cells, pa.int64()).view(kind)
    return pa.array(cells, kind)


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


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30), st.integers(1, 40))
def test_strings_in_a_dictionary_count_as_strings(places: list[int | None], size: int) -> None:
    """Also where it names a value twice, one that no row holds, or null."""
    for values in (["b", "a", "b", "", "dä", "never"], ["b", None, "b", "", "a", "never"]):
        held = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(values))
        ids = np.arange(len(places), dtype=np.uint64)
        schema = Schema.infer(pa.schema({"t": pa.string()}))
        plain = summarise(pa.table({"t": held.dictionary_decode()}), ids, schema, size)
        assert summarise(pa.table({"t": held}), ids, schema, size).to_bytes() == plain.to_bytes()


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
    for place in (2, 3, 4):
        cells = Counter(row[place] for row in rows if row[place] is not None)
        assert found[place].nulls == len(rows) - sum(cells.values())
        assert found[place].counts is not None
        assert found[place].counts.pairs == tuple(sorted(cells.items()))
    text = [row[2] for row in rows if row[2] is not None]
    assert (found[2].minimum, found[2].maximum) == (
        min(text, default=None),
        max(text, default=None),
    )
    assert found[2].longest == max(map(len, text), default=None)
    for place in (5, 6, 7, 8, 9):  # times as what stores them, decimals
        kind = list(TYPES.values())[place]
        cells = Counter(row[place] for row in rows if row[place] is not None)
        counts = found[place].counts
        assert counts is not None
        values = unstored(counts.values, kind)
        assert values.equals(_array(sorted(cells), kind))
        assert counts.rows.tolist() == [cells[value] for value in sorted(cells)]
        ends = (found[place].minimum, found[place].maximum)
        told = counts.values.to_pylist()
        if place > 7:
            told = list(map(float, told))
        assert ends == ((told[0], told[-1]) if told else (None, None))


@pytest.mark.parametrize("distinct", [5, 6])
def test_counts_stop_past_the_cap_wherever_blocks_are_cut(
    distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysynth.summary.COUNTED", 5)
    monkeypatch.setattr("raysynth.summary.CODES", 5)
    rest = [None] * (len(TYPES) - 3)
    rows = [(None, i % distinct, f"v{i % distinct}", *rest) for i in range(60)]
    whole = summarised(rows, range(60), 60)
    halves = [summarised(rows[i : i + 3], range(i, i + 3), 60) for i in range(0, 60, 3)]
    assert merge(halves).to_bytes() == whole.to_bytes()
    for place in (1, 2):
        assert (whole.counters[place].counts is None) == (distinct > 5)
    assert whole.counters[0].counts is None, "fractions are not counted"
    # The sample, here all rows, stands in.
    assert whole["s"].counts.pairs == tuple((f"v{i}", 60 // distinct) for i in range(distinct))


def test_subjects_are_counted_not_rows() -> None:
    """40 rows of one subject are one holder; rows of an unknown subject are one's, too."""
    whose = ["ann"] * 40 + [f"p{i}" for i in range(30)] + [None] * 5
    cells = ["a"] * 40 + ["b"] * 20 + ["a"] * 10 + ["b"] * 3 + [None] * 2
    table = pa.table({"who": whose, "c": cells})
    summary = replace(
        summarise(table, np.arange(75, dtype=np.uint64), Schema.infer(table.schema)), subject="who"
    )
    again = Summary.from_bytes(merge([summary]).to_bytes())
    assert again.subject == "who"
    part = again["c"]
    assert part.counts.pairs == (("a", 50), ("b", 23))
    assert part.held.tolist() == [11, 21]
    assert (part.null_rows, part.null_holders) == (2, 1)
    alone = replace(summary, subject=None)["c"]
    assert alone.held.tolist() == [50, 23]
    assert (alone.null_rows, alone.null_holders) == (2, 2)


def test_300_000_distinct_texts_are_counted_and_merged() -> None:
    """As many as issue says, in eight blocks; exact to the row."""
    texts = pa.array([f"text {i}" for i in range(300_000)])
    table = pa.table({"s": pa.concat_arrays([texts, texts.take(pa.array(range(0, 300_000, 3)))])})
    schema, step = Schema.infer(table.schema), 50_000
    parts = [
        summarise(table.slice(i, step), np.arange(i, i + step, dtype=np.uint64), schema)
        for i in range(0, 400_000, step)
    ]
    counts = merge(parts).counters[0].counts
    assert counts is not None
    assert np.bincount(counts.rows).tolist() == [0, 200_000, 100_000]
    assert counts.values.to_pylist() == sorted(texts.to_pylist())


def test_sample_is_the_rows_of_the_smallest_hashes() -> None:
    rows = [(float(i), i, *[None] * (len(TYPES) - 2)) for i in range(500)]
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
    table = table_of([(1.0, 1, "a", True, *[None] * (len(TYPES) - 4))]).set_column(
        1, "i", pa.array(["sentinel-7391"])
    )
    with pytest.raises(TableError, match="column 'i' should be int64 but is string") as error:
        summarise(table, np.zeros(1, np.uint64), SCHEMA)
    assert "7391" not in str(error.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="the table lacks 's'"):
        summarise(table_of([]).drop_columns(["s"]), np.zeros(0, np.uint64), SCHEMA)


def test_a_schema_goes_to_json_and_back() -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA
