"""Our attacks beside Anonymeter's on the same rows: the same residual risks, as far as chance lets.

The training rows and the control are rows of `--table`. The synthetic rows are half training rows
and half such whose columns are shuffled one by one, so that no risk is 0 and none is 1. Inference
attacks all rows, and leaves nothing to chance but where two synthetic rows are as near. So does
linkability, but few columns have many rows as near: ours takes one by chance, so it is a mean over
`--seeds`. Singling out draws its predicates: both are means over the seeds.

Anonymeter (BSD 3-Clause Clear) is installed into an environment of its own under `.benchmark/`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.measure import write
from raysynth.attacks import Tables, inference, linkability, singling_out
from raysynth.frames import permuted, subsample
from raysynth.risks import Risk
from raysynth.schema import Schema

VERSION = "1.1.0"
OUT, ENV = Path(".benchmark/parity_anonymeter.json"), Path(".benchmark/anonymeter-env")
ATTEMPTS = 500  # predicates a seed
ALL = 1 << 62  # attempts: as many as there are rows
NEIGHBOURS = (1, 5)


class Entry(NamedTuple):
    """One comparison; `ours` and `theirs` hold value, low, high, main, control, baseline."""

    attack: str
    of: str
    ours: dict[str, float]
    theirs: dict[str, float]


def anonymeter(
    table: Annotated[Path, typer.Option(help="Real rows, a Parquet file.", exists=True)],
    rows: Annotated[int, typer.Option(help="Training rows, and held ones.", min=200)] = 4000,
    seeds: Annotated[int, typer.Option(help="Draws of singling out.", min=1)] = 5,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = OUT,
    env: Annotated[Path, typer.Option(help="Anonymeter's environment, made if need be.")] = ENV,
) -> None:
    """Compare residual risks with Anonymeter's on the same rows."""
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 160
    peer = _peer(env, lambda line: log.print(line, highlight=False))
    tables = _tables(pq.read_table(table), rows)
    found = []
    for entry in _entries(tables, Schema.infer(tables.train.schema), peer, seeds):
        log.print(f"{entry.attack}: {entry.of}", highlight=False)
        found.append(entry)
    facts = peers.read_with((sides.ours(),), {"table": str(table)}) | {"anonymeter": VERSION}
    write(out, facts | {"rows": rows, "entries": [entry._asdict() for entry in found]})
    console.print(_shown(found))
    log.print(f"written: {out}", highlight=False, soft_wrap=True)


def _tables(table: pa.Table, rows: int) -> Tables:
    generator = np.random.default_rng(0)
    both = subsample(table, 2 * rows, generator)
    order = generator.permutation(both.num_rows)
    train, held = (both.take(half) for half in np.array_split(order, 2))
    copied, other = (train.take(half) for half in np.array_split(np.arange(train.num_rows), 2))
    mixed = pa.concat_tables([copied, permuted(other, generator)])
    return Tables(mixed.take(generator.permutation(mixed.num_rows)), train, held)


def _peer(folder: Path, say: Callable[[str], None]) -> sides.Side:
    python = folder.absolute() / "bin" / "python"
    if not python.is_file():
        say(f"making Anonymeter's environment in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    wanted = [f"anonymeter=={VERSION}", "pyarrow"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return sides.Side("anonymeter", python, "benchmarks.peer_anonymeter")


def _entries(tables: Tables, schema: Schema, peer: sides.Side, seeds: int) -> Iterator[Entry]:
    with tempfile.TemporaryDirectory() as name:
        files = {}
        for role in ("synthetic", "train", "held"):
            files[role] = str(Path(name) / f"{role}.parquet")
            pq.write_table(getattr(tables, role), files[role])
        for neighbours, known in product(NEIGHBOURS, _splits(list(schema.names))):
            more: dict[str, Any] = {"known": known, "neighbours": neighbours}
            theirs = peer.run("linkability", 1, **files, **more)
            attack = partial(linkability.attack, tables, schema, attempts=ALL, **more)
            of = f"{'+'.join(known[0])}, {neighbours} near"
            yield Entry("linkability", of, _ours(attack, seeds), theirs)
        for secret in schema.names:
            theirs = peer.run("inference", 1, **files, secret=secret)
            attack = partial(inference.attack, tables, schema, attempts=ALL, secrets=[secret])
            yield Entry("inference", secret, _ours(attack, 1), theirs)
        for place, mode in enumerate(("univariate", "multivariate")):
            more = {"mode": mode, "attempts": ATTEMPTS}
            others = [
                peer.run("singling_out", 1, **files, **more, seed=seed) for seed in range(seeds)
            ]
            attack = partial(singling_out.attack, tables, schema, attempts=ATTEMPTS)
            yield Entry("singling out", mode, _ours(attack, seeds, place), _mean(others))


def _ours(attack: Callable[..., list[Risk]], seeds: int, place: int = 0) -> dict[str, float]:
    """Means over the seeds, of the risk in that place of those that the attack gives."""
    chances = map(np.random.default_rng, range(seeds))
    return _mean([_figures(attack(generator=chance)[place]) for chance in chances])


def _splits(names: list[str]) -> list[tuple[list[str], list[str]]]:
    """Every other column; and the first half."""
    half = len(names) // 2
    return [(names[::2], names[1::2]), (names[:half], names[half:])]


def _figures(risk: Risk) -> dict[str, float]:
    rates = {what: risk.details[f"success_{what}"] for what in ("main", "control", "baseline")}
    return {"value": risk.value, "low": risk.low, "high": risk.high, **rates}


def _mean(several: list[dict[str, float]]) -> dict[str, float]:
    return {key: fmean(one[key] for one in several) for key in several[0]}


def _shown(entries: list[Entry]) -> Table:
    table = Table(title="residual risk: ours, Anonymeter's", title_justify="left")
    for name in ("attack", "of"):
        table.add_column(name)
    for name in ("ours", "theirs", "difference", "main", "control", "baseline"):
        table.add_column(name, justify="right")
    for attack, of, ours, theirs in entries:
        sides_of = (f"{one['value']:.4f}" for one in (ours, theirs))
        apart = f"{ours['value'] - theirs['value']:+.4f}"
        rates = (f"{ours[key]:.4f}/{theirs[key]:.4f}" for key in ("main", "control", "baseline"))
        table.add_row(attack, of, *sides_of, apart, *rates)
    return table
