"""What a table of a billion rows would take on many machines: counted here, reckoned from rates.

Every count comes from the code itself, run on a small table (`counting.py`): bytes of a row of
codes, operations, calls and averaged gradients of a step, bytes of a checkpoint, files, requests.
Formulas carry them over to more rows and workers, and are first held against what was counted or
timed here. Rates are given, not measured: a device's, a network's, an object store's (`Rates`).

A row of codes has K indices of 1, 2 or 4 bytes and S float32. Per step and worker: `operations` are
linear in its rows; W workers send 2 (W - 1) / W times their gradients each in a ring; a step takes
the longest of its products, what memory moves for all else, and the host's calls; then the sum.

Encoding reads the table twice and spills row and key by `shuffle.SPILL`; each bucket then looks
into every spilled file, so visits grow with the square of the table, and with them the footers
that are read, 24 bytes a bucket. Past `shuffle.DIRECT` buckets rows are spilled twice, so that
visits grow with the power of 3/2. A worker whose share is more than a window reads all of it again
each epoch.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import number
from benchmarks.measure import write
from benchmarks.training import ADULT, FAMILIES, WORK
from raysynth import models, shards
from raysynth.config import TrainConfig, parse
from raysynth.s3 import PART
from raysynth.source import BYTES, ROWS
from raysynth.stages import shuffle
from raysynth.storage import Place

KEY = 8  # bytes of the hash that a spilled row is sorted by
BLOCK, OVERHEAD = 24, 400  # bytes of a footer a record batch, and of a visit; found by counting
BATCH = 225  # bytes that a record batch adds to a spilled file; found by counting
VISIT, PIECE = 4, 3  # requests to read a bucket of a spilled file, and a piece of the codes
TASKS = 256  # `stages.data.TASKS`, which is not imported: it needs Ray
WIDE = 200  # columns
WIDE_ROWS = 4_000

Entry = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Rates:
    """What machines do a second, each a figure to be replaced by one's own (`--rate`).

    None was measured here: there is neither a GPU nor a network. `flops` float32 of a GPU, of which
    `share` is reached; `memory` bytes of it; `call_s` seconds of the host for one operation;
    `network` bytes of a GPU's link and `hop_s` seconds from one to the next; `store` bytes of the
    object store in all, its `gets` and `puts` (what Amazon promises of one prefix).
    """

    nodes: float = 8
    gpus: float = 8
    cores: float = 32
    flops: float = 60e12
    share: float = 0.2
    memory: float = 3e12
    call_s: float = 5e-6
    network: float = 25e9
    hop_s: float = 10e-6
    store: float = 10e9
    gets: float = 5_500
    puts: float = 3_500

    @property
    def workers(self) -> int:
        """One a GPU."""
        return int(self.nodes * self.gpus)


class Check(NamedTuple):
    """A figure of a formula beside the one that was counted or timed."""

    name: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Predicted over measured: 1 where the formula is right."""
        return self.predicted / self.measured


class Term(NamedTuple):
    """Seconds of a part of the job, and what they are of."""

    name: str
    seconds: float
    of: str


class Spill(NamedTuple):
    """All `rows` in so many `files`, each cut into so many `parts`; each part is read once."""

    rows: float
    size: int
    files: float
    parts: float

    @property
    def visits(self) -> float:
        """How often a file is looked into."""
        return self.files * self.parts

    @property
    def written_bytes(self) -> float:
        """Bytes of the files."""
        return spilled_bytes(self.rows, self.size, self.files, self.parts)

    @property
    def read_bytes(self) -> float:
        """Bytes read of them."""
        return visit_bytes(self.rows, self.size, self.files, self.parts)


# -- formulas -------------------------------------------------------------------------------------


def row_bytes(indices: int, index_bytes: int, scalars: int) -> int:
    """Bytes of a row of codes."""
    return indices * index_bytes + 4 * scalars


def ring_bytes(gradient_bytes: float, workers: int) -> float:
    """Bytes that each worker sends of one sum over all of them, in a ring."""
    return 2 * (workers - 1) / workers * gradient_bytes


def of_rows(counted: Entry, what: str, rows: float) -> float:
    """`operations` or `moved_bytes` of a step of so many rows: a line through half and twice."""
    low, high, batch = counted[what]["half"], counted[what]["double"], counted["batch"]
    slope = (high - low) / (2 * batch - batch // 2)
    return float(low + slope * (rows - batch // 2))


def autoregressive_operations(shape: Entry, rows: int) -> int:
    """The same of an autoregressive step, from its shapes alone.

    D columns, H width, N indices in all, S scalars of M normals and F features, P places along
    scales. A weight that a row is multiplied with takes 2 operations forwards and 4 backwards, and
    2 backwards where it is multiplied with what needs no gradient (features).
    """
    d, h, n, s, m, f, p = (shape[key] for key in "DHNSMFP")
    mine = 6 * (2 * d * h * h + h * n + 3 * m * h * s) + 4 * f * h * s
    return int(rows * mine + 4 * h * f * p)


def spilled_files(
    rows: float, tasks: float, batch: float, size: float, spill: float = shuffle.SPILL
) -> float:
    """Files that tasks spill, each its share of the rows, in whole batches (`size` bytes a row)."""
    batches = -(-(rows / tasks) // batch)
    return tasks * -(-batches // -(-spill // (batch * (size + KEY))))


def spilled_bytes(rows: float, size: float, files: float, buckets: float) -> float:
    """Bytes of all spilled files: rows and keys, and what a record batch adds."""
    return rows * (size + KEY) + files * buckets * BATCH


def visit_bytes(rows: float, size: float, files: float, buckets: float) -> float:
    """Bytes read where every bucket looks into every spilled file: rows and keys, and footers."""
    return rows * (size + KEY) + files * buckets * (BLOCK * buckets + OVERHEAD)


def spills(
    rows: int, tasks: float, batch: float, size: int, cut: shuffle.Cut, spill: float = shuffle.SPILL
) -> list[Spill]:
    """The files that rows are spilled to, and spilled again to where they are many."""
    files = spilled_files(rows, tasks, batch, size, spill)
    found = [Spill(rows, size, files, cut.parts)]
    if not cut.last:
        piece = rows / files / cut.parts  # of a group, in a file
        again = spilled_files(rows, cut.parts, piece, size, spill)
        found.append(Spill(rows, size, again, cut.buckets / cut.parts))
    return found


@dataclass(frozen=True)
class Planned(shards.Share):
    """A share of codes that nobody has written: its windows, and the pieces that each reads."""

    pieces: tuple[tuple[str, int], ...] = ()

    def _files(self) -> list[tuple[str, int]]:
        return list(self.pieces)

    @property
    def read(self) -> list[int]:
        """How many pieces each window reads; a piece is read whole, however little is wanted."""
        ends, at = [], 0
        for _, rows in self.pieces:
            ends.append((at, at := at + rows))
        return [
            sum(max(start, low) < min(stop, high) for low, high in ends)
            for start, stop in self.bounds
        ]


def planned(layout: Any, pieces: Sequence[tuple[str, int]], workers: int, window: int) -> list[int]:
    """Pieces that each window of each worker reads, worker by worker."""
    place, named = Place.of("nowhere"), tuple((name, rows) for name, rows in pieces)
    shares = (Planned(place, layout, worker, workers, window, named) for worker in range(workers))
    return [count for share in shares for count in share.read]


def puts(size: float) -> float:
    """Requests to write an object: one, or those of its parts with a first and a last."""
    return 1 if size < PART else 2 - (-size // PART)


# -- the job --------------------------------------------------------------------------------------


def encoding(table: Entry, rows: float, rates: Rates) -> tuple[list[Term], Entry]:
    """The terms of reading and encoding, and the files and requests they come to."""
    size, source = table["row_bytes"], table["source_bytes"]
    batch = min(ROWS, BYTES / max(source, 8 * table["columns"]))
    cut = shuffle.Cut.of(int(rows), size)
    through = spills(int(rows), min(TASKS, -(-rows // batch)), batch, size, cut)
    buckets = cut.buckets
    visits = sum(one.visits for one in through)
    seen = sum(one.read_bytes for one in through)
    kept = rows * table["stored_bytes"]
    asked = {
        "spilled": [one.files for one in through],
        "buckets": buckets,
        "visits": visits,
        "gets": VISIT * visits,
        "puts": buckets * puts(kept / buckets)
        + sum(one.files * puts(one.written_bytes / one.files) for one in through),
        "read_bytes": 2 * rows * source + seen,
        "written_bytes": sum(one.written_bytes for one in through) + kept,
    }
    cpu = table["summarise_s"] + table["encode_s"]
    terms = [
        Term("read the table twice", 2 * rows * source / rates.store, "store's bytes"),
        Term("summarise, encode", rows * cpu / (rates.nodes * rates.cores), "cores, as timed here"),
        Term("write spilled and codes", asked["written_bytes"] / rates.store, "store's bytes"),
        Term("ask to write", asked["puts"] / rates.puts, "store's requests"),
        Term("ask for buckets", asked["gets"] / rates.gets, "store's requests"),
        Term("read buckets", seen / rates.store, "store's bytes"),
    ]
    return terms, asked


def training(
    counted: Entry, table: Entry, rows: int, rates: Rates, family: str, weak: bool
) -> tuple[list[Term], Entry]:
    """The terms of all steps of a family, on batches as shipped or, `weak`, so many a worker."""
    made = models.get(family)
    settings = parse(made.Config, {})
    workers = rates.workers
    mine = settings.batch if weak else max(1, settings.batch // workers)
    batch = made.batch_rows(mine, settings)
    epochs = made.epochs(rows, settings)
    steps = epochs * max(1, rows // (batch * workers))
    sent = ring_bytes(counted["reduced_bytes"], workers) / rates.network
    waited = counted["sums"] * 2 * (workers - 1) * rates.hop_s
    pieces = [("", rows // table["buckets"])] * table["buckets"]
    window = TrainConfig.model_fields["window_mib"].default * 2**20
    read = planned(table["layout"], pieces, workers, window)
    again = epochs if len(read) > workers else 1
    held = rows * table["stored_bytes"] / table["buckets"]
    inner = {
        "products": of_rows(counted, "operations", batch) / (rates.flops * rates.share),
        "memory": of_rows(counted, "moved_bytes", batch) / rates.memory,
        "host's calls": counted["calls"] * rates.call_s,
    }
    longest = max(inner, key=lambda name: inner[name])
    terms = [
        Term("steps", steps * inner[longest], longest),
        Term("sum: bytes", steps * sent, "network's bytes"),
        Term("sum: hops", steps * waited, "network's latency"),
        Term("read codes: bytes", again * sum(read) * held / rates.store, "store's bytes"),
        Term("read codes: requests", again * PIECE * sum(read) / rates.gets, "store's requests"),
        Term("checkpoints", epochs * counted["checkpoint_bytes"] / rates.store, "store's bytes"),
    ]
    facts = {"steps": steps, "epochs": epochs, "batch": batch, "windows": len(read), "step": inner}
    return terms, facts


# -- the command ----------------------------------------------------------------------------------


def cost(
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family. Repeat.", show_default=", ".join(FAMILIES)),
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to reckon for.", min=1)] = 1_000_000_000,
    rate: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A rate of `Rates`. Repeat.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "cost.json",
) -> None:
    """Count what a training asks for, check the formulas here, reckon a billion rows."""
    rates = _rates(rate or [])
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 160

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    ours = replace(sides.ours(), module="benchmarks.counting")
    facts = peers.read_with((sides.ours(),), {"adult": str(ADULT[0])})
    limits = sides.limits()
    limit = {task: limits.run(task, 1) for task in ("products", "bandwidth")}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "wide.parquet"
        ours.run("wide", 1, columns=WIDE, rows=WIDE_ROWS, out=str(path))
        tables = {"adult": ADULT[0], f"wide ({WIDE} columns)": path}
        measured = {
            (table, one): _counted(ours, path, table, one, say)
            for table, path in tables.items()
            for one in family or FAMILIES
        }
        told = {"rows": None, "batch": 2_000, "readers": 3, "folder": name, "epochs": 1}
        stored = {
            table: ours.run("stored", 1, table=str(at), **told) for table, at in tables.items()
        }
        source = {table: at.stat().st_size / stored[table]["rows"] for table, at in tables.items()}
    for (table, _), counted in measured.items():
        counted |= {"source_bytes": source[table]}
    checks = {
        **{table: storing(one) for table, one in stored.items()},
        **{f"{table}, {one}": stepping(c, limit) for (table, one), c in measured.items()},
    }
    console.print(counts(measured), checked(checks))
    reckoned = [
        _reckoned(table, one, counted, stored[table], rows, rates, weak)
        for (table, one), counted in measured.items()
        for weak in (False, True)
    ]
    console.print(shown(reckoned, rows, rates), UNPROVEN)
    entries = [{"table": t, "family": f, **counted} for (t, f), counted in measured.items()]
    found = {**facts, "limit": limit, "rates": asdict(rates), "rows": rows, "counted": entries}
    found |= {"stored": stored, "reckoned": reckoned}
    found["checks"] = {
        name: [{**check._asdict(), "ratio": check.ratio} for check in mine]
        for name, mine in checks.items()
    }
    write(out, found)
    say(f"written: {out}")


UNPROVEN = (
    "Unproven: every rate of a GPU, a network and a store; that parts of a step overlap as assumed;"
    "\nwhat stragglers, retries and throttling cost. Seconds of cores are those of this machine."
)


def storing(stored: Entry) -> list[Check]:
    """Formulas of files and requests beside what was counted, with small files."""
    from benchmarks.counting import SMALL, WINDOW

    rows, size, pieces = stored["rows"], stored["row_bytes"], stored["pieces"]
    files = spilled_files(rows, 1, stored["batch"], size, SMALL)
    visits = files * stored["buckets"]
    layout = Shape(size, (None,) * stored["categories"])
    read = planned(layout, pieces, stored["readers"], WINDOW)
    return [
        Check("spilled files", files, stored["spilled"]),
        Check(
            "spilled bytes",
            spilled_bytes(rows, size, files, stored["buckets"]),
            stored["spilled_bytes"],
        ),
        Check("requests for buckets", VISIT * visits, _asked(stored["gathered"])),
        Check(
            "bytes read for buckets",
            visit_bytes(rows, size, files, stored["buckets"]),
            stored["gathered"]["bytes"],
        ),
        Check("requests for windows", PIECE * sum(read), _asked(stored["read"])),
        *_grouping(stored),
    ]


def _grouping(stored: Entry) -> list[Check]:
    """The same of rows that are spilled twice, and each group's files, which are few here."""
    from benchmarks.counting import SMALL

    grouped = stored["grouped"]
    cut = shuffle.Cut(grouped["buckets"], 0, grouped["buckets"], grouped["groups"])
    through = spills(stored["rows"], 1, stored["batch"], stored["row_bytes"], cut, SMALL)
    told = ("first", "regrouped"), ("then", "gathered")
    found = [Check("groups' files", through[1].files, grouped["then"])]
    for one, (made, read) in zip(through, told, strict=True):
        found += [
            Check(f"bytes spilled, {made}", one.written_bytes, grouped[f"{made}_bytes"]),
            Check(f"requests, {made}", VISIT * one.visits, _asked(grouped[read])),
            Check(f"bytes read, {made}", one.read_bytes, grouped[read]["bytes"]),
        ]
    return found


def stepping(counted: Entry, limit: Entry) -> list[Check]:
    """Formulas of a step beside what was counted and timed, on one thread."""
    products, moved = limit["products"]["gflop_per_s"], limit["bandwidth"]["gb_per_s"]
    did, passed = counted["operations"]["whole"], counted["moved_bytes"]["whole"]
    took = did / products / 1e9 + passed / moved / 1e9
    found = [
        Check("bytes of a row of codes", counted["row_bytes"], counted["codes_bytes"]),
        Check("operations", of_rows(counted, "operations", counted["batch"]), did),
        Check("bytes moved", of_rows(counted, "moved_bytes", counted["batch"]), passed),
        Check("bytes averaged", 4 * counted["parameters"], counted["reduced_bytes"]),
        Check(
            "bytes of a checkpoint", 4 * counted["checkpoint_numbers"], counted["checkpoint_bytes"]
        ),
        Check("seconds: products and memory", took, counted["step_s"]),
    ]
    if counted["shape"]:
        exact = autoregressive_operations(counted["shape"], counted["batch"])
        found.insert(2, Check("operations, from shapes", exact, did))
    return found


class Shape(NamedTuple):
    """What `shards.Share` asks of a layout."""

    row_bytes: int
    categories: tuple[None, ...]


def counts(measured: dict[tuple[str, str], Entry]) -> Table:
    """What was counted: a line a table and family."""
    table = Table(title="counted", title_justify="left")
    for name in ("table", "family"):
        table.add_column(name)
    for name in (
        "bytes a row",
        "parameters",
        "MFLOP a row and step",
        "MB moved a row and step",
        "MB averaged",
        "sums",
        "calls",
        "MB of a checkpoint",
    ):
        table.add_column(name, justify="right")
    for (name, family), counted in measured.items():
        slopes = [
            of_rows(counted, what, 2) - of_rows(counted, what, 1)
            for what in ("operations", "moved_bytes")
        ]
        table.add_row(
            name,
            family,
            f"{counted['row_bytes']}",
            f"{counted['parameters']:,}",
            *(number(slope / 1e6) for slope in slopes),
            number(counted["reduced_bytes"] / 1e6),
            f"{counted['sums']}",
            f"{counted['calls']:,}",
            number(counted["checkpoint_bytes"] / 1e6),
        )
    return table


def checked(checks: dict[str, list[Check]]) -> Table:
    """Every formula beside its measurement."""
    table = Table(title="formulas, checked here", title_justify="left")
    for name in ("of", "figure"):
        table.add_column(name)
    for name in ("predicted", "measured", "ratio"):
        table.add_column(name, justify="right")
    for name, mine in checks.items():
        table.add_section()
        for check in mine:
            values = number(check.predicted), number(check.measured), f"{check.ratio:.3f}"
            table.add_row(name, check.name, *values)
    return table


def shown(reckoned: Sequence[Entry], rows: int, rates: Rates) -> Table:
    """What was reckoned: seconds of encoding and of training, and what bounds each."""
    title = f"{rows:,} rows, {rates.workers} workers: reckoned, not measured"
    table = Table(title=title, title_justify="left")
    for name in ("table", "family", "rows a step"):
        table.add_column(name)
    for name in ("encode, h", "bound by", "visits", "train, h", "bound by", "steps", "GPU h"):
        table.add_column(name, justify="right")
    for one in reckoned:
        encode, train = one["encode"], one["train"]
        table.add_row(
            one["table"],
            one["family"],
            f"{one['batch']} x {rates.workers}",
            number(sum(term["seconds"] for term in encode) / 3600),
            _bound(encode),
            f"{one['asked']['visits']:,.0f}",
            number(sum(term["seconds"] for term in train) / 3600),
            _bound(train),
            f"{one['steps']:,}",
            number(sum(term["seconds"] for term in train) * rates.workers / 3600),
        )
    return table


def _counted(side: sides.Side, path: Path, table: str, family: str, say: Say) -> Entry:
    say(f"counting: {table}, {family}")
    settings = parse(models.get(family).Config, {})
    told = {"table": str(path.absolute()), "family": family, "seed": 0, "epochs": 1}
    told |= {"folder": "nowhere", "batch": settings.batch, "rows": None}
    return side.run("step", 1, **told)


def _reckoned(
    table: str, family: str, counted: Entry, stored: Entry, rows: int, rates: Rates, weak: bool
) -> Entry:
    kept = stored["pieces_bytes"] / stored["rows"]
    terms, asked = encoding({**counted, "stored_bytes": kept}, rows, rates)
    layout = Shape(counted["row_bytes"], (None,) * counted["categories"])
    place = {"layout": layout, "buckets": asked["buckets"], "stored_bytes": kept}
    steps, facts = training(counted, place, rows, rates, family, weak)
    about = {"table": table, "family": family, "asked": asked, **facts}
    return {**about, "encode": [t._asdict() for t in terms], "train": [t._asdict() for t in steps]}


def _bound(terms: Sequence[Entry]) -> str:
    longest = max(terms, key=lambda term: float(term["seconds"]))
    return f"{longest['of']} ({longest['seconds'] / sum(t['seconds'] for t in terms):.0%})"


def _asked(seen: Entry) -> int:
    return int(seen["opened"] + seen["reads"])


def _rates(given: Sequence[str]) -> Rates:
    known, told = {field.name for field in fields(Rates)}, {}
    for word in given:
        name, _, value = word.partition("=")
        try:
            told[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--rate {word}: expected NAME=VALUE") from None
        if name not in known:
            raise typer.BadParameter(f"--rate {name}: expected one of {', '.join(sorted(known))}")
    return Rates(**told)
