"""Figures that other packages give for the same rows, kept here so that none need be installed.

The tables are made by a seed. What the packages say of them was measured once with
`benchmarks.peer_metrics` (`jobs/benchmark.py parity metrics`): sdmetrics 0.32.0, synthcity 0.2.12.
"""

from statistics import fmean

import numpy as np
import pyarrow as pa
import pytest

from raysynth.metrics import coverage, marginals, missing, pairs, precision
from raysynth.resample import Draws
from raysynth.schema import Schema

WHOLE = {
    "shape": 0.86375,
    "trend": 0.845252,
    "coverage": 0.951019,
    "missingness": 1.0,
    "alpha_precision": 0.880322,
    "beta_recall": 0.502833,
}
WITH_NULLS = {"trend": 0.840376, "coverage": 0.951019, "missingness": 0.978125}
PRESENT_SHAPE = 0.863288


def made(seed: int, shift: float, nulls: float) -> pa.Table:
    """Two numbers and two categories that follow one of them; `nulls` is the share of each."""
    g = np.random.default_rng(seed)
    x = np.round(g.normal(shift, 1, 400), 2)
    columns = {
        "x": x,
        "n": np.round(x * 10 + g.normal(0, 5, 400)),
        "c": np.where(x > 1, "a", np.where(x > 0, "b", np.where(x > -1.5, "c", "d"))),
        "k": g.choice(["p", "q", "r"], 400, p=[0.7, 0.2, 0.1]),
    }
    masks = [g.random(400) < nulls for _ in columns]
    return pa.table(
        {
            name: pa.array(values, mask=mask)
            for (name, values), mask in zip(columns.items(), masks, strict=True)
        }
    )


def ours(real: pa.Table, synthetic: pa.Table) -> dict[str, float]:
    schema, draws = Schema.infer(real.schema), Draws.of(400, 400)
    reached = coverage.replicates(real, synthetic, schema, draws, least=1)
    nulls = missing.replicates(real, synthetic, schema, draws)
    measured = precision.Real.of(real, schema, np.random.default_rng(0))
    return {
        "shape": fmean(marginals.scores(real, synthetic, schema).values()),
        "trend": fmean(pairs.scores(real, synthetic, schema).values()),
        "coverage": fmean(float(values[0]) for values in reached.values()),
        "missingness": 1 - sum(1 - float(values[0]) for values in nulls.values()) / 4,
        **measured.scores(synthetic)._asdict(),
    }


def test_without_nulls_every_figure_is_theirs() -> None:
    found = ours(made(1, 0.0, 0.0), made(2, 0.3, 0.0))
    # A tie between two distances of one row is rounded either way: beta-recall is off by 0.003.
    assert found == pytest.approx(WHOLE, abs=0.005)
    del found["beta_recall"]
    assert found == pytest.approx({name: WHOLE[name] for name in found}, abs=1e-6)


def test_with_nulls_trend_coverage_and_missing_cells_are_theirs() -> None:
    found = ours(made(1, 0.0, 0.1), made(2, 0.3, 0.1))
    assert {name: found[name] for name in WITH_NULLS} == pytest.approx(WITH_NULLS, abs=1e-6)


def test_shapes_of_the_cells_that_are_not_missing_are_theirs() -> None:
    real, synthetic = made(1, 0.0, 0.1), made(2, 0.3, 0.1)
    shapes = []
    for name in real.column_names:
        sides = [table.select([name]).drop_null() for table in (real, synthetic)]
        shapes += marginals.scores(*sides, Schema.infer(sides[0].schema)).values()
    assert fmean(shapes) == pytest.approx(PRESENT_SHAPE, abs=1e-6)
    assert ours(real, synthetic)["shape"] > PRESENT_SHAPE + 0.01  # a tenth is null, in both alike
