"""What a few rows hold, and copies: by hand, of memorised tables, and of rows never seen."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from raysynth.attacks import Tables, rare
from raysynth.errors import TableError
from raysynth.risks import Risk
from raysynth.schema import Schema

NAMES = ["rare_values", "rare_combinations", "near_copies", "exact_copies"]


def attacked(
    synthetic: pa.Table, train: pa.Table, held: pa.Table, seed: int = 0, **options: object
) -> dict[str, Risk]:
    generator = np.random.default_rng(seed)
    schema = Schema.infer(train.schema)
    risks = rare.attack(Tables(synthetic, train, held), schema, generator, **options)  # type: ignore[arg-type]
    assert [risk.name for risk in risks] == NAMES
    assert all(0 <= risk.low <= risk.value <= risk.high <= 1 for risk in risks)
    return {risk.name: risk for risk in risks}


def parts(table: pa.Table, rows: int, seed: int) -> list[pa.Table]:
    """Three parts of as many rows, drawn by chance."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    return [table.take(order[at : at + rows]) for at in range(0, 3 * rows, rows)]


def test_rare_categories_by_hand() -> None:
    train = pa.table({"c": ["a"] * 40 + ["b"] * 9 + ["d"] * 10 + [None] * 5})
    held = pa.table({"c": ["a"] * 38 + ["b"] * 2})
    synthetic = pa.table({"c": ["b"] * 10 + ["d"] * 10 + ["z"] * 10 + [None] * 20})
    risk = attacked(synthetic, train, held)["rare_values"]
    # Only 'b' is rare: 'd' has ten rows, 'z' is made up, null is no value.
    assert (risk.details["rate"], risk.details["control"]) == (0.2, 0.05)
    assert risk.value == pytest.approx((0.2 - 0.05) / 0.95)
    assert (risk.unit, risk.chance, risk.tried) == ("risk", 0.0, 50)
    assert (risk.details["shown"], risk.details["shown_control"]) == (1, 1)
    none = attacked(synthetic, train, held, least=9)["rare_values"]
    assert (none.value, none.low) == (0, 0)
    assert none.details["shown"] == 0


@pytest.mark.parametrize("kind", ["number", "time"])
def test_rare_numbers_are_the_outermost_and_exact(kind: str) -> None:
    def column(values: list[int]) -> pa.Table:
        days = [dt.date(2000, 1, 1) + dt.timedelta(days=value) for value in values]
        return pa.table({"n": days if kind == "time" else values})

    train, held = column(list(range(100))), column([50] * 40)
    # Nine lie under the tenth smallest, nine over the tenth largest; 200 is nobody's.
    outer = [*range(9), *range(91, 100)]
    risk = attacked(column(outer + [200] * 40), train, held)["rare_values"]
    assert risk.details["rate"] == pytest.approx(18 / 58)
    assert risk.details["shown"] == 18
    assert risk.details["shown_control"] == 0
    assert risk.low > 0
    inner = attacked(column(list(range(9, 91))), train, held)["rare_values"]
    assert (inner.value, inner.details["rate"]) == (0, 0)


def test_values_that_many_hold_are_not_rare_however_far_out() -> None:
    train = pa.table({"n": [*range(100), *[10_000] * 10]})
    synthetic, held = pa.table({"n": [10_000] * 40}), pa.table({"n": [5] * 40})
    assert attacked(synthetic, train, held)["rare_values"].details["rate"] == 0


def test_combinations_that_one_row_has_by_hand() -> None:
    train = pa.table({"c": ["a"] * 30 + ["b", "b"], "k": [1] * 30 + [2, 3], "x": [0.5] * 32})
    synthetic = pa.table({"c": ["b"] * 20 + ["a"] * 20, "k": [2] * 20 + [1] * 20, "x": [0.1] * 40})
    held = pa.table({"c": ["b"] * 4 + ["a"] * 36, "k": [3] * 4 + [2] * 36, "x": [0.1] * 40})
    risk = attacked(synthetic, train, held)["rare_combinations"]
    assert (risk.details["rate"], risk.details["control"]) == (0.5, 0.1)
    named = attacked(synthetic, train, held, quasi=["c", "x"])["rare_combinations"]
    assert named.details["rate"] == 0
    assert "two columns" in str(attacked(synthetic, train, held, quasi=["c"])[risk.name].skipped)
    with pytest.raises(TableError, match="no column is called 'd'"):
        attacked(synthetic, train, held, quasi=["d"])


def test_whole_numbers_of_many_values_are_not_known_to_others() -> None:
    train = pa.table({"c": ["a", "b"] * 60, "n": list(range(120))})
    assert attacked(train, train, train)["rare_combinations"].skipped
    few = pa.table({"c": ["a", "b"] * 60, "n": [at % 100 for at in range(120)]})
    assert not attacked(few, few, few)["rare_combinations"].skipped


def test_a_table_that_repeats_its_training_rows_is_told(adult: pa.Table) -> None:
    train, held, _ = parts(adult, 2_000, 0)
    again = train.take(np.random.default_rng(1).integers(0, 2_000, 2_000))
    found = attacked(again, train, held)
    assert found["exact_copies"].low > 0.99
    assert found["near_copies"].low > 0.99
    assert found["near_copies"].details["control"] < 0.03
    assert found["near_copies"].details["nndr"] == 0
    assert found["near_copies"].details["nndr_control"] > 0.7
    assert found["rare_combinations"].low > 0.9
    # Most rare values of Adult are several people's, so that held-out rows show them too.
    values = attacked(train, train, held)["rare_values"].details
    assert 0.5 < values["shown_control"] / values["shown"] < 0.75


def test_near_copies_need_not_be_exact(adult: pa.Table) -> None:
    train, held, _ = parts(adult, 2_000, 0)
    moved = train.set_column(2, "fnlwgt", pa.array(train["fnlwgt"].to_numpy() + 7))
    found = attacked(moved, train, held)
    assert found["near_copies"].low > 0.99
    assert found["exact_copies"].value < 0.01


def test_rows_never_seen_are_no_more_than_chance(adult: pa.Table) -> None:
    """A one-sided question at 2.5 %: of 30 tables one or two may stand out, in each of four."""
    beyond = dict.fromkeys(NAMES, 0)
    for seed in range(30):
        train, held, fresh = parts(adult, 600, seed)
        for name, risk in attacked(fresh, train, held, seed).items():
            assert not risk.skipped
            beyond[name] += risk.low > 0
    assert max(beyond.values()) <= 3


def test_figures_are_the_same_for_the_same_seed(adult: pa.Table) -> None:
    tables = parts(adult, 300, 0)
    assert attacked(*tables, seed=3) == attacked(*tables, seed=3)


def test_few_rows_are_told_and_exclude_nothing(adult: pa.Table) -> None:
    for sizes in ((20, 300, 300), (300, 20, 300), (300, 300, 20)):
        cut = [
            table.slice(0, size) for table, size in zip(parts(adult, 300, 0), sizes, strict=True)
        ]
        for risk in attacked(*cut).values():
            assert risk.skipped
            assert (risk.value, risk.low, risk.high, risk.tried) == (0, 0, 1, 0)
    some = [table.slice(0, 40) for table in parts(adult, 300, 0)]
    assert [name for name, risk in attacked(*some).items() if risk.skipped] == ["near_copies"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None] * 90, pa.float64()),
        pa.array([None] * 90, pa.string()),
        pa.array([1.5] * 90),
        pa.array([True, False, None] * 30),
        pa.array([dt.date(2020, 1, 1)] * 90),
    ],
)
def test_hopeless_columns_give_chance(column: pa.Array) -> None:
    table = pa.table({"a": column})
    for risk in attacked(table, table, table).values():
        assert (risk.value, risk.low) == (0, 0)
