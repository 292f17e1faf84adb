"""Commands: each parses, makes one call, prints.

Results for people and progress go to standard error; with --json the last line on standard output
is one JSON value. What Ray says goes to a log file, so the display stays one. Exit codes: 0 done, 2
the user's to mend, 3 the gate does not pass what was judged, 130 stopped, 1 a fault of ours, or
every trial of a search failed.

Longer than other files: most of it is options and their help, one list a command.
"""

import logging
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from raysynth import cli_jobs, cli_serve, cli_tune
from raysynth.errors import ConfigError, GivenError, RaysynthError, RunError, SearchError, Stopped
from raysynth.terminal import Json, Seed, Storage, assignment, display, find, lines, tell

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks would show local values, cells among them
    help="Turn a private table into a synthetic one: train a generator, sample it, judge it.",
)

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name in runs/.")]
Drop = Annotated[list[str] | None, typer.Option(help="Leave this column out. Repeat.")]
Category = Annotated[
    list[str] | None, typer.Option(help="This whole-number column holds codes. Repeat.")
]
Select = Annotated[
    list[str] | None, typer.Option(help="Keep this column, and others so named. Repeat.")
]
Where = Annotated[
    str | None, typer.Option(metavar="CONDITION", help='Rows to keep, such as "age >= 18".')
]
Fraction = Annotated[
    float | None, typer.Option(help="Share of the rows to keep.", show_default="1")
]
Subject = Annotated[
    str | None, typer.Option(help="Column that says whose a row is: people are counted.")
]


@app.callback(invoke_without_command=True)
def _root(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show:
        print(version("raysynth"))
        raise typer.Exit


@app.command()
def train(
    table: Annotated[
        str, typer.Argument(help="A .parquet or .csv table, or a .toml file of settings.")
    ],
    family: Annotated[
        str | None, typer.Option(help="Kind of generator.", show_default="autoregressive")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="TABLE-FAMILY")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Folder for runs, or s3://bucket/key.", show_default="runs")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the table.", show_default="as the family asks")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step, over all workers.")] = None,
    workers: Annotated[int | None, typer.Option(help="Training workers.", show_default="1")] = None,
    min_workers: Annotated[
        int | None,
        typer.Option(help="Workers to go on with where nodes are lost.", show_default="all"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance.", show_default="0")] = None,
    drop: Drop = None,
    category: Category = None,
    select: Select = None,
    where: Where = None,
    fraction: Fraction = None,
    least: Annotated[
        int | None,
        typer.Option(help="Rows that must share a value for it to be kept.", show_default="10"),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="A TOML file of what columns are, as 'raysynth schema' prints it."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Free text: refuse, or placeholder.", show_default="refuse")
    ] = None,
    subject: Subject = None,
    relations: Annotated[
        bool | None,
        typer.Option(
            "--relations/--no-relations",
            help="Keep relations between columns in every row.",
            show_default="relations",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the family. Repeat."),
    ] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="One GPU a worker.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of training's products: float32, tf32 or bfloat16.", show_default="float32"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a generator on TABLE. Repeating an interrupted command resumes it."""
    model = dict(map(assignment, setting or []))
    if batch is not None:
        model["batch"] = batch
    given = {
        "family": family,
        "name": name,
        "storage": storage,
        "epochs": epochs,
        "workers": workers,
        "min_workers": min_workers,
        "seed": seed,
        "least": least,
        "gpu": gpu,
        "precision": precision,
        "drop": drop or None,
        "categories": category or None,
        "select": select or None,
        "where": where,
        "fraction": fraction,
        "text": text,
        "subject": subject,
        "relations": False if relations is False else None,
        "model": model,
    }
    tell(_train(_config(table, given, schema)), as_json)


def _config(table: str, given: dict[str, Any], schema: Path | None = None) -> Any:
    """The settings in TABLE, where it is a file of them, under those `given` that are not None."""
    from raysynth.config import TrainConfig, read_toml

    settings = Path(table) if table.endswith(".toml") else None
    chosen = {key: value for key, value in given.items() if value is not None}
    if settings is None:
        chosen = {"table": table, **chosen}
    if schema is not None:
        chosen = {**read_toml(schema), **chosen}
    return TrainConfig.load(settings, chosen)


def _train(config: Any) -> dict[str, Any]:
    """Train behind one clean display; gives what `--json` prints."""
    begun = time.monotonic()
    # Beside the run, or where runs are by default: a bucket has no files to add lines to.
    beside = "runs" if config.place.bucket else config.storage
    log = Path(beside) / f"{config.name}.log"
    logging.getLogger("ray").setLevel(logging.INFO)
    with display(log, config.name) as show:
        from raysynth.stages import cluster
        from raysynth.stages.train import train as stage

        try:
            run = stage(config, show=show)
        finally:
            cluster.disconnect()
        seconds = time.monotonic() - begun
        show.say(f"run: {run.place}  ({run.rows:,} rows, {seconds:.0f} s; Ray's log: {log})")
    return {
        "run": str(run.place),
        "family": config.family,
        "rows": run.rows,
        "epochs": run.manifest["epochs"],
        "seconds": round(seconds, 1),
    }


@app.command()
def schema(
    table: Annotated[str, typer.Argument(help="A table, or a .toml file of settings.")],
    drop: Drop = None,
    category: Category = None,
    select: Select = None,
    where: Where = None,
    fraction: Fraction = None,
    subject: Subject = None,
) -> None:
    """Guess what TABLE's columns are and print it as TOML, to edit and give to train --schema."""
    from raysynth.outline import toml

    given = {
        "drop": drop or None,
        "categories": category or None,
        "select": select or None,
        "where": where,
        "fraction": fraction,
        "subject": subject,
    }
    config = _config(table, given)
    with display(Path(os.devnull)) as show:
        from raysynth.stages import cluster
        from raysynth.stages.guess import guess

        try:
            summary, found = guess(config, show=show)
        finally:
            cluster.disconnect()
    print(toml(summary, found), end="")


@app.command()
def sample(
    run: RunPath,
    rows: Annotated[int, typer.Option(help="Rows to draw.", min=0)],
    out: Annotated[str, typer.Option(help="A .parquet or .csv file to write, here or s3://.")],
    seed: Seed = 0,
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE", help="What every row holds; 30..40 is a range. Repeat."
        ),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--select", help="Only this column. Repeat.")
    ] = None,
    offset: Annotated[int, typer.Option(help="The first row, of those SEED means.", min=0)] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Draw on this many Ray workers.", min=1)
    ] = None,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Draw a table of any size from RUN. The same seed gives the same row i."""
    wanted = dict(_given(text) for text in given or [])
    with display(Path(os.devnull), run) as show:
        from raysynth.stages.sample import sample as stage

        drawn = stage(find(run, storage), out, rows, seed, wanted, workers, show, columns, offset)
        kept = f"; {drawn.rows / drawn.tried:.0%} of the rows drawn held it" if wanted else ""
        forced = f", {drawn.forced:,} rows were made to" if drawn.forced else ""
        show.say(f"table: {drawn.place}  ({drawn.rows:,} rows{kept}{forced})")
    counts = {name: getattr(drawn, name) for name in ("rows", "tried", "forced")}
    tell({"path": str(drawn.place), **counts, "seed": seed}, as_json)


@app.command()
def impute(
    run: RunPath,
    table: Annotated[str, typer.Argument(help="Rows with nulls, a .parquet or .csv table.")],
    out: Annotated[str, typer.Option(help="A .parquet or .csv file to write, here or s3://.")],
    seed: Seed = 0,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Fill the nulls of TABLE, each drawn by RUN given all that its row has.

    What comes back holds TABLE's own rows: it is as private as they are.
    """
    with display(Path(os.devnull), run) as show:
        from raysynth.stages.impute import impute as stage

        filled = stage(find(run, storage), table, out, seed, show)
        show.say(f"table: {filled.place}  ({filled.cells:,} cells of {filled.rows:,} rows filled)")
    told = {"path": str(filled.place), "rows": filled.rows, "cells": filled.cells, "seed": seed}
    tell(told, as_json)


@app.command()
def evaluate(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run folder, or its name in runs/.")
    ] = None,
    real: Annotated[str, typer.Option(help="Real rows that were not trained on.")] = "",
    synthetic: Annotated[
        str | None, typer.Option(help="A synthetic table of any tool's, in place of RUN.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="The training table; of a RUN, if it is not where it was.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict.", show_default="the last category")
    ] = None,
    quasi: Annotated[
        list[str] | None,
        typer.Option(help="Column that may be known of a person. Repeat.", show_default="guessed"),
    ] = None,
    least: Annotated[
        int | None,
        typer.Option(help="Rows that must share a value.", min=1, show_default="as trained, or 10"),
    ] = None,
    shadows: Annotated[
        int,
        typer.Option(
            help="Generators to train as RUN was, as an attacker would.",
            min=0,
        ),
    ] = 0,
    drop: Drop = None,
    category: Category = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file whose [gate] table has the bars.")
    ] = None,
    out: Annotated[
        str, typer.Option(help="Folder for the report on --synthetic, here or s3://.")
    ] = "report",
    junit: Annotated[Path | None, typer.Option(help="A JUnit XML file to write.")] = None,
    fail_on: Annotated[
        Literal["warn", "fail"] | None,
        typer.Option(help="Exit with 3 where the gate says this or worse."),
    ] = None,
    seed: Seed = 0,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Judge RUN, or any tool's --synthetic table: faithful, useful, private; may it be shared?"""
    from raysynth.config import GateConfig, parse, read_toml
    from raysynth.gate import LEVELS

    if (run is None) == (synthetic is None):
        raise ConfigError("evaluate: expected either RUN or --synthetic TABLE, and not both")
    if not real:
        raise ConfigError("evaluate: expected --real TABLE, rows that were not trained on")
    if run is None and shadows:
        raise ConfigError("evaluate: --shadows needs RUN, which says how to train them")
    if run is not None and (drop or category):
        raise ConfigError("evaluate: --drop and --category belong to --synthetic; a run knows")
    gate = None if config is None else parse(GateConfig, read_toml(config).get("gate", {}))
    asked = {"target": target, "seed": seed, "quasi": quasi, "least": least, "gate": gate}
    asked["shadows"] = shadows
    with display(Path(os.devnull), run or "") as show:
        if run is not None:
            told = _evaluate(find(run, storage), real, train, asked, show, junit)
        else:
            whose = {"drop": drop or (), "categories": category or ()}
            told = _compare(str(synthetic), real, train, out, asked, whose, show, junit)
    tell(told, as_json)  # not before the display has given standard output back
    if fail_on is not None and LEVELS.index(told["gate"]["verdict"]) >= LEVELS.index(fail_on):
        raise typer.Exit(3)


def _evaluate(
    path: Any, real: str, train: str | None, asked: dict[str, Any], show: Any, junit: Any = None
) -> dict[str, Any]:
    from raysynth.run import open_run
    from raysynth.stages.evaluate import Asked
    from raysynth.stages.evaluate import evaluate as stage

    run = open_run(path)
    return _judged(stage(run, real, train, Asked(**asked), show), run.place, show, junit)


def _compare(
    synthetic: str,
    real: str,
    train: str | None,
    out: str,
    asked: dict[str, Any],
    whose: dict[str, Any],
    show: Any,
    junit: Any,
) -> dict[str, Any]:
    from raysynth.stages.evaluate import Asked, compare
    from raysynth.storage import Place

    place = Place.of(out)
    report = compare(synthetic, real, place, train, Asked(**asked), **whose, show=show)
    return _judged(report, place, show, junit)


def _judged(report: Any, place: Any, show: Any, junit: Any) -> dict[str, Any]:
    """Show a report, and give what `--json` prints of it."""
    from raysynth.junit import junit as as_junit
    from raysynth.stages.evaluate import HTML, JSON
    from raysynth.storage import Place, write_bytes

    show.console.print(_figures(report))
    if report.risks:
        show.console.print(_risks(report))
    for reason in report.verdict.reasons:
        if reason.level != "pass":
            show.say(f"{reason.level}: {reason.said}")
    show.say(f"gate: {report.verdict.verdict}  (what was not tried is in the report)")
    show.say(f"report: {place / HTML}")
    if junit is not None:
        write_bytes(Place.of(junit), as_junit(report, str(place)).encode())
    return {
        "report": str(place / JSON),
        "html": str(place / HTML),
        "gate": report.verdict.to_json(),
        "figures": [vars(figure) for figure in report.figures],
        "risks": [vars(risk) for risk in report.risks],
    }


@app.command()
def quickstart(
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the table.", min=1, show_default="as the family asks"),
    ] = None,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Train on the Adult table shipped in jobs/data, sample, judge: the whole job."""
    from raysynth.config import TrainConfig

    data = Path(__file__).parent.parent / "jobs" / "data"
    tables = [data / f"adult_{part}.parquet" for part in ("train", "test")]
    if not all(table.is_file() for table in tables):
        raise RunError(
            f"{data}: the quick start's tables ship with the repository, not with the package; "
            "clone it, or train on a table of your own with 'raysynth train TABLE'"
        )
    settings = {"table": str(tables[0]), "name": _free("quickstart", storage), "storage": storage}
    told = _train(TrainConfig.load(None, {**settings, "epochs": epochs}))
    path, out = told["run"], f"{told['run']}.parquet"
    with display(Path(os.devnull)) as show:
        from raysynth.stages.sample import sample as stage

        stage(path, out, told["rows"], show=show)
        show.say(f"table: {out}  ({told['rows']:,} rows)")
        judged = _evaluate(path, str(tables[1]), str(tables[0]), {}, show)
    tell({**told, "table": str(out), **judged}, as_json)


def _free(name: str, storage: str) -> str:
    """The first of name, name-2, ... that holds no finished run: one of them may resume."""
    from raysynth.run import MANIFEST
    from raysynth.storage import Place

    number, chosen = 1, name
    while (Place.of(storage) / chosen / MANIFEST).exists():
        number += 1
        chosen = f"{name}-{number}"
    return chosen


def _given(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise GivenError("--given: expected COLUMN=VALUE, got no '='")
    return key, value


def _figures(report: Any) -> Table:
    table = Table(title=f"against {report.rows['real']:,} real rows", title_justify="left")
    for name in ("figure", "synthetic", "ceiling", "floor", "better"):
        table.add_column(name, justify="left" if name in ("figure", "better") else "right")
    for figure in report.figures:
        values = (figure.synthetic, figure.ceiling, figure.floor)
        shown = ["-" if value is None else f"{value:.4f}" for value in values]
        label = f"{figure.name} ({figure.unit})" if figure.unit else figure.name
        table.add_row(label, *shown, figure.better)
    return table


def _risks(report: Any) -> Table:
    table = Table(title="attacks", title_justify="left")
    table.add_column("attack", no_wrap=True)
    for name in ("unit", "result", "95 % interval", "chance", "tried"):
        table.add_column(name, justify="left" if name == "unit" else "right")
    for risk in report.risks:
        if risk.skipped is not None:
            table.add_row(risk.name, risk.unit, "-", f"not tried: {risk.skipped}", "-", "0")
            continue
        interval = f"{risk.low:.3f} to {risk.high:.3f}"
        shown = (f"{risk.value:.3f}", interval, f"{risk.chance:.3g}", f"{risk.tried:,}")
        table.add_row(risk.name, risk.unit, *shown)
    return table


tune = app.command()(cli_tune.tune)
serve = app.command()(cli_serve.serve)
app.add_typer(cli_serve.tokens_app, name="token")
anything = {"ignore_unknown_options": True, "allow_extra_args": True}  # of another command
submit = app.command(context_settings=anything)(cli_jobs.submit)
jobs = app.command()(cli_jobs.jobs)
logs = app.command()(cli_jobs.logs)
cancel = app.command()(cli_jobs.cancel)


def main(*command: str) -> None:
    """The `raysynth` command; `command` comes before what the shell gives (a job's own name)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app([*command, *sys.argv[1:]], standalone_mode=False) or 0
    except Stopped as stop:
        code, said = 130, str(stop)
    except RaysynthError as error:
        code, said = 1 if isinstance(error, SearchError) else 2, f"error: {error}"
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # Typer's: a command, option or value it does not know. Without any it has shown the help.
        usage = error.format_message()
        code, said = 2, f"error: {usage}; --help lists what there is" if usage else ""
    else:
        said = "stopped; repeat the command" if code == 130 else ""
    if said and (told := lines(sys.stderr)):
        told.write(said, level="error")
    elif said:
        print(said, file=sys.stderr)
    sys.exit(code)
