"""What is asked of a sample as bounds on codes: what lies within them decodes to what is asked."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.codecs import ColumnCodes
from raysynth.errors import GivenError
from raysynth.given import bounds_of, not_null
from raysynth.hashing import Chance
from raysynth.layout import Bounds
from raysynth.schema import Schema
from raysynth.summary import summarise
from raysynth.table import TableCodec

NUMBERS = ("normal", "modes", "bins", "minmax")
ROWS = 2_000


def table() -> pa.Table:
    """Whole numbers, cents, floats, dates and instants, some null, some at one value."""
    g = np.random.default_rng(0)
    whole = np.where(g.random(ROWS) < 0.4, 0, g.integers(-50, 90, ROWS))
    days = np.datetime64("2020-01-01") + g.integers(0, 900, ROWS)
    return pa.table(
        {
            "whole": pa.array(whole, pa.int16(), mask=g.random(ROWS) < 0.1),
            "cents": pa.array(np.round(g.lognormal(3, 1, ROWS), 2)),
            "real": pa.array(g.normal(0, 1e-3, ROWS)),
            "huge": pa.array(g.integers(2**62, 2**62 + 2**40, ROWS), pa.int64()),
            "day": pa.array(days.astype("datetime64[D]")),
            "at": pa.array(days.astype("datetime64[s]") + g.integers(0, 86_400, ROWS)),
            "city": pa.array(g.choice(["Oslo", "Bergen"], ROWS), mask=g.random(ROWS) < 0.2),
            "code": pa.array(g.integers(0, 3, ROWS)),
            "yes": pa.array(g.random(ROWS) < 0.5),
        }
    )


TABLE = table()
IDS = np.arange(ROWS, dtype=np.uint64)
SUMMARY = summarise(TABLE, IDS, Schema.infer(TABLE.schema, categories=["code"]))
FITTED = {name: TableCodec.fit(SUMMARY, {"number": name, "category": "onehot"}) for name in NUMBERS}


def within(codec: TableCodec, name: str, bounds: Bounds, rows: int = 400) -> pa.Array:
    """What codes drawn evenly between the bounds decode to, both ends among them."""
    g = np.random.default_rng(1)
    column = next(c for c in codec.layout.columns if c.name == name)
    index = g.choice(bounds.allowed.numpy(), rows)
    lows, highs = bounds.lows.numpy()[index], bounds.highs.numpy()[index]
    share = g.random(rows, np.float32)
    share[: rows // 4], share[rows // 4 : rows // 2] = 0, 1
    scalars = np.clip(lows + share * (highs - lows), lows, highs).astype(np.float32)
    scalars *= column.says(torch.from_numpy(index)).numpy()
    place = codec.schema.names.index(name)
    choices = index.astype(np.int32)[:, None][:, : column.choice is not None]
    codes = ColumnCodes(choices, scalars[:, None])
    return codec.codecs[place].decode(codes, Chance(IDS[:rows], 0, 0))


@pytest.mark.parametrize("codec", NUMBERS)
@pytest.mark.parametrize("name", ["whole", "cents", "real", "huge", "day", "at"])
@settings(max_examples=25)
@given(
    places=st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)), open_=st.integers(0, 2)
)
def test_what_lies_within_decodes_into_the_range_and_what_does_not_out_of_it(
    codec: str, name: str, places: tuple[int, int], open_: int
) -> None:
    fitted, values = FITTED[codec], TABLE.column(name).combine_chunks()
    kept = values.drop_null().sort()
    first, last = sorted(place % len(kept) for place in places)
    # Of a float, a range of one value is as good as none: some rows lie between the two.
    low, high = kept[max(0, first - 20)].as_py(), kept[min(last + 20, len(kept) - 1)].as_py()
    asked = (None if open_ == 1 else low, None if open_ == 2 else high)
    (bounds,) = bounds_of(fitted, {name: asked}).values()
    drawn = within(fitted, name, bounds)
    assert drawn.null_count == 0
    assert asked[0] is None or pc.all(pc.greater_equal(drawn, pa.scalar(low, drawn.type))).as_py()
    assert asked[1] is None or pc.all(pc.less_equal(drawn, pa.scalar(high, drawn.type))).as_py()
    # The other way round: the codes of values in range are within, those of others are not.
    place = fitted.schema.names.index(name)
    codes = fitted.codecs[place].encode(values, Chance(IDS, 0, place))
    column = next(c for c in fitted.layout.columns if c.name == name)
    index = torch.from_numpy(
        codes.indices[:, 0].astype(np.int64) if column.choice else np.zeros(ROWS, np.int64)
    )
    holds = bounds.hold(index, torch.from_numpy(codes.scalars[:, 0])).numpy()
    back = fitted.codecs[place].decode(codes, Chance(IDS, 0, place))
    inside = back.is_valid()
    for compare, end in ((pc.greater_equal, asked[0]), (pc.less_equal, asked[1])):
        if end is not None:
            inside = pc.and_(inside, compare(back, pa.scalar(end, back.type)).fill_null(False))
    # An end that no multiple of 2 ** -24 decodes to is left out with what is next to it.
    missed = np.flatnonzero(holds != np.asarray(inside))
    assert not holds[missed].any()
    assert len(missed) <= 2


def ask(**given: Any) -> dict[str, Bounds]:
    return bounds_of(FITTED["normal"], given)


def same(left: dict[str, Bounds], right: dict[str, Bounds]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(a, b) for name in left for a, b in zip(left[name], right[name], strict=True)
    )


def test_text_says_the_same_as_values() -> None:
    assert same(ask(whole="-3..40"), ask(whole=(-3, 40)))
    assert same(ask(whole="12.."), ask(whole=[12, None]))
    assert same(ask(whole=" .. 12"), ask(whole=(None, 12)))
    assert same(ask(whole="7"), ask(whole=(7, 7)))
    assert same(ask(cents="1.5..20"), ask(cents=(1.5, 20)))
    days = (dt.date(2020, 3, 1), dt.date(2020, 4, 1))
    assert same(ask(day="2020-03-01..2020-04-01"), ask(day=days))
    instants = (dt.datetime(2020, 3, 1, 12), None)  # noqa: DTZ001 (the column has no zone)
    assert same(ask(at="2020-03-01 12:00:00.."), ask(at=instants))
    assert same(ask(code="2", yes="TRUE"), ask(code=2, yes=True))


def test_one_value_is_one_index() -> None:
    assert ask(city="Oslo")["city"].only is not None
    assert ask(whole=0)["whole"].only is not None, "a point"
    assert ask(whole=None)["whole"].only == FITTED["normal"].codecs[0].index_of(None)
    assert ask(whole=(0, 30))["whole"].only is None


def test_any_value_but_null() -> None:
    fitted = FITTED["normal"]
    for name in ("whole", "city", "cents"):
        column = next(c for c in fitted.layout.columns if c.name == name)
        codec = fitted.codecs[fitted.schema.names.index(name)]
        bounds = not_null(codec, column)
        assert len(bounds.allowed) == column.size - (codec.index_of(None) is not None)
        assert within(fitted, name, bounds).null_count == 0 if name != "city" else True


SENTINEL = "sentinel-81"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"whole": (40, 3)}, "the range of 'whole' ends before it begins"),
        ({"whole": (500, 600)}, "column 'whole' holds nothing there"),
        ({"whole": SENTINEL}, "'whole' is int16; expected a value of that type"),
        ({"whole": f"1..{SENTINEL}"}, "'whole' is int16"),
        ({"whole": 2**40}, "'whole' is int16"),
        ({"real": float("nan")}, "'real' is double"),
        ({"whole": ".."}, "a range of 'whole' has two ends"),
        ({"whole": (1, 2, 3)}, "a range of 'whole' has two ends"),
        ({"day": SENTINEL}, "'day' is date32"),
        ({"cents": None}, "column 'cents' has no such value"),
        ({"city": (SENTINEL, None)}, "column 'city' has no such value"),
        ({"whol": 3}, "did you mean 'whole'"),
    ],
)
def test_what_no_row_can_have_is_told_without_the_value(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(GivenError, match=says) as error:
        ask(**asked)
    assert SENTINEL not in str(error.value)
