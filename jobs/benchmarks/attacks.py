"""Do the attacks have teeth, and what do they find in our generators?

Synthetic rows of known origin are judged like any other's, with the training rows that they come
from and rows that no generator saw:

- **bootstrap**: training rows drawn with replacement, twice as many as there are: a generator that
  has learned its table by heart. The gate must fail it;
- **by heart**: our default family trained on `FEW` rows for `LONG` epochs without holding any out
  and with no value protected (`least` 1). The gate must fail it;
- **fresh**: real rows that are in neither table. The gate must not fail them, and intervals must
  cover chance, 19 times in 20;
- **independent** and whatever other families are asked for, trained as they are by default, with
  `PLANTED` canary rows and values among the training rows, which must not come back.

A cell, a source and a seed, is written to `--out` once done.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import score
from benchmarks.measure import write
from benchmarks.tables import halves
from raysynth import canaries, local, models, privacy
from raysynth.config import GateConfig, TrainConfig
from raysynth.frames import subsample
from raysynth.gate import decide
from raysynth.guess import settle
from raysynth.risks import Risk
from raysynth.schema import Schema
from raysynth.summary import summarise

FEW, LONG = 500, 400
PLANTED, VALUES = 40, 4  # rows, and values of each column
Entry = dict[str, Any]
Made = tuple[pa.Table, pa.Table, pa.Table, tuple[Risk, ...]]  # synthetic, train, held, canaries


def attacks(
    table: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True)],
    test: Annotated[
        Path | None,
        typer.Option(help="Rows not trained on.", exists=True, show_default="half of TABLE"),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family to attack. Repeat.", show_default="independent, the default"),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="bootstrap, by-heart, fresh or a family. Repeat.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to train on at most.", min=1_000)] = 20_000,
    seeds: Annotated[int, typer.Option(help="Of each source.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path(".benchmark/attacks.json"),
) -> None:
    """Attack rows of known origin, and generators of ours, and print what is found."""
    families = family or ["independent", TrainConfig.model_fields["family"].default]
    for name in families:
        models.get(name)
    wanted = source or ["bootstrap", "by-heart", "fresh", *families]
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 200
    whole = pq.read_table(table)
    trained, held = (whole, pq.read_table(test)) if test is not None else halves(whole)
    schema = _settled(trained)
    trained, held = trained.select(schema.names), held.select(schema.names)
    entries: list[Entry] = []
    for name in wanted:
        for seed in range(seeds):
            log.print(f"{name}, seed {seed}", highlight=False)
            entries.append(_entry(name, trained, held, schema, rows, seed))
            write(out, {"table": table.stem, "rows": rows, "entries": entries})
    console.print(shown(entries))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _settled(table: pa.Table) -> Schema:
    ids = np.arange(table.num_rows, dtype=np.uint64)
    return settle(summarise(table, ids, Schema.infer(table.schema)), placeholder=True).modelled


def _entry(
    name: str, trained: pa.Table, held: pa.Table, schema: Schema, rows: int, seed: int
) -> Entry:
    generator = np.random.default_rng([seed, *name.encode()])
    make: Callable[..., Made] = _SOURCES.get(name, _family)
    begun = time.monotonic()
    some = subsample(trained, rows, generator)
    synthetic, train, unseen, planted = make(name, some, held, schema, seed, generator)
    made = time.monotonic()
    attacked = privacy.attack(synthetic, train, unseen, schema, seed)
    risks = (*attacked, *planted)
    spent = {"make_s": made - begun, "attack_s": time.monotonic() - made}
    # Of so few canaries no gate could be sure; they are told beside it.
    verdict = decide(attacked, (), GateConfig(), privacy.untried(risks))
    told = [vars(risk) for risk in risks]
    return {"source": name, "seed": seed, **spent, "gate": verdict.to_json(), "risks": told}


def _bootstrap(
    name: str, train: pa.Table, held: pa.Table, schema: Schema, seed: int, chance: Any
) -> Made:
    drawn = chance.integers(train.num_rows, size=2 * train.num_rows)
    return train.take(drawn), train, held, ()


def _by_heart(
    name: str, train: pa.Table, held: pa.Table, schema: Schema, seed: int, chance: Any
) -> Made:
    few = subsample(train, FEW, chance)
    config = _config(TrainConfig.model_fields["family"].default, seed)
    # Nothing protected, nothing dropped: what our own settings guard against.
    loose = {"least": 1, "epochs": LONG, "relations": False, "model": {"dropout": 0.0}}
    sampler = local.train(config.model_copy(update=loose), few, schema, by_heart=True)
    return sampler.sample(4 * FEW, seed), few, held, ()


def _fresh(
    name: str, train: pa.Table, held: pa.Table, schema: Schema, seed: int, chance: Any
) -> Made:
    first, second = np.array_split(chance.permutation(held.num_rows), 2)
    return held.take(first), train, held.take(second), ()


def _family(
    name: str, train: pa.Table, held: pa.Table, schema: Schema, seed: int, chance: Any
) -> Made:
    with_, planted = canaries.plant(train, schema, PLANTED, chance, VALUES)
    synthetic = local.train(_config(name, seed), with_, schema).sample(train.num_rows, seed)
    return synthetic, train, held, tuple(canaries.found(synthetic, planted, schema))


def _config(family: str, seed: int) -> TrainConfig:
    return TrainConfig(table="table", name="attacked", family=family, seed=seed)


_SOURCES: dict[str, Callable[..., Made]] = {
    "bootstrap": _bootstrap,
    "by-heart": _by_heart,
    "fresh": _fresh,
}


def shown(entries: list[Entry]) -> Table:
    """An attack a row, a source a column: means over the seeds, and the least and the most."""
    sources = dict.fromkeys(entry["source"] for entry in entries)
    table = Table(title="attacks: mean over seeds (least..most)", title_justify="left")
    for column in ("attack", "unit", "chance"):
        table.add_column(column)
    for column in sources:
        table.add_column(column, justify="right")
    mine = {name: [e for e in entries if e["source"] == name] for name in sources}
    known = {risk["name"]: risk for entry in entries for risk in entry["risks"]}
    for name, risk in known.items():
        cells = [_values(some, name) for some in mine.values()]
        table.add_row(name, risk["unit"], f"{risk['chance']:.3g}", *cells)
    verdicts = [" ".join(e["gate"]["verdict"] for e in some) for some in mine.values()]
    table.add_row("gate", "", "", *verdicts)
    spent = [score([e["attack_s"] for e in some], 1) for some in mine.values()]
    table.add_row("attacks took", "s", "", *spent)
    return table


def _values(entries: list[Entry], name: str) -> str:
    found = [
        risk["value"]
        for entry in entries
        for risk in entry["risks"]
        if risk["name"] == name and risk["skipped"] is None
    ]
    return score(found, 3) if found else "-"
