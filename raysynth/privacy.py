"""Attack a synthetic table in every way there is, on the same rows.

Every file of `raysynth.attacks` that has `attack` is made, each with a generator of its own, so
that a new attack changes the figures of no other. Rows are drawn by a seed: `ROWS` of each real
table at most, as many that were trained on as that were not, since half of what an attack has to
show is that it does no better on the first than on the second, and `SYNTHETIC` rows. Membership is
asked of all synthetic rows: of a bootstrap of 32,561 rows to 65,122, 50,000 of those told 0.89, all
told 0.94. What few rows hold is counted over all rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth import attacks
from raysynth.attacks import Tables, likelihood, membership, rare, shadow
from raysynth.census import Census
from raysynth.frames import Floats
from raysynth.risks import Risk, skipped
from raysynth.schema import Schema, select

ROWS, SYNTHETIC = 20_000, 50_000
SCORED = 5_000  # rows of each side that a model scores: an AUC's interval is then 0.02 wide
SHADOWED = 800  # held-out rows that training shadows takes: a generator has a quarter of them

NEVER = (
    "No formal guarantee holds: the generator was not trained with differential privacy.",
    "An attacker was not tried who has several samples, or knows more than other people's rows.",
    "Every row was taken for another person's: who has several rows may be easier to find.",
)
MODEL = "The trained model itself was not attacked, only the table: it was not at hand."
SHADOWS = "No shadow generators were trained to learn from them what membership looks like."


def names() -> tuple[str, ...]:
    """Attacks that need nothing but tables, sorted."""
    return tuple(sorted(name for name, module in _modules() if hasattr(module, "attack")))


def attack(
    synthetic: pa.Table,
    train: pa.Table,
    held: pa.Table,
    schema: Schema,
    seed: int = 0,
    *,
    least: int = 10,
    quasi: Sequence[str] | None = None,
    bits: Callable[[pa.Table], Floats] | None = None,
    census: Census | None = None,
    told: Callable[[str, int], None] = lambda name, done: None,
) -> tuple[Risk, ...]:
    """What all attacks achieve on `synthetic`, made by a generator that saw `train`, not `held`.

    Only columns that are modelled are used: what is invented for the others tells of nobody. A
    value that `least` rows share is nobody's secret, `quasi` are the columns that may be known of a
    person. `bits` gives what a row costs under the model, for the attack that has the model;
    `census` has counted all training rows, for the synthetic and the held-out ones, where `train`
    is but a sample. `told` hears of each attack before it is made. Raises `TableError` for columns
    that are missing or of another type, and unknown `quasi`.
    """
    schema = schema.modelled
    for name in quasi or ():
        schema[name]
    whole = Tables(*(select(table, schema) for table in (synthetic, train, held)))
    tables = whole.drawn(np.random.default_rng([seed, 10]), ROWS, SYNTHETIC)
    found: list[Risk] = []
    for place, name in enumerate(names()):
        told(name, place)
        module: Any = import_module(f"{attacks.__name__}.{name}")
        generator = np.random.default_rng([seed, *name.encode()])
        if module is rare:
            found += rare.attack(whole, schema, generator, least, quasi, census)
        elif module is membership:
            every = replace(tables, synthetic=whole.synthetic)
            found += membership.attack(every, schema, generator)
        else:
            found += module.attack(tables, schema, generator)
    if bits is not None:
        told("likelihood", len(names()))
        found += likelihood.attack_with(
            *(bits(table.slice(0, SCORED)) for table in (tables.train, tables.held))
        )
    return tuple(found)


def by_shadows(
    synthetic: pa.Table,
    train: pa.Table,
    held: pa.Table,
    schema: Schema,
    make: Callable[[pa.Table, int], pa.Table],
    count: int,
    seed: int = 0,
    told: Callable[[str, int], None] = lambda name, done: None,
) -> tuple[Risk, ...]:
    """The attack of one who trains `count` generators like this one, on rows of their own.

    `make` gives rows of a generator that it trains on those of a table, by a seed. The attacker's
    rows are half of `held`; each generator is trained on half of those. `told` hears of each
    before it is trained.
    """
    schema = schema.modelled
    generator = np.random.default_rng([seed, *shadow.NAME.encode()])
    whole = Tables(*(select(table, schema) for table in (synthetic, train, held)))
    own, known = _halves(whole.held, generator)
    tables = replace(whole, held=own).drawn(generator, ROWS, SYNTHETIC)
    if held.num_rows < SHADOWED:
        why = f"needs {SHADOWED} held-out rows, half of them to train generators on"
        return (skipped(shadow.NAME, "AUC", shadow.NOTE, why),)
    shadows = []
    for number in range(count):
        told(shadow.NAME, number)
        members, others = _halves(known, generator)
        shadows.append(shadow.Shadow(make(members, seed + number), members, others))
    return tuple(shadow.attack_with(shadows, tables, schema, generator))


def _halves(table: pa.Table, generator: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    one, other = np.array_split(generator.permutation(table.num_rows), 2)
    return table.take(one), table.take(other)


def untried(risks: Sequence[Risk]) -> tuple[str, ...]:
    """What was not tried, in plain sentences."""
    made = {risk.name for risk in risks}
    needed = {"membership_shadow": SHADOWS, "membership_model": MODEL}
    return (*NEVER, *(said for name, said in needed.items() if name not in made))


def _modules() -> Iterator[tuple[str, ModuleType]]:
    for module in iter_modules(attacks.__path__):
        yield module.name, import_module(f"{attacks.__name__}.{module.name}")
