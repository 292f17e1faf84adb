"""Synthetic rows and real ones to a report: of a run, kept in it; of any tool's table, in a folder.

Fidelity and utility (`judge`), attacks (`privacy`), the verdict (`gate`), the page (`report`).

Tables may be larger than memory: of each, `MOST` rows are drawn (`gather`), by the seed. What is
rare and what is copied is counted over all training rows, in a second pass where there are more.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysynth import guess, local, privacy
from raysynth.census import Census
from raysynth.config import GateConfig
from raysynth.errors import RaysynthError, TableError
from raysynth.frames import Floats
from raysynth.gate import decide
from raysynth.judge import Report, count_rows, judge
from raysynth.progress import Show
from raysynth.report import html
from raysynth.risks import Risk
from raysynth.run import Run, add_files
from raysynth.sampler import Sampler
from raysynth.schema import Schema, quoted, select
from raysynth.selection import WHOLE, Selection
from raysynth.stages.gather import Gathered, arrow, gather
from raysynth.stages.staging import Table, chosen
from raysynth.stages.watch import watched
from raysynth.storage import Place, write_bytes
from raysynth.summary import summarise

JSON, HTML = "report.json", "report.html"
MOST = 200_000  # rows of each table that are looked at, beyond counting
LEAST = 10


@dataclass(frozen=True)
class Asked:
    """How to judge: the `target` of utility, the seed, the bars of the gate.

    `quasi` are the columns that may be known of a person (default: `attacks.rare`), `least` rows
    must share a value for it to be nobody's secret. None is what the run was trained with. So many
    `shadows` are trained as the run was, for the attack of one who does that.
    """

    target: str | None = None
    seed: int = 0
    gate: GateConfig | None = None
    quasi: Sequence[str] | None = None
    least: int | None = None
    shadows: int = 0


class _Inside(NamedTuple):
    """What only one who has the run can do: say what a row costs, and train as it was trained."""

    bits: Callable[[pa.Table], Floats] | None
    make: Callable[[pa.Table, int], pa.Table]

    @classmethod
    def of(cls, run: Run, sampler: Sampler) -> "_Inside":
        def make(rows: pa.Table, seed: int) -> pa.Table:
            config = run.config.model_copy(update={"seed": seed})
            drawn = local.train(config, rows, run.table.schema.modelled)
            return drawn.sample(rows.num_rows, seed)

        return cls(sampler.bits if sampler.model.scores else None, make)


def evaluate(
    run: Run,
    real: Table,
    train: Table | None = None,
    asked: Asked | None = None,
    show: Show | None = None,
) -> Report:
    """Judge rows drawn from `run` against `real` rows it was not trained on.

    As many rows are drawn as it was trained on, `MOST` at most. Without `train`, the table its
    settings name is looked for; without either the report has no ceiling and no attack is made. Of
    a `train` of other than the run's number of rows, what its settings select is taken. Writes
    report.json and report.html into the run, and what the gate says into its manifest. Raises
    `TableError` where a table lacks the run's columns.
    """
    asked, show = asked or Asked(), watched(show, run.place.name)
    asked = replace(
        asked,
        gate=asked.gate or run.config.gate,
        least=run.config.least if asked.least is None else asked.least,
    )
    schema = run.table.schema.modelled  # invented columns have no likeness to judge
    held = gather(real, schema, MOST, asked.seed, show=show).table
    trained = _trained_on(run, train, schema, asked.seed, show)
    _check(schema, asked, real=held, train=None if trained is None else trained.sample.table)
    sampler = Sampler.open(run)
    rows = min(run.rows, MOST)
    with show.phase("sample", rows) as phase:
        synthetic = sampler.sample(rows, asked.seed)
        phase.at(rows)
    told = _Told(select(synthetic, schema), held, trained, schema, asked)
    report = _judged(told, show, _Inside.of(run, sampler))
    title = f"{run.place.name}: {run.config.family} on {run.rows:,} rows"
    page = _page(report, told, title=title, epochs=run.losses, kept=run.kept)
    assert report.verdict is not None, "it was just asked for"
    add_files(run, _files(report, page), report.verdict.to_json())
    return report


def compare(
    synthetic: Table,
    real: Table,
    out: Place,
    train: Table | None = None,
    asked: Asked | None = None,
    *,
    drop: Sequence[str] = (),
    categories: Sequence[str] = (),
    show: Show | None = None,
) -> Report:
    """Judge rows from any source against `real` rows that its generator was not trained on.

    `train` are those it was trained on; without them the report has no ceiling and no attack is
    made. What columns are is guessed from `train`, or else from `real`: keys and personal data are
    not judged, nor are those that `drop` names. Writes report.json and report.html into the folder
    `out`. Raises `TableError` where the tables' columns differ.
    """
    asked, show = asked or Asked(), watched(show, out.name)
    tables = {"real": real, "synthetic": synthetic} | ({} if train is None else {"train": train})
    known = real if train is None else train
    inferred = Schema.infer(arrow(known), drop, categories)
    _alike(inferred, {name: arrow(table) for name, table in tables.items()})
    first = gather(known, inferred, MOST, asked.seed, show=show)
    schema = _settled(first.table, inferred, asked.least or LEAST)

    def some(table: Table) -> Gathered:
        if table is known:
            return replace(first, table=select(first.table, schema))
        return gather(table, schema, MOST, asked.seed, show=show)

    made, held = some(synthetic).table, some(real).table
    trained = None if train is None else _Trained(train, WHOLE, some(train))
    _check(schema, asked, synthetic=made, real=held)
    told = _Told(made, held, trained, schema, asked)
    report = _judged(told, show)
    page = _page(report, told)
    for name, data in _files(report, page).items():
        write_bytes(out / name, data)
    return report


class _Trained(NamedTuple):
    """The table a generator was trained on, the rows of it that it saw, and a sample of them."""

    table: Table
    selection: Selection
    sample: Gathered


class _Told(NamedTuple):
    """What is judged, and how."""

    synthetic: pa.Table
    real: pa.Table
    train: _Trained | None
    schema: Schema
    asked: Asked

    @property
    def least(self) -> int:
        """Rows that must share a value for it to be nobody's secret."""
        return LEAST if self.asked.least is None else self.asked.least

    @property
    def gate(self) -> GateConfig:
        """The bars."""
        return self.asked.gate or GateConfig()


def _judged(told: _Told, show: Show, inside: _Inside | None = None) -> Report:
    schema, asked, rows = told.schema, told.asked, told.synthetic.num_rows
    train = None if told.train is None else told.train.sample.table
    census = _counted(told, show)
    with show.phase("judge", rows) as phase:
        tables = (told.synthetic, told.real, train)
        report = judge(*tables, schema, asked.target, asked.seed, census)
        phase.at(rows)
    if train is not None:
        report = replace(report, risks=_attacked(told, train, census, show, inside))
    untried = privacy.untried(report.risks)
    return replace(report, verdict=decide(report.risks, report.figures, told.gate, untried))


def _counted(told: _Told, show: Show) -> Census | None:
    """A census of all training rows, where there are more than were gathered; None otherwise."""
    if told.train is None or told.train.sample.whole:
        return None
    table, selection, _ = told.train
    sides = (told.synthetic, told.real)
    census = Census.of(sides, told.schema, told.least, told.asked.quasi)
    gather(table, told.schema, 0, 0, selection, show, census)
    return census


def _attacked(
    told: _Told, train: pa.Table, census: Census | None, show: Show, inside: _Inside | None
) -> tuple[Risk, ...]:
    asked, bits = told.asked, None if inside is None else inside.bits
    tables = (told.synthetic, train, told.real, told.schema)
    rows, count = told.synthetic.num_rows, len(privacy.names()) + (bits is not None)
    with show.phase("attack", rows) as phase:
        risks = privacy.attack(
            *(*tables, asked.seed),
            least=told.least,
            quasi=asked.quasi,
            bits=bits,
            census=census,
            told=lambda name, done: phase.at(rows * done // count, name),
        )
        phase.at(rows)
    if asked.shadows and inside is not None:
        with show.phase("shadows", rows) as phase:
            risks += privacy.by_shadows(
                *(*tables, inside.make, asked.shadows, asked.seed),
                told=lambda _, done: phase.at(rows * done // asked.shadows, f"number {done + 1}"),
            )
            phase.at(rows)
    return risks


def _page(report: Report, told: _Told, **about: Any) -> str:
    tables = (told.synthetic, told.real, told.schema)
    return html(report, *tables, gate=told.gate, least=told.least, **about)


def _files(report: Report, page: str) -> Mapping[str, bytes]:
    return {JSON: json.dumps(report.to_json(), indent=1).encode(), HTML: page.encode()}


def _check(schema: Schema, asked: Asked, **tables: pa.Table | None) -> None:
    """Raise `TableError` for what judging would refuse, before anything is drawn for it."""
    count_rows(**tables)
    for name in (*(() if asked.target is None else (asked.target,)), *(asked.quasi or ())):
        schema[name]


def _trained_on(
    run: Run, train: Table | None, schema: Schema, seed: int, show: Show
) -> _Trained | None:
    """The rows `run` was trained on: `train`, or the table its settings name; None without."""
    selection = chosen(run.config)
    if train is not None:
        whole = gather(train, schema, MOST, seed, show=show)
        if whole.rows == run.rows or selection == WHOLE:
            return _Trained(train, WHOLE, whole)
        return _Trained(train, selection, gather(train, schema, MOST, seed, selection, show))
    try:
        sample = gather(run.config.table, schema, MOST, seed, selection, show)
    except RaysynthError:
        sample = None
    if sample is None or sample.rows != run.rows:
        show.say(
            "the table the run was trained on is not at hand: the report has no ceiling, counts no "
            "copies of training rows and tries no attack; --train gives it"
        )
        return None
    return _Trained(run.config.table, selection, sample)


def _settled(table: pa.Table, schema: Schema, least: int) -> Schema:
    """The columns of a guessed schema that can be judged: neither keys nor personal nor text."""
    ids = np.arange(table.num_rows, dtype=np.uint64)
    settled = guess.settle(summarise(table, ids, schema), least=least, placeholder=True).modelled
    if not settled.columns:
        raise TableError(
            "no column is left to judge: all hold keys, personal data or free text; give a table "
            "with measures or categories"
        )
    return settled


def _alike(schema: Schema, tables: Mapping[str, pa.Schema]) -> None:
    """Raise `TableError` naming the table that lacks a column to judge, and the columns."""
    for name, table in tables.items():
        missing = [column for column in schema.names if column not in table.names]
        if missing:
            raise TableError(
                f"the {name} table lacks {quoted(missing)}; all tables need the same columns, or "
                "leave these out with --drop"
            )
