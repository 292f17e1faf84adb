"""Which part of a table is used: conditions, columns, a share of the rows."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysynth.errors import ConfigError
from raysynth.selection import Selection
from raysynth.source import read
from raysynth.where import Where

SENTINEL = "Zq-sentinel-918273645"
UTC = dt.UTC
NOON, MIDNIGHT = (dt.datetime(2024, 1, 31, 12, tzinfo=UTC), dt.datetime(2024, 2, 1, tzinfo=UTC))
TABLE = pa.table(
    {
        "n": pa.array([1, 2, None, 4], pa.int16()),
        "x": pa.array([0.5, float("nan"), None, -1.0]),
        "t": pa.array(["a", "b", None, "it's"]),
        "d": pa.array([dt.date(2024, 1, 31), dt.date(2020, 5, 1), None, dt.date(1999, 1, 1)]),
        "yes": pa.array([True, False, None, True]),
        "code": pa.array(["u", "v", None, "u"]).dictionary_encode(),
        "at": pa.array([NOON, None, None, MIDNIGHT]).cast(pa.timestamp("us")),
        "zoned": pa.array(
            [NOON, None, None, MIDNIGHT],
            pa.timestamp("ms", tz="Europe/Oslo"),
        ),
        "clock": pa.array([dt.time(8), dt.time(20), None, dt.time(0)]),
        "price": pa.array([1, 2, None, 4]).cast(pa.decimal128(21, 2)),
        "capital gain-net": pa.array([1, 0, None, 5]),
        "and": pa.array([1, 0, None, 5]),
    }
)

HOLDS = {
    "n == 1": [0],
    "n != 1": [1, 3],
    "n > 1.5": [1, 3],
    "n < 100000": [0, 1, 3],
    "4 <= n": [3],
    "1 < n <= 4": [1, 3],
    "n == 1 and yes": [0],
    "n == 1 or t == 'b'": [0, 1],
    "n == 1 OR t IS NULL": [0, 2],
    "not n == 1": [1, 3],
    "not (n > 1 and yes)": [0, 1],
    "n in [1, 4]": [0, 3],
    "n not in [1, 4]": [1],
    "not n in (1,)": [1, 3],
    "t in ['a', \"it's\"]": [0, 3],
    "t == 'it\\'s'": [3],
    "t > 'a'": [1, 3],
    "n is null": [2],
    "n is not null": [0, 1, 3],
    "x is null": [1, 2],
    "x != 0.5": [3],
    "x < -0.5": [3],
    "not x > 0": [3],
    "yes": [0, 3],
    "not yes": [1],
    "yes == true": [0, 3],
    "yes == FALSE": [1],
    "code == 'u'": [0, 3],
    "code in ['v']": [1],
    "d >= '2020-05-01'": [0, 1],
    "d == '2024-01-31'": [0],
    "at == '2024-01-31 12:00:00'": [0],
    "at < '2024-02-01'": [0],
    "zoned == '2024-01-31T12:00:00Z'": [0],
    "zoned == '2024-01-31 13:00:00'": [0],
    "clock < '12:00:00'": [0, 3],
    "price >= 2": [1, 3],
    "price > 1.5": [1, 3],
    "`capital gain-net` > 0": [0, 3],
    "`and` == 5": [3],
    "n == `and`": [0],
    "n > x": [0, 3],
    "t == 'AND'": [],
    "  n == 1\n": [0],
}


@pytest.mark.parametrize("text", HOLDS)
def test_a_condition_holds_where_it_is_true_and_not_where_it_is_null(text: str) -> None:
    mask = Where.parse(text, TABLE.schema).mask(TABLE)
    assert mask.type == pa.bool_()
    assert mask.null_count == 0
    assert np.flatnonzero(np.asarray(mask)).tolist() == HOLDS[text]


REFUSED = {
    "": "cannot be parsed",
    "n ==": "cannot be parsed",
    "n = 1": "cannot be parsed",
    "m == 1": "no column is called 'm'; known: 'n'",
    "`capital gain` > 0": "no column is called 'capital gain'; did you mean 'capital gain-net'",
    f"n == '{SENTINEL}'": "column 'n' is int16, which does not compare with what stands there",
    f"n in [1, '{SENTINEL}']": "column 'n' is int16, which does not compare with all",
    f"d > '{SENTINEL}'": r"column 'd' is date32\[day\]; expected ISO text",
    "d > 3": "column 'd' is date32",
    "n": "only a boolean column is a condition",
    "n is 3": "only null or not null",
    "n in 3": "expected a list",
    "n in []": "expected a list",
    f"__import__('os').system('{SENTINEL}')": "expected comparisons",
    f"n.__class__ == '{SENTINEL}'": "expected comparisons",
    "n + 1 > 2": "expected comparisons",
    "capital gain-net > 0": "cannot be parsed",
    "[n for n in t] == 1": "expected comparisons",
    "n == 1e999999 * 3": "expected comparisons",
    "n == 99999999999999999999999999": "too large",
    "1 == 1": "expected comparisons",
    "lambda: 1": "expected comparisons",
    "n == None": "expected comparisons",
    "(" * 500 + "n == 1" + ")" * 500: "cannot be parsed",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_condition_is_refused_without_its_literals(text: str) -> None:
    with pytest.raises(ConfigError, match=f"where: .*{REFUSED[text]}") as error:
        Where.parse(text, TABLE.schema)
    assert SENTINEL not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert "\n" not in str(error.value)


def test_it_says_which_columns_it_asks_about() -> None:
    where = Where.parse("n > 1 and (`capital gain-net` == 0 or n is null) and yes", TABLE.schema)
    assert set(where.columns) == {"n", "capital gain-net", "yes"}


# -- selections -----------------------------------------------------------------------------------


@pytest.fixture
def people_file(people: pa.Table, tmp_path: Path) -> Path:
    pq.write_table(people, tmp_path / "people.parquet", row_group_size=70)
    return tmp_path / "people.parquet"


def test_columns_come_in_the_tables_order(people: pa.Table, people_file: Path) -> None:
    table = read(people_file, Selection(("sex", "age")))
    assert table.equals(people.select(["age", "sex"]))
    with pytest.raises(ConfigError, match="select: no column is called 'agee'; did you mean 'age'"):
        read(people_file, Selection(("agee",)))


def test_rows_are_chosen_by_columns_that_are_not_kept(people: pa.Table, people_file: Path) -> None:
    table = read(people_file, Selection(("sex",), "age >= 40"))
    ages = people.column("age").to_pylist()
    rows = [place for place, age in enumerate(ages) if age >= 40]
    assert table.equals(people.select(["sex"]).take(rows))


def test_a_fraction_is_uniform_and_the_same_however_the_table_lies(tmp_path: Path) -> None:
    rows = 20_000
    table = pa.table({"n": np.arange(rows)})
    pq.write_table(table, tmp_path / "one.parquet")
    pa.csv.write_csv(table, tmp_path / "t.csv")
    (tmp_path / "many").mkdir()
    for number, start in enumerate(range(0, rows, 1_900)):
        pq.write_table(table.slice(start, 1_900), tmp_path / "many" / f"{number:02d}.parquet")
    part = Selection(fraction=0.3)
    kept = read(tmp_path / "one.parquet", part)
    assert abs(kept.num_rows / rows - 0.3) < 4 * (0.3 * 0.7 / rows) ** 0.5
    halves = np.histogram(kept.column("n"), bins=10, range=(0, rows))[0]
    assert halves.min() > 500
    for other in (read(tmp_path / "many", part), read(tmp_path / "t.csv", part), part.apply(table)):
        assert other.column("n").to_pylist() == kept.column("n").to_pylist()
    less = read(tmp_path / "one.parquet", Selection(fraction=0.1)).column("n").to_pylist()
    assert set(less) < set(kept.column("n").to_pylist())


def test_condition_and_fraction_go_together(people: pa.Table, people_file: Path) -> None:
    both = Selection(where="age >= 40", fraction=0.5)
    kept = read(people_file, both)
    assert kept.equals(both.apply(people))
    half: Any = Selection(fraction=0.5).apply(people)
    assert kept.equals(Selection(where="age >= 40").apply(half))
