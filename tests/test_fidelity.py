"""Figures of fidelity by hand, of the same rows and of rows that share nothing; their intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.metrics import (
    coverage,
    cumulative,
    detection,
    groups,
    information,
    marginals,
    missing,
    pairs,
    precision,
    tails,
    triples,
)
from raysynth.resample import Draws, interval
from raysynth.schema import Schema
from raysynth.tallies import Coded, quantiles


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plain(measure: Callable[..., Any], real: pa.Table, synthetic: pa.Table, *more: Any) -> Any:
    """Scores over the rows as they are."""
    draws = Draws.of(real.num_rows, synthetic.num_rows)
    found = measure(real, synthetic, Schema.infer(real.schema), draws, *more)
    assert all(values.shape == (1,) for values in found.values())
    return {key: float(values[0]) for key, values in found.items()}


def mixed(rows: int, seed: int) -> pa.Table:
    """Two related numbers and two categories, nulls in all."""
    g = seeded(seed)
    x = g.normal(size=rows)
    columns = {
        "x": x,
        "y": np.round(x + g.normal(size=rows), 1),
        "c": np.where(x > 0.5, "high", np.where(x < -0.5, "low", "middle")),
        "b": g.random(rows) < 0.3,
    }
    masks = [g.random(rows) < 0.1 for _ in columns]
    arrays = [pa.array(v, mask=m) for v, m in zip(columns.values(), masks, strict=True)]
    return pa.table(arrays, names=list(columns))


MEASURES = [
    *(marginals.replicates, pairs.replicates, information.replicates, triples.replicates),
    *(cumulative.replicates, tails.replicates, coverage.replicates, missing.replicates),
    *(missing.together, groups.replicates),
]


def chance(measure: Callable[..., Any]) -> list[Any]:
    """The generator that a measure takes which chooses what to look at."""
    return [seeded()] if measure in (information.replicates, triples.replicates) else []


@pytest.mark.parametrize("measure", MEASURES)
def test_the_same_rows_in_another_order_score_one(measure: Callable[..., Any]) -> None:
    table = mixed(900, seed=1)
    found = plain(measure, table, table.take(seeded().permutation(900)), *chance(measure))
    assert found
    assert all(value == pytest.approx(1.0) for value in found.values())


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_are_bounded_and_the_same_again(measure: Callable[..., Any]) -> None:
    real, synthetic = mixed(400, seed=1), mixed(700, seed=2).slice(0, 300)
    draws = Draws.of(400, 300, seeded())
    schema = Schema.infer(real.schema)
    one, other = (measure(real, synthetic, schema, draws, *chance(measure)) for _ in range(2))
    for key, values in one.items():
        assert values.shape == (len(draws.real),)
        assert np.all((values >= 0) & (values <= 1))
        assert values.tolist() == other[key].tolist()
    assert any(values[1:].std() > 0 for values in one.values())


@pytest.mark.parametrize("measure", MEASURES)
def test_empty_constant_and_lone_columns_have_scores_or_none(measure: Callable[..., Any]) -> None:
    odd = pa.table(
        {
            "e": pa.array([None] * 150, pa.float64()),
            "f": pa.array([None] * 150, pa.string()),
            "one": [7.0] * 150,
            "k": ["k"] * 150,
            "wide": [1.7e308, -1.7e308] * 75,
        }
    )
    far = odd.set_column(2, "one", pa.array([-1.7e308] * 150))
    for real in (odd, odd.select(["e"]), odd.select(["k"]), odd.select(["one"])):
        for synthetic in (odd, far):
            found = plain(measure, real, synthetic.select(real.column_names), *chance(measure))
            assert all(0 <= value <= 1 for value in found.values())
        same = plain(measure, real, real, *chance(measure))
        assert all(value == pytest.approx(1.0) for value in same.values())


def test_mutual_information_by_hand() -> None:
    # a and b follow from each other in one table, and are independent in the other.
    real = pa.table({"a": ["p", "p", "q", "q"], "b": ["r", "r", "s", "s"]})
    apart = pa.table({"a": ["p", "p", "q", "q"], "b": ["r", "s", "r", "s"]})
    turned = pa.table({"a": ["p", "p", "q", "q"], "b": ["s", "s", "r", "r"]})
    assert plain(information.replicates, real, apart, seeded()) == {("a", "b"): pytest.approx(0)}
    assert plain(information.replicates, real, turned, seeded()) == {("a", "b"): pytest.approx(1)}
    # b says which half of four values: I = H(b) = log 2, H(a) = log 4, so NMI is 2 / 3.
    four = pa.table({"a": ["p", "q", "r", "s"], "b": ["t", "t", "u", "u"]})
    still = pa.table({"a": ["p", "q", "r", "s"], "b": ["t"] * 4})
    found = plain(information.replicates, four, still, seeded())
    assert found["a", "b"] == pytest.approx(1 / 3)


def test_three_way_sees_what_no_pair_shows() -> None:
    # Of two coins and whether they agree, any two are independent.
    coins = pa.table({"a": [0, 0, 1, 1] * 50, "b": [0, 1, 0, 1] * 50, "c": [1, 0, 0, 1] * 50})
    against = coins.set_column(2, "c", pa.array([0, 1, 1, 0] * 50))
    coins, against = (
        t.cast(pa.schema([(n, pa.string()) for n in "abc"])) for t in (coins, against)
    )
    assert set(plain(pairs.replicates, coins, against).values()) == {1.0}
    assert plain(triples.replicates, coins, against, seeded()) == {("a", "b", "c"): 0.0}


def test_three_way_draws_triples_of_wide_tables() -> None:
    table = pa.table({f"n{i}": seeded(i).normal(size=60) for i in range(20)})
    found = plain(triples.replicates, table, table, seeded())
    assert len(found) == triples.TRIPLES
    assert set(found) == set(plain(triples.replicates, table, table, seeded()))
    assert set(found) != set(plain(triples.replicates, table, table, seeded(1)))


def test_cumulative_by_hand() -> None:
    real = pa.table({"n": [0.0, 10.0], "m": [1.0, 1.0]})
    # Every value moved by a tenth of the range; half of the others are not the constant.
    moved = pa.table({"n": [1.0, 11.0], "m": [1.0, 2.0]})
    assert plain(cumulative.replicates, real, moved) == pytest.approx({"n": 0.9, "m": 0.5})
    far = pa.table({"n": [1e300, 1e300], "m": [None, None]})
    assert plain(cumulative.replicates, real, far.cast(real.schema)) == {"n": 0.0, "m": 0.0}
    # Nulls count for nothing.
    holed = pa.table({"n": [0.0, None, 10.0], "m": [1.0, None, None]})
    assert plain(cumulative.replicates, real, holed) == {"n": 1.0, "m": 1.0}


def test_tails_by_hand() -> None:
    real = pa.table({"n": [float(i) for i in range(1000)]})
    # 1 % lies under 10, and 1 % over 989: half as many, then none, then thrice as many above.
    few = [*range(5), *[500] * 985, *range(990, 1000)]
    assert plain(tails.replicates, real, pa.table({"n": list(map(float, few))}))["n"] == 0.75
    assert plain(tails.replicates, real, pa.table({"n": [500.0] * 1000}))["n"] == 0.0
    many = [*range(10), *[500] * 960, *[995] * 30]
    found = plain(tails.replicates, real, pa.table({"n": list(map(float, many))}))["n"]
    assert found == pytest.approx((1 + 1 / 3) / 2)
    # Nothing lies under a tenth of zeros: the upper tail alone counts.
    zeros = pa.table({"n": [0.0] * 100 + [float(i) for i in range(1, 901)]})
    assert plain(tails.replicates, zeros, pa.table({"n": [-5.0] * 1000}))["n"] == 0.0
    assert plain(tails.replicates, zeros, zeros)["n"] == 1.0


def test_coverage_by_hand() -> None:
    real = pa.table(
        {
            "c": ["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["lone"] + [None] * 9,
            "n": [0.0] * 10 + [5.0] * 19 + [10.0] * 10 + [999.0],
        }
    )
    made = pa.table({"c": ["a", "b", "odd", None], "n": [2.0, 3.0, 4.0, 9.0]})
    # Two of three shared categories; from 2 to 9 of 0 to 10, at or over which ten rows lie.
    assert plain(coverage.replicates, real, made) == pytest.approx({"c": 2 / 3, "n": 0.7})
    strict = plain(coverage.replicates, real, made, 1)
    assert strict == pytest.approx({"c": 2 / 4, "n": 7 / 999})
    none = pa.table({"c": ["odd"] * 4, "n": [2e3] * 4})
    assert plain(coverage.replicates, real, none) == {"c": 0.0, "n": 0.0}


def test_missing_by_hand() -> None:
    real = pa.table({"n": [None, None, 1.0, 2.0], "c": [None, None, "a", "b"], "k": ["k"] * 4})
    apart = pa.table({"n": [None, None, 1.0, 2.0], "c": ["a", "b", None, None], "k": ["k"] * 4})
    assert plain(missing.replicates, real, apart) == {"n": 1.0, "c": 1.0}
    assert plain(missing.together, real, apart) == {("n", "c"): 0.0}
    never = apart.set_column(0, "n", pa.array([1.0] * 4))
    assert plain(missing.replicates, real, never) == {"n": 0.5, "c": 1.0}
    whole = pa.table({"n": [1.0], "c": ["a"], "k": ["k"]})
    assert plain(missing.replicates, whole, whole) == plain(missing.together, whole, whole) == {}


def test_the_worst_group_is_found_and_small_ones_are_not_asked() -> None:
    group = ["large"] * 300 + ["small"] * 100 + ["few"] * 50
    real = pa.table({"g": group, "c": ["a", "b"] * 225, "d": ["z"] * 450})
    # In the small group c is always a: its shape there is 0.5, and d's is 1. The few are all wrong.
    cells = ["a", "b"] * 150 + ["a"] * 100 + ["wrong"] * 50
    made = real.set_column(1, "c", pa.array(cells))
    found = plain(groups.replicates, real, made)
    assert found["g"] == pytest.approx((0.5 + 1) / 2)
    without = made.filter(pa.compute.not_equal(made["g"], "small"))
    assert plain(groups.replicates, real, without)["g"] == 0.0
    assert plain(groups.replicates, real.slice(0, 99), made) == {}
    assert plain(groups.replicates, real.select(["g"]), made.select(["g"])) == {}


def test_bins_hold_as_many_real_rows_and_a_frequent_value_one_bin() -> None:
    values = np.arange(1000.0)
    coded = quantiles(values, np.array([-5.0, 5000.0, np.nan]), 10)
    assert set(np.bincount(coded.real)) <= {99, 100, 101}
    assert coded.synthetic.tolist() == [0, 9, 10]
    zeros = quantiles(np.array([0.0] * 80 + [1.0, 2.0] * 10), np.zeros(1), 10)
    assert set(zeros.real[:80]) == {0}


def test_codes_are_joined_exactly_however_many_cells() -> None:
    one = Coded(np.arange(900), np.arange(900), 900)
    both = one.joined(one).joined(one)
    assert both.size == 900
    assert both.variation(Draws.of(900, 900))[0] == 0.0
    assert one.joined(Coded(np.arange(900), np.arange(900)[::-1], 900)).size == 1800


SIMULATED = [
    (marginals.replicates, np.mean),
    (pairs.replicates, np.mean),
    (information.replicates, np.mean),
    (triples.replicates, np.mean),
    (cumulative.replicates, np.mean),
    (missing.together, np.mean),
    (groups.replicates, np.min),
]


@pytest.mark.parametrize(("measure", "sum_up"), SIMULATED)
def test_intervals_hold_what_tables_of_so_many_rows_have_on_average(
    measure: Callable[..., Any], sum_up: Any
) -> None:
    found = []
    for seed in range(60):
        real, synthetic = mixed(600, 2 * seed), biased(600, 2 * seed + 1)
        draws = Draws.of(600, 600, seeded(seed))
        schema = Schema.infer(real.schema)
        values = measure(real, synthetic, schema, draws, *chance(measure))
        found.append(interval(sum_up(list(values.values()), axis=0)))
    truth = np.mean([one.value for one in found])
    held = np.mean([one.low <= truth <= one.high for one in found])
    spread = np.std([one.value for one in found])
    wide = np.mean([one.high - one.low for one in found]) / 2 / 1.96
    assert held >= 0.87
    assert spread / 1.5 < wide < 2.5 * spread  # neither too sure nor saying nothing


def biased(rows: int, seed: int) -> pa.Table:
    """Rows that are off: shifted numbers, another share of b, fewer nulls."""
    table = mixed(rows, seed)
    x = pa.compute.add(table["x"], 0.4)
    b = pa.array(seeded(seed + 999).random(rows) < 0.5)
    return table.set_column(0, "x", x).set_column(3, "b", b)


def test_intervals_of_precision_and_recall_hold_the_average() -> None:
    found: dict[str, list[Any]] = {"alpha_precision": [], "beta_recall": []}
    for seed in range(40):
        real, synthetic = mixed(300, 2 * seed), biased(300, 2 * seed + 1)
        measured = precision.Real.of(real, Schema.infer(real.schema), seeded(seed))
        values = measured.replicates(synthetic, Draws.of(300, 300, seeded(seed)))
        for name, replicates in values.items():
            found[name].append(interval(replicates))
        scores = measured.scores(synthetic)
        assert {name: one[-1].value for name, one in found.items()} == scores._asdict()
    for intervals in found.values():
        truth = np.mean([one.value for one in intervals])
        assert np.mean([one.low <= truth <= one.high for one in intervals]) >= 0.85


def test_the_interval_of_detection_holds_the_known_area() -> None:
    # One number between two normals half a standard deviation apart: the AUC is 0.638.
    held = 0
    for seed in range(20):
        g = seeded(seed)
        real, made = pa.table({"x": g.normal(size=400)}), pa.table({"x": g.normal(0.5, size=400)})
        schema = Schema.infer(real.schema)
        found = detection.interval(real, made, schema, seeded(seed), classifier="logistic")
        assert found.value == detection.auc(real, made, schema, seeded(seed), classifier="logistic")
        assert 0.5 <= found.low <= found.value <= found.high <= 1
        held += found.low <= 0.6382 <= found.high
    assert held >= 17


def test_rows_drawn_again_are_as_many_and_the_same_of_a_seed() -> None:
    draws = Draws.of(50, 30, seeded(3))
    assert draws.real.shape == (26, 50)
    assert set(draws.real.sum(axis=1)) == {50.0}
    assert set(draws.synthetic.sum(axis=1)) == {30.0}
    assert set(draws.real[0]) == {1.0}
    assert np.array_equal(draws.real, Draws.of(50, 30, seeded(3)).real)
    assert interval(np.array([0.99, 0.9, 1.0, 0.95])).high == 1.0
