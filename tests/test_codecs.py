"""One contract for every codec, on columns of every type and on Adult; then what is special."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import BayesianGaussianMixture

from raysynth import codecs, mixture, models
from raysynth.codecs import Codec, ColumnCodes, modes, onehot
from raysynth.errors import ConfigError, TableError
from raysynth.hashing import Chance
from raysynth.mixture import Mixture
from raysynth.schema import TYPES, Schema
from raysynth.summary import ColumnSummary, Summary, summarise

LEAST = 10
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBERS = (*WHOLE, "float", "double")
CATEGORIES = ("string", "large_string", "bool", "int16", "uint64")
NUMBER_SHAPES = ("normal", "skewed", "zeros", "few", "apart", "constant")


class Case(NamedTuple):
    """A codec and a column it suits."""

    codec: str
    category: bool
    values: pa.Array


def number(kind: str, shape: str, rows: int, seed: int) -> np.ndarray:
    g = np.random.default_rng(seed)
    values = {
        "normal": lambda: g.normal(0, 30, rows),
        "skewed": lambda: g.lognormal(1, 1.5, rows),
        "zeros": lambda: np.where(g.random(rows) < 0.7, 0, g.normal(60, 3, rows)),
        "few": lambda: g.choice([1.0, 2.5, 40.0], rows),
        "apart": lambda: g.choice([-90.0, 0.0, 90.0], rows) + g.normal(0, 0.5, rows),
        "constant": lambda: np.full(rows, 7.25),
    }[shape]()
    if kind == "double" and seed % 3 == 0:
        return np.round(values, seed % 4)
    if kind in WHOLE:
        info = np.iinfo(TYPES[kind].to_pandas_dtype())
        if seed % 4 == 0:  # all of the type's range, as far as floats tell whole numbers apart
            reach = min(float(info.max), 2.0**50)
            values = values / np.abs(values).max() * reach
        values = np.clip(np.round(values), max(info.min, -(2**50)), min(info.max, 2**50))
    return values.astype(TYPES[kind].to_pandas_dtype())


def category(kind: str, rows: int, seed: int) -> list[Any]:
    g = np.random.default_rng(seed)
    size = 2 if kind == "bool" else int(g.integers(1, 30))
    drawn = g.choice(size, rows, p=g.dirichlet(np.full(size, 0.5)))
    if kind == "bool":
        return [bool(index) for index in drawn]
    if kind in WHOLE:
        return [int(index) * 7 for index in drawn]
    return [f"välue {index}" for index in drawn]


@st.composite
def cases(draw: st.DrawFn, name: str) -> Case:
    rows, seed = draw(st.integers(100, 400)), draw(st.integers(0, 2**20))
    null = draw(st.sampled_from([0.0, 0.01, 0.3])) > np.random.default_rng(seed).random(rows)
    kinds = {k for f in models.names() for k, used in models.get(f).CODECS.items() if used == name}
    kind = draw(st.sampled_from(sorted(kinds)))
    if kind == "number":
        type_ = draw(st.sampled_from(NUMBERS))
        values = number(type_, draw(st.sampled_from(NUMBER_SHAPES)), rows, seed)
        return Case(name, False, pa.array(values, TYPES[type_], mask=null))
    type_ = draw(st.sampled_from(CATEGORIES))
    cells = category(type_, rows, seed)
    # A value that enough rows share, or there is nothing to encode.
    cells[:LEAST], null[:LEAST] = [cells[0]] * LEAST, False
    return Case(name, True, pa.array(cells, TYPES[type_], mask=null))


def summarised(values: pa.Array, category: bool = False) -> ColumnSummary:
    table = pa.table({"c": values})
    coded = ("c",) if category and pa.types.is_integer(values.type) else ()
    schema = Schema.infer(table.schema, categories=coded)
    return summarise(table, np.arange(len(table), dtype=np.uint64), schema)["c"]


def chance(rows: int, seed: int = 0) -> Chance:
    return Chance(np.arange(rows, dtype=np.uint64), seed)


def through_json(codec: Codec) -> Codec:
    text = json.dumps(codec.to_json(), allow_nan=False)
    return type(codec).from_json(json.loads(text))


def same(left: ColumnCodes, right: ColumnCodes) -> bool:
    return np.array_equal(left.indices, right.indices) and np.array_equal(
        left.scalars, right.scalars
    )


def is_kept(codec: Codec, values: pa.Array) -> np.ndarray:
    """Which rows decoding gives back: all but pooled values, nulls too few, and clipped offsets."""
    if isinstance(codec, onehot.Codec):
        kept = set(codec.values) | ({None} if codec.nulls else set())
        return np.array([value in kept for value in values.to_pylist()])
    assert isinstance(codec, modes.Codec), "say here what a new codec gives back"
    numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))
    inside = (numbers >= codec.lower) & (numbers <= codec.upper)
    return np.where(np.isnan(numbers), codec.nulls > 0, inside)


def check_contract(case: Case, column: ColumnSummary, codec: Codec, clipped: float) -> None:
    """All that `codecs.Codec` promises; at most a share `clipped` of rows may be cut off."""
    values, rows = case.values, len(case.values)
    codes = codec.encode(values, chance(rows))
    back = codec.decode(codes, chance(rows, 1))
    check_codes(codec, codes, rows)
    check_values(codec, codes, values, back, clipped)
    check_shares(codec, codes)
    check_rows_apart(codec, codes, values, back)
    check_private(codec, column, values)
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
    assert codes.indices.min() >= 0
    assert (codes.indices.max(axis=0) < sizes).all()
    assert np.abs(codes.scalars).max(initial=0) <= 1


def check_values(
    codec: Codec, codes: ColumnCodes, values: pa.Array, back: pa.Array, clipped: float
) -> None:
    """The column's own type; kept rows come back, but for offsets at the clip."""
    assert back.type == values.type
    kept = is_kept(codec, values)
    cut = (np.abs(codes.scalars) >= 0.99).any(axis=1)
    assert cut.mean() <= clipped, f"{cut.mean():.2%} of the rows are clipped"
    rows = np.flatnonzero(kept & ~cut)
    told, found = values.take(rows), back.take(rows)
    assert found.is_null().equals(told.is_null())
    if codec.parts[0].kind != "scalar":
        assert found.equals(told)
        return
    assert isinstance(codec, modes.Codec)
    # An offset is a float32, so a value comes back to 2 ** -24 of eight widths of its mode.
    width = 8 * np.array([*codec.stds, 0])[codes.indices[rows, 0]] * 2.0**-24
    real, copy = (np.asarray(side.cast(pa.float64()).fill_null(0)) for side in (told, found))
    least = np.abs(real) * (1e-6 if values.type == pa.float32() else 1e-12)
    half = 0.0 if codec.decimals is None else 0.5 * 10.0**-codec.decimals
    allowed = np.where(width + least < half, least, width + least + half)
    assert (np.abs(real - copy) <= allowed).all()


def check_shares(codec: Codec, codes: ColumnCodes) -> None:
    part = next(part for part in codec.parts if part.kind != "scalar")
    assert len(codec.shares) == part.size
    assert sum(codec.shares) == pytest.approx(1)
    real = np.bincount(codes.indices[:, 0], minlength=part.size) / len(codes.indices)
    # Four standard errors for what is drawn (a mode, a stand-in), and the rows not kept.
    slack = 4 * np.sqrt(np.array(codec.shares) / len(codes.indices)) + 0.03
    assert (np.abs(real - codec.shares) <= slack).all()


def check_rows_apart(codec: Codec, codes: ColumnCodes, values: pa.Array, back: pa.Array) -> None:
    """A row's code and value depend on that row alone, however blocks are cut or ordered."""
    rows, u, v = len(values), chance(len(values)), chance(len(values), 1)
    order = np.random.default_rng(3).permutation(rows)
    moved = codec.encode(values.take(order), u[order])
    assert same(moved, ColumnCodes(codes.indices[order], codes.scalars[order]))
    for start, stop in ((0, 1), (1, rows // 3), (rows // 3, rows)):
        piece = ColumnCodes(codes.indices[start:stop], codes.scalars[start:stop])
        assert same(codec.encode(values.slice(start, stop - start), u[start:stop]), piece)
        assert codec.decode(piece, v[start:stop]).equals(back.slice(start, stop - start))


def check_private(codec: Codec, column: ColumnSummary, values: pa.Array) -> None:
    """What is written down, at least `LEAST` rows share, or lie beyond."""
    counts = Counter(values.to_pylist())
    rare = {value for value, count in counts.items() if count < LEAST}
    if column.column.kind != "number":
        # Counts may equal a number that is a value; text is looked for everywhere.
        text = not pa.types.is_integer(values.type) and column.column.kind == "category"
        told = _leaves(codec.to_json()) if text else getattr(codec, "values", ())
        assert not rare & set(told)
        return
    assert isinstance(codec, modes.Codec)
    numbers = np.asarray(values.drop_null()).astype(np.float64)
    assert (numbers <= codec.lower).sum() >= LEAST
    assert (numbers >= codec.upper).sum() >= LEAST
    ends = [codec.lower, codec.upper]
    assert not {float(value) for value in rare if value is not None} & ({*codec.means} - {*ends})


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


@pytest.mark.parametrize("name", codecs.names())
@given(data=st.data())
def test_contract_on_every_type(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    column = summarised(case.values, case.category)
    codec = codecs.get(name).fit(column, least=LEAST)
    # At most 1 / 3.96 ** 2 of a mode's rows lie further off than 3.96 of its widths.
    check_contract(case, column, codec, clipped=0.07)


def test_contract_on_adult(adult: pa.Table, adult_summary: Summary) -> None:
    used = set()
    for family in models.names():
        kinds = models.get(family).CODECS
        for column in adult_summary.schema.columns:
            name = kinds["number" if column.kind == "number" else "category"]
            used.add(name)
            summary = adult_summary[column.name]
            codec = codecs.get(name).fit(summary, least=LEAST)
            case = Case(name, column.kind != "number", adult.column(column.name).combine_chunks())
            check_contract(case, summary, codec, clipped=0.001)
    assert used == set(codecs.names()), "a codec that no family uses is not tested"


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


# -- modes --------------------------------------------------------------------------------------


def wide(rows: int = 20_000, seed: int = 5) -> np.ndarray:
    g = np.random.default_rng(seed)
    return np.concatenate(
        [
            g.normal(-20, 1, rows // 2),
            g.normal(0, 0.5, rows // 5),
            g.normal(30, 3, rows - rows // 2 - rows // 5),
        ]
    )


def ordered(weights: Any, means: Any, stds: Any) -> np.ndarray:
    """Weights, means and widths by mean, (3, M)."""
    return np.stack([np.asarray(part).ravel() for part in (weights, means, stds)])[
        :, np.argsort(np.ravel(means))
    ]


def test_mixture_agrees_with_scikit_learn_on_modes_well_apart() -> None:
    values = wide()[::4]  # few enough that none are joined
    ours = mixture.fit(values, 3, 0.005)
    mine = ordered(ours.weights, ours.means, ours.stds)
    # With our priors theirs is the same model; their own weigh a whole row and widen modes.
    prior = mixture.PRIOR * values.var()
    weak = {"covariance_prior": [[prior]], "mean_precision_prior": mixture.PRIOR, "reg_covar": 0.0}
    for priors, parts, close in (({}, 2, 0.05), (weak, 3, 1e-3)):
        found = BayesianGaussianMixture(
            n_components=3,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=mixture.CONCENTRATION,
            max_iter=500,
            tol=1e-6,
            random_state=0,
            **priors,
        ).fit(values[:, None])
        theirs = ordered(found.weights_, found.means_, np.sqrt(found.covariances_))
        assert mine.shape == theirs.shape == (3, 3)
        assert np.allclose(mine[:parts], theirs[:parts], rtol=close, atol=close)


def test_mixture_finds_true_modes_with_modes_to_spare() -> None:
    found = mixture.fit(wide(), 10, 0.005)
    edges = [-100.0, -10.0, 8.0, 100.0]
    place = np.digitize(found.means, edges) - 1
    weights = np.bincount(place, found.weights, 3)
    means = np.bincount(place, found.weights * found.means, 3) / weights
    assert np.allclose(weights, [0.5, 0.2, 0.3], atol=0.005)
    assert np.allclose(means, [-20, 0, 30], atol=0.1)


def test_counted_values_weigh_as_much_as_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    g = np.random.default_rng(2)
    values = np.round(np.concatenate([g.normal(0, 1, 900), g.normal(9, 1, 600)]), 1)
    grouped = mixture.fit(values, 2, 0.005)
    monkeypatch.setattr(mixture, "_group", lambda v: (np.sort(v), np.ones(len(v))))
    single = mixture.fit(values, 2, 0.005)
    for name in ("weights", "means", "stds"):
        assert np.allclose(getattr(grouped, name), getattr(single, name), rtol=1e-3, atol=1e-3)


def test_joining_neighbours_does_not_move_the_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = wide(8_000)
    joined = mixture.fit(values, 3, 0.005)
    monkeypatch.setattr(mixture, "POINTS", 10_000)
    whole = mixture.fit(values, 3, 0.005)
    for name in ("weights", "means", "stds"):
        assert np.allclose(getattr(joined, name), getattr(whole, name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.9])
@pytest.mark.parametrize("at", [0.0, 20.0, -300.0])
def test_a_spike_decodes_to_itself(share: float, at: float) -> None:
    """The same value in many rows is a mode of no width, wherever it lies among the others."""
    values = np.random.default_rng(0).normal(size=10_000)
    values[: int(share * 10_000)] = at
    codec = modes.Codec.fit(summarised(pa.array(values)))
    codes = codec.encode(pa.array(values), chance(10_000))
    back = np.asarray(codec.decode(codes, chance(10_000)))
    exact = np.abs(back[: int(share * 10_000)] - at) < 1e-3
    assert exact.mean() > 0.99


def test_every_mode_stands_for_more_rows_than_may_be_shown() -> None:
    g = np.random.default_rng(0)
    alone = 50.123456
    for rows in (100, 150, 1_000):
        values = np.concatenate([g.normal(0, 1, rows // 2), g.normal(100, 1, rows - rows // 2)])
        values[0] = alone
        codec = modes.Codec.fit(summarised(pa.array(values)), least=LEAST)
        written = [v for v in _leaves(codec.to_json()) if isinstance(v, float)]
        assert min(abs(v - alone) for v in written) > 1
        assert all(weight * rows > LEAST for weight in codec.weights)


@pytest.mark.parametrize("count", [LEAST, 2 * LEAST - 1])
def test_too_few_values_for_ends_that_enough_rows_reach_are_refused(count: int) -> None:
    values = pa.array([*np.random.default_rng(0).normal(size=count), *[None] * 100])
    with pytest.raises(TableError, match=f"has {count} values that are not null; at least 20"):
        modes.Codec.fit(summarised(values), least=LEAST)


def test_no_decoded_value_lies_past_the_ends() -> None:
    values = pa.array(np.random.default_rng(0).standard_cauchy(5_000))
    codec = modes.Codec.fit(summarised(values), least=LEAST)
    g = np.random.default_rng(1)
    wild = ColumnCodes(
        g.integers(0, codec.parts[1].size, (5_000, 1)).astype(np.int32),
        g.uniform(-3, 3, (5_000, 1)).astype(np.float32),
    )
    back = np.asarray(codec.decode(wild, chance(5_000)))
    assert back.min() >= codec.lower
    assert back.max() <= codec.upper


@pytest.mark.parametrize("decimals", [0, 1, 2, 6])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_decimals_come_back(decimals: int, scale: float) -> None:
    values = np.round(np.random.default_rng(0).normal(0, scale, 2_000), decimals)
    codec = modes.Codec.fit(summarised(pa.array(values)))
    assert codec.decimals == decimals
    g = np.random.default_rng(1)
    drawn = ColumnCodes(
        g.integers(0, len(codec.means), (500, 1)).astype(np.int32),
        g.uniform(-1, 1, (500, 1)).astype(np.float32),
    )
    back = np.asarray(codec.decode(drawn, chance(500)))
    assert np.array_equal(back, np.round(back, decimals))


@pytest.mark.parametrize("scale", [1e-300, 1e-13, 1.0, 1e150, 1e300])
def test_floats_of_any_size_come_back(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=2_000) * scale
    codec = modes.Codec.fit(summarised(pa.array(values)))
    codes = codec.encode(pa.array(values), chance(2_000))
    back = np.asarray(codec.decode(codes, chance(2_000)))
    inside = (values >= codec.lower) & (values <= codec.upper)
    assert np.allclose(back[inside] / scale, values[inside] / scale, atol=1e-5)


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_the_largest_whole_numbers_do_not_wrap(kind: str) -> None:
    most = np.iinfo(kind).max
    values = pa.array([most] * 100 + [most - 2**40] * 100, TYPES[kind])
    codec = modes.Codec.fit(summarised(values))
    back = codec.decode(codec.encode(values, chance(200)), chance(200)).to_pylist()
    assert [value > most - 2**39 for value in back] == [True] * 100 + [False] * 100
    assert min(back) > most - 2**41


def test_a_mode_is_drawn_from_its_posterior() -> None:
    codec = modes.Codec("double", (0.5, 0.5), (0.0, 2.0), (1.0, 1.0), -9.0, 9.0, None, 0.0)
    values = pa.array(np.full(20_000, 0.5))
    drawn = codec.encode(values, chance(20_000)).indices.mean()
    assert drawn == pytest.approx(1 / (1 + np.e), abs=4 * np.sqrt(0.2 / 20_000))


def test_offset_is_a_quarter_of_the_distance_in_widths() -> None:
    codec = modes.Codec("double", (1.0,), (10.0,), (2.0,), -90.0, 90.0, None, 0.0)
    codes = codec.encode(pa.array([10.0, 14.0, 6.0, 90.0, -90.0]), chance(5))
    assert codes.scalars[:, 0] == pytest.approx([0, 0.5, -0.5, 0.99, -0.99])


def test_null_is_a_mode_of_its_own_or_a_value_where_too_few() -> None:
    g = np.random.default_rng(0)
    for nulls in (LEAST - 1, LEAST):
        values = pa.array([*g.normal(size=500), *[None] * nulls])
        codec = modes.Codec.fit(summarised(values), least=LEAST)
        back = codec.decode(codec.encode(values, chance(500 + nulls)), chance(500 + nulls))
        assert back.null_count == (nulls if nulls >= LEAST else 0)
        assert codec.index_of(None) == (len(codec.means) if nulls >= LEAST else None)


def test_log_density_is_that_of_weighted_gaussians() -> None:
    found = Mixture(np.array([0.3, 0.7]), np.array([0.0, 1.0]), np.array([1.0, 0.1]))
    grid = np.linspace(-9, 9, 200_001)
    mass = np.exp(found.log_density(grid)).sum(axis=0) * (grid[1] - grid[0])
    assert mass == pytest.approx([0.3, 0.7], abs=1e-6)
