"""What a probe says of rows that are alike, shuffled, few, repeated, or too sure."""

from typing import Any

import numpy as np
import pytest
import torch

from raysynth import probe
from raysynth.layout import Codes
from raysynth.table import TableCodec

ROWS = 2_000
Tables = tuple[TableCodec, Codes, Codes]


@pytest.fixture(scope="module", params=["ctgan", "autoregressive"])
def halves(request: pytest.FixtureRequest, fit: Any) -> Tables:
    """Codes of one table as two families want them, in two halves."""
    from tests.conftest import mixed_table

    codec, codes = fit(mixed_table(2 * ROWS, seed=1), request.param)
    return codec, codes.take(slice(0, ROWS)), codes.take(slice(ROWS, None))


def figures(halves: Tables, drawn: Codes) -> dict[str, float]:
    codec, held, _ = halves
    return probe.figures(codec, held, drawn)


def shuffled(codes: Codes, layout: Any) -> Codes:
    """Every column on its own."""
    g = torch.Generator().manual_seed(0)
    codes = Codes(codes.indices.clone(), codes.scalars.clone())
    for column in layout.columns:
        order = torch.randperm(codes.rows, generator=g)
        if column.choice is not None:
            codes.indices[:, column.choice.slot] = codes.indices[order, column.choice.slot]
        if column.scalar is not None:
            codes.scalars[:, column.scalar.slot] = codes.scalars[order, column.scalar.slot]
    return codes


def test_rows_of_the_same_table_are_as_good_as_real(halves: Tables) -> None:
    told = figures(halves, halves[2])
    assert told["fidelity"] > 0.93
    assert told["marginals"] > 0.94
    assert told["detection"] < 0.55
    assert told["coverage"] == 1
    assert told["repeats"] < 0.02


def test_rows_without_relations_keep_their_marginals_and_lose_the_rest(halves: Tables) -> None:
    told, mixed = (
        figures(halves, rows) for rows in (halves[2], shuffled(halves[2], halves[0].layout))
    )
    assert mixed["marginals"] == pytest.approx(told["marginals"], abs=1e-9)
    assert mixed["pairs"] < told["pairs"] - 0.01
    assert mixed["detection"] > 0.7
    assert mixed["fidelity"] < told["fidelity"] - 0.1


def test_a_generator_that_has_few_rows_to_give_is_told(halves: Tables) -> None:
    few = halves[2].take(torch.arange(ROWS) % 10)
    told = figures(halves, few)
    assert told["repeats"] > 0.9
    assert told["coverage"] < 0.8
    assert told["fidelity"] < 0.7


def test_a_scalar_that_says_nothing_tells_nothing(halves: Tables) -> None:
    layout, drawn = halves[0].layout, Codes(halves[2].indices, halves[2].scalars.clone())
    for column in layout.columns:
        if column.scalar is not None:
            drawn.scalars[~column.says(column.index(drawn)), column.scalar.slot] = 0.7
    assert figures(halves, drawn) == figures(halves, halves[2])


def test_figures_are_the_same_each_time_and_for_any_number_of_rows(halves: Tables) -> None:
    assert figures(halves, halves[2]) == figures(halves, halves[2])
    small = figures(halves, halves[2].take(slice(0, 300)))
    assert all(np.isfinite(value) for value in small.values())


@pytest.mark.parametrize("kind", ["numbers", "categories"])
def test_tables_of_one_kind_are_probed(kind: str, fitted: Any) -> None:
    codec, codes = fitted[kind]
    told = probe.figures(codec, codes.take(slice(0, 500)), codes.take(slice(500, None)))
    assert 0.85 < told["fidelity"] <= 1


def test_a_single_column_has_no_pairs_but_its_own(fit: Any, tables: Any) -> None:
    codec, codes = fit(tables["mixed"].select(["city"]))
    told = probe.figures(codec, codes.take(slice(0, 500)), codes.take(slice(500, None)))
    assert told["pairs"] == told["marginals"]
