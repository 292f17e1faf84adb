"""What every test shares: small tables, their codecs and codes, Adult, and one trained run."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, settings

from raysynth import models
from raysynth.config import TrainConfig, parse
from raysynth.layout import Codes
from raysynth.learn import Plan, Resident, learn
from raysynth.models import TableModel
from raysynth.run import Run, build, drawing_of, save_run
from raysynth.schema import Schema
from raysynth.summary import Summary, summarise
from raysynth.table import TableCodec

Fitted = tuple[TableCodec, Codes]

SMALL: dict[str, Any] = {"generator": [32, 32], "critic": [32, 32], "noise": 16, "batch": 100}
# A name with a dash is of a family's other preset; the paper's is what tests of a family are of.
SETTINGS: dict[str, dict[str, Any]] = {
    "ctgan": {**SMALL, "preset": "paper"},
    "ctgan-improved": SMALL,
    "autoregressive": {"hidden": 32, "mixtures": 3, "batch": 100},
    "independent": {"batch": 100},
    "tgan": {
        "noise": 8,
        "hidden": 16,
        "features": 8,
        "discriminator": [16, 16],
        "batch": 100,
        "kernels": 3,
        "kernel_width": 4,
        "preset": "paper",
    },
    "tgan-improved": {
        "preset": "improved",
        "noise": 8,
        "hidden": 16,
        "features": 8,
        "discriminator": [16, 16],
        "batch": 100,
    },
    "rnn": {"hidden": 32, "mixtures": 3, "batch": 100},
    "tvae": {"latent": 8, "encoder": [32], "decoder": [32], "batch": 100, "preset": "paper"},
    "tvae-improved": {
        "preset": "improved",
        "latent": 8,
        "encoder": [32],
        "decoder": [32],
        "batch": 100,
        "prior": 5,
    },
    "tablegan": {"channels": 8, "noise": 16, "batch": 100, "preset": "paper"},
    "tablegan-improved": {"preset": "improved", "channels": 4, "noise": 16, "batch": 100},
}

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
torch.set_num_threads(1)  # small networks, on cores that others use too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """In CI a skip fails: nothing that a test needs may be missing there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which fails in CI: {report.longrepr}"
    return report


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


def fit_table(table: pa.Table, family: str = "ctgan", **options: Any) -> Fitted:
    """The codecs that a family asks for, and the table's codes."""
    ids = np.arange(table.num_rows, dtype=np.uint64)
    summary = summarise(table, ids, Schema.infer(table.schema))
    module = models.get(family.partition("-")[0])
    encoding = module.encoding(parse(module.Config, SETTINGS.get(family, {})))
    options = {**encoding.options, **options}
    codec = TableCodec.fit(summary, encoding.kinds, **options)
    return codec, codec.encode(table, ids, seed=0)


def make_model(family: str, codec: TableCodec, seed: int = 0, **model: Any) -> TableModel:
    """A fresh small model; `model` replaces settings of it."""
    module = models.get(family.partition("-")[0])
    torch.manual_seed(seed)
    return module.Model(
        codec.layout, codec.shares, parse(module.Config, {**SETTINGS.get(family, {}), **model})
    )


@pytest.fixture(scope="session")
def fit() -> Callable[..., Fitted]:
    """`fit_table`."""
    return fit_table


@pytest.fixture(scope="session")
def make() -> Callable[..., TableModel]:
    """`make_model`."""
    return make_model


@pytest.fixture(scope="session")
def seeded() -> Callable[[int], torch.Generator]:
    """A seed to a generator of its own."""
    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Torch has three threads meanwhile."""
    own = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(own)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of the machine may enter and list."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def outsider() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Be a user who owns nothing for a while: root may read and write what it forbids itself."""

    @contextlib.contextmanager
    def nobody() -> Iterator[None]:
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(before)

    return nobody


@pytest.fixture(scope="session")
def adult() -> pa.Table:
    """The whole training table of Adult."""
    jobs = Path(__file__).parent.parent / "jobs"
    return pq.read_table(jobs / "data" / "adult_train.parquet")


@pytest.fixture(scope="session")
def adult_summary(adult: pa.Table) -> Summary:
    """Its summary."""
    ids = np.arange(adult.num_rows, dtype=np.uint64)
    return summarise(adult, ids, Schema.infer(adult.schema))


@pytest.fixture(scope="session")
def tables() -> dict[str, pa.Table]:
    """Small tables by what they hold: both kinds of column, or one kind only."""
    mixed = mixed_table()
    return {
        "mixed": mixed,
        "numbers": mixed.select(["real", "whole", "cents"]),
        "categories": mixed.select(["city", "yes", "grade"]),
    }


@pytest.fixture(scope="session")
def fitted(tables: dict[str, pa.Table]) -> dict[str, Fitted]:
    """Codecs and codes of the small tables."""
    return {name: fit_table(table) for name, table in tables.items()}


@pytest.fixture(scope="session")
def trained(fitted: dict[str, Fitted], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a small CTGAN that has seen the mixed table long enough to resemble it."""
    config = TrainConfig.load(
        overrides={
            "table": "mixed.parquet",
            "name": "mixed",
            "family": "ctgan",
            "storage": str(tmp_path_factory.mktemp("runs")),
            "epochs": 40,
            "model": {**SETTINGS["ctgan"], "pack": 5, "generator_rate": 1e-3, "critic_rate": 1e-3},
        }
    )
    codec, codes = fitted["mixed"]
    model = build(config, codec)
    draw = drawing_of(config)
    plan = Plan(codes.rows, SMALL["batch"], config.epochs, config.seed)
    for _ in learn(model, codec.layout, draw, Resident(codes), plan):
        pass
    return save_run(config, codec, model, '{"epoch": 40}\n', codes.rows)


@pytest.fixture(scope="session")
def people(adult: pa.Table) -> pa.Table:
    """600 rows of Adult."""
    return adult.slice(0, 600)


@pytest.fixture(scope="session")
def small_run(people: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a few steps on those rows, which lie beside it as `people.parquet`."""
    folder = tmp_path_factory.mktemp("small")
    pq.write_table(people, folder / "people.parquet")
    overrides = {"table": str(folder / "people.parquet"), "name": "small", "epochs": 2}
    overrides |= {"storage": str(folder / "runs"), "family": "ctgan"}
    config = TrainConfig.load(overrides={**overrides, "model": SETTINGS["ctgan"]})
    codec, codes = fit_table(people)
    model = build(config, codec)
    draw = drawing_of(config)
    plan = Plan(codes.rows, SMALL["batch"], config.epochs, seed=0)
    for _ in learn(model, codec.layout, draw, Resident(codes), plan):
        pass
    return save_run(config, codec, model, "", people.num_rows)


class Ended(NamedTuple):
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ended]]:
    """The command `raysynth` in this process, through its real entry."""
    from raysynth.cli import main

    handler, level = signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["raysynth", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
    logging.getLogger("ray").setLevel(level)
