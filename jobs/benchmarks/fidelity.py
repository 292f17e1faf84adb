"""How faithful each family is on each table: a training a seed, judged beside ceiling and floor.

Rows to judge by are those of `--test`, or else half of the table, drawn by a fair coin a row: the
other half is trained on. Families train as long as they ask for, on one thread, so that what else
the machine does changes no figure.

A **cell** is a table, a family, its settings and a seed, done by this source: it is written to
`--out` once done, and never done again while it is there, so a benchmark that was stopped goes on,
and what has changed is done anew.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import score, spread
from benchmarks.measure import write
from benchmarks.quality import THREADS
from benchmarks.tables import halves
from raysynth import models
from raysynth.config import parse
from raysynth.errors import ConfigError
from raysynth.frames import subsample
from raysynth.judge import judge
from raysynth.run import open_run
from raysynth.terminal import assignment

WORK = Path(".benchmark")
SIDE = sides.ours()

Entry = dict[str, Any]


class Cell(NamedTuple):
    """What is done once; `epochs` and `rows` are None where the family and the table say."""

    table: str
    data: str  # digest of the files' bytes
    family: str
    model: str  # settings of the family, JSON
    epochs: int | None
    rows: int | None
    seed: int
    source: str  # digest of our code, and of versions


def fidelity(
    table: Annotated[list[Path], typer.Argument(help="Parquet files.", exists=True)],
    test: Annotated[
        Path | None, typer.Option(help="Rows to judge by, of a single table.", exists=True)
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="A family. Repeat.", show_default="all")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes.", min=1, show_default="as the family asks")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Rows to train on at most.", min=100, show_default="all")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the families. Repeat."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=1)] = 3,
    out: Annotated[
        Path, typer.Option(help="The JSON file to write; cells that it holds are not done again.")
    ] = WORK / "fidelity.json",
) -> None:
    """Train each family on each table, and print its figures, means over the seeds."""
    if test is not None and len(table) > 1:
        raise typer.BadParameter("--test belongs to a single table")
    model, families = dict(map(assignment, setting or [])), family or models.names()
    try:
        for name in families:
            parse(models.get(name).Config, model)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 200
    facts = peers.read_with((SIDE,), {path.stem: str(path) for path in table})
    text, code = json.dumps(model, sort_keys=True), _source(facts["versions"])
    held: list[Entry] = json.loads(out.read_text())["entries"] if out.is_file() else []
    done = {Cell(**entry["cell"]): entry for entry in held if "cell" in entry}
    wanted = [
        (path, Cell(path.stem, _digest(path, test), name, text, epochs, rows, seed, code))
        for path in table
        for name in families
        for seed in range(seeds)
    ]
    for path, cell in wanted:
        before = ", done before" if cell in done else ""
        log.print(f"{cell.table}, {cell.family}, seed {cell.seed}{before}", highlight=False)
        if not before:
            done[cell] = _entry(path, test, cell) | {"commit": facts["commit"]}
            write(out, {**facts, "entries": list(done.values())})
    console.print(*shown([done[cell] for _, cell in wanted]))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _entry(path: Path, test: Path | None, cell: Cell) -> Entry:
    table = pq.read_table(path)
    trained, held = (table, pq.read_table(test)) if test is not None else halves(table)
    # The same rows for every family and seed.
    trained = subsample(trained, cell.rows or trained.num_rows, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(trained, folder / "trained.parquet")
        settings = {"epochs": cell.epochs, "seed": cell.seed, "model": json.loads(cell.model)}
        settings |= {"table": str(folder / "trained.parquet"), "family": cell.family}
        more = {"rows": trained.num_rows, "out": str(folder / "out.parquet"), "folder": name}
        spent = SIDE.run("synthesise", THREADS, **settings, **more)
        run = open_run(folder / "ours")
        drawn = pq.read_table(folder / "out.parquet")
        report = judge(drawn, held, trained, run.table.schema, None, cell.seed).to_json()
    about = {"table": cell.table, "family": cell.family, "seed": cell.seed}
    facts = {"epochs": run.manifest["epochs"], "spent": spent, "report": report}
    return {**about, "cell": cell._asdict(), **facts}


def _digest(*paths: Path | None) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths if path)).hexdigest()


def _source(versions: Mapping[str, Any]) -> str:
    """What decides a figure beside table and settings: every file of our package, and versions."""
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for file in sorted((sides.JOBS.parent / "raysynth").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def shown(entries: list[Entry]) -> list[Table]:
    """A table each: every figure a row, families beside the ceiling and the floor."""
    return [
        _shown(name, [entry for entry in entries if entry["table"] == name])
        for name in dict.fromkeys(entry["table"] for entry in entries)
    ]


def _shown(name: str, entries: list[Entry]) -> Table:
    families = dict.fromkeys(entry["family"] for entry in entries)
    seeds = len({entry["seed"] for entry in entries})
    title = f"{name}: mean of {seeds} seed(s) (least..most)"
    table = Table(title=title, title_justify="left")
    for column in ("figure", "better"):
        table.add_column(column)
    for column in (*families, "ceiling", "floor"):
        table.add_column(column, justify="right")
    mine = {family: [e for e in entries if e["family"] == family] for family in families}
    figures = {f["name"]: f for e in entries for f in e["report"]["figures"]}
    for figure in figures.values():
        values = [_values(some, figure["name"], "synthetic") for some in mine.values()]
        ends = [_values(entries, figure["name"], what) for what in ("ceiling", "floor")]
        table.add_row(f"{figure['name']} ({figure['unit']})", figure["better"], *values, *ends)
    for what in ("train", "sample"):
        times = [spread([e["spent"][what]["wall_s"] for e in some]) for some in mine.values()]
        table.add_row(f"{what} (s)", "lower", *times, "", "")
    return table


def _values(entries: list[Entry], name: str, what: str) -> str:
    found = [
        figure[what]
        for entry in entries
        for figure in entry["report"]["figures"]
        if figure["name"] == name and figure[what] is not None
    ]
    return score(found) if found else ""
