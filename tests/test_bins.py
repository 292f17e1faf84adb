"""Numbers as quantile bins, as one scalar, and columns of one value."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth import quantiles
from raysynth.codecs import ColumnCodes, bins, constant, minmax, modes, normal
from raysynth.errors import TableError
from raysynth.layout import Part
from raysynth.summary import Summary
from tests.columns import as_floats, chance, summarised

LEAST = 10


# -- points -------------------------------------------------------------------------------------


def test_points_are_found_by_what_lies_around_them() -> None:
    generator = np.random.default_rng(0)
    ages = generator.normal(50, 12, 20_000).round()  # all repeat, none stands out
    prices = np.concatenate([generator.integers(1, 90, 15_000) * 100.0, np.arange(1, 9_000, 2.0)])
    thirds = np.concatenate([generator.random(5_000), np.repeat(np.arange(1, 30) / 31, 12)])
    holders = np.arange(20_000)
    assert not len(quantiles.heavy(ages, holders, LEAST, 0.5, 1.0))
    found = quantiles.heavy(prices, holders[: len(prices)], LEAST, 0.5, 1.0)
    assert found.tolist() == [100.0 * n for n in range(1, 90)]
    found = quantiles.heavy(thirds, holders[: len(thirds)], LEAST, 0.5, 0.0)
    assert np.array_equal(found, np.arange(1, 30) / 31)
    assert not len(quantiles.heavy(thirds, holders[: len(thirds)] // 2, LEAST, 0.5, 0.0)), (
        "twelve rows of six holders"
    )


def test_points_lie_where_the_class_around_them_does() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 20_000), np.repeat([-1.0, 0.0, 2.0], 500)])
    codec = normal.Codec.fit(summarised(pa.array(values)))
    assert codec.points == (-1, 0, 2)
    (_, index) = codec.parts
    assert np.allclose(np.array(index.places) * normal.REACH, codec.points, atol=0.05)


# -- bins ---------------------------------------------------------------------------------------


def test_bins_hold_equal_shares_and_offsets_fill_them() -> None:
    values = pa.array(np.random.default_rng(0).lognormal(0, 1, 20_000))
    codec = bins.Codec.fit(summarised(values), bins=40)
    assert (len(codec.edges), codec.heavy) == (41, ())
    assert np.allclose(codec.shares, 1 / 40)
    codes = codec.encode(values, chance(20_000))
    inner = (codes.indices[:, 0] > 0) & (codes.indices[:, 0] < 39)
    assert np.abs(codes.scalars[inner]).max() > 0.99
    assert np.mean(codes.scalars[inner] ** 2) == pytest.approx(1 / 3, abs=0.02)  # that of uniform


def test_heavy_values_have_bins_of_their_own(adult_summary: Summary) -> None:
    codec = bins.Codec.fit(adult_summary["hours-per-week"])
    assert codec.heavy == (20, 25, 30, 35, 40, 45, 50, 55, 60)
    for place, hours in enumerate(codec.heavy):
        assert codec.index_of(int(hours)) == len(codec.edges) - 1 + place
    assert codec.index_of(41) is None
    assert codec.index_of(10**9) is None  # past the end, so not the end
    column = adult_summary["hours-per-week"].sample
    codes = codec.encode(column, chance(len(column)))
    heavy = codes.indices[:, 0] >= len(codec.edges) - 1
    wild = ColumnCodes(codes.indices, np.full_like(codes.scalars, 0.3))
    back = np.asarray(codec.decode(wild, chance(len(column))))
    assert np.array_equal(back[heavy], np.asarray(column)[heavy])
    assert heavy.mean() > 0.7


def test_a_column_of_heavy_values_alone_has_no_other_bin() -> None:
    values = pa.array([3] * 40 + [7] * 400 + [8] * 20)
    codec = bins.Codec.fit(summarised(values))
    assert (codec.edges, codec.heavy) == ((), (3, 7, 8))
    assert codec.shares == pytest.approx((40 / 460, 400 / 460, 20 / 460))
    few = pa.array([3] * 200 + [7] * 400 + [5, 6])
    codec = bins.Codec.fit(summarised(few))
    back = codec.decode(codec.encode(few, chance(602)), chance(602)).to_pylist()
    assert (codec.edges, back[600:]) == ((), [3, 7])


def test_every_bin_has_enough_holders() -> None:
    g = np.random.default_rng(0)
    values, whose = pa.array(g.normal(size=1_000)), np.arange(1_000) // 4
    codec = bins.Codec.fit(summarised(values, holders=whose), least=LEAST, bins=200)
    places = codec.encode(values, chance(1_000)).indices[:, 0]
    assert len(codec.edges) > 20
    for place in range(len(codec.edges) - 1):
        assert len({*whose[places == place].tolist()}) >= LEAST
    values = pa.array(np.r_[g.normal(size=600), np.full(400, 0.5)])
    whose = np.r_[np.arange(600), np.full(400, 600)]
    assert bins.Codec.fit(summarised(values, holders=whose), least=LEAST).heavy == ()


def test_null_is_the_last_bin() -> None:
    values = pa.array([*range(100), *[None] * 25])
    codec = bins.Codec.fit(summarised(values), least=LEAST, bins=5)
    codes = codec.encode(values, chance(125))
    assert (codes.indices[100:] == codec.parts[1].size - 1).all()
    assert codec.index_of(None) == codec.parts[1].size - 1
    assert codec.shares == pytest.approx((*[0.16] * 5, 0.2))
    assert codec.decode(codes, chance(125)).slice(100).null_count == 25


# -- minmax -------------------------------------------------------------------------------------


def test_the_ends_are_minus_one_and_one() -> None:
    values = pa.array([*range(1_000)])
    codec = minmax.Codec.fit(summarised(values), least=LEAST)
    scalars = codec.encode(values, chance(1_000)).scalars[:, 0]
    assert (scalars[: LEAST + 1] == -1).sum() == LEAST
    assert (scalars[-LEAST - 1 :] == 1).sum() == LEAST
    assert scalars[499:501] == pytest.approx([-0.5 / 490.5 + 0, 0.5 / 490.5], abs=1e-4)
    assert (codec.parts[0].kind, len(codec.parts), codec.shares) == ("scalar", 1, ())


@pytest.mark.parametrize("nulls", [0, LEAST - 1, LEAST])
def test_null_is_a_choice_where_there_are_enough(nulls: int) -> None:
    values = pa.array([*range(100), *[None] * nulls])
    codec = minmax.Codec.fit(summarised(values), least=LEAST)
    codes = codec.encode(values, chance(100 + nulls))
    back = codec.decode(codes, chance(100 + nulls))
    if nulls < LEAST:
        assert (codes.indices.shape[1], back.null_count, codec.index_of(None)) == (0, 0, None)
        return
    assert codec.parts[1] == Part("mode", 2, 1)
    assert codec.shares == pytest.approx((100 / 110, 10 / 110))
    assert (codec.index_of(None), codec.index_of(5)) == (1, None)
    assert back.is_null().equals(values.is_null())
    assert not codes.scalars[100:].any()


@pytest.mark.parametrize("codec", [bins, minmax, modes])
@pytest.mark.parametrize("kind", [pa.float32(), pa.int16(), pa.timestamp("s", tz="UTC")])
def test_a_dictionary_of_numbers_comes_back_as_one(codec: Any, kind: pa.DataType) -> None:
    plain = pa.array([*range(50), None] * 10, pa.int64()).cast(kind)
    values = plain.dictionary_encode()
    fitted = codec.Codec.fit(summarised(values, "number"), least=LEAST)
    assert codec.Codec.from_json(fitted.to_json()) == fitted
    back = fitted.decode(fitted.encode(plain, chance(510)), chance(510))
    assert back.type == values.type
    assert np.allclose(as_floats(back.dictionary_decode()), as_floats(plain), equal_nan=True)


# -- constant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        pa.scalar("only", pa.large_string()),
        pa.scalar(True),
        pa.scalar(2**64 - 1, pa.uint64()),
        pa.scalar(0.1, pa.float32()),
        pa.scalar(Decimal("-12345678901234567890.5"), pa.decimal128(38, 2)),
        pa.scalar(-(10**15), pa.timestamp("us", tz="Europe/Oslo")),
        pa.scalar("a").cast(pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_the_one_value_comes_back_in_any_row(value: pa.Scalar) -> None:
    values = pa.array([value.as_py()] * 20, value.type)
    codec = constant.Codec.fit(summarised(values))
    assert (codec.parts, codec.shares, codec.index_of(value.as_py())) == ((), (), None)
    codes = codec.encode(values.slice(0, 7), chance(7))
    back = codec.decode(codes, chance(7))
    back.validate(full=True)
    assert (len(back), back.type) == (7, value.type)
    assert back.to_pylist() == [value.as_py()] * 7
    assert constant.Codec.from_json(codec.to_json()) == codec


@pytest.mark.parametrize(
    ("cells", "holders", "message"),
    [
        (["a"] * 20 + ["b"], None, "has 2 distinct values; choose"),
        (["a"] * 20 + [None] * 10, None, "has 1 distinct values and null"),
        ([None] * 20, None, "has 0 distinct values and null"),
        ([5] * 9, None, "column 'c' has one value, which 9 share; at least 10 must"),
        ([5] * 90, [i % 9 for i in range(90)], "column 'c' has one value, which 9 share"),
    ],
)
def test_no_constant_is_refused(cells: list[Any], holders: Any, message: str) -> None:
    values = pa.array(cells, pa.string() if cells[0] != 5 else None)
    with pytest.raises(TableError, match=message) as error:
        constant.Codec.fit(summarised(values, holders=holders))
    assert "'a'" not in str(error.value)


def test_a_few_nulls_become_the_value() -> None:
    values = pa.array([3.5] * 20 + [None] * 9)
    codec = constant.Codec.fit(summarised(values))
    assert codec.decode(codec.encode(values, chance(29)), chance(29)).to_pylist() == [3.5] * 29
