"""One contract for every codec, on columns of every type and on real tables.

A codec takes part by an entry in `PROMISES`: which columns suit it, which rows it gives back, how
far a number may move, and what it writes down. One that invents its values gives back none of
them, and says instead what invented values must be.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth import codecs, models
from raysynth.codecs import Codec, ColumnCodes, bins, modes, normal, onehot
from raysynth.errors import ConfigError, TableError
from raysynth.numeric import Scale
from raysynth.schema import Kind, arrow_type
from raysynth.summary import ColumnSummary, Summary
from tests.columns import (
    CATEGORIES,
    NUMBERS,
    SHAPES,
    TIMES,
    as_floats,
    categories,
    chance,
    numbers,
    read,
    real_tables,
    summarised,
)

LEAST = 10


class Column(NamedTuple):
    """A column that suits a codec, the kind it is of, and whose its rows are (None: all apart)."""

    kind: Kind
    values: pa.Array
    holders: np.ndarray | None = None


class Promise(NamedTuple):
    """What one codec promises.

    `column` draws a column that suits it; `suits` says whether a real column of a kind does. `kept`
    gives the rows (B,) that decoding gives back, and `allowed` how far each may be off, in units of
    the type's own; None where they come back equal. `private` checks that what is written down,
    enough holders share. `options` are ways of fitting, all of them tried. `invented` checks
    (codec, real values, decoded values) where decoding invents: then no row is given back, and
    `kept` and `allowed` are None.
    """

    column: Callable[[st.DrawFn], Column]
    suits: Callable[[Kind, pa.Array], bool]
    kept: Callable[[Any, pa.Array, ColumnCodes], np.ndarray] | None
    allowed: Callable[[Any, pa.Array, ColumnCodes], np.ndarray] | None
    private: Callable[[Any, ColumnSummary], None]
    options: tuple[Mapping[str, Any], ...] = ({},)
    invented: Callable[[Any, pa.Array, pa.Array], None] | None = None


# -- the contract -------------------------------------------------------------------------------


def check_contract(promise: Promise, values: pa.Array, column: ColumnSummary, codec: Codec) -> None:
    """All that `codecs.Codec` promises."""
    rows = len(values)
    codes = codec.encode(values, chance(rows))
    back = codec.decode(codes, chance(rows, 1))
    check_codes(codec, codes, rows)
    back.validate(full=True)
    assert back.type == values.type
    assert len(back) == rows
    if promise.invented is not None:
        promise.invented(codec, values, back)
    else:
        check_values(promise, codec, codes, values, back)
    check_shares(codec, codes)
    check_rows_apart(codec, codes, values, back)
    promise.private(codec, column)
    copy = through_json(codec)
    assert copy == codec
    assert copy.to_json() == codec.to_json()
    assert same(copy.encode(values, chance(rows)), codes)
    assert copy.decode(codes, chance(rows, 1)).equals(back)


def check_codes(codec: Codec, codes: ColumnCodes, rows: int) -> None:
    sizes = [part.size for part in codec.parts if part.kind != "scalar"]
    scalars = len(codec.parts) - len(sizes)
    assert codes.indices.dtype == np.int32
    assert codes.scalars.dtype == np.float32
    assert codes.indices.shape == (rows, len(sizes))
    assert codes.scalars.shape == (rows, scalars)
    assert codes.indices.min(initial=0) >= 0
    assert (codes.indices.max(axis=0, initial=0) < np.array(sizes)).all()
    assert np.abs(codes.scalars).max(initial=0) <= 1


def check_values(
    promise: Promise, codec: Codec, codes: ColumnCodes, values: pa.Array, back: pa.Array
) -> None:
    """The rows kept come back, nulls as nulls, as near as is promised."""
    assert promise.kept is not None
    rows = np.flatnonzero(promise.kept(codec, values, codes))
    told, found = values.take(pa.array(rows)), back.take(pa.array(rows))
    assert found.is_null().equals(told.is_null())
    if promise.allowed is None:
        assert found.to_pylist() == told.to_pylist()
        return
    off = np.abs(np.nan_to_num(as_floats(told) - as_floats(found)))
    assert (off <= promise.allowed(codec, values, codes)[rows]).all()


def check_shares(codec: Codec, codes: ColumnCodes) -> None:
    sizes = [part.size for part in codec.parts if part.kind != "scalar"]
    if not sizes:
        assert codec.shares == ()
        return
    assert len(codec.shares) == sizes[0]
    assert sum(codec.shares) == pytest.approx(1)
    real = np.bincount(codes.indices[:, 0], minlength=sizes[0]) / len(codes.indices)
    # Four standard errors for what is drawn (a mode, a stand-in), and the rows not kept.
    slack = 4 * np.sqrt(np.array(codec.shares) / len(codes.indices)) + 0.03
    assert (np.abs(real - codec.shares) <= slack).all()


def check_rows_apart(codec: Codec, codes: ColumnCodes, values: pa.Array, back: pa.Array) -> None:
    """A row's code and value depend on that row alone, however blocks are cut or ordered."""
    rows, u, v = len(values), chance(len(values)), chance(len(values), 1)
    order = np.random.default_rng(3).permutation(rows)
    moved = ColumnCodes(codes.indices[order], codes.scalars[order])
    assert same(codec.encode(values.take(pa.array(order)), u[order]), moved)
    assert codec.decode(moved, v[order]).equals(back.take(pa.array(order)))
    for start, stop in ((0, 0), (0, 1), (1, rows // 3), (rows // 3, rows)):
        piece = ColumnCodes(codes.indices[start:stop], codes.scalars[start:stop])
        assert same(codec.encode(values.slice(start, stop - start), u[start:stop]), piece)
        assert codec.decode(piece, v[start:stop]).equals(back.slice(start, stop - start))


def through_json(codec: Codec) -> Codec:
    text = json.dumps(codec.to_json(), allow_nan=False)
    return type(codec).from_json(json.loads(text))


def same(left: ColumnCodes, right: ColumnCodes) -> bool:
    return np.array_equal(left.indices, right.indices) and np.array_equal(
        left.scalars, right.scalars
    )


def leaves(value: Any) -> Iterator[Any]:
    """Every number, text and so on in a JSON value."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def with_nulls(draw: st.DrawFn, values: pa.Array) -> pa.Array:
    """The column with none, few or many of its values null; the first `LEAST` stay."""
    share = draw(st.sampled_from([0.0, 0.01, 0.3]))
    null = np.random.default_rng(len(values)).random(len(values)) < share
    null[:LEAST] = False
    return pc.if_else(pa.array(null), pa.scalar(None, values.type), values)


# -- what each codec promises -------------------------------------------------------------------


def category_column(draw: st.DrawFn) -> Column:
    """Categories, of which one at least is shared by enough rows."""
    text = draw(st.sampled_from(CATEGORIES))
    cells = categories(text, draw(st.integers(100, 400)), draw(st.integers(0, 2**20)))
    cells[:LEAST] = [cells[0]] * LEAST
    return Column("category", with_nulls(draw, pa.array(cells, arrow_type(text))))


def number_column(draw: st.DrawFn) -> Column:
    """Numbers or times of every type and shape; of some, holders have several rows."""
    text, shape = draw(st.sampled_from(NUMBERS + TIMES)), draw(st.sampled_from(sorted(SHAPES)))
    rows, seed = draw(st.integers(100, 400)), draw(st.integers(0, 2**20))
    values = with_nulls(draw, numbers(text, shape, rows, seed))
    holders = np.random.default_rng(seed).integers(0, rows // 2, rows)
    kind: Kind = "time" if pa.types.is_temporal(values.type) else "number"
    return Column(kind, values, holders if draw(st.booleans()) else None)


def rare(column: ColumnSummary) -> set[Any]:
    """The values that too few hold."""
    pairs = zip(column.sample.to_pylist(), column.holders.tolist(), strict=True)
    held = Counter(value for value, _ in {*pairs} if value is not None)
    return {value for value, count in held.items() if count < LEAST}


def keeps_no_rare_category(codec: onehot.Codec, column: ColumnSummary) -> None:
    # Counts may equal a number that is a value; text is looked for everywhere.
    text = pa.types.is_string(column.column.type)
    assert not rare(column) & set(leaves(codec.to_json()) if text else codec.values)


def within(scale: Scale, values: pa.Array, nulls: float) -> np.ndarray:
    """Rows between the ends of the scale; nulls where the codec has them."""
    numbers, ends = as_floats(values), as_floats(scale.values(np.array(scale.ends)))
    inside = (numbers >= ends[0]) & (numbers <= ends[1])
    return np.where(np.isnan(numbers), nulls > 0, inside)


def near(scale: Scale, values: pa.Array, off: np.ndarray | float) -> np.ndarray:
    """How far values may be off, in their own unit, that decode from floats `off` by so much.

    Less than half a step is none; the float64s that compare them add their own last place.
    """
    numbers = np.abs(np.nan_to_num(as_floats(values)))
    if pa.types.is_floating(values.type):
        noise = {2: 2.0**-11, 4: 1e-6, 8: 1e-12}[values.type.bit_width // 8] * numbers
        half = 0.0 if scale.decimals is None else 0.5 * 10.0**-scale.decimals
        return noise + np.where(noise + off < half, 0.0, off + half)
    off = off + np.abs(scale.ends).max() * 2.0**-52
    return np.where(off < 0.5, 0.0, off + 0.5) * scale.step + 2 * np.spacing(numbers)


def ends_are_shared(scale: Scale, column: ColumnSummary) -> None:
    """Enough distinct holders lie at and past each end."""
    numbers, ends = as_floats(column.sample), as_floats(scale.values(np.array(scale.ends)))
    for past in (numbers <= ends[0], numbers >= ends[1]):
        assert len({*column.holders[past].tolist()}) >= LEAST


def exact_values_are_shared(scale: Scale, column: ColumnSummary, exact: Iterable[float]) -> None:
    """Enough distinct holders have each value that is written down as it is."""
    floats = scale.floats(column.sample)
    for value in exact:
        assert len({*column.holders[floats == value].tolist()}) >= LEAST


def modes_kept(codec: modes.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """All within the ends; but where no mode is, spikes only."""
    spiked = np.isin(codec.scale.floats(values), codec.spikes)
    inside = within(codec.scale, values, codec.nulls)
    return inside & (bool(codec.means) | spiked | np.asarray(values.is_null()))


def modes_allowed(codec: modes.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """An offset is a float32; a spike is exact."""
    reaches = np.array([*codec.reaches, *[0.0] * (len(codec.spikes) + 1)])
    return near(codec.scale, values, reaches[codes.indices[:, 0]] * 2.0**-24)


def modes_private(codec: modes.Codec, column: ColumnSummary) -> None:
    scale = codec.scale
    ends_are_shared(scale, column)
    exact_values_are_shared(scale, column, codec.spikes)
    floats = scale.floats(column.sample)
    if pa.types.is_floating(scale.kind) and scale.decimals is None:  # no mean is one by chance
        points, counts = np.unique(floats[~np.isnan(floats)], return_counts=True)
        alone = {*points[counts < LEAST].tolist()} - {*scale.ends}
        assert not alone & {*codec.means, *codec.reaches, *codec.stds}
    if len(codec.means) > 1 and len({*column.holders.tolist()}) == len(floats):
        there = (~np.isnan(floats)).sum()
        assert min(codec.weights[: len(codec.means)]) * there > LEAST - 1e-6


def identifier_column(draw: st.DrawFn) -> Column:
    """Whole numbers or text that tell rows apart, of a few patterns."""
    rows, seed = draw(st.integers(100, 400)), draw(st.integers(0, 2**20))
    keys = np.random.default_rng(seed).choice(10**6, rows, replace=False)
    form = draw(
        st.sampled_from(["{}", "AW{:08d}", "user{}", "{:06d}-b", "Ü/{0:08d}/{0}", "{:08x}"])
    )
    if draw(st.booleans()):
        return Column("identifier", with_nulls(draw, pa.array([form.format(k) for k in keys])))
    kind = draw(st.sampled_from([pa.int32(), pa.int64(), pa.uint64()]))
    return Column("identifier", with_nulls(draw, pa.array(keys, kind)))


def are_new_and_unique(codec: Codec, values: pa.Array, back: pa.Array) -> None:
    made = back.drop_null().to_pylist()
    assert len(set(made)) == len(made)
    assert not set(made) & set(values.to_pylist())
    assert back.null_count < len(back)


def keeps_no_rare_text(codec: Codec, column: ColumnSummary) -> None:
    assert not rare(column) & {leaf for leaf in leaves(codec.to_json()) if isinstance(leaf, str)}


def bins_kept(codec: bins.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """All within the ends; but where no bin is, heavy values only."""
    heavy = np.isin(codec.scale.floats(values), codec.heavy)
    inside = within(codec.scale, values, codec.nulls)
    return inside & (bool(codec.edges) | heavy | np.asarray(values.is_null()))


def bins_allowed(codec: bins.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """An offset is a float32; a heavy value is exact."""
    halves = np.array([*np.diff(codec.edges) / 2, *[0.0] * (len(codec.heavy) + 1)])
    return near(codec.scale, values, halves[codes.indices[:, 0]] * 2.0**-24)


def bins_private(codec: bins.Codec, column: ColumnSummary) -> None:
    scale = codec.scale
    ends_are_shared(scale, column)
    exact_values_are_shared(scale, column, codec.heavy)
    floats = scale.floats(column.sample)
    rest = ~np.isin(floats, codec.heavy) & ~np.isnan(floats)
    assert not {*codec.edges[1:-1]} & {*floats[rest].tolist()}
    places = np.searchsorted(codec.edges[1:-1], floats)
    for place in range(max(0, len(codec.edges) - 1)):
        assert len({*column.holders[rest & (places == place)].tolist()}) >= LEAST


def normal_kept(codec: normal.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """All within the ends; but where there is no class, or nobody inside it, fewer."""
    floats, ends = codec.scale.floats(values), codec.scale.ends
    sure = np.isin(floats, [*codec.points, *(ends if codec.knots else ())])
    inside = within(codec.scale, values, codec.nulls)
    some = bool(codec.knots) and codec.below[0] < codec.below[-1]
    return inside & (some | sure | np.asarray(values.is_null()))


def normal_allowed(codec: normal.Codec, values: pa.Array, codes: ColumnCodes) -> np.ndarray:
    """A score is a float32; a point is exact."""
    widths, shares = np.diff(codec.knots), np.diff(codec.below)
    off = (widths[shares > 0] / shares[shares > 0] * 2.0**-22).max(initial=0.0)
    if off > 0.005 * codec.scale.grid:  # far enough to be beyond a point
        off += widths[shares == 0].max(initial=0.0)
    classed = codes.indices[:, 0] < codec.stretches
    return near(codec.scale, values, np.where(classed, off + 0.49 * codec.scale.grid, 0.0))


def normal_private(codec: normal.Codec, column: ColumnSummary) -> None:
    scale = codec.scale
    ends_are_shared(scale, column)
    exact_values_are_shared(scale, column, codec.points)
    floats = scale.floats(column.sample)
    rest = ~np.isin(floats, codec.points) & ~np.isnan(floats)
    inner = {*codec.knots[1:-1]} & {*floats[rest].tolist()}
    assert not inner
    places = np.searchsorted(codec.knots, floats)
    for place in range(1, len(codec.knots)):
        between = rest & (places == place) & (floats < codec.knots[-1])
        held = len({*column.holders[between].tolist()})
        shown = codec.below[place] > codec.below[place - 1]
        assert held >= LEAST if shown else held < LEAST


def constant_column(draw: st.DrawFn) -> Column:
    """One value of any type that any codec takes, in every row; a few nulls now and then."""
    text = draw(st.sampled_from((*NUMBERS, *TIMES, *CATEGORIES, "dictionary")))
    rows, seed = draw(st.integers(LEAST, 50)), draw(st.integers(0, 2**20))
    if text in CATEGORIES:
        values = pa.array(categories(text, rows, seed), arrow_type(text))
    elif text == "dictionary":
        values = pa.array(categories("string", rows, seed)).dictionary_encode()
    else:
        values = numbers(text, "normal", rows, seed)
    values = values.take(pa.array([0] * rows))
    nulls = pa.nulls(draw(st.integers(0, LEAST - 1)), values.type)
    kind: Kind = draw(st.sampled_from(["category", "number", "time"]))
    return Column(kind, pa.concat_arrays([values, nulls]), np.arange(rows + len(nulls)))


def text_column(draw: st.DrawFn) -> Column:
    """Free text, which personal data is where nobody says more."""
    rows, seed = draw(st.integers(100, 400)), draw(st.integers(0, 2**20))
    cells = [f"{'A' * (seed % 3)} sentence of {n} words" for n in range(rows)]
    return Column("text", with_nulls(draw, pa.array(cells)))


def are_invented(codec: Codec, values: pa.Array, back: pa.Array) -> None:
    assert not set(back.drop_null().to_pylist()) & set(values.to_pylist())
    assert back.null_count < len(back)


PROMISES = {
    "bins": Promise(
        column=number_column,
        suits=lambda kind, _: kind in ("number", "time"),
        kept=bins_kept,
        allowed=bins_allowed,
        private=bins_private,
        options=({}, {"bins": 7}),
    ),
    "constant": Promise(
        column=constant_column,
        suits=lambda _, values: len(values.unique()) == 1,
        kept=lambda _, values, __: np.asarray(values.is_valid()),
        allowed=None,
        private=lambda codec, column: None,  # the value itself, which all share
    ),
    "minmax": Promise(
        column=number_column,
        suits=lambda kind, _: kind in ("number", "time"),
        kept=lambda codec, values, _: within(codec.scale, values, codec.nulls),
        allowed=lambda codec, values, _: near(
            codec.scale, values, np.subtract(*codec.scale.ends[::-1]) / 2 * 2.0**-24
        ),
        private=lambda codec, column: ends_are_shared(codec.scale, column),
    ),
    "identifier": Promise(
        column=identifier_column,
        suits=lambda _, values: pa.types.is_string(values.type) or pa.types.is_integer(values.type),
        kept=None,
        allowed=None,
        private=keeps_no_rare_text,
        invented=are_new_and_unique,
    ),
    "modes": Promise(
        column=number_column,
        suits=lambda kind, _: kind in ("number", "time"),
        kept=modes_kept,
        allowed=modes_allowed,
        private=modes_private,
        options=({}, {"modes": 5, "prune": False, "widths": 2.0}, {"count": "density"}),
    ),
    "normal": Promise(
        column=number_column,
        suits=lambda kind, _: kind in ("number", "time"),
        kept=normal_kept,
        allowed=normal_allowed,
        private=normal_private,
        options=({}, {"share": 0.05}),
    ),
    "personal": Promise(
        column=text_column,
        suits=lambda _, values: pa.types.is_string(values.type),
        kept=None,
        allowed=None,
        private=keeps_no_rare_text,
        invented=are_invented,
    ),
    "onehot": Promise(
        column=category_column,
        suits=lambda kind, _: kind in ("category", "boolean"),
        kept=lambda codec, values, _: np.array(
            [(codec.nulls > 0) if v is None else v in codec.values for v in values.to_pylist()]
        ),
        allowed=None,
        private=keeps_no_rare_category,
    ),
}
WAYS = [(name, options) for name, promise in PROMISES.items() for options in promise.options]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in options.items())]) for name, options in WAYS]


def test_every_codec_is_held_to_the_contract() -> None:
    assert set(PROMISES) == set(codecs.names())


@pytest.mark.parametrize(("name", "options"), WAYS, ids=IDS)
@given(data=st.data())
def test_contract_on_every_type(name: str, options: dict[str, Any], data: st.DataObject) -> None:
    kind, values, holders = data.draw(st.composite(PROMISES[name].column)())
    column = summarised(values, kind, holders)
    codec = codecs.get(name).fit(column, least=LEAST, **options)
    check_contract(PROMISES[name], values, column, codec)


@pytest.mark.parametrize("table", real_tables())
@pytest.mark.parametrize(("name", "options"), WAYS, ids=IDS)
def test_contract_on_real_columns(name: str, options: dict[str, Any], table: str) -> None:
    """On every column that suits the codec and that it does not refuse."""
    promise, held, suited = PROMISES[name], 0, 0
    real = read(real_tables()[table])
    for place in range(real.num_columns):
        values = real.column(place).combine_chunks()
        column = summarised(values)
        if not promise.suits(column.column.kind, values):
            continue
        suited += 1
        try:
            codec = codecs.get(name).fit(column, least=LEAST, **options)
        except TableError:
            continue
        check_contract(promise, values, column, codec)
        held += 1
    assert held or not suited


def test_contract_on_adult(adult: pa.Table, adult_summary: Summary) -> None:
    """With the codecs that families choose, on all rows."""
    for family in models.names():
        module = models.get(family)
        encoding = module.encoding(module.Config())
        for column in adult_summary.schema.columns:
            name = encoding.kinds["number" if column.kind == "number" else "category"]
            summary = adult_summary[column.name]
            codec = codecs.get(name).fit(summary, least=LEAST, **encoding.options)
            values = adult.column(column.name).combine_chunks()
            check_contract(PROMISES[name], values, summary, codec)


def test_unknown_codec_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no codec is called 'onehto'; did you mean 'onehot'"):
        codecs.get("onehto")


# -- onehot -------------------------------------------------------------------------------------


def test_rare_values_are_pooled_and_decode_to_kept_ones_by_frequency() -> None:
    values = pa.array(["a"] * 600 + ["b"] * 300 + [f"rare {i}" for i in range(100)])
    codec = onehot.Codec.fit(summarised(values), least=LEAST)
    assert codec.values == ("a", "b")
    assert codec.shares == (0.6, 0.3, 0.1)
    assert "rare" not in json.dumps(codec.to_json())
    codes = codec.encode(values, chance(1_000))
    assert (codes.indices[900:] == 2).all()
    pooled = ColumnCodes(np.full((9_000, 1), 2, np.int32), np.empty((9_000, 0), np.float32))
    counts = Counter(codec.decode(pooled, chance(9_000)).to_pylist())
    assert counts["a"] + counts["b"] == 9_000
    assert counts["a"] == pytest.approx(6_000, abs=4 * np.sqrt(2_000))


@pytest.mark.parametrize("few", ["values", "nulls"])
def test_too_few_rows_to_pool_become_kept_values(few: str) -> None:
    rest = ["x", "y", "z"] if few == "values" else [None] * 3
    values = pa.array(["a"] * 90 + ["b"] * 30 + rest)
    codec = onehot.Codec.fit(summarised(values), least=LEAST)
    assert codec.parts[0].size == 2
    assert codec.encode(values, chance(123)).indices.max() <= 1
    assert codec.index_of(None) is None


@pytest.mark.parametrize("count", [LEAST - 1, LEAST])
def test_exactly_enough_rows_keep_a_value(count: int) -> None:
    values = pa.array(["common"] * 100 + ["edge"] * count)
    codec = onehot.Codec.fit(summarised(values), least=LEAST)
    assert ("edge" in codec.values) == (count >= LEAST)


def test_most_frequent_values_are_kept_where_there_are_too_many() -> None:
    values = pa.array([name for i, name in enumerate("abcde") for _ in range(10 * (i + 2))])
    codec = onehot.Codec.fit(summarised(values), least=LEAST, most=2)
    assert codec.values == ("d", "e")
    assert codec.pooled == 20 + 30 + 40


def test_text_no_value_of_which_is_shared_is_refused_without_quoting_it() -> None:
    with pytest.raises(TableError, match="column 'c': no value is shared by 10 rows") as error:
        onehot.Codec.fit(summarised(pa.array([f"person {i}" for i in range(500)])))
    assert "person" not in str(error.value)


def test_counts_fall_back_on_the_sample_past_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.summary.COUNTED", 1)
    values = pa.array(["a"] * 300 + ["b"] * 100 + [None] * 100)
    column = summarised(values)
    assert column.counters.counts is None
    codec = onehot.Codec.fit(column, least=LEAST)
    assert codec.shares == (0.6, 0.2, 0.2)


def test_index_of_finds_kept_values_and_null_only() -> None:
    values = pa.array(["a"] * 50 + ["b"] * 50 + ["rare"] + [None] * 20)
    codec = onehot.Codec.fit(summarised(values), least=LEAST)
    assert [codec.index_of(v) for v in ("a", "b", "rare", "none such", None)] == [
        *(0, 1, None, None, len(codec.shares) - 1),
    ]
