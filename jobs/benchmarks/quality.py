"""How good each side's synthetic rows are: both train as long, draw as many, are judged alike.

For every seed, in turn: train on the training table with one thread (what comes out does not depend
on it, and other work on the machine then does not matter), draw as many rows as it has,
and hold them against the test rows with `raysynth.judge`. Synthetic tables are kept, so that the
judging can be repeated and an interrupted benchmark goes on; a table is drawn anew where the
training table, our source, or the peer's version is another.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figures import Judged, quality_table, spread
from benchmarks.measure import MISSING, Result
from benchmarks.sides import Side
from raysynth.judge import judge
from raysynth.schema import Schema

THREADS = 1


@dataclass(frozen=True)
class Job:
    """What to train on and judge by, for how long, how often; synthetic tables go to `folder`."""

    paths: tuple[Path, Path]
    target: str | None
    epochs: int
    repeats: int
    folder: Path


def measure(sides: Iterable[Side], job: Job, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One entry a seed and side: seconds spent, and the judge's report.

    Raises `ValueError` for a table that cannot tell its nulls from the peer's.
    """
    sides = list(sides)
    train, test = map(pq.read_table, job.paths)
    columns = filter(lambda column: _is_text(column.type), train.itercolumns())
    if any(pc.any(_marked(column)).as_py() for column in columns):
        raise ValueError(f"{job.paths[0]}: holds the text '{MISSING}', the peer's null; replace it")
    schema = Schema.infer(train.schema)
    found = []
    for seed in range(job.repeats):
        for side in sides:
            path, facts = _synthetic(side, job, seed, train.num_rows, say)
            table = nulled(pq.read_table(path)) if side.name == "peer" else pq.read_table(path)
            report = judge(table, test, train, schema, job.target, seed).to_json()
            about = {"side": side.name, "seed": seed, "table": str(path)}
            found.append({**about, "spent": facts, "report": report})
    return found


def figures(judged: list[dict[str, Any]]) -> list[Judged]:
    """The judge's figures of both sides, a value a seed; ceiling and floor of our reports."""
    ours, peer = (
        [_figures(entry) for entry in judged if entry["side"] == side] for side in ("ours", "peer")
    )

    def values(reports: list[dict[str, dict[str, Any]]], name: str, what: str) -> tuple[float, ...]:
        return tuple(report[name][what] for report in reports)

    return [
        Judged(
            name,
            first["unit"],
            first["better"],
            values(ours, name, "synthetic"),
            values(peer, name, "synthetic"),
            values(ours, name, "ceiling"),
            values(ours, name, "floor"),
        )
        for name, first in ours[0].items()
    ]


def to_json(job: Job, judged: list[dict[str, Any]]) -> dict[str, Any]:
    """A JSON value: figures beside every report."""
    settings = {"target": job.target, "epochs": job.epochs, "repeats": job.repeats}
    return {
        **settings,
        "threads": THREADS,
        "figures": [figure.to_json() for figure in figures(judged)],
        "judged": judged,
    }


def shown(job: Job, judged: list[dict[str, Any]]) -> list[Any]:
    """What the terminal shows: a table, and how long each side encoded and trained."""
    about = f"{job.epochs} epochs, mean of {job.repeats} seed(s) (least..most)"
    times = {
        side: [entry["spent"]["train"]["wall_s"] for entry in judged if entry["side"] == side]
        for side in ("ours", "peer")
    }
    lines = [f"{side}: encoded and trained in {spread(s)} s" for side, s in times.items()]
    return [quality_table(figures(judged), f"quality: {about}"), *lines]


def _synthetic(
    side: Side, job: Job, seed: int, rows: int, say: Callable[[str], None]
) -> tuple[Path, Result]:
    """The synthetic table of one seed, drawn now or before, and the seconds it took."""
    digest = hashlib.sha256(job.paths[0].read_bytes())
    digest.update(side.run("identity", THREADS)["identity"].encode())
    name = f"{side.name}-{digest.hexdigest()[:8]}-seed{seed}-epochs{job.epochs}.parquet"
    path = job.folder / name
    note = path.with_suffix(".json")
    if note.is_file():
        say(f"{side.name}, seed {seed}: drawn before, {path}")
        return path, json.loads(note.read_text())
    say(f"{side.name}, seed {seed}: training {job.epochs} epochs")
    job.folder.mkdir(parents=True, exist_ok=True)
    settings = {"table": str(job.paths[0]), "epochs": job.epochs, "seed": seed, "rows": rows}
    with tempfile.TemporaryDirectory() as run:
        facts = side.run("synthesise", THREADS, **settings, folder=run, out=str(path))
    note.write_text(json.dumps(facts))  # last: no note, no table
    return path, facts


def _figures(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for figure in entry["report"]["figures"]}


def _marked(column: Any) -> Any:
    """Where a text column holds the peer's null."""
    return pc.equal(column, pa.scalar(MISSING, column.type))


def nulled(table: pa.Table) -> pa.Table:
    """The peer's table with its nulls as nulls again."""
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        if _is_text(column.type):
            null = pa.scalar(None, column.type)
            column = pc.if_else(_marked(column), null, column)
            table = table.set_column(place, name, column)
    return table


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string())
