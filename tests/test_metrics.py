"""Metrics against hand-computed cases, identical tables, nulls, and one property."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import frames
from raysynth.errors import TableError
from raysynth.metrics import copies, detection, marginals, pairs, utility
from raysynth.schema import Schema


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixed(rows: int, seed: int = 0, nulls: bool = True) -> pa.Table:
    """Two related numbers, a category and a boolean that follow them, nulls in all."""
    g = seeded(seed)
    x = g.normal(size=rows)
    y = x + 0.3 * g.normal(size=rows)
    c = np.where(x > 0.5, "high", np.where(x < -0.5, "low", "middle"))
    b = y + 0.3 * g.normal(size=rows) > 0
    masks = [g.random(rows) < 0.1 * nulls for _ in range(4)]
    columns = [pa.array(v, mask=m) for v, m in zip((x, y, c, b), masks, strict=True)]
    return pa.table(dict(zip("xycb", columns, strict=True)))


def schema_of(table: pa.Table) -> Schema:
    return Schema.infer(table.schema)


def test_codes_are_shared_exact_and_null_is_one() -> None:
    one = pa.table({"n": pa.array([2**53, 2**53 + 1, None])})
    other = pa.table({"n": pa.array([2**53 + 1, None])})
    (left, right), size = frames.codes([one, other], "n")
    assert size == 3
    assert left[0] != left[1]
    assert list(right) == [left[1], left[2]]


def test_codes_take_nan_for_null_and_minus_zero_for_zero() -> None:
    table = pa.table({"n": [0.0, -0.0, float("nan"), None, float("inf")]})
    (found,), size = frames.codes([table], "n")
    assert size == 2
    assert list(found) == [0, 0, 1, 1, 1]


def test_pooled_keeps_the_most_frequent() -> None:
    (found,), size = frames.pooled([np.array([0, 1, 1, 2, 3, 3, 3])], 4, keep=3)
    assert size == 3
    assert list(found) == [2, 1, 1, 2, 0, 0, 0]


def test_shape_by_hand() -> None:
    real = pa.table({"n": [1, 2, 3, 4], "c": ["a", "a", "b", None], "b": [True, True, None, None]})
    synthetic = pa.table({"n": [1, 2, 2, 2], "c": ["a", "b", "b", "z"], "b": [True] * 4})
    found = marginals.scores(real, synthetic, schema_of(real))
    # At 2: 2/4 of the real rows, 4/4 of the synthetic. c: |.5-.25| + |.25-.5| + .25 + .25 = 1.
    assert found == {"n": 0.5, "c": 0.5, "b": 0.5}


def test_shape_weighs_missing_numbers_by_their_share() -> None:
    real = pa.table({"n": pa.array([1.0, 2.0, 3.0, None])})
    synthetic = pa.table({"n": pa.array([1.0, 2.0, 3.0])})
    assert marginals.scores(real, synthetic, schema_of(real))["n"] == pytest.approx(0.75)
    empty = pa.table({"n": pa.array([None, None], pa.float64())})
    assert marginals.scores(empty, empty, schema_of(real))["n"] == 1.0
    assert marginals.scores(real, empty, schema_of(real))["n"] == 0.25


def test_trend_of_numbers_by_hand() -> None:
    real = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [2.0, 4.0, 6.0, 8.0], "k": [7] * 4})
    synthetic = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [8.0, 6.0, 4.0, 2.0], "k": [7] * 4})
    found = pairs.scores(real, synthetic, schema_of(real))
    assert found["x", "y"] == pytest.approx(0.0)
    assert found["x", "k"] == found["y", "k"] == 1.0
    assert list(found) == [("x", "y"), ("x", "k"), ("y", "k")]


def test_trend_of_categories_by_hand() -> None:
    real = pa.table({"c": ["a", "a", "b", "b"], "b": [True, True, False, None]})
    synthetic = pa.table({"c": ["a", "a", "b", "b"], "b": [True, False, False, False]})
    assert pairs.scores(real, synthetic, schema_of(real)) == {("c", "b"): 0.5}


def test_trend_bins_numbers_on_the_real_range() -> None:
    real = pa.table({"n": [0.0, 4.9, 5.1, 10.0], "c": ["a"] * 4})
    near = pa.table({"n": [0.9, 4.1, 5.9, 99.0], "c": ["a"] * 4})
    assert pairs.scores(real, near, schema_of(real))["n", "c"] == 1.0
    one = pa.table({"n": [5.0] * 4, "c": ["a"] * 4})
    assert pairs.scores(one, real, schema_of(real))["n", "c"] == 0.0


def test_correlations_are_numpys_over_the_shared_rows() -> None:
    table = mixed(500)
    x, y = (frames.floats(table, name) for name in "xy")
    both = ~np.isnan(x) & ~np.isnan(y)
    expected = np.corrcoef(x[both], y[both])[0, 1]
    flat = pa.table({"x": x, "y": np.ones(500), "c": table["c"], "b": table["b"]})
    found = pairs.scores(table, flat, schema_of(table))["x", "y"]
    assert found == pytest.approx(1 - abs(expected) / 2)


def test_trend_survives_the_largest_floats() -> None:
    real = pa.table({"x": [1.7e308, -1.7e308, 0.0, 1.0], "c": ["a", "b", "a", "b"]})
    real = real.append_column("y", pa.array([1e18, 1e18 + 256, 1e18, 1e18]))
    assert all(
        value == pytest.approx(1.0) for value in pairs.scores(real, real, schema_of(real)).values()
    )


def test_trend_counts_wide_contingencies() -> None:
    words = [f"w{i}" for i in range(3000)]
    real = pa.table({"a": words, "b": words})
    turned = pa.table({"a": words, "b": [*words[1500:], *words[:1500]]})
    assert pairs.scores(real, real, schema_of(real))["a", "b"] == 1.0
    assert pairs.scores(real, turned, schema_of(real))["a", "b"] == 0.0


def test_trend_of_one_column_is_empty() -> None:
    table = pa.table({"n": [1, 2]})
    assert pairs.scores(table, table, schema_of(table)) == {}


def test_identical_tables_score_one() -> None:
    table = mixed(400)
    schema = schema_of(table)
    assert set(marginals.scores(table, table, schema).values()) == {1.0}
    assert all(v == pytest.approx(1.0) for v in pairs.scores(table, table, schema).values())
    assert copies.share(table, table, schema) == 1.0


def test_independent_columns_keep_shape_and_lose_trend() -> None:
    table = mixed(2000)
    schema, floor = schema_of(table), frames.permuted(table, seeded())
    shape = marginals.scores(table, floor, schema)
    assert shape == pytest.approx(dict.fromkeys("xycb", 1.0))
    assert pairs.scores(table, floor, schema)["x", "y"] < 0.6
    assert detection.auc(table, floor, schema, seeded()) > 0.8


cells = st.lists(
    st.tuples(
        st.none() | st.floats(width=64) | st.integers(-3, 3).map(float),
        st.none() | st.sampled_from(["a", "b", ""]),
        st.none() | st.booleans(),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    min_size=1,
    max_size=12,
)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    types = (pa.float64(), pa.string(), pa.bool_(), pa.int64())
    columns = [pa.array(v, t) for v, t in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(dict(zip("xcbn", columns, strict=True)))


@settings(max_examples=60, deadline=None)
@given(cells, cells)
def test_scores_are_bounded_and_one_for_the_same_rows(
    one: list[tuple[object, ...]], other: list[tuple[object, ...]]
) -> None:
    real, synthetic = table_of(one), table_of(other)
    schema = schema_of(real)
    turned = table_of(one[::-1])
    for score in (marginals.scores, pairs.scores):
        assert all(0.0 <= value <= 1.0 for value in score(real, synthetic, schema).values())
        assert all(v == pytest.approx(1) for v in score(real, turned, schema).values())
    assert marginals.scores(real, synthetic, schema) == pytest.approx(
        marginals.scores(synthetic, real, schema)
    )
    assert 0.0 <= copies.share(real, synthetic, schema) <= 1.0
    assert copies.share(turned, real, schema) == 1.0


def test_detection_of_the_same_distribution_is_chance() -> None:
    real, synthetic = mixed(1500, seed=1), mixed(1500, seed=2)
    found = detection.auc(real, synthetic, schema_of(real), seeded())
    assert 0.5 <= found < 0.56
    assert found == detection.auc(real, synthetic, schema_of(real), seeded())


def test_detection_of_copies_is_chance_not_less() -> None:
    table = mixed(600)
    assert detection.auc(table, table, schema_of(table), seeded()) == 0.5


def test_detection_sees_nulls_and_balances_the_rows() -> None:
    real, synthetic = mixed(900, seed=1), mixed(400, seed=2, nulls=False)
    assert detection.auc(real, synthetic, schema_of(real), seeded(), rows=300) > 0.6


def test_detection_pools_more_categories_than_a_learner_takes() -> None:
    words = [f"w{i % 400}" for i in range(1200)]
    table = pa.table({"c": words, "e": pa.array([None] * 1200, pa.float64()), "k": ["k"] * 1200})
    odd = table.set_column(0, "c", pa.array(["w0"] * 1200))
    assert detection.auc(table, odd, schema_of(table), seeded()) > 0.95


@pytest.mark.parametrize("names", ["xycb", "xy", "cb", "x", "c"])
def test_logistic_detection_of_the_same_distribution_is_chance(names: str) -> None:
    real, synthetic = (mixed(1500, seed).select(list(names)) for seed in (1, 2))
    found = detection.auc(real, synthetic, schema_of(real), seeded(), classifier="logistic")
    assert 0.5 <= found < 0.54


def test_logistic_detection_sees_columns_and_no_relation() -> None:
    real = mixed(1500, seed=1, nulls=False)
    schema = schema_of(real)

    def told(synthetic: pa.Table) -> float:
        return detection.auc(real, synthetic, schema, seeded(), classifier="logistic")

    assert told(frames.permuted(real, seeded())) < 0.54
    shifted = real.set_column(0, "x", pa.array(real["x"].to_numpy() + 1))
    # One number between two normals a standard deviation apart; y, which follows it, tells more.
    assert told(shifted) > 0.76
    assert told(mixed(1500, seed=2)) > 0.6
    assert told(real.set_column(2, "c", pa.array(["other"] * 1500))) == 1.0


def test_logistic_detection_of_two_normals_by_hand() -> None:
    real, synthetic = (pa.table({"n": seeded(s).normal(s, 1, 4000)}) for s in (0, 1))
    found = detection.auc(real, synthetic, schema_of(real), seeded(), classifier="logistic")
    # The chance that one exceeds the other: the normal distribution at 1 / sqrt(2).
    assert found == pytest.approx(0.7602, abs=0.015)


def test_logistic_detection_pools_categories_and_takes_hopeless_columns() -> None:
    words = [f"w{i % 400}" for i in range(1200)]
    gone = pa.array([None] * 1200, pa.float64())
    table = pa.table({"c": words, "e": gone, "k": ["k"] * 1200, "n": [1e308, -1e308] * 600})
    schema = schema_of(table)
    assert detection.auc(table, table, schema, seeded(), classifier="logistic") == 0.5
    odd = table.set_column(0, "c", pa.array(["w0"] * 1200))
    assert detection.auc(table, odd, schema, seeded(), classifier="logistic") > 0.95
    few = table.slice(0, 3)
    assert 0.5 <= detection.auc(few, few, schema, seeded(), classifier="logistic") <= 1


def test_utility_of_classes_and_of_numbers() -> None:
    train, test = mixed(1500, seed=1), mixed(1500, seed=2)
    schema = schema_of(train)
    assert utility.default_target(schema) == "b"
    binary = utility.score(train, test, schema, "b", seeded())
    assert binary.unit == "AUC"
    assert binary.score.value > 0.9
    assert binary.f1 is not None
    assert binary.f1.value > 0.75
    assert utility.score(train, test, schema, "c", seeded()).score.value > 0.9
    number = utility.score(train, test, schema, "y", seeded())
    assert (number.unit, number.f1) == ("R2", None)
    assert number.score.value > 0.6


def test_utility_of_independent_columns_is_near_chance() -> None:
    train, test = mixed(1500, seed=1), mixed(1500, seed=2)
    schema, found = schema_of(train), []
    for seed in range(4):
        floor = frames.permuted(train, seeded(seed))
        found.append(utility.score(floor, test, schema, "b", seeded()).score.value)
    # One draw wanders: a chance relation of 1,500 rows meets a test that has one strong one.
    assert abs(float(np.mean(found)) - 0.5) < 0.15


def test_learners_take_a_feature_without_a_value() -> None:
    table = mixed(300)
    gone = table.set_column(0, "x", pa.array([None] * 300, pa.float64()))
    gone = gone.set_column(2, "c", pa.array([None] * 300, pa.string()))
    schema = schema_of(table)
    assert detection.auc(table, gone, schema, seeded()) > 0.95
    assert 0.5 <= detection.auc(gone, gone, schema, seeded()) <= 1
    assert utility.score(gone, table, schema, "b", seeded()).score.value > 0.8
    assert utility.score(gone, table, schema, "y", seeded()).score.value < 1
    assert utility.score(table, gone, schema, "y", seeded()).score.value < 1


def test_utility_of_a_constant_synthetic_target_is_chance() -> None:
    test = mixed(300)
    schema = schema_of(test)
    for name, value in (("b", True), ("c", "high"), ("y", 1.5), ("b", None), ("y", None)):
        kind = schema[name].type
        constant = test.set_column(
            test.schema.get_field_index(name), name, pa.array([value] * 300, kind)
        )
        expected = 0.0 if name == "y" else 0.5
        assert utility.score(constant, test, schema, name, seeded()).score.value == expected


def test_utility_of_classes_that_the_synthetic_table_lacks() -> None:
    test = mixed(900, nulls=False)
    lacking = test.filter(pa.compute.not_equal(test["c"], "low"))
    found = utility.score(lacking, test, schema_of(test), "c", seeded())
    assert 0.6 < found.score.value < 0.95
    assert found.f1 is not None
    assert found.f1.value < 0.75


def test_utility_pools_classes_and_refuses_unknown_targets() -> None:
    names = [f"k{i % 40}" for i in range(400)]
    table = pa.table({"n": list(range(400)), "c": names})
    assert 0.0 <= utility.score(table, table, schema_of(table), "c", seeded()).score.value <= 1.0
    with pytest.raises(TableError, match="no column is called 'd'"):
        utility.score(table, table, schema_of(table), "d", seeded())


def test_f1_by_hand() -> None:
    train = pa.table({"c": ["p", "q"] * 50, "t": [True, False] * 50})
    test = pa.table({"c": ["p", "p", "p", "q", "q"], "t": [True, True, False, False, False]})
    # The rarer class is True: two hits, one false alarm, none missed.
    found = utility.score(train, test, schema_of(train), "t", seeded())
    assert found.f1 is not None
    assert found.f1.value == pytest.approx(2 * 2 / (2 + 3))
    assert found.score.value == pytest.approx(1 - (2 * 1 * 0.5 + 0) / 6)


def test_utility_without_other_columns_is_chance() -> None:
    table = pa.table({"b": [True, False] * 20})
    assert utility.score(table, table, schema_of(table), "b", seeded()).score.value == 0.5


def test_copies_by_hand() -> None:
    reference = pa.table({"n": [1, 2, None, 4], "c": ["a", "b", "c", None]})
    rows = pa.table({"n": [1, 2, None, 4, 1], "c": ["a", "x", "c", None, "b"]})
    assert copies.share(rows, reference, schema_of(rows)) == pytest.approx(3 / 5)


def test_copies_of_wide_tables_do_not_overflow() -> None:
    table = pa.table({f"n{i}": seeded(i).permutation(1000) for i in range(12)})
    schema = schema_of(table)
    assert copies.share(table, table, schema) == 1.0
    assert copies.share(frames.permuted(table, seeded()), table, schema) == 0.0
