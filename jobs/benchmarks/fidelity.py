"""How faithful each family is on each table: a training a seed, judged beside ceiling and floor.

Rows to judge by are those of `--test`, or else half of the table, drawn by a fair coin a row: the
other half is trained on. Families train as long as they ask for, on one thread, so that what else
the machine does changes no figure.
"""

import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import score
from benchmarks.quality import THREADS
from benchmarks.tables import halves
from raysynth import models
from raysynth.judge import judge
from raysynth.run import open_run

WORK = Path(".benchmark")

Entry = dict[str, Any]


def fidelity(
    table: Annotated[list[Path], typer.Argument(help="Parquet files.")],
    test: Annotated[Path | None, typer.Option(help="Rows to judge by, of a single table.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="A family. Repeat.", show_default="all")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes.", min=1, show_default="as the family asks")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "fidelity.json",
) -> None:
    """Train each family on each table, and print its figures, means over the seeds."""
    if test is not None and len(table) > 1:
        raise typer.BadParameter("--test belongs to a single table")
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 140
    facts = peers.read_with((sides.ours(),), {path.stem: str(path) for path in table})
    entries: list[Entry] = []
    for path in table:
        for name in family or models.names():
            for seed in range(seeds):
                log.print(f"{path.stem}, {name}, seed {seed}", highlight=False)
                entries.append(_entry(path, test, name, epochs, seed))
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps({**facts, "entries": entries}, indent=1))
    console.print(shown(entries))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _entry(path: Path, test: Path | None, family: str, epochs: int | None, seed: int) -> Entry:
    table = pq.read_table(path)
    trained, held = (table, pq.read_table(test)) if test is not None else halves(table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(trained, folder / "trained.parquet")
        settings = {"table": str(folder / "trained.parquet"), "epochs": epochs, "seed": seed}
        more = {"family": family, "rows": trained.num_rows, "out": str(folder / "out.parquet")}
        spent = sides.ours().run("synthesise", THREADS, **settings, **more, folder=name)
        run = open_run(folder / "ours")
        drawn = pq.read_table(folder / "out.parquet")
        report = judge(drawn, held, trained, run.table.schema, None, seed).to_json()
    about = {"table": path.stem, "family": family, "seed": seed, "epochs": run.manifest["epochs"]}
    return {**about, "spent": spent, "report": report}


def shown(entries: list[Entry]) -> Table:
    """A family of each table a row; ceiling and floor of the table above them."""
    names = list(dict.fromkeys(f["name"] for e in entries for f in e["report"]["figures"]))
    repeats = 1 + max(entry["seed"] for entry in entries)
    title = f"fidelity: mean of {repeats} seed(s) (least..most)"
    table = Table(title=title, title_justify="left")
    for column in ("table", "family", "train s", *names):
        table.add_column(column, justify="left" if column in ("table", "family") else "right")
    for path in dict.fromkeys(entry["table"] for entry in entries):
        mine = [entry for entry in entries if entry["table"] == path]
        table.add_section()
        for what in ("ceiling", "floor"):
            table.add_row(path, what, "", *(_values(mine, name, what) for name in names))
        for family in dict.fromkeys(entry["family"] for entry in mine):
            some = [entry for entry in mine if entry["family"] == family]
            seconds = fmean(entry["spent"]["train"]["wall_s"] for entry in some)
            figures = (_values(some, name, "synthetic") for name in names)
            table.add_row(path, family, f"{seconds:.0f}", *figures)
    return table


def _values(entries: list[Entry], name: str, what: str) -> str:
    found = [
        figure[what]
        for entry in entries
        for figure in entry["report"]["figures"]
        if figure["name"] == name and figure[what] is not None
    ]
    return score(found) if found else ""
