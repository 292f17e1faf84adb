"""Rows as points, and the two metrics made of their distances, against written-out one-hots."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from raysynth import frames
from raysynth import points as module
from raysynth.metrics import dcr, precision
from raysynth.points import FAR, Points, closest, nearest, points
from raysynth.schema import Schema


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixed(rows: int, seed: int = 0) -> pa.Table:
    """Two related numbers, a category that follows them, a boolean; nulls in two of them."""
    g = seeded(seed)
    x = g.normal(size=rows)
    words = np.where(x > 0.5, "high", np.where(x < -0.5, "low", "middle"))
    return pa.table(
        {
            "x": pa.array(x, mask=g.random(rows) < 0.1),
            "y": x + 0.3 * g.normal(size=rows),
            "c": pa.array(words, mask=g.random(rows) < 0.1),
            "b": g.random(rows) < 0.3,
        }
    )


def schema_of(table: pa.Table) -> Schema:
    return Schema.infer(table.schema)


def numbers(**columns: list[float | None]) -> pa.Table:
    return pa.table({name: pa.array(v, pa.float64()) for name, v in columns.items()})


def dense(rows: Points) -> frames.Floats:
    """Every category written out as one-hot."""
    wide = [np.eye(size)[code] for code, size in zip(rows.codes, rows.sizes, strict=True)]
    return np.concatenate([rows.numbers, *wide], axis=1)


def test_numbers_span_the_first_tables_range_and_go_on_beyond() -> None:
    first, other = numbers(n=[2.0, 4.0, 6.0]), numbers(n=[0.0, 8.0, 1e300])
    one, two = points([first, other], schema_of(first))
    assert one.numbers[:, 0].tolist() == [0.0, 0.5, 1.0]
    assert two.numbers[:, 0].tolist() == [-0.5, 1.5, 1 + FAR]


def test_a_range_without_width_and_one_without_values() -> None:
    first = numbers(k=[7.0, 7.0], e=[None, None])
    other = numbers(k=[6.0, 7.0], e=[3.0, None])
    one, two = points([first, other], schema_of(first))
    assert one.numbers.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert two.numbers.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_missing_is_the_mean_beside_an_indicator() -> None:
    first = numbers(n=[0.0, 1.0, 8.0], m=[0.0, 1.0, 2.0])
    other = numbers(n=[None, 8.0, 0.0], m=[0.0, 1.0, 2.0])
    one, two = points([first, other], schema_of(first))
    assert one.numbers.shape == (3, 3)
    assert two.numbers[0].tolist() == pytest.approx([3 / 8, 1.0, 0.0])
    assert one.numbers[:, 1].tolist() == [0.0] * 3


def test_the_largest_floats_stay_finite() -> None:
    first = numbers(n=[1.7e308, -1.7e308, 0.0], t=[0.0, 5e-324, 0.0])
    (one,) = points([first], schema_of(first))
    assert one.numbers[:, 0].tolist() == [1.0, 0.0, 0.5]
    assert np.isfinite(one.numbers).all()


@pytest.mark.parametrize("names", [("x", "y", "c", "b"), ("x", "y"), ("c", "b")])
@pytest.mark.parametrize("block", [1, 1000, 1 << 19])
def test_distances_are_those_of_one_hots(
    names: tuple[str, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    tables = [mixed(rows, seed).select(list(names)) for seed, rows in ((1, 70), (2, 90))]
    one, other = points(tables, schema_of(tables[0]))
    euclid = cdist(dense(one), dense(other))
    found, away = nearest(one, other)
    assert away == pytest.approx(euclid.min(axis=1), abs=1e-12)
    assert euclid[np.arange(70), found] == pytest.approx(away, abs=1e-12)
    city = cdist(dense(one), dense(other), "cityblock").min(axis=1)
    assert closest(one, other) == pytest.approx(city, abs=1e-12)
    centre = np.linalg.norm(dense(other) - dense(one).mean(axis=0), axis=1)
    assert one.from_centre(other) == pytest.approx(centre, abs=1e-7)


def test_a_row_is_passed_over_where_it_is_the_query_itself() -> None:
    table = numbers(n=[0.0, 1.0, 10.0, 10.0])
    (rows,) = points([table], schema_of(table))
    assert nearest(rows, rows)[1].tolist() == [0.0] * 4
    asked = np.array([0, 2, 3])
    found, away = nearest(rows.take(asked), rows, asked)
    assert found.tolist() == [1, 3, 2]
    assert away.tolist() == pytest.approx([0.1, 0.0, 0.0])


def test_equal_rows_are_exactly_0_apart() -> None:
    table = mixed(300)
    one, other = points([table, table.take(seeded().permutation(300))], schema_of(table))
    assert nearest(one, other)[1].max() == 0.0
    assert closest(one, other).max() == 0.0


# -- alpha-precision and beta-recall ---------------------------------------------------------------


def supported(real: pa.Table, synthetic: pa.Table, queries: int = 10_000) -> precision.Scores:
    return precision.Real.of(real, schema_of(real), seeded(), queries).scores(synthetic)


def test_the_same_distribution_has_alpha_1_and_beta_one_half() -> None:
    alpha, beta = supported(mixed(2000, 1), mixed(2000, 2))
    assert alpha > 0.97
    assert beta == pytest.approx(0.5, abs=0.04)
    few = supported(mixed(2000, 1), mixed(2000, 2), queries=500)
    assert few.alpha_precision == alpha
    assert few.beta_recall == pytest.approx(beta, abs=0.06)


def test_the_real_rows_themselves_have_nearly_1_in_both() -> None:
    alpha, beta = supported(mixed(1000), mixed(1000))
    assert alpha == pytest.approx(1.0, abs=0.03)
    assert beta == pytest.approx(1.0, abs=0.03)


def test_precision_by_hand() -> None:
    # Distances of the real rows from their mean, 0.5: evenly 0 to 0.5. All synthetic rows lie in
    # it, so P is 1 at every level: 1 - 2 mean(1 - a) = 0. None but the last level reaches the ends.
    real = numbers(n=list(np.linspace(0, 1, 101)))
    inner, outer = numbers(n=[0.5] * 101), numbers(n=[5.0] * 101)
    assert supported(real, inner).alpha_precision == pytest.approx(0.0, abs=1e-12)
    assert supported(real, outer).alpha_precision == pytest.approx(0.0, abs=1e-12)
    # Half of the rows in the centre: P = (1 + a) / 2, and 1 - 2 mean((1 - a) / 2) = 1/2.
    half = numbers(n=[*np.linspace(0, 1, 101), *[0.5] * 101])
    assert supported(real, half).alpha_precision == pytest.approx(0.5, abs=0.02)


def test_recall_by_hand() -> None:
    # Every real row's neighbour is 0.01 off; a synthetic row stands on the lower half of them only.
    real = numbers(n=list(np.linspace(0, 1, 101)))
    lower = numbers(n=[*np.linspace(0, 0.49, 50)] * 2)
    beta = supported(real, lower).beta_recall
    # Up to one half R(b) is b: the inner ones come first. The upper half, none of it reached, all
    # have the outermost synthetic row, so there R stays one half: 1 - 2 (1/2)(1/2)^2 = 3/4.
    assert beta == pytest.approx(0.75, abs=0.02)
    assert supported(real, numbers(n=[9.0] * 100)).beta_recall == 0.0


def test_independent_columns_keep_alpha_and_lose_beta() -> None:
    g = seeded()
    x = g.normal(size=1500)
    real = pa.table({name: x + 0.01 * g.normal(size=1500) for name in "uvw"})
    alpha, beta = supported(real, frames.permuted(real, seeded()))
    assert alpha > 0.7
    assert beta < 0.05


# -- the DCR share --------------------------------------------------------------------------------


def shared(synthetic: pa.Table, train: pa.Table, held: pa.Table, queries: int = 10_000) -> float:
    return dcr.share(synthetic, train, held, schema_of(train), seeded(), queries)


def test_fresh_rows_are_as_near_to_either() -> None:
    fresh, train, held = mixed(2000, 1), mixed(1500, 2), mixed(1500, 3)
    assert shared(fresh, train, held) == pytest.approx(0.5, abs=0.04)
    assert shared(fresh, train, held) == pytest.approx(1 - shared(fresh, held, train), abs=1e-3)
    assert shared(fresh, train, mixed(500, 3)) == pytest.approx(0.5, abs=0.06)
    assert shared(fresh, train, held, queries=700) == pytest.approx(0.5, abs=0.06)


def test_copies_of_training_rows_are_nearer_to_them() -> None:
    train, held = mixed(800, 1), mixed(800, 2)
    assert shared(train, train, held) == 1.0
    assert shared(held, train, held) == 0.0
    half = pa.concat_tables([train.slice(0, 400), mixed(400, 3)])
    assert shared(half, train, held) == pytest.approx(0.75, abs=0.04)


def test_a_share_by_hand_and_ties_count_half() -> None:
    train, held = numbers(n=[0.0, 10.0]), numbers(n=[4.0, 10.0])
    # 1 is nearer to 0, 3 to 4, 2 to neither, 10 is both's.
    assert shared(numbers(n=[1.0, 3.0, 2.0, 10.0]), train, held) == 2 / 4
    assert shared(numbers(n=[1.0, 2.0]), train, held) == 3 / 4
    words = pa.table({"c": ["a", "b"], "d": ["p", "q"]})
    other = pa.table({"c": ["a", "z"], "d": ["q", "q"]})
    assert shared(pa.table({"c": ["b", "z"], "d": ["p", "p"]}), words, other) == 3 / 4


# -- both, of any table ---------------------------------------------------------------------------

CELLS = {
    "x": (pa.float64(), st.none() | st.floats(width=64) | st.integers(-3, 3).map(float)),
    "n": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "c": (pa.string(), st.none() | st.sampled_from(["a", "b", ""])),
    "b": (pa.bool_(), st.none() | st.booleans()),
    "e": (pa.float64(), st.none()),
}


def table_of(names: list[str], rows: list[dict[str, object]]) -> pa.Table:
    return pa.table({n: pa.array([row[n] for row in rows], CELLS[n][0]) for n in names})


@given(
    st.lists(st.sampled_from(sorted(CELLS)), min_size=1, unique=True),
    st.lists(
        st.fixed_dictionaries({n: cells for n, (_, cells) in CELLS.items()}),
        min_size=6,
        max_size=14,
    ),
)
def test_scores_of_any_rows_are_bounded(names: list[str], rows: list[dict[str, object]]) -> None:
    third = len(rows) // 3
    tables = [table_of(names, rows[place::3][:third]) for place in range(3)]
    for score in (*supported(*tables[:2]), shared(*tables)):
        assert 0.0 <= score <= 1.0
    assert shared(tables[0], tables[1], tables[1]) == 0.5


def test_a_table_of_one_place_has_the_scores_that_real_rows_have() -> None:
    table = pa.table({"k": ["k"] * 50, "n": [7] * 50, "e": pa.array([None] * 50, pa.float64())})
    # Every row comes within every level at once: 1 - 2 mean(1 - a) = 0.
    assert supported(table, table) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert shared(table, table, table) == 0.5
