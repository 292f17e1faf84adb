"""Our families in SDGym beside SDV's, and what our own judge says of the very same rows.

Every table is one that lies on this machine: nothing is downloaded. SDGym's quality score is the
mean of shape and trend on the rows trained on, which a generator of independent columns nearly
reaches; so half of `--test`, rows that no generator saw, is scored beside them as if it were
synthetic (the ceiling), `independent` is the floor, and each synthesizer's rows are given to
`raysynth.judge` and attacked, against the other half.

A cell, a synthesizer and a seed, is written to `--out` once done; the same command goes on there.
SDV's synthesizers take no seed: theirs is a repetition. SDGym and SDV (BUSL-1.1) are installed into
an environment of their own under `.benchmark/`, and only run.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import sides
from benchmarks.figures import score
from benchmarks.measure import write
from benchmarks.tables import halves
from raysynth import models, privacy
from raysynth.config import GateConfig, TrainConfig
from raysynth.frames import subsample
from raysynth.gate import decide
from raysynth.judge import judge
from raysynth.schema import Schema

OURS, HELD = "raysynth:", "held-out rows"
WORK = Path(".benchmark")
SDV = ["GaussianCopulaSynthesizer", "TVAESynthesizer", "CTGANSynthesizer", "CopulaGANSynthesizer"]
SCORES = ("Quality_Score", "Diagnostic_Score", "Privacy_Score", "Train_Time", "Sample_Time")
JUDGED = ("detection", "utility", "membership_density")

Entry = dict[str, Any]


def sdgym(
    table: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True)],
    test: Annotated[
        Path | None,
        typer.Option(help="Rows not trained on.", exists=True, show_default="half of TABLE"),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family of ours. Repeat.", show_default="independent, the default"),
    ] = None,
    synthesizer: Annotated[
        list[str] | None, typer.Option(help="One of SDV's. Repeat.", show_default=", ".join(SDV))
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict.", show_default="the last")
    ] = None,
    rows: Annotated[
        int, typer.Option(help="Of each table, drawn by chance: SDGym compares all pairs.", min=200)
    ] = 4_000,
    seeds: Annotated[int, typer.Option(help="Of each synthesizer.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = WORK / "sdgym.json",
    env: Annotated[Path, typer.Option(help="SDGym's environment.")] = WORK / "sdgym-env",
) -> None:
    """Run our families and SDV's in SDGym, and judge their rows."""
    families = family or ["independent", TrainConfig.model_fields["family"].default]
    for name in families:
        models.get(name)
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 200
    whole = pq.read_table(table)
    train, held = (whole, pq.read_table(test)) if test is not None else halves(whole)
    chance = np.random.default_rng(0)
    train, held = subsample(train, rows, chance), subsample(held, rows, chance)
    side = sides.sdgym(env, lambda line: log.print(line, highlight=False, markup=False))
    names = [HELD, *(f"{OURS}{name}" for name in families), *(synthesizer or SDV)]
    facts = {"table": table.stem, "rows": train.num_rows, "versions": sides.SDGYM}
    entries: list[Entry] = _done(out, facts)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pq.write_table(train, work / "train.parquet")
        spare, held = halves(held)
        pq.write_table(spare, work / "held.parquet")
        place = work / "tables" / "single_table" / table.stem
        side.run("prepare", None, table=str(work / "train.parquet"), folder=str(place))
        for seed in range(seeds):
            for name in names:
                if any((one["synthesizer"], one["seed"]) == (name, seed) for one in entries):
                    continue
                log.print(f"{table.stem}, {name}, seed {seed}", highlight=False)
                entries.append(_entry(side, work, name, seed, train, held, target))
                write(out, {**facts, "entries": entries})
    console.print(shown(entries, names))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _done(out: Path, facts: Entry) -> list[Entry]:
    """The cells of a former run with the same facts."""
    if not out.is_file():
        return []
    found = json.loads(out.read_text())
    same = all(found.get(key) == value for key, value in facts.items())
    return list(found["entries"]) if same else []


def _entry(
    side: sides.Side,
    work: Path,
    name: str,
    seed: int,
    train: pa.Table,
    held: pa.Table,
    target: str | None,
) -> Entry:
    settings = {"folder": str(work / "tables"), "held": str(work / "held.parquet")}
    rows = work / "rows.csv"
    rows.unlink(missing_ok=True)
    told = side.run("run", 2, synthesizer=name, seed=seed, rows=str(rows), **settings)
    entry = {"synthesizer": name, "seed": seed, "sdgym": told}
    if not rows.is_file():
        return {**entry, "error": told.get("error", "SDGym kept no rows")}
    return {**entry, "ours": _judged(_read(rows, train.schema), train, held, target, seed)}


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """Rows that SDGym wrote, in the types of the table they are made after."""
    texts = {field.name: str for field in schema if pa.types.is_string(field.type)}
    frame = pd.read_csv(path, dtype=texts)[schema.names]
    for field in schema:
        if pa.types.is_integer(field.type):  # SDV writes whole numbers with nulls as 1.0
            frame[field.name] = frame[field.name].round().astype("Int64")
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False, safe=False)


def _judged(
    synthetic: pa.Table, train: pa.Table, held: pa.Table, target: str | None, seed: int
) -> dict[str, Any]:
    schema = Schema.infer(train.schema)
    report = judge(synthetic, held, train, schema, target, seed)
    risks = privacy.attack(synthetic, train, held, schema, seed)
    verdict = decide(risks, report.figures, GateConfig(), ())
    figures = {one.name: one.synthetic for one in report.figures}
    return {**figures, **{risk.name: risk.value for risk in risks}, "gate": verdict.verdict}


def shown(entries: list[Entry], names: list[str]) -> Table:
    """A synthesizer a row: means over seeds, the least and the most."""
    table = Table(title="SDGym's scores, and ours of the same rows", title_justify="left")
    table.add_column("synthesizer")
    for name in (*SCORES, *JUDGED, "gate"):
        table.add_column(name.replace("_", " ").lower(), justify="right")
    for name in names:
        mine = [entry for entry in entries if entry["synthesizer"] == name]
        theirs = [_mean([one["sdgym"].get(key) for one in mine]) for key in SCORES]
        ours = [_mean([one.get("ours", {}).get(key) for one in mine]) for key in JUDGED]
        gates = " ".join(one["ours"]["gate"] for one in mine if "ours" in one)
        table.add_row(name, *theirs, *ours, gates)
    return table


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return score(known, 3) if known else "-"
