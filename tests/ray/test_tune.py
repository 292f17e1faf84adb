"""Searches on a real Ray: the best run, a front, what goes on, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.config import TrainConfig
from raysynth.errors import ConfigError, RunError, SearchError
from raysynth.run import open_run
from raysynth.search import SearchConfig
from raysynth.storage import Place

SMALL = {"hidden": 64, "batch": 256, "mixtures": 4}


@pytest.fixture(scope="module")
def table(adult: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "people.parquet"
    pq.write_table(adult.slice(0, 1_000), path)
    return path


def config(table: Path, storage: Path, name: str = "study", **more: Any) -> TrainConfig:
    base = {"table": str(table), "name": name, "storage": str(storage), "epochs": 2}
    return TrainConfig.load(None, {**base, **more})


def asked(**more: Any) -> SearchConfig:
    base = {"families": ("rnn",), "space": SMALL, "trials": 2}
    return SearchConfig.model_validate({**base, **more})


def tune(*args: Any) -> Any:
    from raysynth.stages.tune import tune as stage

    return stage(*args)


def kept(study: Any) -> list[tuple[Any, ...]]:
    """What a seed decides of each trial."""
    return [
        (one["number"], one["parameters"], {k: v for k, v in one["figures"].items() if k != "cost"})
        for one in study.trials
    ]


def test_a_search_leaves_the_best_run_and_nothing_private(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    search = asked(families=("independent", "rnn"), trials=4, at_once=2, early=False)
    study = tune(config(table, tmp_path), search)
    assert [one["number"] for one in study.trials] == [0, 1, 2, 3]
    (run,) = study.runs
    place = tmp_path / "study"
    opened = open_run(run.place)
    assert opened.gate is not None
    assert opened.gate["verdict"] in ("pass", "warn")
    found = pq.read_table(place / "study.parquet").to_pylist()
    done = {one["number"]: one["detection"] for one in found if one["state"] == "complete"}
    best = min(done, key=lambda number: done[number])
    assert run.place.name == f"{best:04d}"
    assert [one["chosen"] for one in found].index(True) == best
    left = {path.name for path in place.iterdir()}
    assert left == {"study.json", "study.journal", "study.parquet", "study.html", "trials"}
    assert [path.name for path in (place / "trials").iterdir()] == [run.place.name]
    page = (place / "study.html").read_text()
    assert "<svg" in page
    assert not re.search(r"""(src|href)=["']https?://""", page)


def test_a_seed_repeats_a_search_killed_or_not_and_more_trials_go_on_with_it(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    from raysynth.stages.journal import Journal
    from raysynth.stages.searcher import Searcher

    whole = asked(at_once=1, early=False)
    one = tune(config(table, tmp_path, "one"), whole)
    tune(config(table, tmp_path, "other"), whole.model_copy(update={"trials": 1}))
    # As a driver leaves it that dies in the second trial: asked for, never told.
    journal = Journal(Place.of(tmp_path / "other" / "study.journal"))
    Searcher(whole, journal, "other").suggest("second")
    other = tune(config(table, tmp_path, "other"), whole)
    assert [trial["number"] for trial in other.trials] == [0, 2]
    assert [trial[1:] for trial in kept(other)] == [trial[1:] for trial in kept(one)]
    seconds = [trial["seconds"] for trial in one.trials]
    more = tune(config(table, tmp_path, "one"), whole.model_copy(update={"trials": 3}))
    assert kept(more)[:2] == kept(one)
    assert [trial["seconds"] for trial in more.trials][:2] == seconds, "none is made twice"
    assert len({str(trial["parameters"]) for trial in more.trials}) == 3
    with pytest.raises(RunError, match="study of another search"):
        tune(config(table, tmp_path, "one"), asked(objectives=("membership",)))
    with pytest.raises(RunError, match="study of another train"):
        tune(config(table, tmp_path, "one", seed=1), whole)


def test_a_study_begins_with_the_best_of_a_former_one(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    former = tune(config(table, tmp_path, "former"), asked(trials=2))
    best = former.runs[0].place.name
    search = asked(start_from=str(tmp_path / "former"), trials=1, seed=5)
    (trial,) = tune(config(table, tmp_path, "later"), search).trials
    assert trial["parameters"] == former.trials[int(best)]["parameters"]
    with pytest.raises(RunError, match="holds no finished study"):
        tune(config(table, tmp_path, "lost"), asked(start_from=str(tmp_path / "none")))


def test_a_trial_of_several_workers_trains_on_ray_train(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    search = asked(trials=1, space=SMALL | {"least": {"low": 11, "high": 20}})
    study = tune(config(table, tmp_path, workers=2, epochs=1, cpus=1), search)
    assert [one["state"] for one in study.trials] == ["complete"]
    (run,) = study.runs
    assert run.config.workers == 2
    assert 11 <= run.config.least <= 20
    assert not (tmp_path / "study" / "work").exists()
    assert len(run.losses) == 1


def test_several_objectives_leave_a_front_within_the_constraints(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    search = asked(
        objectives=("utility", "cost"),
        at_most={"membership": 0.7},
        trials=4,
        target="income",
        early=False,
    )
    study = tune(config(table, tmp_path), search)
    chosen = {int(run.place.name) for run in study.runs}
    figures = {one["number"]: one["figures"] for one in study.trials if one["state"] == "complete"}
    for number in chosen:
        mine = figures[number]
        assert mine["membership"] <= 0.7
        assert not any(
            other["utility"] > mine["utility"] and other["cost"] < mine["cost"]
            for other in figures.values()
        )
    assert "The front" in (tmp_path / "study" / "study.html").read_text()


def test_of_trials_that_lag_behind_the_last_look_is_told(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    from raysynth.stages.journal import Journal
    from raysynth.stages.searcher import Searcher

    journal = Journal(Place.of(tmp_path / "study.journal"))
    searcher = Searcher(asked(at_once=1), journal, "study")
    looks = [{"share": share, "fidelity": share / 200, "cost": share} for share in (20, 40)]
    for trial, last in (("first", looks[0]), ("second", looks[1])):
        searcher.suggest(trial)
        for look in looks[: looks.index(last)]:
            searcher.on_trial_result(trial, look)
        searcher.on_trial_complete(trial, last)  # as Tune does where a scheduler ends a trial
    searcher.suggest("third")
    searcher.on_trial_complete("third", {"share": 100, "cost": 3.0, "detection": float("nan")})
    trials = Searcher(asked(at_once=1), journal, "study").study.trials
    assert [one.state for one in trials] == [TrialState.PRUNED] * 2 + [TrialState.FAIL]
    assert [one.intermediate_values for one in trials] == [{20: -0.1}, {20: -0.1, 40: -0.2}, {}]
    assert [one.user_attrs["figures"] for one in trials] == [{"cost": c} for c in (20, 40, 3)]


def test_trials_that_fail_are_told_with_their_reason(
    cluster: None, table: Path, tmp_path: Path
) -> None:
    search = asked(space=SMALL | {"rate": 1e30})
    with pytest.raises(SearchError, match="every trial failed; most often: epoch 1: a loss is no"):
        tune(config(table, tmp_path), search)
    assert not (tmp_path / "study" / "work").exists()
    with pytest.raises(ConfigError, match=r"no column 'incme' can be learned.*income"):
        tune(config(table, tmp_path, "other"), asked(objectives=("utility",), target="incme"))
    assert not list((tmp_path / "other").glob("*")), "no rows, and no study to be in the way"


def test_what_cannot_be_searched_is_refused_before_anything_is_made(
    table: Path, tmp_path: Path
) -> None:
    for search in (
        asked(families=()),
        asked(space={"hiden": 1}),
        asked(objectives=("detektion",)),
    ):
        with pytest.raises(ConfigError):
            tune(config(table, tmp_path), search)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(RunError, match="holds no study"):
        tune(config(table, tmp_path, "other"), asked())
    assert not (tmp_path / "study").exists()


def test_the_command_reads_its_table_of_a_file(cli: Any, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text(
        f'table = "{table}"\nname = "filed"\nepochs = 1\n'
        '[tune]\nfamilies = ["rnn"]\ntrials = 1\nspace = { hidden = 64, mixtures = 4 }\n'
    )
    end = cli("tune", file, "--storage", tmp_path, "--space", "batch=128", "--json")
    assert end.code == 0, end.err
    assert end.out.startswith("{"), end.out[:500]
    told = json.loads(end.out)
    assert told["study"] == str(tmp_path / "filed")
    assert len(told["trials"]) == 1
    assert open_run(told["runs"][0]).config.model["batch"] == 128
    end = cli("tune", file, "--storage", tmp_path, "--trials", 0)
    assert end.code == 2
