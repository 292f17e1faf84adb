"""The benchmark of the paper that CTGAN and TVAE are from, for every family.

Xu, Skoularidou, Cuesta-Infante, Veeramachaneni: Modeling Tabular Data using Conditional GAN,
NeurIPS 2019, arXiv 1907.00503. Its tables of a known distribution are judged by likelihood
(`mixtures`, `bayes`), its real ones by what models learn from them (`efficacy`); the paper's own
figures stand beside ours (`published`). Baselines: `identity` gives the training rows, the best
there is to reach; `uniform` draws each column evenly between its ends or over its values;
`independent` is the family of that name.

A **cell** is a table, a family and a seed: trained in a process of its own on one thread, sampled
and judged. It is written to `--out` once done, and never done again while it is there, for the same
`--epochs` and `--rows`.

Departures from the paper, beside those of `mixtures` and `efficacy`:

- A family trains as long as it asks for, not 300 epochs; `--epochs 300` is the paper's.
- Values that fewer than 10 rows share are pooled before training, as for any user.
- No more rows are drawn than are judged, 50,000; the paper draws as many as it trains on.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks import bayes, efficacy, mixtures, peers, sides
from benchmarks.measure import write
from benchmarks.published import shown
from benchmarks.quality import THREADS
from raysynth import models
from raysynth.errors import ConfigError
from raysynth.run import open_run

WORK = Path(".benchmark")
DATA = sides.JOBS.parent.parent / "shared" / "data"
BASELINES = ("identity", "uniform")

Entry = dict[str, Any]


class Known(Protocol):
    """A table whose rows are always the same, and what is asked of rows made like them."""

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Rows to train on and rows to test on."""

    def figures(self, drawn: pa.Table, test: pa.Table, seed: int) -> dict[str, float]:
        """Figures by name."""


def _network(folder: Path, name: str) -> Known:
    return bayes.read(folder / "bn" / f"{name}.bif")


SETS: dict[str, Callable[[Path], Known]] = {
    "grid": lambda _: mixtures.grid(),
    "gridr": lambda _: mixtures.shifted(),
    "ring": lambda _: mixtures.ring(),
    **{name: partial(_network, name=name) for name in ("asia", "alarm", "child", "insurance")},
    "adult": efficacy.adult,
    "covertype": efficacy.covertype,
    "intrusion": efficacy.intrusion,
    "news": efficacy.news,
}
SIDE = sides.ours()


class Cell(NamedTuple):
    """What is done once; `epochs` and `rows` are None where the family and the table say."""

    table: str
    family: str
    seed: int
    epochs: int | None
    rows: int | None


def paper(
    table: Annotated[
        list[str] | None, typer.Option(help="grid, asia, adult, ... Repeat.", show_default="all")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family, identity or uniform. Repeat.", show_default="all"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes.", min=1, show_default="as the family asks")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=1)] = 3,
    rows: Annotated[
        int | None, typer.Option(help="Rows to train on at most.", min=100, show_default="all")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder of the real tables, and of the networks in bn/.")
    ] = DATA,
    ray: Annotated[bool, typer.Option("--ray", help="Cells as Ray tasks, a core each.")] = False,
    out: Annotated[
        Path, typer.Option(help="The JSON file to write; cells that it holds are not done again.")
    ] = WORK / "paper.json",
) -> None:
    """Train each family on each of the paper's tables; print its figures beside the paper's.

    Exits with 1 where a cell failed.
    """
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 160

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    names = _known(table, tuple(SETS), "--table")
    families = _known(family, (*BASELINES, *models.names()), "--family")
    wanted = [
        Cell(name, who, seed, None if who in BASELINES else epochs, rows)
        for name in names
        for who in families
        for seed in range(seeds)
    ]
    try:
        for name in names:
            SETS[name](data)
    except ConfigError as error:
        raise typer.BadParameter(str(error), None, None, "--data") from None
    held: list[Entry] = json.loads(out.read_text())["cells"] if out.is_file() else []
    facts = peers.read_with((SIDE,), {name: str(data) for name in names})
    for cell, entry in _done(pending(wanted, held), data, ray):
        say(f"{cell.table}, {cell.family}, seed {cell.seed}: {entry.get('failed', 'done')}")
        if "failed" not in entry:
            held.append({**cell._asdict(), **entry, "commit": facts["commit"]})
            write(out, {**facts, "cells": held})
    entries = {_cell(entry): entry for entry in held}
    chosen = [entries[cell] for cell in wanted if cell in entries]
    console.print(*shown(chosen))
    commits = {entry["commit"] for entry in chosen}
    if len(commits) > 1:
        say(f"cells of {len(commits)} commits; a new --out does all of them anew")
    say(f"written: {out}")
    if len(chosen) < len(wanted):
        say(f"{len(wanted) - len(chosen)} cell(s) failed; the same command does them again")
        raise typer.Exit(1)


def _known(chosen: list[str] | None, names: tuple[str, ...], option: str) -> list[str]:
    """What was chosen, or all, in the order of `names`."""
    wrong = [name for name in chosen or () if name not in names]
    if wrong:
        raise typer.BadParameter(
            f"{wrong[0]}: expected one of {', '.join(names)}", None, None, option
        )
    return [name for name in names if name in (chosen or names)]


def _cell(entry: Entry) -> Cell:
    return Cell(*(entry[name] for name in Cell._fields))


def pending(wanted: Iterable[Cell], held: Iterable[Entry]) -> list[Cell]:
    """The cells that are not there yet."""
    there = {_cell(entry) for entry in held}
    return [cell for cell in wanted if cell not in there]


def _done(cells: list[Cell], data: Path, on_ray: bool) -> Iterator[tuple[Cell, Entry]]:
    """Each cell and what came of it, as it is done."""
    if not on_ray:
        yield from ((cell, done(cell, data)) for cell in cells)
        return
    from raysynth.stages import cluster

    cluster.connect(1)
    import ray  # not before the stages, which say how Ray is to start

    task = ray.remote(num_cpus=1)(done)
    waiting = {task.remote(cell, data.absolute()): cell for cell in cells}
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            yield waiting.pop(ready), ray.get(ready)
    finally:
        cluster.disconnect()


def done(cell: Cell, data: Path) -> Entry:
    """Figures of a cell, seconds and passes; or, where its training failed, how."""
    known = SETS[cell.table](data)
    table, test = known.tables()
    table = table.slice(0, cell.rows)
    try:
        drawn, facts = _drawn(cell, table)
    except RuntimeError as error:
        return {"failed": str(error)}
    with threadpool_limits(THREADS):
        figures = known.figures(drawn, test, cell.seed)
    return {"trained_rows": table.num_rows, **facts, "figures": figures}


def _drawn(cell: Cell, table: pa.Table) -> tuple[pa.Table, Entry]:
    """Synthetic rows, and what a training spent. Raises `RuntimeError` where it failed."""
    rows = min(table.num_rows, efficacy.ROWS)
    if cell.family == "identity":
        return table, {}
    if cell.family == "uniform":
        return uniform(table, rows, np.random.default_rng(cell.seed)), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, out = folder / "table.parquet", folder / "out.parquet"
        pq.write_table(table, source)
        settings = {"family": cell.family, "seed": cell.seed, "epochs": cell.epochs, "rows": rows}
        places = {"table": str(source), "folder": name, "out": str(out)}
        spent = SIDE.run("synthesise", THREADS, **settings, **places)
        passes = open_run(folder / "ours").manifest["epochs"]
        return pq.read_table(out), {"passes": passes, "spent": spent}


def uniform(table: pa.Table, rows: int, rng: np.random.Generator) -> pa.Table:
    """Each column on its own: numbers evenly between their ends, texts evenly over their values."""
    columns: list[Any] = []
    for column in table.itercolumns():
        if pa.types.is_string(column.type):
            values = pa.array(sorted(column.unique().to_pylist()))
            columns.append(values.take(rng.integers(len(values), size=rows)))
            continue
        low, high = pc.min_max(column).as_py().values()
        whole = pa.types.is_integer(column.type)
        columns.append(
            rng.integers(low, high, rows, endpoint=True) if whole else rng.uniform(low, high, rows)
        )
    return pa.table(columns, names=table.column_names)
