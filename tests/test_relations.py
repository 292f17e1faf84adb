"""Relations of a table: found on its sample, kept in every row whatever the codes say."""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysynth import models, relate, relations
from raysynth.errors import ConfigError, GivenError, TableError
from raysynth.given import bounds_of
from raysynth.guess import settle
from raysynth.layout import Codes
from raysynth.relate import Found
from raysynth.relations import Relation
from raysynth.sampler import Sampler
from raysynth.schema import Schema, select
from raysynth.summary import Summary, summarise
from raysynth.table import TableCodec
from raysynth.values import DIGITS, significant

KINDS = {
    name: models.get(name).encoding(models.get(name).Config(**settings)).kinds
    for name, settings in (("autoregressive", {}), ("ctgan", {"preset": "paper"}))
}
ROWS = 2_000


def summarised(table: pa.Table, subject: str | None = None, start: int = 0) -> Summary:
    numbers = np.arange(start, start + table.num_rows, dtype=np.uint64)
    summary = replace(summarise(table, numbers, Schema.infer(table.schema)), subject=subject)
    return replace(summary, schema=settle(summary))


def found(table: pa.Table, **options: Any) -> tuple[Relation, ...]:
    return relate.find(summarised(table), **options).relations


def ids(rows: int) -> np.ndarray:
    return np.arange(rows, dtype=np.uint64)


def texts(table: pa.Table, **options: Any) -> set[str]:
    return {relation.text for relation in found(table, **options)}


def coded(table: pa.Table, family: str = "autoregressive", **options: Any) -> TableCodec:
    summary = summarised(table)
    known = relate.find(summary, **options).relations
    return TableCodec.fit(summary, KINDS[family], relations=known)


def any_codes(codec: TableCodec, rows: int, seed: int) -> Codes:
    """Codes that no model would draw: any index is as likely, half of the scalars lie at an end."""
    g = torch.Generator().manual_seed(seed)
    sizes = [span.size for span in codec.layout.choices]
    indices = [torch.randint(size, (rows,), generator=g) for size in sizes]
    scalars = torch.rand(rows, len(codec.layout.scalars), generator=g) * 2 - 1
    ends = torch.randint(2, scalars.shape, generator=g).bool()
    scalars = torch.where(ends, scalars, scalars.sign())
    stacked = torch.stack(indices, 1) if indices else torch.empty(rows, 0, dtype=torch.long)
    return Codes(stacked.to(codec.layout.index_dtype), scalars)


def decoded(codec: TableCodec, rows: int = ROWS, seed: int = 0) -> pa.Table:
    return codec.decode(any_codes(codec, rows, seed), ids(rows), seed)


def assert_kept(codec: TableCodec, table: pa.Table) -> None:
    """Every relation holds in every row, of the table itself and as it was found to."""
    plain = select(table, codec.schema, encoded=True)
    broken = relate.reduce(plain, codec.relations)[1]
    told = {r.text: n for r, n in zip(codec.relations, broken.tolist(), strict=True) if n}
    assert not told
    for relation in codec.relations:
        if {*relation.sources, *relation.written} <= set(table.column_names):
            assert not relation.broken(plain).any(), relation.text


def shop(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """A table with a relation of every kind."""
    g = np.random.default_rng(seed)
    product = g.choice([f"p{n}" for n in range(12)], rows)
    group = {f"p{n}": f"g{n // 4}" for n in range(12)}
    price = np.round(g.lognormal(2, 0.8, rows), 2)
    count = g.integers(1, 9, rows)
    net = g.integers(100, 9_000, rows)
    tax = g.integers(0, 2_000, rows)
    flag = g.integers(0, 3, rows)
    option = g.integers(0, 4, rows)
    begun = g.integers(15_000, 19_000, rows)
    lasting = np.where(g.random(rows) < 0.3, 0, g.integers(0, 900, rows))
    open_ = g.random(rows) < 0.2
    words = np.where(g.random(rows) < 0.15, 0, g.integers(1, 900, rows))
    length = np.where(words == 0, 0.0, np.round(g.normal(5, 0.5, rows), 3))
    lowest = g.integers(0, 50, rows)
    middle = lowest + np.where(g.random(rows) < 0.4, 0, g.integers(0, 40, rows))
    mood = np.round(g.normal(0, 1, rows), 3)
    parts = g.dirichlet([1, 2, 3], rows)
    good, bad = g.integers(0, 20, rows) * (words > 0), g.integers(0, 9, rows) * (words > 0)
    with np.errstate(invalid="ignore"):
        share = np.where(good + bad == 0, 0.0, good / (good + bad))
        errors = np.where(words == 0, 0.0, g.integers(0, 2_000, rows) / np.maximum(words, 1))
    return pa.table(
        {
            "product": product,
            "group": pa.array([group[p] for p in product]).dictionary_encode(),
            "again": product,
            "price": price,
            "count": pa.array(count, pa.int8()),
            "amount": np.round(price * count, 2),
            "net": net,
            "tax": pa.array(tax, pa.int32()),
            "gross": net + tax,
            "inches": np.round(net / 254, 6) * 100,
            "is_a": pa.array((flag == 0).astype(np.int8)),
            "is_b": flag == 1,
            "is_c": (flag == 2).astype(np.float64),
            "with_x": (option == 1).astype(np.int64),
            "with_y": (option == 2).astype(np.int64),
            "begun": pa.array(begun, pa.int32()).cast(pa.date32()),
            "ended": pa.array(begun + lasting, pa.int32(), mask=open_).cast(pa.date32()),
            "cost": pa.array(g.lognormal(3, 1, rows), mask=open_),
            "words": words,
            "length": length,
            "lowest": lowest,
            "middle": middle,
            "highest": middle + g.integers(0, 30, rows),
            "mood": mood,
            "strength": np.abs(mood),
            "one": parts[:, 0],
            "two": parts[:, 1],
            "three": 1 - parts[:, 0] - parts[:, 1],
            "good": good,
            "bad": bad,
            "share": share,
            "errors": errors,
        }
    )


SHOP = {
    "'again' = 'product'",
    "'group' follows from 'product'",
    "'amount' = 'price' * 'count'",
    "'gross' = 'net' + 'tax'",
    "one of 'is_a', 'is_b', 'is_c'",
    "one at most of 'with_x', 'with_y'",
    "'begun' <= 'ended'",
    "'cost' is null exactly where 'ended' is",
    "'length' is 0 exactly where 'words' is",
    "'lowest' <= 'middle'",
    "'middle' <= 'highest'",
    "'strength' = |'mood' - 0|",
    "'one' + 'two' + 'three' = 1",
    "'share' = 'good' / ('good' + 'bad')",
    "'errors' * 'words' is a whole number",
}


def test_a_relation_of_every_kind_is_found() -> None:
    told = found(shop())
    assert {relation.text for relation in told} >= SHOP
    assert {relation.kind for relation in told} == set(relations.KINDS)


def test_what_is_found_does_not_depend_on_the_order_of_the_sample() -> None:
    table = shop()
    order = np.random.default_rng(1).permutation(table.num_rows)
    assert found(table.take(order)) == found(table)
    assert relate.find(summarised(table, start=10**6)).relations == found(table)


def test_reduced_and_restored_is_the_table() -> None:
    table = shop()
    codec = coded(table)
    plain = select(table, codec.schema, encoded=True)
    reduced, broken = relate.reduce(plain, codec.relations)
    assert not broken.any()
    assert tuple(reduced.column_names) == codec.reduced.names
    back = relate.restore(reduced, codec.relations, codec.schema, ids(table.num_rows), 0)
    assert back.schema.equals(table.schema)
    ranged = {name for r in codec.relations if r.kind == "gap" for name in r.written}
    for name in table.column_names:
        left, right = (side.column(name).to_pylist() for side in (back, table))
        same = [
            a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) < 1e-9 * abs(b))
            for a, b in zip(left, right, strict=True)
        ]
        # A distance leads into the column's range, which ends where `least` lie beyond.
        assert np.mean(same) == 1 or (name in ranged and np.mean(same) > 0.98), name


@pytest.mark.parametrize("family", KINDS)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_any_codes_decode_to_rows_that_keep_every_relation(family: str, seed: int) -> None:
    codec = CODECS[family]
    table = decoded(codec, 500, seed)
    assert table.schema.equals(codec.schema.arrow)
    assert_kept(codec, table)


CODECS = {family: coded(shop(), family) for family in KINDS}


@settings(max_examples=60)
@given(data=st.data())
def test_any_table_with_relations_comes_back_and_any_codes_keep_them(data: Any) -> None:
    table = shop(data.draw(st.integers(300, 600)), data.draw(st.integers(0, 1000)))
    names = data.draw(st.lists(st.sampled_from(table.column_names), min_size=2, unique=True))
    table = table.select(names)
    codec = coded(table)
    plain = select(table, codec.schema, encoded=True)
    reduced, broken = relate.reduce(plain, codec.relations)
    assert not broken.any()
    assert_kept(codec, decoded(codec, 200))
    back = relate.restore(reduced, codec.relations, codec.schema, ids(table.num_rows), 0)
    assert_kept(codec, back)


def test_json_brings_back_equal_relations() -> None:
    codec = CODECS["autoregressive"]
    copy = TableCodec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    assert copy == codec
    assert decoded(copy).equals(decoded(codec))


# -- real tables ----------------------------------------------------------------------------------


def test_adults_years_of_schooling_follow_from_its_degree(adult: pa.Table) -> None:
    codec = coded(adult)
    assert [r.text for r in codec.relations] == [
        "'education-num' follows from 'education'",
        "'occupation' is null wherever 'workclass' is",
    ]
    table = decoded(codec, 5_000)
    assert_kept(codec, table)
    pairs = {
        tuple(row.values()) for row in table.select(["education", "education-num"]).to_pylist()
    }
    real = {tuple(row.values()) for row in adult.select(["education", "education-num"]).to_pylist()}
    assert pairs == real


def test_decimals_of_few_digits_can_be_0_together() -> None:
    g = np.random.default_rng(0)
    count = g.integers(0, 9, ROWS)
    price = pa.array(np.where(count == 0, 0, g.integers(1, 900, ROWS)) / 100.0)
    codec = coded(pa.table({"count": count, "price": price.cast(pa.decimal128(3, 2))}))
    assert "'price' is 0 exactly where 'count' is" in {r.text for r in codec.relations}
    assert_kept(codec, decoded(codec))
    assert bounds_of(codec, {"price": "1..2"})


# -- digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", ["total", "shares"])
def test_what_is_computed_comes_back_in_the_digits_of_the_table(relation: str) -> None:
    g = np.random.default_rng(0)
    one = np.round(g.random(ROWS), 8)
    two = np.round(1 - one if relation == "shares" else g.random(ROWS), 8)
    columns = {"one": one, "two": two}
    table = pa.table(
        columns if relation == "shares" else {**columns, "sum": np.round(one + two, 8)}
    )
    codec = coded(table)
    assert {r.kind for r in codec.relations} == {relation}
    reduced, broken = relate.reduce(select(table, codec.schema, encoded=True), codec.relations)
    assert not broken.any()
    assert relate.restore(reduced, codec.relations, codec.schema, ids(ROWS), 0).equals(table)


@example(values=[999.999999999999], digits=15)  # its logarithm is 3
@given(values=st.lists(st.floats(width=64), min_size=1), digits=st.sampled_from([*DIGITS]))
def test_significant_digits_are_those_that_are_written(values: list[float], digits: int) -> None:
    told = significant(np.array(values), digits)
    np.testing.assert_array_equal(told, [float(f"{value:.{digits - 1}e}") for value in values])


@given(below=st.integers(1, 9_000), above=st.integers(0, 90_000), digits=st.sampled_from([*DIGITS]))
def test_fractions_in_digits_are_those_that_are_written(
    below: int, above: int, digits: int
) -> None:
    told = significant(np.array([above / below]), digits)
    assert told[0] == float(f"{above / below:.{digits - 1}e}")


# -- rates ----------------------------------------------------------------------------------------


def text(values: np.ndarray, digits: int) -> np.ndarray:
    """What a file holds that writes so many significant digits."""
    return np.array([float(f"{value:.{digits}g}") for value in values.tolist()])


def article(rows: int = ROWS, digits: int = 12) -> pa.Table:
    """Rates of the words of texts, some of which have none."""
    g = np.random.default_rng(0)
    words = np.where(g.random(rows) < 0.1, 0, g.integers(1, 400, rows))
    good, bad = g.binomial(words, 0.05), g.binomial(words, 0.02)
    some = np.maximum(words, 1)
    return pa.table(
        {
            "words": words,
            "again": words * g.integers(1, 4, rows),
            "good": text(good / some, digits),
            "bad": text(bad / some, digits),
            "share": text(good / np.maximum(good + bad, 1), digits),
        }
    )


RATES = {"'good' * 'words' is a whole number", "'bad' * 'words' is a whole number"}


@pytest.mark.parametrize("digits", [10, 12, 15, 17])
def test_rates_and_their_share_come_back_bit_for_bit(digits: int) -> None:
    table = article(digits=digits)
    codec = coded(table)
    assert {r.text for r in codec.relations} >= {*RATES, "'share' = 'good' / ('good' + 'bad')"}
    reduced, broken = relate.reduce(select(table, codec.schema, encoded=True), codec.relations)
    assert not broken.any()
    back = relate.restore(reduced, codec.relations, codec.schema, ids(ROWS), 0)
    for name in ("good", "bad") if digits == 17 else ("good", "bad", "share"):
        assert back.column(name).equals(table.column(name)), name


def test_drawn_rates_are_counts_in_the_digits_of_the_table() -> None:
    table = decoded(coded(article()))
    values = {name: table.column(name).to_numpy() for name in table.column_names}
    for name in ("good", "bad"):
        counts = np.rint(values[name] * values["words"])
        told = text(counts / np.maximum(values["words"], 1), 12)
        some = values["words"] > 0
        np.testing.assert_array_equal(values[name][some], told[some])
        values[name] = np.where(some, counts, 0)
    both = np.maximum(values["good"] + values["bad"], 1)
    some = values["words"] > 0
    np.testing.assert_array_equal(values["share"][some], text(values["good"] / both, 12)[some])


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.decimal128(6, 3)])
def test_rates_in_few_decimals_come_back(kind: pa.DataType) -> None:
    g = np.random.default_rng(0)
    base = g.integers(0, 12, ROWS)
    rate = np.round(np.where(base == 0, 0, g.integers(0, 40, ROWS) / np.maximum(base, 1)), 3)
    table = pa.table({"base": base, "rate": pa.array(rate).cast(kind)})
    codec = coded(table)
    assert "'rate' * 'base' is a whole number" in {r.text for r in codec.relations}
    reduced, broken = relate.reduce(select(table, codec.schema, encoded=True), codec.relations)
    assert not broken.any()
    back = relate.restore(reduced, codec.relations, codec.schema, ids(ROWS), 0)
    assert back.column("rate").equals(table.column("rate"))
    drawn = decoded(codec)
    assert drawn.schema.equals(table.schema)
    assert_kept(codec, drawn)


def test_of_bases_that_fit_the_one_of_the_smallest_counts_is_taken() -> None:
    table = article()
    told = {"words": RATES, "again": {t.replace("words", "again") for t in RATES}}
    assert texts(table.select(["again", "words", "good", "bad"])) >= told["words"]
    assert texts(table.select(["again", "good", "bad"])) >= told["again"]


@pytest.mark.parametrize("case", ["ones", "whole", "coarse", "chance", "few", "apart"])
def test_a_rate_needs_evidence(case: str) -> None:
    """Products that are whole of themselves, or by chance, tell nothing of a count."""
    g = np.random.default_rng(0)
    base, rate = g.integers(1, 400, ROWS), g.normal(5, 2, ROWS)
    table = {
        # Fractions are over 1 alone, or are halves, quarters and tenths of bases that have them.
        "ones": (np.where(np.arange(ROWS) % 2, 0, base), np.where(np.arange(ROWS) % 2, rate, 3.0)),
        "whole": (base, np.rint(rate)),
        "coarse": (base * 20, np.rint(rate * 20) / 20),
        "chance": (base + 2_000, np.round(rate, 2)),
        "few": (base, np.where(np.arange(ROWS) < 8, np.rint(rate * base) / base, np.rint(rate))),
        "apart": (np.full(ROWS, 8) - (np.arange(ROWS) % 2) * 4, np.rint(rate * 4) / 4),
    }[case]
    assert not [t for t in texts(pa.table(dict(zip("br", table, strict=True)))) if "whole" in t]


def test_a_rate_keeps_the_orders_it_is_in() -> None:
    """With whole numbers and with rates of its base; another order is kept, and no rate found."""
    g = np.random.default_rng(0)
    base = g.integers(2, 12, ROWS)
    floor = g.integers(0, 900, ROWS)
    counts = floor * base + g.integers(0, 300, ROWS)
    more = counts + g.integers(0, 300, ROWS)
    rate, higher = counts / base, more / base
    ceiling = np.ceil(higher).astype(int) + g.integers(0, 90, ROWS)
    limit = higher + g.gamma(1, 40, ROWS)
    table = pa.table(
        {"base": base, "floor": floor, "rate": rate, "higher": higher, "ceiling": ceiling}
    )
    codec = coded(table)
    told = {r.text for r in codec.relations}
    assert {f"'{name}' * 'base' is a whole number" for name in ("rate", "higher")} < told
    assert {"'floor' <= 'rate'", "'rate' <= 'higher'", "'higher' <= 'ceiling'"} < told
    for seed in range(5):
        assert_kept(codec, decoded(codec, seed=seed))
    limited = pa.table({"base": base, "rate": rate, "higher": higher, "limit": limit})
    codec = coded(limited)
    told = {r.text for r in codec.relations}
    assert {"'rate' <= 'higher'", "'higher' <= 'limit'"} < told
    assert not any("whole" in text for text in told)  # one falls, and the other with it
    assert_kept(codec, decoded(codec))


def test_a_rate_leaves_zeros_and_nulls_as_they_are() -> None:
    table = article()
    null = np.random.default_rng(1).random(ROWS) < 0.2
    bad = pa.array(table.column("bad").to_numpy(), mask=null)
    with_nulls = table.set_column(3, "bad", bad).drop_columns(["again", "share"])
    zero = (
        np.where(table.column("good").to_numpy() > 0, 1.25, 0.0) + table.column("good").to_numpy()
    )
    codec = coded(with_nulls.append_column("with", pa.array(zero)))
    told = {r.text for r in codec.relations}
    assert told >= {*RATES, "'with' is 0 exactly where 'good' is"}
    for seed in range(3):
        drawn = decoded(codec, seed=seed)
        assert 0 < drawn.column("bad").null_count < ROWS
        assert_kept(codec, drawn)


def test_a_broken_rate_takes_nothing_with_it() -> None:
    told = relate.find(summarised(article()))
    counts = np.array([int(relation.kind == "rate") for relation in told.relations])
    assert counts.any()
    kept = relate.without(told, counts, ROWS)
    assert kept.relations == tuple(r for r in told.relations if r.kind != "rate")


@pytest.mark.parametrize(
    ("kind", "columns"), [("rate", ["good", "words"]), ("order", ["floor", "good"])]
)
def test_no_rate_is_found_of_what_the_user_speaks_for(kind: str, columns: list[str]) -> None:
    """It is written last: an order would lift it to what is no count."""
    table = article()
    table = table.append_column("floor", pa.array(table.column("good").to_numpy() * 0.7))
    told = relate.find(summarised(table), wanted=[(kind, columns)])
    about = [r for r in told.relations if "good" in r.written]
    assert [r.kind for r in about if r.kind != "gap"] == [kind]


# -- what is not kept -----------------------------------------------------------------------------


BREAKS = {
    "again": "'again' = 'product'",
    "group": "'group' follows from 'product'",
    "amount": "'amount' = 'price' * 'count'",
    "gross": "'gross' = 'net' + 'tax'",
    "is_a": "one of 'is_a', 'is_b', 'is_c'",
    "ended": "'begun' <= 'ended'",
    "length": "'length' is 0 exactly where 'words' is",
    "cost": "'cost' is null exactly where 'ended' is",
    "strength": "'strength' = |'mood' - 0|",
    "three": "'one' + 'two' + 'three' = 1",
    "share": "'share' = 'good' / ('good' + 'bad')",
    "errors": "'errors' * 'words' is a whole number",
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_relation_that_one_row_breaks_is_not_found(name: str) -> None:
    table = shop()
    values = table.column(name).to_pylist()
    row = next(n for n, value in enumerate(values) if value)
    other = next(value for value in values if value is not None and value != values[row])
    values[row] = {"ended": dt.date(1980, 1, 1), "cost": None, "length": 0.0}.get(name, other)
    place = table.column_names.index(name)
    kind = table.schema.field(name).type
    array = pa.array(values).dictionary_encode() if name == "group" else pa.array(values, kind)
    assert BREAKS[name] in texts(table)
    assert BREAKS[name] not in texts(table.set_column(place, name, array))


def test_columns_of_no_relation_have_none() -> None:
    g = np.random.default_rng(0)
    table = pa.table(
        {
            **{f"n{n}": g.normal(size=3_000) for n in range(8)},
            **{f"i{n}": g.integers(0, 40, 3_000) for n in range(8)},
            **{f"f{n}": (g.random(3_000) < 0.1).astype(int) for n in range(8)},
            **{f"c{n}": g.choice(list("abcd"), 3_000) for n in range(8)},
        }
    )
    assert texts(table) == set()


def test_what_few_rows_have_is_no_evidence() -> None:
    g = np.random.default_rng(0)
    rows = 1_000
    rare = np.zeros(rows, int)
    rare[:4] = 1
    other = np.where(rare == 1, 0, g.integers(0, 9, rows))
    table = pa.table(
        {
            "rare": rare,
            "same": rare,
            "other": other,
            "x": pa.array(g.normal(size=rows), mask=rare == 1),
            "y": pa.array(g.normal(size=rows), mask=rare == 1),
        }
    )
    assert texts(table) == set()


def test_subjects_are_counted_and_not_their_rows() -> None:
    """Twenty rows of one person are no evidence: nulls together are theirs alone."""
    g = np.random.default_rng(0)
    rows = 1_000
    whose = np.where(np.arange(rows) < 30, 0, np.arange(rows))
    null = np.arange(rows) < 30
    table = pa.table(
        {
            "person": [f"u{n:04d}x" for n in whose],
            "x": pa.array(g.normal(size=rows), mask=null),
            "y": pa.array(g.normal(size=rows), mask=null),
        }
    )
    together = "'y' is null exactly where 'x' is"
    assert {r.text for r in relate.find(summarised(table)).relations} == {together}
    assert not relate.find(summarised(table, subject="person")).relations


def test_no_value_that_few_hold_is_written_down() -> None:
    g = np.random.default_rng(0)
    rows = 2_000
    city = g.choice(["Oslo", "Bergen", "Hamar"], rows).astype(object)
    land = np.where(city == "Hamar", "inner", "coast").astype(object)
    city[:3], land[:3] = "secretville", "secretland"
    begun = g.integers(0, 1000, rows)
    ended = begun + g.integers(0, 1000, rows)
    ended[5] = 987_654
    table = pa.table({"city": city, "land": land, "begun": begun, "ended": ended})
    codec = coded(table)
    assert {r.kind for r in codec.relations} == {"lookup", "order", "gap"}
    written = json.dumps(codec.to_json())
    assert "secret" not in written
    assert "987654" not in written
    assert "secretland" not in decoded(codec).column("land").to_pylist()


# -- what the user says ---------------------------------------------------------------------------


def test_columns_left_alone_are_in_no_relation() -> None:
    told = found(shop(), apart=("net", "product"))
    about = {name for relation in told for name in (*relation.sources, *relation.written)}
    assert not about & {"net", "product"}
    assert "'amount' = 'price' * 'count'" in {relation.text for relation in told}


@pytest.mark.parametrize(
    ("kind", "columns", "text"),
    [
        ("equal", ["product", "again"], "'again' = 'product'"),
        ("choice", ["is_a", "is_b", "is_c"], "one of 'is_a', 'is_b', 'is_c'"),
        ("lookup", ["product", "group"], "'group' follows from 'product'"),
        ("distance", ["mood", "strength"], "'strength' = |'mood' - 0|"),
        ("product", ["amount", "price", "count"], "'amount' = 'price' * 'count'"),
        ("product", ["share", "good", "bad"], "'share' = 'good' / ('good' + 'bad')"),
        ("total", ["gross", "net", "tax"], "'gross' = 'net' + 'tax'"),
        ("shares", ["one", "two", "three"], "'one' + 'two' + 'three' = 1"),
        ("together", ["ended", "cost"], "'cost' is null exactly where 'ended' is"),
        ("together", ["words", "length"], "'length' is 0 exactly where 'words' is"),
        ("order", ["lowest", "middle", "highest"], "'middle' <= 'highest'"),
        ("rate", ["errors", "words"], "'errors' * 'words' is a whole number"),
    ],
)
def test_a_relation_can_be_asked_for(kind: str, columns: list[str], text: str) -> None:
    table = shop()
    told = relate.find(summarised(table), wanted=[(kind, columns)], apart=table.column_names)
    assert text in {relation.text for relation in told.relations}
    assert {relation.kind for relation in told.relations} - {"gap"} == {kind}
    codec = TableCodec.fit(summarised(table), KINDS["ctgan"], relations=told.relations)
    assert_kept(codec, decoded(codec, 500))


@pytest.mark.parametrize(
    ("kind", "columns", "error", "said"),
    [
        ("equal", ["net", "tax"], TableError, r"'tax' = 'net': [\d,]+ of 2,000 rows break it"),
        ("order", ["tax", "net"], TableError, r"'tax' <= 'net': [\d,]+ of 2,000 rows break"),
        ("orders", ["tax", "net"], ConfigError, "no kind is called 'orders'; did you mean 'order'"),
        ("order", ["tax", "nett"], ConfigError, "no column is called 'nett'; did you mean 'net'"),
        ("order", ["tax", "product"], ConfigError, "an 'order' is of numbers, or of times"),
        ("gap", ["net", "gross"], ConfigError, "a 'gap' is how an 'order' is coded"),
        ("order", ["tax"], ConfigError, "'order' is of 2 or more columns, got 'tax'"),
        ("product", ["amount", "price"], ConfigError, "'product' is of 3 columns"),
        ("total", ["amount", "product"], ConfigError, "'product' is no column of numbers"),
        ("choice", ["is_a", "group"], ConfigError, "'group' is no column of numbers"),
        ("lookup", ["net", "tax"], ConfigError, "'net' is no category"),
        ("rate", ["strength", "words"], TableError, r"'words' is a whole number: [\d,]+ of 2,000"),
        (
            "rate",
            ["words", "errors"],
            ConfigError,
            "over whole numbers from 0 on, and 'errors' has",
        ),
        ("rate", ["errors"], ConfigError, "'rate' is of 2 columns, got 'errors'"),
        ("rate", ["errors", "product"], ConfigError, "'product' is no column of numbers"),
    ],
)
def test_a_relation_that_cannot_be_is_refused(
    kind: str, columns: list[str], error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        relate.find(summarised(shop()), wanted=[(kind, columns)])


def test_a_column_left_alone_must_be_there() -> None:
    with pytest.raises(ConfigError, match="without_relations: no column is called 'nett'"):
        relate.find(summarised(shop()), apart=["nett"])


# -- the whole table ------------------------------------------------------------------------------


def test_a_broken_relation_takes_with_it_what_builds_on_what_it_made() -> None:
    g = np.random.default_rng(0)
    day = g.integers(0, 4, ROWS)
    days = {f"is_{n}": (day == n).astype(int) for n in range(4)}
    table = pa.table({**days, "weekend": (day > 1).astype(int), "x": day, "x2": day})
    told = relate.find(summarised(table))
    kinds = [relation.kind for relation in told.relations]
    assert kinds == ["equal", "choice", "lookup", "lookup"]
    counts = np.array([0, 3, 0, 0])
    kept = relate.without(told, counts, ROWS)
    assert [relation.kind for relation in kept.relations] == ["equal"]
    with pytest.raises(TableError, match=r"3 of 2,000 rows break it.*out of"):
        relate.without(Found(told.relations, told.relations[1:2]), counts, ROWS)


# -- what is asked of a sample --------------------------------------------------------------------


GIVEN = [
    ("again", "p3", lambda v: v == "p3"),
    ("group", "g1", lambda v: v == "g1"),
    ("is_b", "true", lambda v: v is True),
    ("is_a", "0", lambda v: v == 0),
    ("with_x", 1, lambda v: v == 1),
    ("ended", None, lambda v: v is None),
    ("cost", "5..20", lambda v: v is not None and 5 <= v <= 20),
    ("length", "4..5", lambda v: 4 <= v <= 5),
    ("length", "0", lambda v: v == 0),
    ("errors", "1..3", lambda v: 1 <= v <= 3),
    ("errors", "0", lambda v: v == 0),
]


@pytest.mark.parametrize(("name", "value", "holds"), GIVEN)
def test_what_is_given_of_a_column_that_follows_holds(
    name: str, value: Any, holds: Callable[[Any], bool]
) -> None:
    codec = CODECS["autoregressive"]
    bounds = bounds_of(codec, {name: value})
    codes = any_codes(codec, 20_000, 0)
    kept = torch.ones(codes.rows, dtype=torch.bool)
    for column in codec.layout.columns:
        if column.name in bounds:
            kept &= bounds[column.name].hold(column.index(codes), column.scalar_of(codes))
    codes = codes.take(kept)
    assert codes.rows > 5
    back = codec.decode(codes, ids(codes.rows), 0)
    assert all(map(holds, back.column(name).to_pylist()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"gross": "5..9"},
            "'gross' cannot be asked for, because 'gross' = .*ask for 'net', 'tax'",
        ),
        ({"one": "0.1..0.2"}, r"because 'one' \+ .*without_relations = \['one'\]"),
        ({"ended": "2020-01-01.."}, "'ended' cannot be asked for"),
        ({"errors": "0.1..0.2"}, "'errors' cannot be asked for, because .* whole number; ask for"),
        ({"group": "sentinel-7391"}, "'group' has no such value"),
        ({"is_a": 1, "is_b": True}, "no row holds 'is_b' as asked and the rest"),
        ({"groop": "g1"}, "no column is called 'groop'; did you mean 'group'"),
    ],
)
def test_what_cannot_be_given_says_what_can(given: dict[str, Any], said: str) -> None:
    with pytest.raises(GivenError, match=said) as error:
        bounds_of(CODECS["autoregressive"], given)
    assert "7391" not in str(error.value)


def test_nulls_are_filled_as_relations_have_it(make: Callable[..., Any]) -> None:
    table = shop(600).drop_columns(["cost"])
    codec = coded(table)
    sampler = Sampler(make("autoregressive", codec).eval(), codec, torch.device("cpu"))
    g = np.random.default_rng(0)
    holes = table
    for name in ("again", "group", "gross", "is_b", "ended", "share", "amount", "errors"):
        place, kind = table.schema.names.index(name), table.schema.field(name).type
        cells, null = table.column(name).to_pylist(), g.random(600) < 0.3
        kept = [None if hole else cell for cell, hole in zip(cells, null, strict=True)]
        array = pa.array(kept, getattr(kind, "value_type", kind))
        holes = holes.set_column(
            place, name, array.dictionary_encode() if name == "group" else array
        )
    filled = sampler.fill(holes, seed=1)
    assert filled.schema.equals(table.schema)
    for name in ("again", "group", "gross", "share", "amount"):
        told, got = table.column(name).to_pylist(), filled.column(name).to_pylist()
        assert got == pytest.approx(told) if isinstance(told[0], float) else got == told, name
    assert filled.column("is_b").null_count == filled.column("ended").null_count == 0
    (rate,) = (relation for relation in codec.relations if relation.kind == "rate")
    assert filled.column("errors").null_count == 0
    assert not rate.broken(filled).any()
    known = holes.column("is_b").to_pylist()
    assert all(
        k in (None, f) for k, f in zip(known, filled.column("is_b").to_pylist(), strict=True)
    )
