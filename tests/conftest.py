"""What every test shares: small tables, their codecs and codes, Adult, and one trained run."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, settings

from raysynth import models
from raysynth.config import TrainConfig, parse
from raysynth.draw import Batch
from raysynth.layout import Codes
from raysynth.learn import Plan, Resident, learn
from raysynth.models import TableModel
from raysynth.run import Run, build, save_run
from raysynth.schema import Schema
from raysynth.summary import Summary, summarise
from raysynth.table import TableCodec

ADULT = Path(__file__).parent.parent / "jobs" / "data" / "adult_train.parquet"
SMALL = {"generator": [32, 32], "critic": [32, 32], "noise": 16, "batch": 100}

# The same examples on every machine, and as many as a second or two allow.
settings.register_profile(
    "raysynth",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("raysynth")
torch.set_num_threads(1)  # small networks on cores that others use too


def mixed_table(rows: int = 1_000, seed: int = 0) -> pa.Table:
    """Numbers of two modes, many zeros, cents, nulls; categories that follow them; a boolean."""
    g = np.random.default_rng(seed)
    high = g.random(rows) < 0.3
    real = np.where(high, g.normal(50, 2, rows), g.normal(0, 1, rows))
    whole = np.where(g.random(rows) < 0.6, 0, g.integers(1, 90, rows))
    city = np.where(high, "Oslo", g.choice(["Bergen", "Hamar", "Molde"], rows, p=[0.7, 0.2, 0.1]))
    return pa.table(
        {
            "real": pa.array(real),
            "whole": pa.array(whole, pa.int32()),
            "city": pa.array(city, mask=g.random(rows) < 0.1),
            "cents": pa.array(np.round(g.lognormal(3, 1, rows), 2), mask=g.random(rows) < 0.2),
            "yes": pa.array(g.random(rows) < np.where(high, 0.9, 0.2)),
            "grade": pa.array(g.choice(list("abcdefghijkl"), rows, p=np.arange(12, 0, -1) / 78)),
        }
    )


def ids_of(table: pa.Table, start: int = 0) -> np.ndarray:
    """Stable row ids from `start`."""
    return np.arange(start, start + table.num_rows, dtype=np.uint64)


def fit(table: pa.Table, family: str = "ctgan", **options: int) -> tuple[TableCodec, Codes]:
    """The codecs a family asks for, and the table's codes."""
    schema = Schema.infer(table.schema)
    summary = summarise(table, ids_of(table), schema)
    codec = TableCodec.fit(summary, models.get(family).CODECS, **options)
    return codec, codec.encode(table, ids_of(table), seed=0)


def make(family: str, codec: TableCodec, seed: int = 0, **settings: object) -> TableModel:
    """A fresh small model."""
    module = models.get(family)
    torch.manual_seed(seed)
    return module.Model(codec.layout, codec.shares, parse(module.Config, {**SMALL, **settings}))


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def adult() -> pa.Table:
    """The whole training table of Adult."""
    return pq.read_table(ADULT)


@pytest.fixture(scope="session")
def adult_summary(adult: pa.Table) -> Summary:
    """Its summary."""
    return summarise(adult, ids_of(adult), Schema.infer(adult.schema))


@pytest.fixture(scope="session")
def tables() -> dict[str, pa.Table]:
    """Small tables by what they hold: both kinds of column, or one only."""
    mixed = mixed_table()
    return {
        "mixed": mixed,
        "numbers": mixed.select(["real", "whole", "cents"]),
        "categories": mixed.select(["city", "yes", "grade"]),
    }


@pytest.fixture(scope="session")
def fitted(tables: dict[str, pa.Table]) -> dict[str, tuple[TableCodec, Codes]]:
    """Codecs and codes of the small tables."""
    return {name: fit(table) for name, table in tables.items()}


@pytest.fixture(scope="session")
def trained(
    tables: dict[str, pa.Table],
    fitted: dict[str, tuple[TableCodec, Codes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """A run of a small CTGAN that has seen the mixed table long enough to resemble it."""
    storage = tmp_path_factory.mktemp("runs")
    config = TrainConfig.load(
        overrides={
            "table": "mixed.parquet",
            "name": "mixed",
            "storage": str(storage),
            "epochs": 40,
            "model": {**SMALL, "pack": 5, "generator_rate": 1e-3, "critic_rate": 1e-3},
        }
    )
    codec, codes = fitted["mixed"]
    model = build(config, codec)
    draw = models.get(config.family).DRAW
    plan = Plan(codes.rows, SMALL["batch"], config.epochs, seed=0)
    for _ in learn(model, codec.layout, draw, Resident(codes), plan):
        pass
    return save_run(config, codec, model, '{"epoch": 40}\n', tables["mixed"].num_rows)


@pytest.fixture(scope="session")
def batches() -> Callable[[str, TableCodec, Codes, int], Iterator[Batch]]:
    """Endless batches as a family draws them."""

    def drawn(family: str, codec: TableCodec, codes: Codes, rows: int) -> Iterator[Batch]:
        module = models.get(family)
        settings = parse(module.Config, SMALL)
        rows = module.batch_rows(rows, settings)
        return islice(module.DRAW(codes, codec.layout, rows, generator(1)), None)

    return drawn
