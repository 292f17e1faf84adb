"""What table-GAN's privacy deltas buy: the front from near the data and attacked to far and not.

The deltas are how far means and deviations of features may lie apart before the information loss
says so (`models/tablegan.py`); the paper's low, mid and high privacy are 0, 0.1 and 0.2. What they
mean depends on how wide the gaps are: without the loss those of the paper's preset are 2 to 4. Each
delta, for both alike, and seed is a training on other rows of the table, few and for long, so that
there is something to be attacked. Told of it:

- **detection**, the AUC of the boosted detector against rows that were not trained on: how far from
  the data;
- **distance**, the median distance of a synthetic row to its closest training row, over that of
  rows not trained on: how far from its rows;
- **membership**, the AUC of the best of the attacks on the released table: chance is 0.5.
"""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.figures import score
from benchmarks.measure import write
from raysynth import local
from raysynth.config import TrainConfig
from raysynth.frames import subsample
from raysynth.points import closest, points
from raysynth.schema import Schema
from raysynth.search import Parts, SearchConfig, measured

# Gaps of the improved preset's features stand at 0.05 to 0.1, so that a delta of 0.5 lets all pass.
DELTAS = (0.0, 0.02, 0.05, 0.1, 0.5)
FIGURES = ("detection", "distance", "membership")
MEASURES = SearchConfig(objectives=("detection", "membership"))

Entry = dict[str, Any]


def deltas(
    table: Annotated[Path, typer.Argument(help="A Parquet file.", exists=True)],
    test: Annotated[Path, typer.Option(help="Rows not trained on.", exists=True)],
    delta: Annotated[
        list[float] | None, typer.Option(help="Repeat.", show_default="0, 0.02, 0.05, 0.1, 0.5")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to train on.", min=500)] = 1_000,
    epochs: Annotated[int, typer.Option(help="Passes.", min=1)] = 150,
    preset: Annotated[str, typer.Option(help="The family's.")] = "improved",
    information: Annotated[float, typer.Option(help="Weight of the loss.")] = 10.0,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path(".benchmark/deltas.json"),
    picture: Annotated[Path | None, typer.Option(help="An SVG of the front.")] = None,
) -> None:
    """Train table-GAN with each delta, and print how far from the data it is and how attacked."""
    torch.set_num_threads(1)
    sides, log = (pq.read_table(table), pq.read_table(test)), Console(stderr=True)
    entries: list[Entry] = []
    for value in delta or DELTAS:
        model = {"preset": preset, "information": information}
        model |= {"mean_delta": value, "deviation_delta": value}
        for seed in range(seeds):
            log.print(f"delta {value}, seed {seed}", highlight=False)
            entries.append(
                {"delta": value, "seed": seed, **_entry(sides, rows, epochs, model, seed)}
            )
            write(out, {"table": table.name, "rows": rows, "epochs": epochs, "entries": entries})
    shown = Table("delta", *FIGURES)
    for value, found in _by_delta(entries).items():
        cells = (score([entry[name] for entry in found]) for name in FIGURES)
        shown.add_row(f"{value:g}", *cells)
    Console().print(shown)
    if picture is not None:
        _draw(entries).savefig(picture, format="svg", metadata={"Date": None})
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _entry(
    sides: tuple[pa.Table, pa.Table], rows: int, epochs: int, model: Entry, seed: int
) -> Entry:
    train, held = (subsample(side, rows, np.random.default_rng([seed, 9])) for side in sides)
    asked = {"table": "-", "family": "tablegan", "epochs": epochs, "seed": seed, "model": model}
    sampler = local.train(TrainConfig.load(None, asked), train)
    schema = sampler.table.schema.modelled
    parts = Parts(train.select(list(schema.names)), held.select(list(schema.names)), schema)
    found = measured(sampler, parts, MEASURES.model_copy(update={"seed": seed}), 0.0)
    return {**found, "distance": _distance(sampler.sample(rows, seed), parts, schema)}


def _distance(synthetic: pa.Table, parts: Parts, schema: Schema) -> float:
    both = pa.concat_tables([parts.train, parts.choice])
    _, near, held, made = points([both, parts.train, parts.choice, synthetic], schema)
    return float(np.median(closest(made, near)) / np.median(closest(held, near)))


def _by_delta(entries: list[Entry]) -> dict[float, list[Entry]]:
    values = dict.fromkeys(entry["delta"] for entry in entries)
    return {value: [one for one in entries if one["delta"] == value] for value in values}


def _draw(entries: list[Entry]) -> Figure:
    """The front: each seed a dot, each delta's mean a mark with its name, a line through them."""
    ink = "#6b7785"  # to be read on a light page and on a dark one
    settings: Any = {"svg.hashsalt": "raysynth", "svg.fonttype": "none", "font.size": 9}
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), ink)
    settings |= dict.fromkeys(("xtick.color", "ytick.color"), ink)
    with mpl.rc_context(settings):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        groups = _by_delta(entries)
        names = ("detection", "membership")
        means = {
            value: [fmean(entry[name] for entry in found) for name in names]
            for value, found in groups.items()
        }
        axes.plot(*zip(*means.values(), strict=True), color="#2f7ed8", marker="o", linewidth=1.2)
        offset: Any = {"textcoords": "offset points"}
        dots = [[entry[name] for name in names] for entry in entries]
        axes.plot(*zip(*dots, strict=True), ".", color="#2f7ed8", alpha=0.45, markersize=4)
        for turn, (value, place) in enumerate(means.items()):
            axes.annotate(f"δ {value:g}", (place[0], place[1]), (5, (5, -13)[turn % 2]), **offset)
        axes.axhline(0.5, color=ink, linewidth=0.8, linestyle="--")
        axes.set_xlabel("detection AUC: farther from the data →")
        axes.set_ylabel("membership attack, AUC")
        axes.spines[["top", "right"]].set_visible(False)
        figure.patch.set_alpha(0.0)
        axes.patch.set_alpha(0.0)
    return figure
