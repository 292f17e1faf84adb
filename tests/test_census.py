"""A census: the same however the table is cut, and what a count by hand says."""

import datetime as dt
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.census import Census
from raysynth.errors import TableError
from raysynth.frames import keys
from raysynth.schema import Schema, select
from raysynth.sought import Sought


def table(rows: int, seed: int) -> pa.Table:
    g = np.random.default_rng(seed)
    days = [dt.date(2000, 1, 1) + dt.timedelta(days=int(day)) for day in g.integers(0, 40, rows)]
    made = pa.table(
        {
            "c": pa.array(g.choice(["a", "b", "c"], rows), mask=g.random(rows) < 0.1),
            "n": pa.array(g.integers(0, 30, rows), mask=g.random(rows) < 0.1),
            "x": np.round(g.normal(size=rows), 1),
            "f": g.random(rows) < 0.5,
            "d": days,
        }
    )
    return select(made, Schema.infer(made.schema))


SCHEMA = Schema.infer(table(1, 0).schema)
SIDES = (table(60, 1), table(40, 2))


def counted(census: Census) -> list[list[int]]:
    kinds = [*census.columns.values(), census.rows]
    kinds += [] if census.combinations is None else [census.combinations]
    return [one.side(place).tolist() for one in kinds for place in (0, 1)]


def rare(census: Census) -> dict[str, list[bool]]:
    found = [census.rare(side, place) for place, side in enumerate(SIDES)]
    return {
        f"{at} {name}": rows.tolist() for at, one in enumerate(found) for name, rows in one.items()
    }


@given(cuts=st.lists(st.integers(0, 300), max_size=6), least=st.integers(1, 12))
def test_blocks_in_any_cut_and_order_are_counted_as_the_whole(cuts: list[int], least: int) -> None:
    whole = table(300, 3)
    ends = sorted({0, 300, *cuts})
    blocks = [whole.slice(one, other - one) for one, other in pairwise(ends)]
    at_once, apart = (Census.of(SIDES, SCHEMA, least) for _ in range(2))
    at_once.add(whole)
    for block in reversed(blocks):
        part = Census.of(SIDES, SCHEMA, least)
        part.add(block)
        apart.merge(part.to_bytes())
    assert (apart.seen, at_once.seen) == (300, 300)
    assert counted(apart) == counted(at_once)
    assert rare(apart) == rare(at_once)


def test_counts_are_those_of_rows_that_are_equal() -> None:
    whole = table(200, 4)
    for names in (["c"], ["c", "f"], list(SCHEMA.names)):
        sought = Sought.of(SIDES, names)
        own, *sides = keys([whole, *SIDES], names)
        for place, side in enumerate(sides):
            wanted = [(own == key).sum() for key in side]
            assert sought.counts(whole)[sought.places[place]].tolist() == wanted


def test_many_columns_of_many_values_do_not_overflow() -> None:
    g = np.random.default_rng(0)
    wide = pa.table({f"n{place}": g.integers(0, 2**40, 500) for place in range(12)})
    sought = Sought.of([wide.slice(0, 100)], wide.column_names)
    assert sought.counts(wide).tolist() == [1] * 100
    assert sought.counts(wide.slice(100)).tolist() == [0] * 100


def test_dictionaries_are_counted_as_what_they_stand_for() -> None:
    whole = table(200, 5)
    place = whole.schema.get_field_index("c")
    encoded = whole.set_column(place, "c", whole["c"].dictionary_encode())
    sought = Sought.of(SIDES, SCHEMA.names)
    assert sought.counts(encoded).tolist() == sought.counts(whole).tolist()


def test_the_outermost_are_those_under_the_least_th() -> None:
    side = pa.table({"n": list(range(100))})
    schema = Schema.infer(side.schema)
    census = Census.of([side, side], schema, 10)
    for start in range(0, 100, 7):
        census.add(side.slice(start, 7))
    found = np.flatnonzero(census.rare(side, 0)["n"]).tolist()
    assert found == [*range(9), *range(91, 100)]


def test_what_others_may_know_is_named_or_guessed() -> None:
    assert Census.of(SIDES, SCHEMA, 10).quasi == ("c", "n", "f")
    assert Census.of(SIDES, SCHEMA, 10, ["x", "d"]).quasi == ("x", "d")
    assert Census.of(SIDES, SCHEMA, 10, ["x"]).combinations is None
    with pytest.raises(TableError, match="no column is called 'z'"):
        Census.of(SIDES, SCHEMA, 10, ["z"])
