"""Shadow models: what was learned of one generator's members tells those of another."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from raysynth.attacks import Tables, membership, shadow
from raysynth.risks import Risk
from raysynth.schema import Schema

ROWS = 800
Make = Callable[[pa.Table, np.random.Generator], pa.Table]


def noisy(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    """A generator that remembers: numbers with noise, a third of the categories exchanged."""
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if pa.types.is_integer(field.type):
            values = column.to_numpy()
            values = values + generator.normal(size=len(values)) * values.std() / 5
            column = pa.array(values.round().astype(np.int64))
        else:
            own, others = np.arange(table.num_rows), generator.permutation(table.num_rows)
            column = column.take(np.where(generator.random(len(own)) < 0.3, others, own))
        table = table.set_column(place, field, column)
    return table


def rows_of(table: pa.Table, seed: int) -> tuple[list[pa.Table], pa.Table]:
    """Three parts of `ROWS` rows, and the rest."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    mine = [table.take(order[at : at + ROWS]) for at in range(0, 3 * ROWS, ROWS)]
    return mine, table.take(order[3 * ROWS :])


def shadows_of(pool: pa.Table, make: Make, count: int, seed: int) -> list[shadow.Shadow]:
    generator, found = np.random.default_rng(seed), []
    for _ in range(count):
        order = generator.permutation(pool.num_rows)[: 2 * ROWS]
        members, others = (pool.take(half) for half in np.split(order, 2))
        found.append(shadow.Shadow(make(members, generator), members, others))
    return found


def attacked(shadows: list[shadow.Shadow], tables: Tables, seed: int = 0) -> Risk:
    schema, generator = Schema.infer(tables.train.schema), np.random.default_rng(seed)
    (risk,) = shadow.attack_with(shadows, tables, schema, generator)
    assert risk.name == "membership_shadow"
    return risk


def test_shadows_tell_more_than_the_table_alone(adult: pa.Table) -> None:
    (train, held, _), pool = rows_of(adult, 0)
    generator = np.random.default_rng(1)
    tables = Tables(noisy(train, generator), train, held)
    shadows = shadows_of(pool, noisy, 4, 2)
    found = attacked(shadows, tables)
    alone = membership.attack(tables, Schema.infer(train.schema), np.random.default_rng(0))
    assert found.low > 0.55
    assert found.value > max(risk.value for risk in alone)
    assert found.details["tpr_at_1pct"] > 0.03
    assert attacked(shadows, tables) == found


def test_rows_handed_out_as_they_are_are_told(adult: pa.Table) -> None:
    (train, held, _), pool = rows_of(adult, 0)
    shadows = shadows_of(pool, lambda members, _: members, 2, 1)
    assert attacked(shadows, Tables(train, train, held)).low > 0.9


def test_a_table_of_fresh_rows_is_chance_whatever_was_learned(adult: pa.Table) -> None:
    """Shadows that remember, and a table attacked that does not: at 95 %, 12 miss at most 3."""
    missed = 0
    for seed in range(12):
        (train, held, fresh), pool = rows_of(adult, seed)
        risk = attacked(shadows_of(pool, noisy, 1, seed), Tables(fresh, train, held), seed)
        missed += not risk.low <= 0.5 <= risk.high
    assert missed <= 3


def test_without_shadows_or_rows_it_is_skipped(adult: pa.Table) -> None:
    (train, held, fresh), pool = rows_of(adult, 0)
    tables = Tables(fresh, train, held)
    shadows = shadows_of(pool, noisy, 1, 0)
    few = Tables(fresh, train, held.slice(0, 40))
    small = [shadow.Shadow(one.synthetic, one.members.slice(0, 9), one.others) for one in shadows]
    for risk in (attacked([], tables), attacked(shadows, few), attacked(small, tables)):
        assert risk.skipped
        assert (risk.value, risk.low, risk.high) == (0.5, 0, 1)
