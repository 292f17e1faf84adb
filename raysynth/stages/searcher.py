"""Optuna behind Ray Tune: what suggests, what is told of each trial, what is shown meanwhile.

Ray Tune's own searcher leaves a trial without a value running for good, and its state is a pickle:
here such a trial is told as pruned or failed, and Optuna's journal is the state.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from ray import tune as ray_tune
from ray.tune.search.optuna import OptunaSearch

from raysynth import space
from raysynth.progress import Phase
from raysynth.search import OBJECTIVES, SearchConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Searcher(OptunaSearch):  # type: ignore[misc]
    """Suggests from a journal, and tells it what came of each trial, whatever that was."""

    def __init__(self, search: SearchConfig, storage: JournalStorage, name: str) -> None:
        def suggest(trial: Any) -> dict[str, Any]:
            return asdict(space.suggest(trial, search.families, search.space))

        super().__init__(
            suggest,
            metric=list(search.objectives),
            mode=list(search.directions),
            sampler=_sampler(search),
            storage=storage,
            study_name=name,
        )
        self.search = search

    @property
    def study(self) -> optuna.Study:
        """The study."""
        study: optuna.Study = self._ot_study
        return study

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, too."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What to try, and the trial's number."""
        found = super().suggest(trial_id)
        return None if found is None else {**found, "number": self._ot_trials[trial_id].number}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the journal. A value that is missing or no number is none."""
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        trial, result = self._ot_trials[trial_id], result or {}
        asked = dict.fromkeys(("cost", *self.search.measured))
        found = {name: float(result[name]) for name in asked if name in result}
        if len(found) == len(asked) and all(map(np.isfinite, found.values())):
            trial.set_user_attr("figures", found)
            for name, most in self.search.at_most.items():
                trial.set_constraint(name, found[name] - most)
            self.study.tell(trial, [found[name] for name in self.search.objectives])
            return
        failed = error or "failed" in result
        why = str(result.get("failed", "its process ended")) if failed else "lagged behind others"
        trial.set_user_attr("why", why)
        self.study.tell(trial, state=TrialState.FAIL if failed else TrialState.PRUNED)


def _sampler(search: SearchConfig) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=search.seed)
    if len(search.objectives) > 1:
        population = max(4, min(50, search.trials // 4))
        return optuna.samplers.NSGAIISampler(population_size=population, seed=search.seed)
    with warnings.catch_warnings():
        # Parameters of a family hang together, and each has its own: groups, in Optuna's words.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=min(10, max(2, search.trials // 3)),
            constant_liar=search.at_once > 1,
            multivariate=True,
            group=True,
            seed=search.seed,
        )


class Progress(ray_tune.Callback):  # type: ignore[misc]
    """Shows how many trials are over, and the best of them."""

    def __init__(self, study: optuna.Study, search: SearchConfig, phase: Phase) -> None:
        self.study, self.search, self.phase = study, search, phase

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks in a pickle, which is never read."""
        return {}

    def _show(self) -> None:
        done = sum(trial.state.is_finished() for trial in self.study.trials)
        self.phase.at(done, best(self.study, self.search))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """One is over."""
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """One failed."""
        self._show()


def best(study: optuna.Study, search: SearchConfig) -> str:
    """The best of each objective so far."""
    values = [trial.values for trial in study.trials if trial.state == TrialState.COMPLETE]
    if not values:
        return ""
    picks: dict[str, Callable[..., float]] = {"min": min, "max": max}
    return "  ".join(
        f"{name} {picks[OBJECTIVES[name].direction](one[place] for one in values):.4f}"
        for place, name in enumerate(search.objectives)
    )
