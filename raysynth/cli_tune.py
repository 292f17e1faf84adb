"""The command `raysynth tune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raysynth.terminal import Json, Seed, assignment, display, tell


def tune(
    table: Annotated[str, typer.Argument(metavar="TABLE|CONFIG", help="A table, or a TOML file.")],
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family to try, or several: A,B.", show_default="autoregressive"),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Trainings, 20.", min=1)] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Trials at once.", min=1, show_default="as many as there is room for"),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="detection, utility, membership, dcr, cost. Several: a front."),
    ] = None,
    at_most: Annotated[
        list[str] | None, typer.Option(metavar="OBJECTIVE=NUMBER", help="A constraint. Repeat.")
    ] = None,
    within: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="NAME=LIMIT", help="Fix or narrow a parameter. Repeat."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of utility.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes of each training.", min=1)] = None,
    early: Annotated[bool, typer.Option(help="End trials that lag behind.")] = True,
    random: Annotated[bool, typer.Option("--random", help="Search at random.")] = False,
    real: Annotated[
        str | None, typer.Option(help="Rows for the last report, in place of a tenth.")
    ] = None,
    start_from: Annotated[
        str | None, typer.Option(help="A former study; its best are tried first.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    seed: Seed = 0,
    storage: Annotated[
        str | None, typer.Option(help="Folder for runs, or s3://bucket/key.", show_default="runs")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search settings with Ray Tune and Optuna; leaves the best run, or a front of them."""
    from raysynth.config import parse, read_toml
    from raysynth.search import SearchConfig

    path = Path(table) if table.endswith(".toml") else None
    filed: dict[str, Any] = {} if path is None else read_toml(path).pop("tune", {})
    limits = {**filed.get("space", {}), **dict(map(assignment, within or []))}
    bars = {**filed.get("at_most", {}), **dict(map(assignment, at_most or []))}
    given = {
        "families": _listed(family), "trials": trials, "at_once": workers,
        "objectives": _listed(objective),
        "target": target, "sampler": "random" if random else None, "early": early, "seed": seed,
        "start_from": start_from,
    }  # fmt: skip
    told = {key: value for key, value in given.items() if value is not None}
    search = parse(SearchConfig, {**filed, **told, "space": limits, "at_most": bars})
    asked = {"table": None if path else table, "name": name, "storage": storage, "epochs": epochs}
    over = {key: value for key, value in asked.items() if value is not None}
    config = _config(path, {**over, "seed": seed})
    with display(Path(config.storage) / f"{config.name}.log", config.name) as show:
        from raysynth.stages import cluster
        from raysynth.stages.tune import tune as stage

        try:
            study = stage(config, search, None, real, show)
        finally:
            cluster.disconnect()
        for run in study.runs:
            show.say(f"run: {run.place}")
        show.say(f"study: {study.place}")
    runs = [str(run.place) for run in study.runs]
    tell({"study": str(study.place), "runs": runs, "trials": list(study.trials)}, as_json)


def _listed(given: list[str] | None) -> list[str] | None:
    """What an option was given, once or more, each perhaps several with commas between."""
    return None if given is None else [one.strip() for text in given for one in text.split(",")]


def _config(path: Path | None, over: dict[str, Any]) -> Any:
    """The settings that trainings share: those of the file but its [tune], under `over`."""
    from raysynth.config import TrainConfig, default_name, read_toml

    values = {} if path is None else read_toml(path)
    values = {key: value for key, value in values.items() if key != "tune"} | over
    values.setdefault("name", f"{default_name({**values, 'family': 'tune'})}")
    return TrainConfig.load(None, values)
