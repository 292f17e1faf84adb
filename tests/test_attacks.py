"""What every attack keeps, whichever file of `raysynth/attacks` it is in."""

import datetime as dt
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth import attacks
from raysynth.attacks import Tables
from raysynth.risks import Risk
from raysynth.schema import Schema
from tests.reference import people

Attack = Callable[[Tables, Schema, np.random.Generator], list[Risk]]

NAMES = sorted(
    one.name
    for one in pkgutil.iter_modules(attacks.__path__)
    if hasattr(import_module(f"raysynth.attacks.{one.name}"), "attack")
)
ROWS = 600
DAY = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(params=NAMES)
def attack(request: Any) -> Attack:
    found: Attack = import_module(f"raysynth.attacks.{request.param}").attack
    return found


def run(attack: Attack, tables: Tables, seed: int = 0) -> list[Risk]:
    schema = Schema.infer(tables.train.schema)
    return attack(tables, schema, np.random.default_rng(seed))


def three(make: Callable[[int], pa.Table]) -> Tables:
    return Tables(*(make(seed) for seed in range(3)))


def test_there_are_attacks() -> None:
    assert {"inference", "linkability", "singling_out"} <= set(NAMES)


def test_rows_handed_out_again_are_found(attack: Attack) -> None:
    train, held = people(ROWS, 1), people(ROWS, 2)
    again = train.take(np.random.default_rng(0).integers(ROWS, size=ROWS))
    risks = run(attack, Tables(again, train, held))
    assert any(risk.low > risk.chance for risk in risks)
    for risk in risks:
        assert risk.skipped is None
        assert risk.tried > 0
        assert risk.low <= risk.value <= risk.high


def test_fresh_rows_of_the_same_people_tell_nothing(attack: Attack) -> None:
    for risk in run(attack, three(lambda seed: people(ROWS, seed))):
        assert risk.low <= risk.chance <= risk.high
        assert risk.low <= risk.value <= risk.high


def test_a_seed_gives_the_same_figures(attack: Attack) -> None:
    tables = three(lambda seed: people(ROWS, seed))
    assert run(attack, tables, 7) == run(attack, tables, 7)


@pytest.mark.parametrize("side", ["synthetic", "train", "held"])
def test_too_few_rows_are_not_attacked(attack: Attack, side: str) -> None:
    rows = {name: people(ROWS, seed) for seed, name in enumerate(("synthetic", "train", "held"))}
    rows[side] = rows[side].slice(0, 5)
    risks = run(attack, Tables(**rows))
    assert risks
    for risk in risks:
        assert risk.skipped is not None
        assert risk.skipped.startswith("needs ")
        assert (risk.value, risk.low, risk.high) == (risk.chance, 0.0, 1.0)


def number(g: np.random.Generator) -> pa.Array:
    return pa.array(g.normal(size=ROWS))


def holey(g: np.random.Generator) -> pa.Array:
    return pa.array(g.integers(50, size=ROWS), mask=g.random(ROWS) < 0.3)


def boolean(g: np.random.Generator) -> pa.Array:
    return pa.array(g.random(ROWS) < 0.5, mask=g.random(ROWS) < 0.1)


def category(g: np.random.Generator) -> pa.Array:
    return pa.array(np.array(list("abcd"))[g.integers(4, size=ROWS)])


def word(g: np.random.Generator) -> pa.Array:
    return pa.array([f"w{one}" for one in g.integers(10**9, size=ROWS)])


def time(g: np.random.Generator) -> pa.Array:
    return pa.array([DAY + dt.timedelta(hours=int(one)) for one in g.integers(10**5, size=ROWS)])


def huge(g: np.random.Generator) -> pa.Array:
    return pa.array(g.choice([1.7e308, -1.7e308, 0.0, 5e-324, np.inf, np.nan], ROWS))


def null(_: np.random.Generator) -> pa.Array:
    return pa.nulls(ROWS, pa.float64())


def no_word(_: np.random.Generator) -> pa.Array:
    return pa.nulls(ROWS, pa.string())


def constant(_: np.random.Generator) -> pa.Array:
    return pa.array([7] * ROWS)


def same_word(_: np.random.Generator) -> pa.Array:
    return pa.array(["same"] * ROWS)


COLUMNS = (
    *(number, holey, boolean, category, word, time, huge),
    *(null, no_word, constant, same_word),
)


def of(*makers: Callable[[np.random.Generator], pa.Array]) -> Tables:
    def table(seed: int) -> pa.Table:
        g = np.random.default_rng(seed)
        return pa.table({make.__name__: make(g) for make in makers})

    return three(table)


@pytest.mark.parametrize(
    "makers",
    [
        *((one,) for one in COLUMNS),
        (boolean, category),
        (null, constant, no_word, same_word),
        (null, constant, number),
        (time, holey),
        COLUMNS,
    ],
    ids=lambda makers: "+".join(one.__name__ for one in makers),
)
def test_any_columns_can_be_attacked(attack: Attack, makers: Any) -> None:
    for risk in run(attack, of(*makers)):
        assert 0.0 <= risk.low <= risk.value <= risk.high <= 1.0
        assert all(np.isfinite(figure) for figure in risk.details.values())
        assert risk.skipped is None or (risk.value, risk.low, risk.high) == (risk.chance, 0, 1)


def test_names_are_its_own_and_notes_say_how_to_read_it(attack: Attack) -> None:
    tables = three(lambda seed: people(ROWS, seed))
    risks = run(attack, tables)
    assert len({risk.name for risk in risks}) == len(risks) > 0
    assert all(risk.note.endswith(".") for risk in risks)


def test_no_cell_is_told(attack: Attack) -> None:
    def secret(seed: int) -> pa.Table:
        g = np.random.default_rng(seed)
        numbers = 771_000 + g.integers(900, size=ROWS)
        words = [f"Xanthippe{one}" for one in g.integers(30, size=ROWS)]
        return pa.table({"n": numbers, "w": words, "b": g.random(ROWS) < 0.5})

    tables = three(secret)
    for synthetic in (tables.synthetic, tables.train, tables.synthetic.slice(0, 5)):
        for risk in run(attack, Tables(synthetic, tables.train, tables.held)):
            told = " ".join([risk.name, risk.note, risk.skipped or "", *risk.details])
            assert "Xanthippe" not in told
            assert "771" not in told
