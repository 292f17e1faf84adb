"""Synthetic rows and real ones to a report: of a run, kept in it; of any tool's table, in a folder.

Fidelity and utility (`judge`), attacks (`privacy`), the verdict (`gate`), the page (`report`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysynth import guess, local, privacy
from raysynth.config import GateConfig
from raysynth.errors import RaysynthError, TableError
from raysynth.frames import Floats
from raysynth.gate import decide
from raysynth.judge import Report, count_rows, judge
from raysynth.progress import Show, Silent
from raysynth.report import html
from raysynth.risks import Risk
from raysynth.run import Run, add_files
from raysynth.sampler import Sampler
from raysynth.schema import Schema, quoted, select
from raysynth.stages.staging import Table, chosen, collect
from raysynth.storage import Place, write_bytes
from raysynth.summary import summarise

JSON, HTML = "report.json", "report.html"
MOST = 200_000  # synthetic rows judged


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
    asked, show = asked or Asked(), show or Silent()
    asked = replace(
        asked,
        gate=asked.gate or run.config.gate,
        least=run.config.least if asked.least is None else asked.least,
    )
    schema = run.table.schema.modelled  # invented columns have no likeness to judge
    held = select(collect(real), schema)
    trained = _trained_on(run, train, schema, show)
    _check(schema, asked, real=held, train=trained)
    sampler = Sampler.open(run)
    rows = min(run.rows, MOST)
    with show.phase("sample", rows) as phase:
        synthetic = sampler.sample(rows, asked.seed)
        phase.at(rows)
    report = _judged(synthetic, held, trained, schema, asked, show, _Inside.of(run, sampler))
    title = f"{run.place.name}: {run.config.family} on {run.rows:,} rows"
    kept = {"epochs": run.losses, "kept": run.kept}
    page = _page(report, synthetic, held, schema, asked, title=title, **kept)
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
    asked, show = asked or Asked(), show or Silent()
    tables = [None if table is None else collect(table) for table in (synthetic, real, train)]
    made, held, trained = tables
    assert made is not None, "it is asked for"
    assert held is not None, "it is asked for"
    known = held if trained is None else trained
    schema = _guessed(known, drop, categories, asked.least or 10)
    _alike(schema, synthetic=made, real=held, train=trained)
    made, held = select(made, schema), select(held, schema)
    trained = None if trained is None else select(trained, schema)
    _check(schema, asked, synthetic=made, real=held, train=trained)
    report = _judged(made, held, trained, schema, asked, show)
    page = _page(report, made, held, schema, asked)
    for name, data in _files(report, page).items():
        write_bytes(out / name, data)
    return report


def _judged(
    synthetic: pa.Table,
    real: pa.Table,
    train: pa.Table | None,
    schema: Schema,
    asked: Asked,
    show: Show,
    inside: _Inside | None = None,
) -> Report:
    rows = synthetic.num_rows
    with show.phase("judge", rows) as phase:
        report = judge(synthetic, real, train, schema, asked.target, asked.seed)
        phase.at(rows)
    if train is not None:
        risks = _attacked(synthetic, train, real, schema, asked, show, inside)
        report = replace(report, risks=risks)
    untried = privacy.untried(report.risks)
    verdict = decide(report.risks, report.figures, asked.gate or GateConfig(), untried)
    return replace(report, verdict=verdict)


def _attacked(
    synthetic: pa.Table,
    train: pa.Table,
    real: pa.Table,
    schema: Schema,
    asked: Asked,
    show: Show,
    inside: _Inside | None,
) -> tuple[Risk, ...]:
    bits, tables = None if inside is None else inside.bits, (synthetic, train, real)
    rows, count = synthetic.num_rows, len(privacy.names()) + (bits is not None)
    with show.phase("attack", rows) as phase:
        risks = privacy.attack(
            *(*tables, schema, asked.seed),
            least=10 if asked.least is None else asked.least,
            quasi=asked.quasi,
            bits=bits,
            told=lambda name, done: phase.at(rows * done // count, name),
        )
        phase.at(rows)
    if asked.shadows and inside is not None:
        with show.phase("shadows", rows) as phase:
            risks += privacy.by_shadows(
                *(*tables, schema, inside.make, asked.shadows, asked.seed),
                told=lambda name, done: phase.at(
                    rows * done // asked.shadows, f"number {done + 1}"
                ),
            )
            phase.at(rows)
    return risks


def _page(
    report: Report,
    synthetic: pa.Table,
    real: pa.Table,
    schema: Schema,
    asked: Asked,
    **about: Any,
) -> str:
    bars, least = asked.gate or GateConfig(), 10 if asked.least is None else asked.least
    return html(report, synthetic, real, schema, gate=bars, least=least, **about)


def _files(report: Report, page: str) -> Mapping[str, bytes]:
    return {JSON: json.dumps(report.to_json(), indent=1).encode(), HTML: page.encode()}


def _check(schema: Schema, asked: Asked, **tables: pa.Table | None) -> None:
    """Raise `TableError` for what judging would refuse, before anything is drawn for it."""
    count_rows(**tables)
    for name in (*(() if asked.target is None else (asked.target,)), *(asked.quasi or ())):
        schema[name]


def _trained_on(run: Run, train: Table | None, schema: Schema, show: Show) -> pa.Table | None:
    """The rows `run` was trained on: `train`, or the table its settings name; None without."""
    if train is not None:
        table = collect(train)
        known = table.num_rows == run.rows
        return select(table if known else chosen(run.config).apply(table), schema)
    try:
        table = select(chosen(run.config).apply(collect(run.config.table)), schema)
    except RaysynthError:
        table = None
    if table is None or table.num_rows != run.rows:
        show.say(
            "the table the run was trained on is not at hand: the report has no ceiling, counts no "
            "copies of training rows and tries no attack; --train gives it"
        )
        return None
    return table


def _guessed(table: pa.Table, drop: Sequence[str], categories: Sequence[str], least: int) -> Schema:
    schema = Schema.infer(table.schema, drop, categories)
    ids = np.arange(table.num_rows, dtype=np.uint64)
    settled = guess.settle(summarise(table, ids, schema), least=least, placeholder=True).modelled
    if not settled.columns:
        raise TableError(
            "no column is left to judge: all hold keys, personal data or free text; give a table "
            "with measures or categories"
        )
    return settled


def _alike(schema: Schema, **tables: pa.Table | None) -> None:
    """Raise `TableError` naming the table that lacks a column to judge, and the columns."""
    for name, table in tables.items():
        missing = [] if table is None else [c for c in schema.names if c not in table.schema.names]
        if missing:
            raise TableError(
                f"the {name} table lacks {quoted(missing)}; all tables need the same columns, or "
                "leave these out with --drop"
            )
