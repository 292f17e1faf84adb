"""Optuna behind Ray Tune: what suggests, what is told of each trial, what is shown meanwhile.

Ray Tune's own searcher leaves a trial without a value running for good, and its state is a pickle:
here such a trial is told as pruned or failed, and Optuna's journal is the state.

A sampler that is seeded once begins its numbers anew in a search that goes on, and would suggest
the first trials again. Here each trial has a sampler of its own, seeded by the search's seed and
how many were asked before: a search that was killed goes on as if it had not been. What it was at
then is tried again, under another number.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from ray import tune as ray_tune
from ray.tune.search.optuna import OptunaSearch

from raysynth import space
from raysynth.hashing import seed_of
from raysynth.progress import Phase
from raysynth.search import OBJECTIVES, SearchConfig
from raysynth.stages import meters
from raysynth.stages.journal import Journal

optuna.logging.set_verbosity(optuna.logging.ERROR)

log = logging.getLogger(__name__)

_CUT = "cut"  # mark of a trial whose search was killed


class Searcher(OptunaSearch):  # type: ignore[misc]
    """Suggests from a journal, and tells it what came of each trial, whatever that was."""

    def __init__(self, search: SearchConfig, journal: Journal, name: str) -> None:
        def suggest(trial: Any) -> dict[str, Any]:
            return asdict(space.suggest(trial, search.families, search.space))

        super().__init__(
            suggest,
            metric=list(search.objectives),
            mode=list(search.directions),
            sampler=_sampler(search, 0),
            storage=JournalStorage(journal),
            study_name=name,
        )
        self.search, self.journal = search, journal
        for left in self.study.get_trials(states=(TrialState.RUNNING,)):  # their process is gone
            self.study._storage.set_trial_user_attr(left._trial_id, _CUT, True)
            self.study.tell(left.number, state=TrialState.FAIL)
            self.study.enqueue_trial(left.params)

    @property
    def study(self) -> optuna.Study:
        """The study."""
        study: optuna.Study = self._ot_study
        return study

    def begin_with(self, former: Iterable[Mapping[str, Any]], rows: int) -> None:
        """Have a study without trials begin with these parameters, where limits allow them.

        Then with what is known to be good of each family: no search is to find less than that.
        """
        if self.study.get_trials(deepcopy=False):
            return
        for parameters in (*former, *space.starts(self.search.families, rows)):
            asked = space.allowed(self.search.families, self.search.space, parameters)
            if asked:
                self.study.enqueue_trial(asked, skip_if_exists=True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, too."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What to try, and the trial's number."""
        before = [one for one in told(self.study) if one.state != TrialState.WAITING]
        self.study.sampler = _sampler(self.search, len(before))
        found = super().suggest(trial_id)
        self.journal.keep()
        return None if found is None else {**found, "number": self._ot_trials[trial_id].number}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell of a look at a training: of trials that are ended early, Optuna goes by the last.

        It only ranks them by it, among one another, so that it stands for any one objective. Of
        several Optuna takes no looks. Of the look that ends a trial `_tell` hears instead.
        """
        if len(self.search.objectives) > 1 or result.get("share", 100) >= 100:
            return
        near = float(result["fidelity"])
        better = near if self.search.directions[0] == "max" else -near
        self._ot_trials[trial_id].report(better, step=int(result["share"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the journal. A value that is missing or no number is none."""
        if trial_id in self._completed_trials:
            return
        self._tell(trial_id, result, error)
        self.journal.keep()
        told = self.study.get_trials(deepcopy=False)[self._ot_trials[trial_id].number]
        state, figures = told.state.name.lower(), told.user_attrs.get("figures", {})
        facts = {"run": self.study.study_name, "trial": told.number, "state": state, **figures}
        log.info("trial", extra=facts)

    def _tell(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
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
        cost = {name: value for name, value in found.items() if np.isfinite(value)}
        trial.set_user_attr("figures", cost)
        whole = result.get("share", 0) >= 100
        why = "what was measured is no number" if whole else "lagged behind others"
        if failed := error or whole:
            why = result.get("failed", "its process ended" if error else why)
        else:
            self.on_trial_result(trial_id, result)
        trial.set_user_attr("why", why)
        self.study.tell(trial, state=TrialState.FAIL if failed else TrialState.PRUNED)


def told(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The study's trials but those whose search was killed, which are tried again."""
    return [one for one in study.get_trials(deepcopy=False) if not one.user_attrs.get(_CUT)]


def _sampler(search: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """What suggests the trial before which `number` were asked."""
    seed = seed_of(search.seed, number) % 2**32
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if len(search.objectives) > 1:
        population = max(4, min(50, search.trials // 4))
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    with warnings.catch_warnings():
        # Parameters of a family hang together, and each has its own: groups, in Optuna's words.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=min(10, max(2, search.trials // 3)),
            constant_liar=search.at_once != 1,
            multivariate=True,
            group=True,
            seed=seed,
        )


class Progress(ray_tune.Callback):  # type: ignore[misc]
    """Shows how many trials are over, how many run, and the best figures."""

    def __init__(self, study: optuna.Study, search: SearchConfig, phase: Phase) -> None:
        self.study, self.search, self.phase = study, search, phase

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks in a pickle, which is never read."""
        return {}

    def _show(self) -> None:
        states = [trial.state for trial in told(self.study)]
        done, running = sum(map(TrialState.is_finished, states)), states.count(TrialState.RUNNING)
        self.phase.at(done, f"{running} running  {best(self.study, self.search)}".rstrip())
        counts = Counter(state.name.lower() for state in states)
        meters.trials(self.study.study_name, counts, _bests(self.study, self.search))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """One begins."""
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """One is over."""
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """One failed."""
        self._show()


def best(study: optuna.Study, search: SearchConfig) -> str:
    """The best of each objective so far, in words."""
    found = _bests(study, search)
    return "  ".join(f"{name} {value:.4f}" for name, value in found.items())


def _bests(study: optuna.Study, search: SearchConfig) -> dict[str, float]:
    values = [trial.values for trial in told(study) if trial.state == TrialState.COMPLETE]
    if not values:
        return {}
    picks: dict[str, Callable[..., float]] = {"min": min, "max": max}
    return {
        name: picks[OBJECTIVES[name].direction](one[place] for one in values)
        for place, name in enumerate(search.objectives)
    }
