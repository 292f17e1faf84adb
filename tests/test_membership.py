"""Membership by the synthetic table alone: remembered rows are told, fresh ones are not."""

import numpy as np
import pyarrow as pa
import pytest

from raysynth import density
from raysynth.attacks import Tables, membership
from raysynth.points import nearest, neighbours, points
from raysynth.risks import Risk
from raysynth.schema import Schema

NAMES = ["membership_distance", "membership_density", "membership_trees"]


def parts(table: pa.Table, rows: int, seed: int) -> list[pa.Table]:
    """Three parts of as many rows, drawn by chance."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    return [table.take(order[at : at + rows]) for at in range(0, 3 * rows, rows)]


def attacked(
    synthetic: pa.Table, train: pa.Table, held: pa.Table, seed: int = 0, rows: int = 4_000
) -> dict[str, Risk]:
    schema, generator = Schema.infer(train.schema), np.random.default_rng(seed)
    risks = membership.attack(Tables(synthetic, train, held), schema, generator, rows)
    assert [risk.name for risk in risks] == NAMES
    return {risk.name: risk for risk in risks}


def test_neighbours_are_those_of_all_pairs() -> None:
    g = np.random.default_rng(0)
    tables = [
        pa.table({"x": g.normal(size=n), "c": g.choice(["a", "b", None], n)}) for n in (40, 25)
    ]
    one, other = points(tables, Schema.infer(tables[0].schema))
    square = np.square(one.numbers[:, None] - other.numbers[None]).sum(axis=2)
    square += 2.0 * (one.codes[0][:, None] != other.codes[0][None])
    found = neighbours(one, other, 4)
    assert found == pytest.approx(np.sqrt(np.sort(square, axis=1)[:, :4]))
    assert np.array_equal(found[:, 0], nearest(one, other)[1])
    assert (neighbours(one, one, 1) == 0).all()
    few = neighbours(one, other.take(np.arange(2)), 4)
    assert (few[:, 1] == few[:, 3]).all()
    assert few.shape == (40, 4)


def test_candidates_are_as_many_and_nobody_twice() -> None:
    train, held = (pa.table({"n": range(at, at + 100)}) for at in (0, 1000))
    for rows, count in ((20, 20), (500, 50)):
        found = Tables(train, train, held).candidates(np.random.default_rng(0), rows)
        members, others, reference = (set(side["n"].to_pylist()) for side in found)
        assert len(members) == len(others) == count
        assert members < set(range(100))
        assert others | reference == set(range(1000, 1100))
        assert not others & reference


def test_rows_handed_out_as_they_are_are_told(adult: pa.Table) -> None:
    train, held, _ = parts(adult, 1_500, 0)
    found = attacked(train, train, held)
    for name in ("membership_distance", "membership_density"):
        assert found[name].low > 0.9
        assert found[name].details["tpr_at_1pct_low"] > 0.9
        assert found[name].curve[-1] == (1.0, 1.0)
    assert found["membership_trees"].low > 0.5
    assert all(risk.tried == 2 * 750 for risk in found.values())


def test_a_bootstrap_is_told_as_far_as_it_holds_a_row(adult: pa.Table) -> None:
    """Which it does of 1 - 1 / e = 0.632; of the others nothing is known: 0.632 + 0.368 / 2."""
    train, held, _ = parts(adult, 2_000, 0)
    again = train.take(np.random.default_rng(1).integers(0, 2_000, 2_000))
    found = attacked(again, train, held)
    for name in ("membership_distance", "membership_density"):
        assert found[name].value == pytest.approx(0.816, abs=0.03)
        assert found[name].low > 0.75
        assert found[name].details["tpr_at_0.1pct"] > 0.55


def test_noise_does_not_hide_what_was_remembered(adult: pa.Table) -> None:
    train, held, _ = parts(adult, 1_500, 0)
    g, noisy = np.random.default_rng(1), train
    for place, name in enumerate(train.schema.names):
        if pa.types.is_integer(train.schema.field(name).type):
            values = train[name].to_numpy()
            values = values + g.normal(size=len(values)) * values.std() / 5
            noisy = noisy.set_column(place, name, pa.array(values.round().astype(np.int64)))
    found = attacked(noisy, train, held)
    assert found["membership_distance"].low > 0.8
    assert found["membership_density"].low > 0.8


def test_rows_never_seen_are_chance(adult: pa.Table) -> None:
    """At 95 % of 30 tables one or two miss; five or more do so once in a hundred times."""
    missed, values = dict.fromkeys(NAMES, 0), {name: list[float]() for name in NAMES}
    for seed in range(30):
        train, held, fresh = parts(adult, 400, seed)
        for name, risk in attacked(fresh, train, held, seed).items():
            missed[name] += not risk.low <= 0.5 <= risk.high
            values[name].append(risk.value)
    assert max(missed.values()) <= 4
    for each in values.values():
        assert abs(np.mean(each) - 0.5) < 3 * np.std(each) / 30**0.5


def test_density_leaves_out_what_is_common_to_all() -> None:
    """Of members that nobody is near, a synthetic row near by tells; distance alone does not."""
    g = np.random.default_rng(0)

    def people(rows: int) -> np.ndarray:
        spread = np.where(g.random(rows) < 0.5, 0.01, 10.0)
        return g.normal(size=(rows, 3)) * spread[:, None]

    def table(rows: np.ndarray) -> pa.Table:
        return pa.table(dict(zip("xyz", rows.T, strict=True)))

    train, held = people(1_000), people(1_000)
    remembered = train + g.normal(size=train.shape) * 0.1 * np.abs(train).max(axis=1)[:, None]
    found = attacked(table(remembered), table(train), table(held))
    density_, distance = found["membership_density"], found["membership_distance"]
    assert density_.low > distance.high


def test_odds_are_the_density_ratio_of_normals() -> None:
    g = np.random.default_rng(0)
    made, real = (pa.table({"x": g.normal(mean, 1, 20_000)}) for mean in (1, 0))
    asked = pa.table({"x": np.linspace(-1, 2, 50)})
    schema = Schema.infer(made.schema)
    (found,) = density.odds(made, real, [asked], schema, np.random.default_rng(0))
    # log N(x; 1, 1) / N(x; 0, 1) = x - 1/2
    assert np.abs(found - (np.linspace(-1, 2, 50) - 0.5)).mean() < 0.15


def test_figures_are_the_same_for_the_same_seed(adult: pa.Table) -> None:
    tables = parts(adult, 300, 0)
    assert attacked(*tables, seed=3) == attacked(*tables, seed=3)


def test_few_rows_are_told_and_exclude_nothing(adult: pa.Table) -> None:
    for sizes in ((20, 300, 300), (300, 20, 300), (300, 300, 50)):
        cut = [
            table.slice(0, size) for table, size in zip(parts(adult, 300, 0), sizes, strict=True)
        ]
        for risk in attacked(*cut).values():
            assert risk.skipped
            assert (risk.value, risk.low, risk.high, risk.tried) == (0.5, 0, 1, 0)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None] * 90, pa.float64()),
        pa.array([None] * 90, pa.string()),
        pa.array([1.5] * 90),
        pa.array([True, False, None] * 30),
    ],
)
def test_hopeless_columns_give_chance(column: pa.Array) -> None:
    table = pa.table({"a": column})
    for risk in attacked(table, table, table).values():
        assert risk.low <= 0.5 <= risk.high
