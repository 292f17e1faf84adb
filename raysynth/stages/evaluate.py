"""A run and real rows it never saw to a report, kept in the run."""

import json

import pyarrow as pa

from raysynth.errors import RaysynthError
from raysynth.judge import Report, count_rows, judge
from raysynth.progress import Show, Silent
from raysynth.report import html
from raysynth.run import Run, add_files
from raysynth.sampler import Sampler
from raysynth.schema import Schema, select
from raysynth.source import read
from raysynth.stages.staging import chosen

JSON, HTML = "report.json", "report.html"
MOST = 200_000  # synthetic rows judged


def evaluate(
    run: Run,
    real: pa.Table,
    train: pa.Table | None = None,
    target: str | None = None,
    seed: int = 0,
    show: Show | None = None,
) -> Report:
    """Judge rows drawn from `run` against `real` rows it was not trained on.

    As many rows are drawn as it was trained on, `MOST` at most. Without `train`, the table its
    settings name is looked for; without either the report has no ceiling. Of a `train` of other
    than the run's number of rows, what its settings select is taken. Writes report.json and
    report.html into the run. Raises `TableError` where a table lacks the run's columns.
    """
    show = show or Silent()
    schema = run.table.schema.modelled  # invented columns have no likeness to judge
    real = select(real, schema)
    if train is not None and train.num_rows != run.rows:
        train = chosen(run.config).apply(train)
    train = select(train, schema) if train is not None else _trained_on(run, schema, show)
    count_rows(real=real, train=train)  # what judging would refuse is told before any row is drawn
    if target is not None:
        schema[target]
    rows = min(run.rows, MOST)
    with show.phase("sample", rows) as phase:
        synthetic = Sampler.open(run).sample(rows, seed)
        phase.at(rows)
    with show.phase("judge", rows) as phase:
        report = judge(synthetic, real, train, schema, target, seed)
        title = f"{run.place.name}: {run.config.family} on {run.rows:,} rows"
        page = html(report, synthetic, real, schema, title, run.losses, run.kept)
        phase.at(rows)
    data = json.dumps(report.to_json(), indent=1)
    add_files(run, {JSON: data.encode(), HTML: page.encode()})
    return report


def _trained_on(run: Run, schema: Schema, show: Show) -> pa.Table | None:
    try:
        table = select(read(run.config.table, chosen(run.config)), schema)
    except RaysynthError:
        table = None
    if table is None or table.num_rows != run.rows:
        show.say(
            "the table the run was trained on is not at hand: the report has no ceiling and "
            "counts no copies of training rows; --train gives it"
        )
        return None
    return table
