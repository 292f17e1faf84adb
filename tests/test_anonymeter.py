"""Attacks after Anonymeter against its own figures, and each of them by hand.

The figures are those of Anonymeter 1.1.0 on `tests.reference.copied()`, every row attacked, made by
`jobs/benchmarks/peer_anonymeter.py`; `jobs/benchmark.py parity anonymeter` does as much on Adult.
Where there are no ties nothing is left to chance in linkability and inference.
"""

from statistics import fmean

import numpy as np
import pyarrow as pa
import pytest

from raysynth.attacks import Tables, inference, linkability, singling_out
from raysynth.risks import Attempts, Risk, clustered, share
from raysynth.schema import Schema
from tests.reference import copied, people

ROWS = 400
TABLES = copied(ROWS)
SCHEMA = Schema.infer(TABLES.train.schema)
EVERY = (["x", "letter", "flag"], ["y", "z", "colour"])
FIRST = (["x", "y"], ["z", "letter", "colour", "flag"])


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def alike(risk: Risk, wanted: tuple[float, ...]) -> None:
    """Its rates are those; value and ends, of shares drawn to a half there, are near."""
    *ends, main, control = wanted
    rates = tuple(risk.details[f"success_{what}"] for what in ("main", "control"))
    assert rates == pytest.approx((main, control), abs=2e-6)
    assert (risk.value, risk.low, risk.high) == pytest.approx(ends, abs=0.006 / (1 - control))


@pytest.mark.parametrize(
    ("known", "neighbours", "wanted"),
    [
        (EVERY, 1, (0.506335, 0.457108, 0.555561, 0.51, 0.0025)),
        (EVERY, 5, (0.49845, 0.428076, 0.568823, 0.6325, 0.2625)),
        (FIRST, 1, (0.496339, 0.446729, 0.545949, 0.5025, 0.0075)),
        (FIRST, 5, (0.533456, 0.474511, 0.592401, 0.6025, 0.1425)),
    ],
)
def test_linkability_is_anonymeters(
    known: linkability.Split, neighbours: int, wanted: tuple[float, ...]
) -> None:
    (risk,) = linkability.attack(TABLES, SCHEMA, seeded(), ROWS, neighbours, known)
    alike(risk, wanted)


@pytest.mark.parametrize(
    ("secret", "wanted"),
    [
        ("x", (0.489543, 0.426387, 0.552699, 0.5825, 0.1775)),
        ("y", (0.51726, 0.458781, 0.575739, 0.5825, 0.13)),
        ("z", (0.476037, 0.421493, 0.530581, 0.515, 0.07)),
        ("letter", (0.525223, 0.456637, 0.593808, 0.65, 0.2575)),
        ("colour", (0.491115, 0.415493, 0.566738, 0.6525, 0.3125)),
        ("flag", (0.47341, 0.250105, 0.696714, 0.9325, 0.8675)),
    ],
)
def test_inference_is_anonymeters(secret: str, wanted: tuple[float, ...]) -> None:
    (risk,) = inference.attack(TABLES, SCHEMA, seeded(), ROWS, [secret])
    alike(risk, wanted)


def test_all_univariate_predicates_are_anonymeters() -> None:
    one, _ = singling_out.attack(TABLES, SCHEMA, seeded(), 3000)
    main, control = (one.details[f"success_{what}"] * one.tried for what in ("main", "control"))
    # Of 604 there: one is said twice, as equal to a least number and as at most that.
    assert (round(main), round(control)) == (603, 1)


def test_multivariate_predicates_do_as_well_as_anonymeters() -> None:
    found = [singling_out.attack(TABLES, SCHEMA, seeded(seed), 200)[1] for seed in range(20)]
    assert {risk.tried for risk in found} == {200}
    # Means over 20 seeds there. One seed's value spreads by 0.03 to 0.04: by 0.009 their mean.
    assert fmean(risk.value for risk in found) == pytest.approx(0.274531, abs=0.025)
    wanted = {"main": 0.42475, "control": 0.20325, "baseline": 0.04225}
    for what, rate in wanted.items():
        mean = fmean(risk.details[f"success_{what}"] for risk in found)
        assert mean == pytest.approx(rate, abs=0.02)


# -- singling out ---------------------------------------------------------------------------------


def test_predicates_single_out_a_synthetic_row_and_are_distinct() -> None:
    ranked = singling_out.Ranked.of(TABLES, SCHEMA)
    for predicates in (
        singling_out._univariate(ranked, seeded(), 300),
        singling_out._multivariate(ranked, seeded(), 300, 3),
    ):
        assert len(set(predicates)) == len(predicates) == 300
        for predicate in predicates:
            holds = np.all([bounds.of(ranked.synthetic) for bounds in predicate], axis=0)
            assert holds.sum() == 1


def test_bounds_by_hand() -> None:
    ranks = (np.array([0, 1, 2, 3, 3], dtype=np.int32),)
    for low, high, wanted in (
        (3, 3, [0, 0, 0, 1, 1]),
        (1, 2, [0, 1, 1, 0, 0]),
        (3, 1, [1, 1, 0, 1, 1]),  # is not 2
        (1, -1, [0, 1, 1, 1, 1]),  # is not missing
    ):
        assert singling_out.Bounds(0, low, high).of(ranks).tolist() == [bool(w) for w in wanted]


def test_a_rare_value_that_is_copied_singles_out() -> None:
    common = ["a"] * 100 + ["b"] * 100
    rare = [f"only{i}" for i in range(50)]
    numbers = seeded().random(250)
    train = pa.table({"c": common + rare, "n": numbers})
    held = pa.table({"c": ["a"] * 125 + ["b"] * 125, "n": numbers + 2})
    one, _ = singling_out.attack(Tables(train, train, held), Schema.infer(train.schema), seeded())
    assert one.value == pytest.approx(1.0, abs=0.02)
    assert one.details["success_main"] == 1.0
    assert one.details["weak"] == 0.0


def test_rows_that_repeat_count_once() -> None:
    train = people(200, 1)
    twice = Tables(pa.concat_tables([train, train]), train, people(200, 2))
    once = Tables(train, train, people(200, 2))
    schema = Schema.infer(train.schema)
    assert singling_out.attack(twice, schema, seeded()) == singling_out.attack(
        once, schema, seeded()
    )


def test_where_no_row_stands_out_nothing_is_tried() -> None:
    same = pa.table({"c": ["a", "b"] * 100, "d": ["p", "p", "q", "q"] * 50, "e": ["k"] * 200})
    one, many = singling_out.attack(Tables(same, same, same), Schema.infer(same.schema), seeded())
    assert one.skipped is not None
    assert (one.low, one.high) == (0.0, 1.0)
    # Two columns say who is who among the four distinct rows; the third says nothing.
    assert many.tried == 4


# -- linkability ----------------------------------------------------------------------------------


def test_sets_of_few_categories_link_nobody_by_the_order_of_rows() -> None:
    def rows(seed: int) -> pa.Table:
        g = seeded(seed)
        return pa.table({"a": g.integers(2, size=500), "b": g.integers(2, size=500)})

    schema = Schema.infer(rows(0).schema, categories=["a", "b"])
    tables = Tables(rows(0), rows(1), rows(2))
    (risk,) = linkability.attack(tables, schema, seeded(), 500)
    # Of 250 as near by either, 125 by both: 1 in 500.
    assert risk.details["success_main"] < 0.02
    assert risk.details["success_control"] < 0.02


def test_one_known_column_on_either_side_of_a_copied_table() -> None:
    table = people(300, 1)
    tables = Tables(table, table, people(300, 2))
    (risk,) = linkability.attack(tables, SCHEMA, seeded(), 300, known=(["x"], ["y"]))
    assert risk.details["success_main"] == 1.0
    assert risk.tried == 300
    assert risk.low > 0.9


# -- inference ------------------------------------------------------------------------------------


def test_the_worst_secret_is_named_and_its_interval_is_for_all() -> None:
    train, held = people(ROWS, 1), people(ROWS, 2)
    # Copies of training rows, whose colour alone is not told.
    grey = train.set_column(4, "colour", pa.array(["red"] * ROWS))
    tables = Tables(grey, train, held)
    pooled, risk = inference.attack(tables, SCHEMA, seeded(), ROWS)
    assert "Of 6 columns" in risk.note
    assert pooled.value < risk.value
    (name,) = [name for name in SCHEMA.names if f"'{name}'" in risk.note]
    assert name != "colour"
    (alone,) = inference.attack(tables, SCHEMA, seeded(), ROWS, [name])
    assert alone.value == pytest.approx(risk.value, abs=0.02)
    assert risk.low < alone.low
    every = [inference.attack(tables, SCHEMA, seeded(), ROWS, [n])[0].low for n in SCHEMA.names]
    assert alone.low == max(every)


def test_at_most_so_many_secrets_are_drawn_and_constants_are_none() -> None:
    columns = {f"n{i}": seeded(i).random(200) for i in range(12)}
    table = pa.table({**columns, "k": [1] * 200})
    _, risk = inference.attack(Tables(table, table, table), Schema.infer(table.schema), seeded())
    assert f"Of {inference.SECRETS} columns" in risk.note
    few = table.select(["n0", "k"])
    (risk,) = inference.attack(Tables(few, few, few), Schema.infer(few.schema), seeded())
    assert risk.name == "inference"


def test_a_cell_drawn_by_chance_is_as_sure_as_rows_are_many() -> None:
    # Rows of which all cells are told or none are few attempts, those told at random are many.
    g = seeded()
    alike = np.tile(g.random(1000) < 0.5, (8, 1))
    assert clustered(alike) == pytest.approx(share(alike[0].sum(), 1000), abs=1e-3)
    apart = g.random((8, 1000)) < 0.5
    _, low, high = clustered(apart)
    _, first, last = share(apart.sum(), 8000)
    assert high - low == pytest.approx(last - first, rel=0.1)
    held = 0
    for _ in range(300):
        theme = g.beta(2, 3, 400)  # rows that are told more easily than others
        low, high = clustered(g.random((6, 400)) < theme)[1:]
        held += low <= 0.4 <= high
    assert 0.92 <= held / 300 <= 0.98


def test_numbers_are_guessed_within_a_twentieth_and_times_of_their_span() -> None:
    keys, number, time = [f"k{i}" for i in range(200)], pa.float64(), pa.timestamp("s")

    def right(guess: list[float], truth: list[float], kind: pa.DataType = number) -> float:
        whole = pa.int64() if kind == time else number
        made, real = (
            pa.table({"key": keys, "s": pa.array(np.array(values)).cast(whole).cast(kind)})
            for values in (guess, truth)
        )
        schema = Schema.infer(made.schema)
        (risk,) = inference.attack(Tables(made, real, real), schema, seeded(), 200, ["s"])
        return risk.details["success_main"]

    assert right([100.0] * 200, [105.0] * 100 + [105.1] * 100) == 0.5
    assert right([-100.0] * 200, [-95.0] * 100 + [7.0] * 100) == 0.5
    assert right([0.0] * 200, [0.0] * 100 + [1e-9] * 100) == 0.5
    spread = np.linspace(1e9, 1e9 + 1e6, 200).round()
    near, far = spread[:100] + 4e4, spread[100:] + 6e4
    assert right(list(spread), [*near, *far], time) == 0.5


def test_missing_is_guessed_where_it_is_missing() -> None:
    keys, gone = [f"k{i}" for i in range(200)], np.arange(200) < 80
    made = pa.table({"key": keys, "s": pa.array(np.ones(200), mask=gone)})
    real = made.set_column(1, "s", pa.array(np.full(200, 9.0), mask=gone))
    schema = Schema.infer(made.schema)
    (risk,) = inference.attack(Tables(made, real, real), schema, seeded(), 200, ["s"])
    assert risk.details["success_main"] == 0.4


# -- all three ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("main", "weak"), [(3, 1.0), (4, 0.0)])
def test_an_attack_no_better_than_guesses_says_so(main: int, weak: float) -> None:
    risk = Attempts(100, main, 0, 3).risk("some", "How to read it.")
    assert risk.details["weak"] == weak
    assert ("too weak" in risk.note) == bool(weak)
    assert risk.details["success_baseline"] == 0.03
