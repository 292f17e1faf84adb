"""A table to codes and back, and the tables that are refused."""

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from raysynth import models
from raysynth.errors import ConfigError, TableError
from raysynth.guess import settle
from raysynth.schema import Schema, arrow_type, select
from raysynth.summary import Summary, summarise
from raysynth.table import TableCodec, check, check_rows

KINDS = models.get("ctgan").encoding(models.get("ctgan").Config(preset="paper")).kinds


def summarised(**columns: object) -> Summary:
    table = pa.table(columns)
    return summarise(table, np.arange(len(table), dtype=np.uint64), Schema.infer(table.schema))


def ids(rows: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + rows, dtype=np.uint64)


@pytest.mark.parametrize(("rows", "told"), [(0, "0 rows"), (1, "1 row,"), (99, "99 rows")])
def test_too_few_rows_are_refused(rows: int, told: str) -> None:
    with pytest.raises(TableError, match=f"the table has {told}.* at least 100 rows are needed"):
        check(summarised(c=pa.array(range(rows), pa.int64())))
    check_rows(100)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([None] * 200, "column 'c' is all null"),
        ([float("nan")] * 200, "column 'c' is all null"),
        ([1.0, float("inf"), float("-inf")] * 70, "column 'c' holds 140 infinite values"),
    ],
)
def test_a_column_nothing_can_be_learned_from_is_named(cells: list[object], said: str) -> None:
    kind = pa.float64() if cells[0] is None else None
    with pytest.raises(TableError, match=said) as error:
        check(summarised(good=list(range(len(cells))), c=pa.array(cells, kind)))
    assert "--drop 'c'" in str(error.value)
    assert "sentinel" not in str(error.value)


def test_a_column_of_one_value_is_no_reason_to_refuse_a_table() -> None:
    check(summarised(c=["a", None] * 100, n=[1.0, None] * 100, m=[5] * 200, s=["a"] * 200))


def test_adult_comes_back_from_codes(adult: pa.Table, adult_summary: Summary) -> None:
    codec = TableCodec.fit(adult_summary, KINDS)
    rows = ids(adult.num_rows)
    codes = codec.encode(adult, rows, seed=1)
    back = codec.decode(codes, rows, seed=2)
    assert back.schema.equals(adult.schema.remove_metadata())
    for column in adult_summary.schema.columns:
        same = back.column(column.name).to_pylist()
        real = adult.column(column.name).to_pylist()
        exact = np.mean([a == b for a, b in zip(same, real, strict=True)])
        # All but pooled countries and what lies past the ends.
        assert exact > 0.999, column.name
    assert codes.row_bytes <= 48


def test_codes_depend_on_row_ids_and_seed_alone(tables: dict[str, pa.Table]) -> None:
    table = tables["mixed"]
    codec = TableCodec.fit(summarise(table, ids(1_000), Schema.infer(table.schema)), KINDS)
    whole = codec.encode(table, ids(1_000), seed=1)
    piece = codec.encode(table.slice(300, 50), ids(50, 300), seed=1)
    assert np.array_equal(whole.indices[300:350], piece.indices)
    assert np.array_equal(whole.scalars[300:350], piece.scalars)
    again = codec.encode(table, ids(1_000), seed=2)
    assert not np.array_equal(whole.indices, again.indices)
    back = codec.decode(whole, ids(1_000), seed=1)
    assert codec.decode(piece, ids(50, 300), seed=1).equals(back.slice(300, 50).combine_chunks())


def test_strings_in_a_dictionary_have_the_codes_of_strings(tables: dict[str, pa.Table]) -> None:
    table = tables["mixed"]
    codec = TableCodec.fit(summarise(table, ids(1_000), Schema.infer(table.schema)), KINDS)
    plain = codec.encode(table, ids(1_000), seed=1)
    texts = [name for name in table.column_names if table.schema.field(name).type == pa.string()]
    assert texts
    for name in texts:
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).dictionary_encode())
    encoded = codec.encode(table, ids(1_000), seed=1)
    assert np.array_equal(plain.indices, encoded.indices)
    assert np.array_equal(plain.scalars, encoded.scalars)


def test_columns_draw_their_chances_apart() -> None:
    """Two equal columns must not be sent to the same modes row by row."""
    cells = np.random.default_rng(0).normal(size=2_000)
    codec = TableCodec.fit(summarised(a=cells, b=cells), KINDS)
    indices = codec.encode(pa.table({"a": cells, "b": cells}), ids(2_000), seed=0).indices
    assert 0.2 < (indices[:, 0] == indices[:, 1]).float().mean() < 0.95


def test_json_brings_back_an_equal_codec(tables: dict[str, pa.Table]) -> None:
    table = tables["mixed"]
    codec = TableCodec.fit(summarise(table, ids(1_000), Schema.infer(table.schema)), KINDS)
    copy = TableCodec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    assert copy == codec
    assert copy.layout == codec.layout
    assert copy.shares == codec.shares
    assert copy.layout.rows == table.num_rows
    older = {name: value for name, value in codec.to_json().items() if name != "rows"}
    assert TableCodec.from_json(older).layout.rows is None


@pytest.mark.parametrize("only", ["numbers", "categories"])
def test_tables_of_one_kind_of_column(only: str, tables: dict[str, pa.Table]) -> None:
    table = tables[only]
    codec = TableCodec.fit(summarise(table, ids(1_000), Schema.infer(table.schema)), KINDS)
    codes = codec.encode(table, ids(1_000), seed=0)
    back = codec.decode(codes, ids(1_000), seed=0)
    assert bool(codec.layout.scalars) == (only == "numbers")
    assert bool(codec.layout.categories) == (only == "categories")
    assert back.schema.equals(table.schema)
    assert back.num_rows == 1_000


def test_an_empty_table_encodes_to_no_rows(tables: dict[str, pa.Table]) -> None:
    table = tables["mixed"]
    codec = TableCodec.fit(summarise(table, ids(1_000), Schema.infer(table.schema)), KINDS)
    codes = codec.encode(table.slice(0, 0), ids(0), seed=0)
    assert codes.rows == 0
    assert codec.decode(codes, ids(0), seed=0).equals(table.schema.empty_table())


# -- schema -------------------------------------------------------------------------------------


def test_kinds_follow_from_arrow_types() -> None:
    fields = [
        *(("f", pa.float32()), ("i", pa.uint8()), ("code", pa.int16()), ("t", pa.large_string())),
        *(("b", pa.bool_()), ("d", pa.dictionary(pa.int32(), pa.string())), ("x", pa.date32())),
        *(("h", pa.float16()), ("u", pa.uint64()), ("m", pa.decimal128(9, 2))),
        *(("day", pa.date64()), ("at", pa.timestamp("ns", "UTC")), ("long", pa.duration("s"))),
        *(("clock", pa.time32("s")), ("view", pa.string_view())),
        *(("coded", pa.dictionary(pa.int8(), pa.int64())),),
    ]
    schema = Schema.infer(pa.schema(fields), drop=["x"], categories=["code"])
    assert [(c.name, c.kind) for c in schema.columns] == [
        *(("f", "number"), ("i", "number"), ("code", "category"), ("t", "category")),
        *(("b", "boolean"), ("d", "category"), ("h", "number"), ("u", "number"), ("m", "number")),
        *(("day", "time"), ("at", "time"), ("long", "time"), ("clock", "time")),
        *(("view", "category"), ("coded", "category")),
    ]
    assert schema.arrow.types == [kind for name, kind in fields if name != "x"]
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("fields", "options", "kind", "said"),
    [
        ([("d", pa.binary())], {}, TableError, "column 'd' is binary, .*--drop 'd'"),
        ([("d", pa.list_(pa.int8()))], {}, TableError, "column 'd' is list<.*--drop 'd'"),
        ([("d", pa.dictionary(pa.int8(), pa.binary()))], {}, TableError, "column 'd' is dict"),
        ([("d", pa.month_day_nano_interval())], {}, TableError, "column 'd' is month_day_nano"),
        ([("a", pa.int8()), ("a", pa.int8())], {}, TableError, "'a' occurs more than once"),
        ([("a", pa.int8())], {"drop": ["a"]}, TableError, "no column left"),
        ([("age", pa.int8())], {"drop": ["aeg"]}, ConfigError, "drop: .*did you mean 'age'"),
        ([("age", pa.int8())], {"categories": ["ag"]}, ConfigError, "categories: .*mean 'age'"),
        ([("a", pa.float32())], {"categories": ["a"]}, ConfigError, "column 'a' is float"),
    ],
)
def test_what_cannot_be_modelled_is_refused_by_name(
    fields: list[tuple[str, pa.DataType]], options: dict[str, list[str]], kind: type, said: str
) -> None:
    with pytest.raises(kind, match=said):
        Schema.infer(pa.schema(fields), **options)


def test_select_converts_without_loss_or_not_at_all() -> None:
    schema = Schema.infer(pa.schema([("n", pa.int16()), ("f", pa.float64()), ("s", pa.string())]))
    table = pa.table(
        {
            "other": [1, 2],
            "s": pa.array(["a", None]).dictionary_encode(),
            "f": pa.array([float("nan"), 1.5], pa.float32()),
            "n": pa.array([1, 2], pa.int64()),
        }
    )
    found = select(table, schema)
    assert found.schema.equals(schema.arrow)
    assert found.to_pydict() == {"n": [1, 2], "f": [None, 1.5], "s": ["a", None]}
    for cells in ([1, 73_910], [1.5, 2.0], ["sentinel-7391", "2"]):
        with pytest.raises(TableError, match="column 'n' should be int16 but is") as error:
            select(table.set_column(3, "n", pa.array(cells)), schema)
        assert "739" not in str(error.value)


def test_select_names_columns_that_are_missing_or_double() -> None:
    schema = Schema.infer(pa.schema([("n", pa.int64())]))
    with pytest.raises(TableError, match="the table lacks 'n'"):
        select(pa.table({"m": [1]}), schema)
    with pytest.raises(TableError, match="'n' occurs more than once"):
        select(pa.table([[1], [2]], names=["n", "n"]), schema)
    with pytest.raises(TableError, match="no column is called 'm'; known: 'n'"):
        schema["m"]


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.int8(), pa.float16(), pa.bool_(), pa.large_string(), pa.date32(), pa.date64()),
        *(pa.time32("ms"), pa.time64("ns"), pa.duration("us"), pa.timestamp("s")),
        *(pa.timestamp("ns", "Europe/Oslo"), pa.timestamp("us", "+02:00")),
        *(pa.decimal128(10, 2), pa.decimal256(40, -3)),
        *(
            pa.dictionary(pa.int8(), pa.string(), ordered=True),
            pa.dictionary(pa.int32(), pa.date32()),
        ),
    ],
)
def test_types_come_back_from_their_text(kind: pa.DataType) -> None:
    assert arrow_type(str(kind)) == kind


@pytest.mark.parametrize(
    "text", ["list<item: int64>", "binary", "timestamp[us", "decimal(3, 1)", ""]
)
def test_a_text_that_names_no_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no Arrow type that is modelled"):
        arrow_type(text)


# -- every kind of column -------------------------------------------------------------------------


def every_kind(rows: int = 600) -> pa.Table:
    """A column of every type that is modelled, with nulls here and there, and what is invented."""
    g = np.random.default_rng(0)
    whole, null = g.integers(0, 90, rows), g.random(rows) < 0.1
    words = pa.array(g.choice(["a", "b", "c"], rows), mask=null)
    days = pa.array(g.integers(8_000, 20_000, rows), pa.int32(), mask=null)
    ticks = pa.array(g.integers(0, 86_399, rows), mask=null)
    columns = {
        **{str(kind): pa.array(whole.astype(kind.to_pandas_dtype()), kind, mask=null)
           for kind in (pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32())},
        **{str(kind): pa.array(whole, mask=null).cast(pa.decimal128(30, 2)).cast(kind)
           for kind in (pa.decimal32(7, 2), pa.decimal128(30, 2), pa.decimal256(50, 2))},
        **{str(kind): words.cast(kind)
           for kind in (pa.string(), pa.large_string(), pa.string_view())},
        "coded": words.cast(pa.dictionary(pa.int8(), pa.string(), ordered=True)),
        "numbered": pa.array(whole // 9, mask=null).dictionary_encode(),
        "yes": pa.array(whole > 30, mask=null),
        "day": days.cast(pa.date32()),
        "midnight": days.cast(pa.date32()).cast(pa.date64()),
        "clock": ticks.cast(pa.int32()).cast(pa.time32("s")),
        "nanos": ticks.cast(pa.time64("ns")),
        "zoned": ticks.cast(pa.timestamp("ms", "Europe/Oslo")),
        "span": ticks.cast(pa.duration("us")),
        "key": pa.array(np.arange(rows) + 900, pa.int32()),
        "mail": [f"jon{number}@corp.invalid" for number in range(rows)],
        "one": pa.array([7] * rows, pa.int16()),
        "same": pa.array(["x"] * rows).dictionary_encode(),
        "now": pa.array([dt.datetime(2024, 2, 29)] * rows, pa.timestamp("us", "UTC")),  # noqa: DTZ001
        "always": [True] * rows,
    }  # fmt: skip
    return pa.table(columns)


def test_every_type_comes_back_by_schema_equality() -> None:
    table = every_kind()
    summary = summarise(table, ids(600), Schema.infer(table.schema))
    summary = replace(summary, schema=settle(summary))
    codec = TableCodec.fit(summary, KINDS)
    codec = TableCodec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    back = codec.decode(codec.encode(table, ids(600), seed=0), ids(600), seed=0)
    back.validate(full=True)
    assert back.schema.equals(table.schema)
    invented = {"key", "mail"}
    for name in table.schema.names:
        assert back.column(name).null_count == table.column(name).null_count, name
        told, found = (side.column(name).to_pylist() for side in (table, back))
        same = np.mean([a == b for a, b in zip(told, found, strict=True)])
        assert same == 0 if name in invented else same > 0.8, name
    dictionary = back.column("coded").chunk(0).dictionary.to_pylist()
    assert dictionary == ["a", "b", "c"], "kept values are the dictionary, in order"
    assert dict(zip(codec.schema.names, codec.names, strict=True))["one"] == "constant"


def test_a_table_with_nothing_to_learn_from_is_refused() -> None:
    table = pa.table({"key": range(200), "one": [5] * 200})
    summary = summarise(table, ids(200), Schema.infer(table.schema))
    with pytest.raises(TableError, match="no column to learn from"):
        TableCodec.fit(replace(summary, schema=settle(summary)), KINDS)


def test_the_least_number_of_rows_is_a_setting() -> None:
    summary = summarised(c=[1.5, 2.5] * 20)
    with pytest.raises(TableError, match=r"at least 100 rows are needed \(minimum_rows"):
        TableCodec.fit(summary, KINDS)
    assert TableCodec.fit(summary, KINDS, minimum=40).schema.names == ("c",)
