"""Our figures beside those of the packages they are defined after, on the same rows.

SDMetrics for shape, trend, coverage and missing cells, synthcity for alpha-precision and
beta-recall (its naive variant), in an environment of their own. Where a definition of ours departs,
the metric's file says so: on a table with nulls SDMetrics' shapes leave them out, ours count them.
"""

import os
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import sides
from benchmarks.measure import Result, write
from raysynth.metrics import coverage, marginals, missing, pairs, precision
from raysynth.resample import Draws
from raysynth.schema import Schema

WORK = Path(".benchmark")
NEAR = 0.005
PLANTED = 0.05


def metrics(
    synthetic: Annotated[Path, typer.Argument(help="A Parquet file: rows held.", exists=True)],
    real: Annotated[Path, typer.Argument(help="A Parquet file: rows to hold against.")],
    rows: Annotated[int, typer.Option(help="Rows of each table, the first.", min=10)] = 20_000,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "parity.json",
    env: Annotated[Path, typer.Option(help="The peers' environment.")] = WORK / "metrics-env",
) -> None:
    """Compare our figures with SDMetrics' and synthcity's on the same rows.

    Three times: the rows without a null, all rows, and all rows with nulls planted in every column.
    """
    log, console = Console(stderr=True), Console()
    side = sides.metrics(env, lambda line: log.print(line, highlight=False, markup=False))
    tables = pq.read_table(real).slice(0, rows), pq.read_table(synthetic).slice(0, rows)
    few = min(table.num_rows for table in tables)
    generator = np.random.default_rng(0)
    planted = tuple(_planted(table, generator) for table in tables)
    whole = tuple(table.drop_null() for table in tables)
    found: Result = {"versions": sides.METRICS, "load_before": os.getloadavg(), "figures": []}
    for name, both in (("without nulls", whole), ("as it is", tables), ("planted", planted)):
        few = min(table.num_rows for table in both)
        left, right = (table.slice(0, few) for table in both)
        ours, theirs = _ours(left, right), _theirs(side, left, right)
        found["figures"] += [
            {"table": name, "rows": few, "figure": figure, "ours": ours[figure], "theirs": value}
            for figure, value in theirs.items()
        ]
    write(out, found)
    console.print(_shown(found["figures"]))


def _ours(real: pa.Table, synthetic: pa.Table) -> Result:
    schema = Schema.infer(real.schema)
    draws = Draws.of(real.num_rows, synthetic.num_rows)
    reached = coverage.replicates(real, synthetic, schema, draws, least=1)
    nulls = missing.replicates(real, synthetic, schema, draws)
    trend = fmean(pairs.scores(real, synthetic, schema).values())
    measured = precision.Real.of(real, schema, np.random.default_rng(0), real.num_rows)
    return {
        "shape": fmean(marginals.scores(real, synthetic, schema).values()),
        "trend": trend,
        "trend, its report": trend,
        "coverage": fmean(float(values[0]) for values in reached.values()),
        # SDMetrics' mean is over all columns, those without a null at 1.
        "missingness": 1 - sum(1 - float(v[0]) for v in nulls.values()) / len(schema.columns),
        **measured.scores(synthetic)._asdict(),
    }


def _theirs(side: sides.Side, real: pa.Table, synthetic: pa.Table) -> Result:
    numbers = [column.name for column in Schema.infer(real.schema).columns if column.measured]
    with tempfile.TemporaryDirectory() as folder:
        paths = {"real": real, "synthetic": synthetic}
        for name, table in paths.items():
            pq.write_table(table, Path(folder) / name)
        places = {name: str(Path(folder) / name) for name in paths}
        return side.run("figures", None, numbers=numbers, **places)


def _planted(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    """The same with every cell null by a chance of `PLANTED`."""
    columns = [
        pa.chunked_array([pa.array(column.to_pylist(), column.type, mask=mask)])
        for column in table.itercolumns()
        for mask in [generator.random(table.num_rows) < PLANTED]
    ]
    return pa.table(columns, names=table.column_names)


def _shown(figures: list[Result]) -> Table:
    shown = Table(title=f"ours beside theirs, {sides.METRICS}", title_justify="left")
    for name in ("table", "rows", "figure", "ours", "theirs", "difference"):
        shown.add_column(name, justify="left" if name in ("table", "figure") else "right")
    for one in figures:
        apart = one["ours"] - one["theirs"]
        told = f"{apart:+.4f}{'' if abs(apart) <= NEAR else ' !'}"
        values = f"{one['ours']:.4f}", f"{one['theirs']:.4f}", told
        shown.add_row(one["table"], str(one["rows"]), one["figure"], *values)
    return shown
