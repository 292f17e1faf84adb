"""Numbers and times of every type as floats and back: exact up to what `numeric` states."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.errors import TableError
from raysynth.numeric import EXACT, Scale, is_numeric, null_share
from raysynth.schema import Column, arrow_type
from raysynth.summary import ColumnSummary, Counters

LEAST = 3
DAY = 86_400
START = datetime(2020, 1, 1, tzinfo=UTC)
TICKS = {
    **{f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "date32[day]": ("", 32),
    "timestamp[s]": ("", 64),
    "timestamp[us]": ("", 64),
    "timestamp[ns]": ("", 64),
    "timestamp[us, tz=UTC]": ("", 64),
    "duration[ms]": ("", 64),
    "duration[ns]": ("", 64),
    "decimal32(9, 2)": ("", 30),
    "decimal64(18, 4)": ("", 60),
    "decimal128(38, 10)": ("", 126),
    "decimal256(76, 20)": ("", 252),
}


def summary(values: pa.Array, holders: Any = None) -> ColumnSummary:
    """What a codec is fitted on, of a table that is all in the sample."""
    rows = len(values)
    whose = np.arange(rows) if holders is None else np.asarray(holders)
    counters, grouped = Counters(values.null_count, 0, None, None, None), holders is not None
    column = Column("c", "number", values.type)
    return ColumnSummary(column, rows, counters, values, whose, grouped)


def whole(array: pa.Array) -> list[int | None]:
    """The numbers that Arrow keeps, by Arrow's own casts."""
    kind = array.type
    if pa.types.is_decimal(kind):
        cells = array.to_pylist()
        return [None if c is None else int(Fraction(c) * 10**kind.scale) for c in cells]
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return array.to_pylist()


def from_whole(cells: list[int | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        with localcontext(prec=90):
            made = [None if c is None else Decimal(c).scaleb(-kind.scale) for c in cells]
        return pa.array(made, kind)
    stored = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(cells, stored if pa.types.is_temporal(kind) else kind).cast(kind)


@st.composite
def columns(draw: st.DrawFn) -> pa.Array:
    """Whole numbers of any type around any centre, in any spread and step; some null."""
    text = draw(st.sampled_from(sorted(TICKS)))
    sign, bits = TICKS[text]
    low, high = (0, 2**bits - 1) if sign == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if text.startswith("decimal"):
        low, high = -(10 ** (arrow_type(text).precision) - 1), 10 ** arrow_type(text).precision - 1
    step = draw(st.sampled_from([1, 10, 1_000, 60 * 10**6, DAY * 10**9]))
    step = step if step < high // 10 else 1
    centre = draw(st.integers(low, high)) if draw(st.booleans()) else 0
    spread = draw(st.sampled_from([2, 100, 10**6, 2**40, high]))
    cells = st.integers(max(low, centre - spread * step), min(high, centre + spread * step))
    drawn = draw(st.lists(st.none() | cells, min_size=2 * LEAST, max_size=40))
    there = [None if c is None else int(c / Fraction(step)) * step for c in drawn]
    there += [min(high, max(low, centre)) // step * step] * (2 * LEAST)
    there = [None if c is None or not low <= c <= high else c for c in there]
    if sum(c is not None for c in there) < 2 * LEAST:
        there += [0] * (2 * LEAST)
    return from_whole(there, arrow_type(text))


@given(columns())
def test_whole_numbers_and_times_come_back_exactly_or_to_half_an_ulp(values: pa.Array) -> None:
    scale = Scale.fit(summary(values), LEAST)
    assert Scale.from_json(json.loads(json.dumps(scale.to_json()))) == scale
    floats = scale.floats(values)
    assert floats.dtype == np.float64
    assert np.array_equal(np.isnan(floats), np.asarray(values.is_null()))
    back = scale.values(floats)
    back.validate(full=True)
    assert back.type == values.type
    for told, found, number in zip(whole(values), whole(back), floats, strict=True):
        if told is None:
            assert found is None
            continue
        cut = min(max(told, scale.lower), scale.upper)
        steps = Fraction(cut - scale.origin, scale.step)
        if (steps.denominator == 1 and abs(steps) <= EXACT) or cut in (scale.lower, scale.upper):
            assert found == cut
        else:
            allowed = max(Fraction(float(np.spacing(abs(number)))), 1) * scale.step / 2
            assert abs(found - cut) <= allowed
        assert scale.lower <= found <= scale.upper
    for start, stop in ((0, 1), (1, 5), (5, len(values)), (2, 2)):
        piece = values.slice(start, stop - start)
        assert np.array_equal(scale.floats(piece), floats[start:stop], equal_nan=True)
        assert scale.values(floats[start:stop]).equals(back.slice(start, stop - start))


@given(
    st.sampled_from(["halffloat", "float", "double"]),
    st.lists(st.none() | st.floats(-6e4, 6e4, width=16), min_size=9, max_size=50),
    st.sampled_from([None, 0, 1, 2, 6]),
)
def test_floats_come_back_exactly(
    text: str, cells: list[float | None], decimals: int | None
) -> None:
    kind = arrow_type(text)
    numbers = np.array([*cells, *[0.5] * 2 * LEAST], float)
    numbers = numbers * np.pi / 4 if decimals is None else np.round(numbers / 7, decimals)
    values = pa.array(numbers.astype(kind.to_pandas_dtype()), kind, mask=np.isnan(numbers))
    scale = Scale.fit(summary(values), LEAST)
    back = scale.values(scale.floats(values))
    back.validate(full=True)
    assert back.type == kind
    assert np.array_equal(np.asarray(back.is_null()), np.isnan(numbers))
    told, found = (np.asarray(a.drop_null()).astype(np.float64) for a in (values, back))
    cut = np.clip(told, scale.lower, scale.upper)
    near = {"halffloat": 0, "float": 1e-6, "double": 1e-12}[text]
    assert np.allclose(found, cut, rtol=0 if scale.decimals is None else near, atol=0)
    if decimals is not None and text == "double":
        assert scale.decimals <= decimals
        assert np.array_equal(found, np.round(found, decimals))


@pytest.mark.parametrize(
    ("text", "seconds", "unit"),
    [
        ("date32[day]", DAY, 1),
        ("date64[ms]", DAY, DAY * 10**3),
        ("timestamp[s]", DAY, DAY),
        ("timestamp[us]", 3_600, 3_600 * 10**6),
        ("timestamp[ns]", 60, 60 * 10**9),
        ("timestamp[ms, tz=Europe/Oslo]", 60, 60 * 10**3),
        ("time32[s]", 60, 60),
        ("time64[us]", 3_600, 3_600 * 10**6),
        ("time64[ns]", 1, 10**9),
        ("duration[us]", DAY, DAY * 10**6),
        ("duration[s]", 1, 1),
    ],
)
def test_times_are_decoded_in_the_coarsest_unit_they_were_in(
    text: str, seconds: int, unit: int
) -> None:
    kind = arrow_type(text)
    tick = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(getattr(kind, "unit", ""), 10**3)
    tick = Fraction(1, DAY) if kind == pa.date32() else tick
    most = DAY // seconds - 1 if pa.types.is_time(kind) else 20_000
    counts = np.random.default_rng(0).integers(0, most + 1, 500)
    values = from_whole([int(c * seconds * tick) for c in counts.tolist()], kind)
    scale = Scale.fit(summary(values))
    assert scale.step == unit
    wild = np.random.default_rng(1).uniform(*scale.ends, 300)
    assert all(cell % unit == 0 for cell in whole(scale.values(wild)))


@pytest.mark.parametrize("zone", ["Europe/Oslo", "America/Havana", "Australia/Lord_Howe", "+02:00"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_local_midnights_come_back_as_local_midnights(zone: str, unit: str) -> None:
    kind = pa.timestamp(unit, tz=zone)
    days = pa.array([date(2018, 1, 1) + timedelta(days=d) for d in range(0, 1_000, 2)])
    clock = days.cast(pa.timestamp(unit))
    values = pc.assume_timezone(clock, zone, ambiguous="earliest", nonexistent="latest")
    scale = Scale.fit(summary(values), least=1)
    assert scale.local
    assert values.type == kind
    assert scale.values(scale.floats(values)).equals(values)
    # Every day between, too, begins when the zone says so.
    between = scale.values(np.random.default_rng(0).uniform(*scale.ends, 2_000))
    local = pc.local_timestamp(between).cast(pa.timestamp("s")).to_pylist()
    late = {moment.date() for moment in local if moment.time() != time()}
    # Havana's clock skips from midnight to one, on three of these days.
    skipped = {date(2018, 3, 11), date(2019, 3, 10), date(2020, 3, 8)}
    assert late <= (skipped if zone == "America/Havana" else set())
    assert len({moment.date() for moment in local}) > 500


def test_one_value_off_midnight_is_judged_in_utc() -> None:
    clock = pa.array([START + timedelta(days=d) for d in range(100)], pa.timestamp("us"))
    values = pc.assume_timezone(clock, "Europe/Oslo")
    odd = pa.concat_arrays([values.slice(0, 50), pc.add(values.slice(50), timedelta(minutes=1))])
    scale = Scale.fit(summary(odd))
    assert (scale.local, scale.step) == (False, 60 * 10**6)
    assert scale.values(scale.floats(odd)).slice(10, 80).equals(odd.slice(10, 80))


@pytest.mark.parametrize("zone", [None, "Europe/Oslo"])
def test_years_1_to_9999(zone: str | None) -> None:
    kind = pa.timestamp("us", tz=zone)
    g = np.random.default_rng(0)
    moments = [START.replace(int(y), 3, microsecond=int(y)) for y in g.integers(1, 10_000, 400)]
    last = START.replace(9999, 12, 30, 23, 59, 59, 999_999)
    ends = [START.replace(1)] * 10 + [last] * 10
    values = pa.array([*moments, *ends], pa.timestamp("us")).cast(kind)
    scale = Scale.fit(summary(values))
    back = scale.values(scale.floats(values))
    assert back.type == kind
    # Beyond 2 ** 53 microseconds, 285 years from 1970, half an ulp: up to 16 microseconds.
    away = [abs(a - b) for a, b in zip(whole(values), whole(back), strict=True)]
    assert max(away) <= 16
    assert away[-20:] == [0] * 20
    near = np.abs(np.array(whole(values))) < EXACT
    assert near.sum() > 10
    assert not np.array(away)[near].any()


def test_an_origin_keeps_nanoseconds_far_from_1970() -> None:
    start = 10**18 * 4
    values = from_whole([start + 7 * i for i in range(1_000)], pa.timestamp("ns"))
    scale = Scale.fit(summary(values))
    assert scale.values(scale.floats(values)).slice(10, 980).equals(values.slice(10, 980))


def test_the_largest_whole_numbers_neither_wrap_nor_move() -> None:
    for kind in (pa.int64(), pa.uint64()):
        info = np.iinfo(kind.to_pandas_dtype())
        values = pa.array([int(info.max)] * 20 + [0] * 20 + [int(info.min)] * 20, kind)
        scale = Scale.fit(summary(values))
        assert scale.values(scale.floats(values)).equals(values)


@pytest.mark.parametrize("text", ["decimal128(38, 10)", "decimal256(76, 20)"])
@pytest.mark.parametrize("most", [2**62, 2**63 - 1, 2**63, 2**64, 2**100])
@pytest.mark.parametrize("least", [0, -1])
def test_decimals_wider_than_a_word_come_back(text: str, most: int, least: int) -> None:
    values = from_whole([0, 7, most, least * most, most - 1] * 20, arrow_type(text))
    scale = Scale.fit(summary(values))
    back = whole(scale.values(scale.floats(values)))
    for told, found in zip(whole(values), back, strict=True):
        assert found == told if abs(told) in (0, 7, most) else abs(found - told) <= most / EXACT


def test_round_numbers_stay_round() -> None:
    for cells, step in (([20_000, 90_000, 130_000], 10_000), ([20, 90, 135], 1), ([0, 0, 0], 1)):
        scale = Scale.fit(summary(pa.array(cells * 20)))
        assert scale.step == step
        floats = summary(pa.array(cells * 20, pa.float64()))
        assert Scale.fit(floats).decimals == 1 - len(str(step))
    money = pa.array([Decimal("1.50"), Decimal("20.25")] * 20, pa.decimal128(38, 18))
    assert Scale.fit(summary(money)).step == 10**16


@pytest.mark.parametrize("text", ["int64", "double", "timestamp[us]", "decimal128(38, 2)"])
def test_ends_lie_so_many_holders_deep(text: str) -> None:
    # Twelve rows at each end are one holder's, then come one row of each of the others.
    cells = [*range(12), *range(100, 160), *range(900, 912)]
    holders = [0] * 12 + list(range(1, 61)) + [61] * 12
    kind = arrow_type(text)
    values = pa.array(cells, pa.float64() if text == "double" else pa.int64())
    if text != "double":
        values = from_whole([100 * cell + cell % 7 for cell in cells], kind)
    scale = Scale.fit(summary(values, holders), least=10)
    ends = scale.values(np.array(scale.ends))
    # The one holder of each end counts as one of the ten.
    assert ends.equals(values.take(pa.array([12 + 8, 12 + 51])))
    beyond = scale.values(scale.floats(values))
    assert pc.min_max(beyond) == pc.min_max(ends)


def test_a_zone_that_is_lacking_is_named() -> None:
    scale = Scale("timestamp[us, tz=Mars/Olympus]", 0, DAY * 10**9, DAY * 10**6, local=True)
    lacks = "this machine's time zone database lacks 'Mars/Olympus'"
    with pytest.raises(TableError, match=lacks):
        scale.values(np.zeros(3))
    with pytest.raises(TableError, match=lacks):
        scale.floats(from_whole([0, 1], scale.kind))
    days = [DAY * 10**6 * day for day in range(99)]
    found = Scale.fit(summary(from_whole(days, scale.kind)))
    assert (found.local, found.step) == (False, DAY * 10**6)  # judged in UTC


def test_too_few_holders_are_refused() -> None:
    values = pa.array([*range(30), *[None] * 5])
    with pytest.raises(TableError, match=r"column 'c' has 30 values that are not null of 15 holde"):
        Scale.fit(summary(values, np.r_[np.arange(30) % 15, [90] * 5]))
    with pytest.raises(TableError, match="column 'c' has 19 values that are not null; at least 20"):
        Scale.fit(summary(values.slice(11)))
    assert Scale.fit(summary(values.slice(10))).ends == (19.0, 20.0)


def test_nulls_are_counted_in_holders() -> None:
    values = pa.array([*range(88), *[None] * 12])
    whose = np.arange(100)
    assert null_share(summary(values), 10) == 0.12
    assert null_share(summary(values), 13) == 0.0
    assert null_share(summary(values, np.minimum(whose, 97)), 10) == 0.12
    assert null_share(summary(values, np.minimum(whose, 96)), 10) == 0.0


def test_types_that_have_an_order_of_numbers() -> None:
    kinds = [*map(arrow_type, TICKS), pa.float16(), pa.date64(), pa.time32("s"), pa.time64("ns")]
    assert all(map(is_numeric, kinds))
    others = [pa.string(), pa.bool_(), pa.month_day_nano_interval(), pa.binary(), pa.null()]
    assert not any(map(is_numeric, others))
