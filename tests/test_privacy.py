"""All attacks together: they find what was copied, nothing where nothing was, and say what is left.

Adult's rows, since attacks that work on made-up tables alone would prove nothing.
"""

import re

import numpy as np
import pyarrow as pa
import pytest

from raysynth import privacy
from raysynth.config import GateConfig
from raysynth.errors import TableError
from raysynth.gate import decide
from raysynth.risks import Risk
from raysynth.schema import Schema

ROWS = 800


@pytest.fixture(scope="module")
def schema(adult: pa.Table) -> Schema:
    return Schema.infer(adult.schema)


def part(adult: pa.Table, number: int, rows: int = ROWS) -> pa.Table:
    return adult.slice(number * ROWS, rows)


def twice(table: pa.Table) -> pa.Table:
    """A generator that has learned its table by heart."""
    return pa.concat_tables([table, table])


def attacked(synthetic: pa.Table, adult: pa.Table, schema: Schema) -> dict[str, Risk]:
    found = privacy.attack(synthetic, part(adult, 0), part(adult, 1), schema)
    return {risk.name: risk for risk in found}


def test_what_was_copied_is_found_by_every_kind_of_attack(adult: pa.Table, schema: Schema) -> None:
    risks = attacked(twice(part(adult, 0)), adult, schema)
    for name in ("membership_distance", "membership_density"):
        assert risks[name].low > 0.9
    for name in ("inference", "inference_worst", "linkability", "exact_copies", "near_copies"):
        assert risks[name].low > 0.1, name
    for name in ("singling_out_univariate", "singling_out_multivariate", "rare_combinations"):
        assert risks[name].low > 0.1, name
    verdict = decide(tuple(risks.values()), (), GateConfig(), ())
    assert verdict.verdict == "fail"


def test_fresh_rows_are_failed_by_nothing(adult: pa.Table, schema: Schema) -> None:
    risks = attacked(part(adult, 2), adult, schema)
    for risk in risks.values():
        assert risk.low <= risk.chance <= risk.high
    verdict = decide(tuple(risks.values()), (), GateConfig(), ())
    # So few rows cannot rule all out, but nothing is held against them.
    assert {reason.level for reason in verdict.reasons} <= {"pass", "warn"}


def test_a_seed_gives_the_same_risks_and_each_attack_is_told(
    adult: pa.Table, schema: Schema
) -> None:
    tables = (part(adult, 2), part(adult, 0), part(adult, 1))
    told: list[str] = []
    one = privacy.attack(*tables, schema, 3, told=lambda name, done: told.append(f"{done} {name}"))
    assert one == privacy.attack(*tables, schema, 3)
    assert one != privacy.attack(*tables, schema, 4)
    assert told == [f"{place} {name}" for place, name in enumerate(privacy.names())]


def test_rare_values_are_those_of_all_training_rows(adult: pa.Table, schema: Schema) -> None:
    # Held by 12 training rows, of which the other attacks see half: rare in a part, not in all.
    column = ["common"] * (2 * ROWS - 12) + ["seldom"] * 12
    train = adult.slice(0, 2 * ROWS).append_column("c", pa.array(column))
    made = adult.slice(2 * ROWS, ROWS).append_column("c", pa.array(["seldom"] * ROWS))
    held = adult.slice(3 * ROWS, ROWS // 2).append_column("c", pa.array(["common"] * (ROWS // 2)))
    wider = Schema.infer(train.schema)
    (risk,) = [one for one in privacy.attack(made, train, held, wider) if one.name == "rare_values"]
    assert risk.high < 0.2


def test_the_models_likelihood_is_attacked_where_it_is_at_hand(
    adult: pa.Table, schema: Schema
) -> None:
    train = part(adult, 0)
    known = set(map(str, train.to_pylist()))

    def bits(table: pa.Table) -> np.ndarray:
        return np.array([float(str(row) not in known) for row in table.to_pylist()])

    found = privacy.attack(part(adult, 2), train, part(adult, 1), schema, bits=bits)
    (risk,) = [one for one in found if one.name == "membership_model"]
    assert risk.value > 0.99
    assert privacy.MODEL in privacy.untried(found[:-1])
    assert privacy.MODEL not in privacy.untried(found)


def test_an_unknown_quasi_identifier_is_refused(adult: pa.Table, schema: Schema) -> None:
    tables = (part(adult, 2), part(adult, 0), part(adult, 1))
    with pytest.raises(TableError, match=re.escape("'agee'")):
        privacy.attack(*tables, schema, quasi=["agee", "sex"])


def test_shadows_teach_what_a_member_looks_like(adult: pa.Table, schema: Schema) -> None:
    train, held, asked = part(adult, 0), part(adult, 1, 2 * ROWS), []

    def by_heart(rows: pa.Table, seed: int) -> pa.Table:
        asked.append((rows.num_rows, seed))
        return twice(rows)

    (risk,) = privacy.by_shadows(twice(train), train, held, schema, by_heart, 2, seed=5)
    assert asked == [(ROWS // 2, 5), (ROWS // 2, 6)]
    assert risk.name == "membership_shadow"
    assert risk.low > 0.9
    assert privacy.SHADOWS not in privacy.untried([risk])
    (fresh,) = privacy.by_shadows(part(adult, 3), train, held, schema, by_heart, 2)
    assert fresh.low < 0.5 < fresh.high


def test_too_few_rows_train_no_shadow(adult: pa.Table, schema: Schema) -> None:
    def never(rows: pa.Table, seed: int) -> pa.Table:
        raise AssertionError("no shadow can be trained on so few")

    train, held = part(adult, 0), part(adult, 1, privacy.SHADOWED - 1)
    (risk,) = privacy.by_shadows(train, train, held, schema, never, 2)
    assert risk.skipped == "needs 800 held-out rows, half of them to train generators on"
