"""Ray Tune with Optuna: many trainings on one table to the best run, or to a front of them.

The table is cut in three by the hash of a row's place: four fifths to train on, a tenth that
trials are measured by (`choice`), a tenth for the report on what was chosen, which neither trials
nor the choice have seen. A study is a folder:

    study.json      what is searched for, in which table: another search is refused
    study.journal   Optuna's journal, a line a step: what a killed search goes on from
    trials/0007     the run of each trial that is still of use
    study.parquet   every trial, with what was measured of it, or why it failed
    study.html      Optuna's plots
    work/           rows and codes, as private as the table, gone when the search is over

Codes are made once for each way to encode that trials ask for. A trial trains in one process on the
cores it has, with its codes in memory, or with several workers on Ray Train; a scheduler (ASHA; Li
et al., MLSys 2020, arXiv 1810.05934) ends one of one process that lags behind in the quick look at
its rows, which is the same for all families.

Longer than other files: a search from the table to what it leaves.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray import tune as ray_tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import ASHAScheduler

from raysynth import space
from raysynth.config import TrainConfig
from raysynth.errors import AbsentError, ConfigError, RaysynthError, RunError, SearchError, nearest
from raysynth.frames import subsample
from raysynth.hashing import uniform
from raysynth.progress import Phase, Show
from raysynth.run import Run, open_run, related
from raysynth.schema import Schema
from raysynth.search import OBJECTIVES, ROWS, SearchConfig, front
from raysynth.stages import cluster
from raysynth.stages.claim import CLAIM, held
from raysynth.stages.data import Examined, examine, settled
from raysynth.stages.evaluate import Asked, evaluate
from raysynth.stages.journal import Journal
from raysynth.stages.searcher import Progress, Searcher, best, told
from raysynth.stages.staging import Table, fingerprint, stage
from raysynth.stages.trial import Desk, trial
from raysynth.stages.watch import watched
from raysynth.storage import Place, write, write_bytes
from raysynth.studies import page, table

STUDY, JOURNAL, TRIALS, WORK = "study.json", "study.journal", "trials", "work"
TABLE, PAGE = "study.parquet", "study.html"
PARTS = {"train": (0.0, 0.8), "choice": (0.8, 0.9), "final": (0.9, 1.0)}
SECRET = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
SHOWN = 3  # runs that are judged for one that the gate does not fail
_PART = 2**32 + 3  # the stream of the hash that cuts the table

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Study:
    """A search that is over: where it is, its trials by number, and the runs that were chosen."""

    place: Place
    trials: tuple[dict[str, Any], ...]
    runs: tuple[Run, ...]


def tune(
    config: TrainConfig,
    search: SearchConfig,
    table: Table | None = None,
    real: Table | None = None,
    show: Show | None = None,
) -> Study:
    """Search, or go on with the search that lies at `config.place`.

    `config` has what trials share. `real` are rows for the last report, in place of a tenth of the
    table. Raises `ConfigError`, `TableError`, `StorageError`, `SearchError` where every trial
    failed, and `RunError` where the place holds another study.
    """
    show = watched(show, config.name)
    search.check()
    space.check(search.families, search.space)
    former = _former(search)
    with held(config.place):
        source = config.table if table is None else table
        _claim(config.place, config, search, fingerprint(source))
        own = cluster.connect((search.at_once or 1) * config.workers)
        search = search.model_copy(update={"at_once": _at_once(config, search)})
        return _tune(config, search, source, real, former, own, show)


def _tune(
    config: TrainConfig,
    search: SearchConfig,
    source: Table,
    real: Table | None,
    former: list[dict[str, Any]],
    own: bool,
    show: Show,
) -> Study:
    place, work = config.place, config.place / WORK
    with cluster.own_errors():
        with _gone_if_refused(place):
            parts = _cut(config, source, work)
            base = config.model_copy(
                update={"table": parts["train"].text, "drop": (), "select": (), "where": None}
                | {"fraction": 1.0, "storage": (place / TRIALS).text}
            )
            shared = _shared(base, search, work, parts, show)
        study = _search(place, base, search, shared, former, own, show)
    trials = tuple(_told(one) for one in told(study) if one.state.is_finished())
    found = {one["number"]: one["figures"] for one in trials if one["state"] == "complete"}
    if not found:
        work.remove()
        raise SearchError(f"{place}: every trial failed; {_commonest(trials)}")
    runs = _judged(place, search, found, parts, real or parts["final"].text, show)
    _leave(place, study, search, trials, runs)
    return Study(place, trials, tuple(runs))


@contextmanager
def _gone_if_refused(place: Place) -> Iterator[None]:
    """Leave nothing of a study that comes to no trial, rows of the table least of all."""
    try:
        yield
    except BaseException:
        if not (place / JOURNAL).exists():
            (place / WORK).remove()
            (place / STUDY).remove()
        raise


def _former(search: SearchConfig) -> list[dict[str, Any]]:
    """Parameters of the study to start from, the best first: a quarter as many as trials."""
    if search.start_from is None:
        return []
    done = [one for one in plain(search.start_from).to_pylist() if one["state"] == "complete"]
    name = search.objectives[0]
    sign = 1 if OBJECTIVES[name].direction == "min" else -1

    def rank(one: dict[str, Any]) -> tuple[bool, float]:
        value = one.get(name)
        return not one["chosen"], np.inf if value is None else sign * value

    done.sort(key=rank)
    return [json.loads(one["parameters"]) for one in done[: max(1, search.trials // 4)]]


def _at_once(config: TrainConfig, search: SearchConfig) -> int:
    """How many trials at once: as asked, or as many as there is room for.

    A quarter of them at most: what is suggested together was not learned from.
    """
    if search.at_once is not None:
        return search.at_once
    has, cpus = ray.cluster_resources(), config.workers * (config.cpus or 1)
    room = has.get("CPU", 1) // cpus
    if config.gpu:
        room = min(room, has.get("GPU", 0) // config.workers)
    return max(1, min(int(room), search.trials // 4))


def _claim(place: Place, config: TrainConfig, search: SearchConfig, print_: str) -> None:
    """Take the folder for this search, or go on with the same one."""
    apart = {"trials", "at_once", "start_from"}  # more trials of the same search go on with it
    asked = {"train": config.meaning, "search": search.model_dump(mode="json", exclude=apart)}
    mine = json.loads(json.dumps({**asked, "table": print_}))
    try:
        theirs = json.loads((place / STUDY).read_bytes())
    except AbsentError:
        theirs = None
    if theirs is None and any(file != place / WORK / CLAIM for file, _ in place.files()):
        raise RunError(f"{place}: is not empty and holds no study; choose another --name")
    if theirs not in (None, mine):
        what = [key for key in mine if theirs.get(key) != mine[key]]
        raise RunError(
            f"{place}: holds a study of another {' and '.join(what)}; choose another --name, or "
            "delete the folder"
        )
    write_bytes(place / STUDY, json.dumps(mine, indent=1).encode())
    if not place.bucket:
        (place / WORK).local.mkdir(mode=0o700, exist_ok=True)


def _cut(config: TrainConfig, table: Table, work: Place) -> dict[str, Place]:
    """The three parts of the table as Parquet, streamed."""
    places = {name: work / f"{name}.parquet" for name in PARTS}
    if all(place.exists() for place in places.values()):
        return places
    schema, part = examine(config, stage(config, table, work))
    source = part.source
    for name, (low, high) in PARTS.items():

        def rows(low: float = low, high: float = high) -> Iterator[pa.Table]:
            yield source.schema.empty_table().select(list(schema.names))
            where = part.selection.condition(source.schema)
            for unit in source.units:
                for table, ids in source.batches(unit, schema.names, part.selection, where):
                    chance = uniform(ids, config.seed, _PART)
                    yield table.filter(pa.array((low <= chance) & (chance < high)))

        write(rows(), places[name])
    return places


def _shared(
    base: TrainConfig, search: SearchConfig, work: Place, parts: dict[str, Place], show: Show
) -> dict[str, Any]:
    """What all trials have in common."""
    examined: Examined = examine(base, parts["train"])
    _, summary = settled(base, examined, show)
    schema = summary.schema
    sides = {
        name: subsample(_read(parts[name]), ROWS, np.random.default_rng(base.seed))
        for name in ("train", "choice")
    }
    _check_target(search, schema.modelled)
    return {
        "base": base,
        "search": search,
        "work": work.text,
        "train": parts["train"].text,
        "inferred": examined[0],
        "summary": summary,
        "found": related(base, summary),
        "tables": sides,
    }


def _check_target(search: SearchConfig, schema: Schema) -> None:
    """Raise `ConfigError` where utility is asked for and there is nothing to learn."""
    if "utility" not in search.measured:
        return
    if search.target is not None and search.target not in schema.names:
        said = nearest(search.target, schema.names)
        raise ConfigError(f"--target: no column '{search.target}' can be learned; {said}")
    if len(schema.names) < 2:
        raise ConfigError("utility: expected a column to learn, and others to learn it from")


def _read(place: Place) -> pa.Table:
    return place.read(pq.read_table)


def _search(
    place: Place,
    base: TrainConfig,
    search: SearchConfig,
    shared: dict[str, Any],
    former: list[dict[str, Any]],
    own: bool,
    show: Show,
) -> optuna.Study:
    """Have Ray Tune make the trials that are left."""
    searcher = Searcher(search, Journal(place / JOURNAL), base.name)
    searcher.begin_with(former, shared["summary"].rows)
    study = searcher.study

    def done() -> int:
        return sum(one.state.is_finished() for one in told(study))

    with show.phase("tune", search.trials, "trials") as phase:
        phase.begin(done())
        if done() < search.trials:
            _fit(base, search, shared, searcher, search.trials - done(), own, phase)
        phase.at(done(), best(study, search))
    return study


def _fit(
    base: TrainConfig,
    search: SearchConfig,
    shared: dict[str, Any],
    searcher: "Searcher",
    trials: int,
    own: bool,
    phase: Phase,
) -> None:
    at_once = search.at_once or 1
    cpus = cluster.cpus_per_worker(base.cpus, at_once * base.workers, own)
    # A quick look has no objective yet, and a trial that failed has none.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # which prints whatever `verbose` says
    # Ray would write these into the settings of every trial's process, which are logged and shown;
    # each node has rights of its own.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(SECRET)
    put, desk = ray.put(shared), Desk.remote()  # type: ignore[attr-defined]

    def made(asked: dict[str, Any]) -> None:
        try:
            ray_tune.report(trial(asked, ray.get(put), desk, cpus))
        except (RaysynthError, ArithmeticError) as error:
            ray_tune.report({"failed": str(error), "fidelity": 0.0, "share": 100})

    early = ASHAScheduler(
        time_attr="share",
        metric="fidelity",
        mode="max",
        max_t=100,
        grace_period=20,
        reduction_factor=2,
    )
    # Ray Train asks for its workers' cores and devices itself; nothing at all cannot be asked for.
    nested, alone = {"CPU": 0.01}, {"CPU": cpus, "GPU": 1 if base.gpu else 0}
    resources = alone if base.workers == 1 else nested
    with tempfile.TemporaryDirectory(prefix="raysynth-", ignore_cleanup_errors=True) as scratch:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(made, resources),
            tune_config=ray_tune.TuneConfig(
                search_alg=searcher,
                scheduler=early if search.early else None,
                num_samples=trials,
                max_concurrent_trials=at_once,
                reuse_actors=True,  # a process takes some ten seconds to begin
            ),
            run_config=ray_tune.RunConfig(
                storage_path=scratch,
                name="tune",
                verbose=0,
                callbacks=[Progress(searcher.study, search, phase)],
            ),
        )
        try:
            tuner.fit()
        finally:
            ray.kill(desk)  # Tune keeps `made`, and with it the desk, as long as this process lives


def _told(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "parameters": dict(trial.params),
        "figures": trial.user_attrs.get("figures", {}),
        "why": trial.user_attrs.get("why", ""),
    }


def _commonest(trials: Iterable[dict[str, Any]]) -> str:
    whys = [one["why"] or "its process ended" for one in trials]
    return f"most often: {max(whys, key=whys.count)}" if whys else "none was made"


def _judged(
    place: Place,
    search: SearchConfig,
    found: dict[int, dict[str, float]],
    parts: dict[str, Place],
    real: Table,
    show: Show,
) -> list[Run]:
    """The front's runs, reported on; of one objective the best that the gate does not fail."""
    single, left, runs = len(search.objectives) == 1, dict(found), []
    for _ in range(SHOWN):
        for number in front(left, search):
            at = place / TRIALS / f"{number:04d}"
            if not at.exists():  # of an earlier search that went on here, and was not chosen
                del left[number]
                continue
            run_ = open_run(at)
            evaluate(run_, real, parts["train"].text, Asked(search.target, search.seed), show)
            run_ = open_run(run_.place)
            failed = run_.gate is not None and run_.gate["verdict"] == "fail"
            if failed:
                show.say(f"trial {number}: the gate fails it, so another is looked for")
            else:
                runs.append(run_)
            del left[number]
            if single and runs:
                return runs
        if runs or not left:
            break
    if not runs:
        show.say("the gate fails every run that was looked at: none is to be shared")
    return runs


def _leave(
    place: Place,
    study: optuna.Study,
    search: SearchConfig,
    trials: Iterable[dict[str, Any]],
    runs: list[Run],
) -> None:
    """Write what is for the user, and remove what is not: rows, codes, runs of no use."""
    chosen = [run_.place.name for run_ in runs]
    write([table(trials, chosen)], place / TABLE)
    write_bytes(place / PAGE, page(study, search, list(trials), chosen).encode())
    kept = place / TRIALS
    made = {file.text.removeprefix(f"{kept.text}/").partition("/")[0] for file, _ in kept.files()}
    for name in made.difference(chosen):
        (kept / name).remove()
    (place / WORK).remove()


def plain(path: str | Path) -> pa.Table:
    """Every trial of the finished study at `path`. Raises `RunError` where there is none."""
    place = Place.of(path) / TABLE
    if not place.exists():
        raise RunError(f"{path}: holds no finished study; 'raysynth tune' makes one")
    return _read(place)
