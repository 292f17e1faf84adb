"""Is a search worth its time: against defaults, against as many random trials, and its cost.

Each repeat is a seed, and does three things with the same four fifths of the table, or as many of
its rows: `raysynth tune` as users call it, the same at random, and the family's defaults once, all
with the same number of epochs. What each leaves is told from the rows of `--test`, which none has
seen, by the boosted detector. The overhead is what the machine's time for the trials comes to,
trials at once times the phase's seconds, over the seconds of their trainings, less one.
"""

import json
import re
import subprocess
import sys
import tempfile
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

from benchmarks.figures import score, spread
from benchmarks.measure import write
from raysynth.metrics import detection
from raysynth.run import open_run
from raysynth.sampler import Sampler

WORK = Path(".benchmark")
ROWS = 10_000  # of each side that the detector is given
SHARE = 0.8  # of the table, that a search trains on

Entry = dict[str, Any]


def tune(
    table: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True)],
    test: Annotated[Path, typer.Option(help="Rows that nothing else sees.", exists=True)],
    family: Annotated[str, typer.Option(help="The family.")] = "ctgan",
    trials: Annotated[int, typer.Option(help="Of each search.", min=1)] = 20,
    workers: Annotated[int, typer.Option(help="Trials at once.", min=1)] = 2,
    epochs: Annotated[int, typer.Option(help="Passes of each training.", min=1)] = 20,
    repeats: Annotated[int, typer.Option(help="Seeds.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "tune.json",
) -> None:
    """Search, search at random, train with the defaults; print how each fares on unseen rows."""
    real, log = pq.read_table(test), Console(stderr=True)
    entries: list[Entry] = []
    for seed in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            base = ["--seed", seed, "--storage", name, "--epochs", epochs]
            search = ["tune", table, "--family", family, "--trials", trials, "--workers", workers]
            asked = {
                "search": [*search, "--name", "search"],
                "random": [*search, "--name", "random", "--random"],
                "default": ["train", table, "--family", family, "--fraction", SHARE],
            }
            for way, words in asked.items():
                log.print(f"{way}, seed {seed}", highlight=False)
                entries.append({"way": way, "seed": seed, **_entry(words + base, real)})
                write(out, {"table": table.name, "family": family, "entries": entries})
    console = Console()
    console.print(_shown(entries))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _entry(words: list[Any], real: pa.Table) -> Entry:
    begun = time.monotonic()
    command = [sys.executable, "-m", "raysynth", *map(str, words), "--json"]
    end = subprocess.run(command, capture_output=True, text=True, check=False)
    if end.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {end.stderr}")
    entry: Entry = {"seconds": time.monotonic() - begun}
    told = json.loads(end.stdout.splitlines()[-1])
    if not (paths := told.get("runs", [told.get("run")])):
        raise RuntimeError("the gate failed every run that was looked at")
    run = open_run(paths[0])
    drawn = Sampler.open(run).sample(ROWS, seed=1)
    schema = run.table.schema.modelled
    chance = np.random.default_rng(0)
    entry["unseen"] = detection.auc(real, drawn, schema, chance, ROWS)
    if "trials" in told:
        found = told["trials"]
        states = [one["state"] for one in found]
        entry |= {state: states.count(state) for state in ("complete", "pruned", "fail")}
        entry["phase"] = _phase(end.stderr)
        entry["trained"] = sum(one["figures"].get("cost", 0.0) for one in found)
        at_once = int(words[words.index("--workers") + 1])
        entry["overhead"] = 100 * (at_once * entry["phase"] / entry["trained"] - 1)
        entry["held"] = sum(one["seconds"] or 0.0 for one in found)
        entry["chosen"] = {"family": run.config.family, **run.config.model}
        entry["choice"] = min(
            one["figures"]["detection"] for one in found if one["state"] == "complete"
        )
    return entry


def _phase(said: str) -> float:
    """Seconds of the phase in which trials are made, of the line that tells of it."""
    found = re.search(r"tune: \d+ trials in ([\d,.]+) s", said)
    assert found is not None, said
    return float(found[1].replace(",", ""))


def _shown(entries: list[Entry]) -> Table:
    shown = Table("", "search", "random", "default")
    ways = {
        way: [entry for entry in entries if entry["way"] == way]
        for way in ("search", "random", "default")
    }

    def row(name: str, key: str, told: Callable[[list[float]], str] = spread) -> None:
        cells = [[entry[key] for entry in found if key in entry] for found in ways.values()]
        shown.add_row(name, *(told(cell) if cell else "" for cell in cells))

    row("detection on unseen rows", "unseen", score)
    row("detection that it was chosen by", "choice", score)
    row("seconds in all", "seconds")
    row("seconds of trials, as they lie side by side", "phase")
    row("seconds of their trainings", "trained")
    row("overhead over those, % of them", "overhead")
    row("complete", "complete")
    row("ended early", "pruned")
    return shown
