"""How reading and encoding grow with the table: time, CPU, memory, beside pyarrow alone.

For each table and number of rows, in turn and `repeats` times: pyarrow reads the Parquet file and
writes as many bytes of codes (the **baseline**), then our stages read it twice and write its codes
shuffled. Both are fresh processes on the same idle machine; Ray is started before the clock.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import spread

WORK = Path(".benchmark")
ADULT = sides.JOBS / "data" / "adult_train.parquet"
STAGES = ("summarise", "fit", "encode", "shuffle")
WRITTEN = ("encode", "shuffle")  # held against the baseline: from the table's rows to codes on disk
TARGETS = "targets: encode + shuffle 3 times the baseline; 20 over 1 million rows 22; fit 3 CPU s"

Entry = dict[str, Any]


def scale(
    table: Annotated[
        list[Path] | None,
        typer.Option(help="A Parquet file to tile. Repeat.", show_default="Adult"),
    ] = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(help="Rows to tile it to. Repeat.", show_default="1, 5, 20 million"),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="A whole-number column of codes. Repeat.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Repeats of each measurement.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="CPU cores for Ray.", min=1)] = 2,
    extremes: Annotated[
        bool, typer.Option("--extremes", help="Also train on 1,000 columns and 300,000 categories.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Scratch space.")] = WORK / "scale",
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "scale.json",
) -> None:
    """Encode a table tiled to more and more rows; state seconds, memory and growth."""
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 120

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    side = replace(sides.ours(), module="benchmarks.streaming")
    folder.mkdir(parents=True, exist_ok=True)
    facts = peers.read_with((sides.ours(),), {"tiled": ", ".join(map(str, table or [ADULT]))})
    console.print_json(data=facts)
    if os.getloadavg()[0] > peers.QUIET:
        say(f"others use this machine (load {os.getloadavg()[0]:.1f}): times will be off")
    entries: list[Entry] = []
    for path in table or [ADULT]:
        for count in sorted(rows or [1_000_000, 5_000_000, 20_000_000]):
            job = {"workers": workers, "categories": category or []}
            entries += _measure(side, path, count, repeats, folder, job, say)
    found: dict[str, Any] = {**facts, "runs": entries, "figures": figures(entries)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    console.print(shown(entries), *growth(entries), TARGETS, sep="\n")
    if extremes:
        found["extremes"] = _extremes(side, folder, say)
    found["load_after"] = os.getloadavg()
    out.write_text(json.dumps(found, indent=1))
    for name, trained in found.get("extremes", {}).items():
        peak = max(stage["peak_mib"] for stage in trained["stages"].values())
        console.print(f"{name}: one epoch in {trained['wall_s']:.0f} s, peak {peak:,.0f} MiB")
    say(f"written: {out}")


def _measure(
    side: sides.Side,
    path: Path,
    rows: int,
    repeats: int,
    folder: Path,
    job: dict[str, Any],
    say: Any,
) -> list[Entry]:
    tiled, codes = folder / f"{path.stem}-{rows}.parquet", folder / "codes.parquet"
    say(f"{path.stem}: tiling to {rows:,} rows")
    made = side.run("tile", 1, table=str(path.absolute()), rows=rows, out=str(tiled.absolute()))
    found = []
    for repeat in range(repeats):
        say(f"{path.stem}, {rows:,} rows: repeat {repeat + 1} of {repeats}")
        settings = {"table": str(tiled.absolute()), **job}
        base = side.run("baseline", job["workers"], **settings, out=str(codes.absolute()))
        work = str((folder / "work").absolute())
        ours = side.run("encode", 1, **settings, folder=work)
        about = {"table": path.stem, "rows": made["rows"], "repeat": repeat}
        found.append({**about, "file_bytes": made["bytes"], "baseline": base, "ours": ours})
    for made_here in (tiled, codes):
        made_here.unlink()
    return found


def _extremes(side: sides.Side, folder: Path, say: Any) -> dict[str, Any]:
    side.run("extremes", 1, folder=str(folder.absolute()))
    found = {}
    for name in ("wide", "categories"):
        say(f"one epoch on {name}.parquet")
        path = folder / f"{name}.parquet"
        runs = str((folder / "runs").absolute())
        found[name] = side.run("train", 1, table=str(path.absolute()), folder=runs)
        path.unlink()
    return found


def ratio(entry: Entry, clock: str = "wall_s") -> float:
    """How many times the baseline encoding and shuffling take."""
    ours = sum(entry["ours"]["stages"][stage][clock] for stage in WRITTEN)
    return float(ours / entry["baseline"][clock])


def figures(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Medians over the repeats, for each table and number of rows."""
    found = []
    for key, mine in _grouped(entries).items():
        stages = {
            stage: {
                unit: median(entry["ours"]["stages"][stage][unit] for entry in mine)
                for unit in ("wall_s", "cpu_s", "peak_mib")
            }
            for stage in STAGES
        }
        over = {
            clock: median(ratio(entry, clock) for entry in mine) for clock in ("wall_s", "cpu_s")
        }
        found.append({"table": key[0], "rows": key[1], "stages": stages, "over_baseline": over})
    return found


def growth(entries: Sequence[Entry]) -> list[str]:
    """A line a table: how seconds and memory grow from its fewest rows to its most."""
    lines = []
    for name in dict.fromkeys(entry["table"] for entry in entries):
        found = [figure for figure in figures(entries) if figure["table"] == name]
        first, last = found[0], found[-1]
        if first is last:
            continue
        times = [sum(f["stages"][s]["wall_s"] for s in STAGES) for f in (first, last)]
        peaks = [
            max(f["stages"][s]["peak_mib"] for s in STAGES if s != "fit") for f in (first, last)
        ]
        power = math.log(times[1] / times[0]) / math.log(last["rows"] / first["rows"])
        lines.append(
            f"{name}: {last['rows']:,} over {first['rows']:,} rows takes {times[1] / times[0]:.1f} "
            f"times as long ({10**power:.1f} times for tenfold rows); a worker's peak memory is "
            f"{peaks[1] / peaks[0]:.2f} times as high"
        )
    return lines


def shown(entries: Sequence[Entry]) -> Table:
    """A section for each table and number of rows: the baseline, then every stage."""
    repeats = 1 + max(entry["repeat"] for entry in entries)
    table = Table(title=f"scale: median of {repeats} (least..most)", title_justify="left")
    for name in ("table", "rows", "stage", "seconds", "CPU s", "peak MiB", "times baseline"):
        table.add_column(name, justify="left" if name in ("table", "stage") else "right")
    for (name, rows), mine in _grouped(entries).items():
        table.add_section()
        table.add_row(name, f"{rows:,}", "baseline", *_spreads([e["baseline"] for e in mine]), "")
        for stage in STAGES:
            spent = [entry["ours"]["stages"][stage] for entry in mine]
            times = ""
            if stage == WRITTEN[-1]:
                times = spread([ratio(entry) for entry in mine], "x")
            table.add_row("", "", stage, *_spreads(spent), times)
    return table


def _spreads(spent: Sequence[dict[str, float]]) -> list[str]:
    return [spread([one[unit] for one in spent]) for unit in ("wall_s", "cpu_s", "peak_mib")]


def _grouped(entries: Sequence[Entry]) -> dict[tuple[str, int], list[Entry]]:
    found: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry["table"], entry["rows"]), []).append(entry)
    return found
