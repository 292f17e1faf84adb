"""How fast rows are drawn from trained runs, decoded, and what it costs to ask for something.

In turn and `repeats` times: the machine's own rate of float32 matrix products, then each run, in a
process of its own, without and with what is `given`, to a decoded Arrow table. The share of the
limit is of the dense operations really done for a row, looked-up inputs counting for nothing. Rows
of what is given are counted that do not hold it: there are to be none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import spread
from benchmarks.measure import Result, Settings, clock, flops, main, write
from raysynth.sampler import Sampler

SEED, FEW = 1, 2_000  # rows drawn before time counts, and of which operations are counted
Entry = dict[str, Any]


def sample(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    rows: Annotated[int, typer.Option(help="Rows drawn at a time.", min=1)] = 100_000,
    given: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="What to ask for. Repeat.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that draw.", min=1)] = 2,
    repeats: Annotated[int, typer.Option(help="Repeats of each measurement.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path(
        ".benchmark/sample.json"
    ),
) -> None:
    """Rows a second of trained runs, their share of the machine's limit, and what asking costs."""
    asked = dict(text.split("=", 1) for text in given or () if "=" in text)
    if len(asked) != len(given or ()):
        raise typer.BadParameter("expected COLUMN=VALUE, each column once", param_hint="--given")
    side, limits = replace(sides.ours(), module="benchmarks.drawing"), sides.limits()
    facts = peers.read_with((sides.ours(),), {"runs": ", ".join(run.name for run in runs)})
    found: Entry = {**facts, "rows": rows, "threads": threads, "given": sorted(asked)}
    found |= {"limits": [], "runs": {run.name: [] for run in runs}}
    for _ in range(repeats):
        found["limits"].append(limits.run("products", threads)["gflop_per_s"])
        for run in runs:
            told = {"run": str(run.absolute()), "rows": rows, "given": asked}
            found["runs"][run.name].append(side.run("draw", threads, **told))
    write(out, found)
    Console().print(
        shown(found["runs"], max(found["limits"]), threads), f"written: {out}", sep="\n"
    )


def draw(settings: Settings) -> Result:
    """Rows a second with and without what is given, and dense operations of a row."""
    sampler, rows, given = Sampler.open(settings["run"], "cpu"), settings["rows"], settings["given"]

    def rate(asked: Mapping[str, str]) -> tuple[float, int]:
        sampler.sample(FEW, SEED, asked)
        with clock() as spent:
            drawn = sampler.sample(rows, SEED, asked)
        return rows / spent["wall_s"], rows - _holding(drawn, asked)

    found: Result = {"rows_per_s": rate({})[0]}
    if given:
        found["given_rows_per_s"], found["missed"] = rate(given)
    torch.set_num_threads(1)  # the counter sees what its own thread does
    return {**found, "row": flops(lambda: sampler.sample(FEW, SEED)) / FEW}


def _holding(table: pa.Table, given: Mapping[str, str]) -> int:
    """How many rows hold what is given: a value, or LOW..HIGH."""
    holds = np.ones(table.num_rows, bool)
    for name, text in given.items():
        column = table.column(name)
        low, range_, high = text.partition("..")
        if range_:
            numbers = np.asarray(column.cast(pa.float64()))
            holds &= (float(low or -np.inf) <= numbers) & (numbers <= float(high or np.inf))
        else:
            holds &= np.asarray([str(value) == text for value in column.to_pylist()])
    return int(holds.sum())


def shown(runs: Mapping[str, Sequence[Result]], limit: float, threads: int) -> Table:
    """Rows a second and shares of the limit, a line a run."""
    table = Table(
        *("run", "rows/s", "MFLOP a row", "% of the limit", "rows/s, given", "times as long"),
        title=f"drawn to a table with {threads} thread(s); limit {limit:,.0f} GFLOP/s",
    )
    for name, found in runs.items():
        rates = [one["rows_per_s"] for one in found]
        shares = [100 * one["row"] * one["rows_per_s"] / 1e9 / limit for one in found]
        cells = [spread(rates), f"{found[0]['row'] / 1e6:.2f}", spread(shares)]
        if "missed" in found[0]:
            asked = [one["given_rows_per_s"] for one in found]
            times = [a / b for a, b in zip(rates, asked, strict=True)]
            missed = sum(one["missed"] for one in found)
            cells += [spread(asked), spread(times) + (f"; {missed} MISS" if missed else "")]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    main({"draw": draw})
