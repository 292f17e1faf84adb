"""The whole job on real tables: does it end with no settings, do types come back, does any leak.

Each table is cut in two halves by chance. A generator is trained on the first, sampled, and judged
against the second, by the commands a user would type; where the training names columns to leave out
(free text), they are left out as its message says.

**Chance.** A value is *private* where its half alone holds it and fewer than `LEAST` rows of it do;
identifiers, personal data and text are so however many rows hold them. A generator that has seen
one half only and copies nothing meets as many private values of either: of n that it met, each is
of the trained half with probability a half. The figure beside the counts is the chance, by the
binomial distribution, of as many or more of the trained half as there were; a leak makes it tiny.

The run folder, with the report in it, is searched byte by byte for up to `searched` private values
a column of each half: for texts of `SHORTEST` characters or more, and numbers and times of as many
digits, as a text file would hold them. Few matches are expected there: a short number may stand in
any longer one. So the other half's values, which the run cannot know, are searched for as well, and
the same chance tells whether those of the trained half are found more often; of identifiers,
personal data and text none may be found. The ends of a number's range are not searched for: the run
holds them because `LEAST` rows or more lie at or beyond each.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from raysynth.arrays import is_time, plain
from raysynth.codecs import Codec
from raysynth.hashing import uniform
from raysynth.run import Run, open_run
from raysynth.storage import Place, write

WORK = Path(".benchmark")
LEAST = 10
SHORTEST = 6
LEAK = 1e-4  # a chance under this is none
ALWAYS = ("identifier", "personal", "text")  # kinds whose values are private however many share one
_LEAVE = re.compile(r"--drop '([^']*)'")

Entry = dict[str, Any]


def tables(
    paths: Annotated[list[Path], typer.Argument(help="Parquet files.")],
    at: Annotated[
        str, typer.Option(help="Where halves, runs and samples go: a folder, or s3://bucket/key.")
    ] = str(WORK / "tables"),
    epochs: Annotated[int, typer.Option(help="Passes over each table.", min=1)] = 1,
    rows: Annotated[int, typer.Option(help="Rows to sample.", min=1)] = 100_000,
    searched: Annotated[
        int, typer.Option(help="Private values a column searched for in the run.", min=1)
    ] = 1_000,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "tables.json",
) -> None:
    """Train, sample and judge each table with no settings; compare types, look for private values.

    Exits with 1 where types differ, or private values are met more often than chance allows.
    """
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 220

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    entries = []
    for path in paths:
        say(f"{path.stem}: train, sample, evaluate")
        entries.append(_whole_job(path, Place.of(at) / path.stem, epochs, rows, searched, say))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(entries, indent=1))
    console.print(shown(entries), private(entries))
    say(f"written: {out}")
    if not all(entry["same_types"] and clean(entry) for entry in entries):
        raise typer.Exit(1)


def _whole_job(
    path: Path, place: Place, epochs: int, rows: int, searched: int, say: Callable[[str], None]
) -> Entry:
    place.remove()
    if not place.bucket:
        place.local.mkdir(parents=True)
    trained, held = halves(pq.read_table(path))
    for name, table in (("trained", trained), ("held", held)):
        write([table], place / f"{name}.parquet")
    seconds, out = {}, place / "sample.parquet"
    words = ["train", str(place / "trained.parquet"), "--epochs", str(epochs), "--name", "run"]
    words += ["--storage", str(place)]
    told, seconds["train"] = _run(*words)
    left_out = _LEAVE.findall(told) if isinstance(told, str) else []
    if left_out:
        say(f"{path.stem}: {told}")
        words += [word for name in left_out for word in ("--drop", name)]
        told, seconds["train"] = _run(*words)
    if isinstance(told, str):
        raise RuntimeError(f"{path.stem}: {told}")
    run = told["run"]
    _, seconds["sample"] = _done("sample", run, "--rows", str(rows), "--out", str(out))
    judged, seconds["evaluate"] = _done("evaluate", run, "--real", str(place / "held.parquet"))
    drawn, opened = out.read(pq.read_table), open_run(run)
    expected = trained.drop_columns(left_out).schema.remove_metadata()
    return {
        "table": path.stem,
        "rows": trained.num_rows,
        "columns": len(expected),
        "left_out": left_out,
        "same_types": bool(drawn.schema.remove_metadata().equals(expected)),
        "seconds": seconds,
        "figures": {figure["name"]: figure["synthetic"] for figure in judged["figures"]},
        "sampled": drawn.num_rows,
        "private": _met(trained, held, drawn, opened, searched),
    }


def _done(*words: str) -> tuple[Any, float]:
    told, seconds = _run(*words)
    if isinstance(told, str):
        raise RuntimeError(told)
    return told, seconds


def _run(*words: str) -> tuple[Any, float]:
    """What a command prints with --json, or the message it refuses with; and seconds."""
    begun = time.perf_counter()
    call = [sys.executable, "-m", "raysynth", *words, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode == 2:
        return done.stderr.strip().splitlines()[-1], seconds
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]), seconds


def halves(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows by a fair coin each."""
    heads = uniform(np.arange(table.num_rows, dtype=np.uint64), 0) < 0.5
    return table.filter(pa.array(heads)), table.filter(pa.array(~heads))


def _met(trained: pa.Table, held: pa.Table, drawn: pa.Table, run: Run, searched: int) -> list[Any]:
    """A column: how many private values of each half there are, were sampled, are in the run."""
    data = b"\n".join(place.read_bytes() for place, _ in run.place.files())
    found = []
    for column, codec in zip(run.table.schema.columns, run.table.codecs, strict=True):
        sides = [plain(side.column(column.name)) for side in (trained, held)]
        least = 0 if column.kind in ALWAYS else LEAST
        alone = [private_values(sides[one], sides[1 - one], least) for one in (0, 1)]
        there = plain(drawn.column(column.name)).unique()
        met = [int(pc.sum(pc.is_in(values, value_set=there)).as_py() or 0) for values in alone]
        ends = _ends(codec, sides[0].type)
        in_run = [
            sum(any(form in data for form in forms(value)) for value in some.to_pylist())
            for some in (_without(values, ends).slice(0, searched) for values in alone)
        ]
        about = {"column": column.name, "kind": column.kind, "values": [*map(len, alone)]}
        found.append({**about, "sampled": met, "chance": chance(*met), "in_run": in_run})
    return found


def _ends(codec: Codec, kind: pa.DataType) -> pa.Array:
    """Both ends of a number's range, or none: the run is to hold these, enough rows lie beyond."""
    scale = getattr(codec, "scale", None)
    return pa.array([], kind) if scale is None else plain(scale.values(np.array(scale.ends)))


def _without(values: pa.Array, others: pa.Array) -> pa.Array:
    return values.filter(pc.invert(pc.is_in(values, value_set=others)))


def private_values(mine: pa.ChunkedArray, theirs: pa.ChunkedArray, least: int) -> pa.Array:
    """The values that `mine` alone holds; with `least`, in fewer rows than that."""
    counts = pc.value_counts(mine.drop_null())
    values, rows = counts.field("values"), counts.field("counts").to_numpy()
    rare = pa.array(rows < least if least else np.ones(len(rows), np.bool_))
    alone = pc.invert(pc.is_in(values, value_set=theirs.unique()))
    return values.filter(pc.and_(rare, alone))


def chance(trained: int, held: int) -> float:
    """The chance of at least `trained` heads among `trained` + `held` throws of a fair coin."""
    return float(binom.sf(trained - 1, trained + held, 0.5))


def forms(value: Any) -> Iterator[bytes]:
    """The bytes a text file would hold a value as, where they are long enough to tell something."""
    texts = [str(value)]
    if isinstance(value, str):
        texts.append(json.dumps(value)[1:-1])
    elif is_time(pa.scalar(value).type):
        texts.append(str(pa.scalar(value).value))
    for text in texts:
        telling = text if isinstance(value, str) else re.sub(r"\D", "", text).strip("0")
        if len(telling) >= SHORTEST:
            yield text.encode()


def clean(entry: Entry) -> bool:
    """Whether chance alone may have met as many private values, in any column and in the run.

    Of identifiers, personal data and text, none may be in the run at all.
    """
    met = [column["sampled"] for column in entry["private"]]
    never = [column["in_run"][0] for column in entry["private"] if column["kind"] in ALWAYS]
    return not any(never) and all(chance(*pair) >= LEAK for pair in (*met, _found(entry)))


def _found(entry: Entry) -> list[int]:
    return [sum(column["in_run"][side] for column in entry["private"]) for side in (0, 1)]


def shown(entries: list[Entry]) -> Table:
    """A table a row: seconds, whether types came back, figures."""
    table = Table(title="the whole job, no settings", title_justify="left")
    figures = list(entries[0]["figures"])
    names = ("table", "rows", "columns", "left out", "types", "train s", "sample s", "evaluate s")
    for name in (*names, *figures):
        table.add_column(name, justify="right")
    for entry in entries:
        seconds = (f"{value:.0f}" for value in entry["seconds"].values())
        scores = (entry["figures"].get(name) for name in figures)
        table.add_row(
            entry["table"],
            f"{entry['rows']:,}",
            str(entry["columns"]),
            ", ".join(entry["left_out"]),
            "equal" if entry["same_types"] else "DIFFER",
            *seconds,
            *("" if value is None else f"{value:.3f}" for value in scores),
        )
    return table


def private(entries: list[Entry]) -> Table:
    """A table a row: private values of the trained half and of the held one, and where met."""
    table = Table(title="private values: of the trained half / the other", title_justify="left")
    for name in ("table", "values", "sampled", "chance", "least of a column", "in the run"):
        table.add_column(name, justify="right")
    for entry in entries:
        columns = entry["private"]
        values, met = (
            [sum(column[what][side] for column in columns) for side in (0, 1)]
            for what in ("values", "sampled")
        )
        least = min(columns, key=lambda column: column["chance"])
        table.add_row(
            entry["table"],
            *(" / ".join(f"{count:,}" for count in pair) for pair in (values, met)),
            f"{chance(*met):.2g}",
            f"{least['chance']:.2g} ({least['column']}, of {len(columns)})",
            " / ".join(map(str, _found(entry))),
        )
    return table
