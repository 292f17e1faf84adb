"""What a search is for, and what one trial of it does, without Ray: train, draw, measure.

A trial trains on one part of the table and is measured on another, `choice`, of which no training
and no other part knows; what it measures is chosen from `OBJECTIVES`. The last part is for the
report on what was chosen (`stages.tune`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field

from raysynth import probe
from raysynth.attacks import Tables, membership
from raysynth.errors import ConfigError, nearest
from raysynth.hashing import seed_of
from raysynth.layout import Codes
from raysynth.local import Learner
from raysynth.metrics import dcr, detection, utility
from raysynth.sampler import Sampler
from raysynth.schema import Schema

ROWS = 10_000  # of each table that objectives are measured on
LOOKS = 5  # at a training, evenly: by what they see, a scheduler may end it

Direction = Literal["min", "max"]
Count = Annotated[int, Field(gt=0)]


class Objective(NamedTuple):
    """Which way is better, and what it is."""

    direction: Direction
    what: str


OBJECTIVES: dict[str, Objective] = {
    "detection": Objective("min", "AUC of boosted trees that tell synthetic from real rows"),
    "utility": Objective("max", "AUC or R2 of a model learned from synthetic rows, on real ones"),
    "membership": Objective("min", "AUC of telling training rows from others by the table"),
    "dcr": Objective("min", "how far the share nearer to training rows is from a half"),
    "cost": Objective("min", "seconds of training"),
}


class SearchConfig(BaseModel):
    """A search: its objectives, how many trials, and within which limits (`space`).

    `at_most` are constraints, by objective: what exceeds one is worse than all that does not.
    Without `target` utility is of the last category. `start_from` is a former study, of this table
    or another: the best of its parameters are tried first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: tuple[str, ...] = ("autoregressive",)
    objectives: tuple[str, ...] = ("detection",)
    at_most: dict[str, float] = {}
    space: dict[str, Any] = {}
    target: str | None = None
    trials: Count = 20
    at_once: Count | None = None  # as many as there is room for, a quarter of the trials at most
    start_from: str | None = None
    early: bool = True  # whether a trial that lags behind others may be ended
    sampler: Literal["optuna", "random"] = "optuna"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def check(self) -> None:
        """Raise `ConfigError` for objectives that are none, twice the same, or not there."""
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError("objectives: expected one or more, each once")
        for name in (*self.objectives, *self.at_most):
            if name not in OBJECTIVES:
                raise ConfigError(
                    f"no objective is called '{name}'; {nearest(name, tuple(OBJECTIVES))}"
                )

    @property
    def directions(self) -> list[Direction]:
        """Of each objective."""
        return [OBJECTIVES[name].direction for name in self.objectives]

    @property
    def measured(self) -> tuple[str, ...]:
        """All that a trial measures: objectives, and what is constrained."""
        return tuple(dict.fromkeys((*self.objectives, *self.at_most)))


@dataclass(frozen=True)
class Parts:
    """Rows a trial is measured by: some it was trained on, and as many or fewer that it was not."""

    train: pa.Table
    choice: pa.Table
    schema: Schema  # of modelled columns


def run(
    learner: Learner,
    parts: Parts,
    search: SearchConfig,
    told: Callable[[float, float, float], None] = lambda share, fidelity, spent: None,
) -> dict[str, float]:
    """Train, and measure what `search` asks.

    `told` hears, `LOOKS` times, how near it has come, and the seconds spent so far; it may end the
    trial by raising. Raises `ArithmeticError` where losses stay not finite.
    """
    begun = time.monotonic()
    looked, codes = 0, None
    if search.early:
        ids = np.arange(parts.choice.num_rows, dtype=np.uint64)
        codes = learner.codec.encode(parts.choice, ids, learner.plan.seed)
    for epoch in learner.epochs():
        share = epoch.number / learner.plan.epochs
        if codes is not None and int(share * LOOKS) > looked and not epoch.last:
            looked = int(share * LOOKS)
            told(share, look(learner, codes), time.monotonic() - begun)
    return measured(learner.sampler(), parts, search, time.monotonic() - begun)


def measured(
    sampler: Sampler, parts: Parts, search: SearchConfig, spent: float
) -> dict[str, float]:
    """What `search` asks of a model that took `spent` seconds to train."""
    synthetic = sampler.sample(min(ROWS, parts.train.num_rows), search.seed)
    found = {"cost": spent}
    for name in search.measured:
        if name != "cost":
            chance = np.random.default_rng([search.seed, *name.encode()])
            found[name] = _MEASURES[name](synthetic, parts, search, chance)
    return found


def look(learner: Learner, real: Codes) -> float:
    """`probe.figures`' fidelity of what the model draws now, with its averaged weights."""
    rows = min(probe.ROWS, real.rows)
    generator = torch.Generator(next(learner.model.parameters()).device)
    generator.manual_seed(seed_of(learner.plan.seed, rows))
    with learner.best.averaged(learner.model), torch.no_grad():
        learner.model.eval()
        drawn = learner.model.sample(rows, generator)
    return probe.figures(learner.codec, real.take(slice(0, rows)), drawn)["fidelity"]


def dominated(one: Sequence[float], other: Sequence[float], directions: Sequence[str]) -> bool:
    """Whether `other` is as good in all objectives and better in one."""
    signs = [1 if direction == "min" else -1 for direction in directions]
    apart = [sign * (b - a) for sign, a, b in zip(signs, one, other, strict=True)]
    return max(apart) <= 0 and min(apart) < 0


def front(trials: Mapping[int, Mapping[str, float]], search: SearchConfig) -> list[int]:
    """Numbers of the trials that no other dominates, of those within the constraints, if any is."""
    over = {
        number: sum(max(0.0, found[name] - most) for name, most in search.at_most.items())
        for number, found in trials.items()
    }
    least = min(over.values(), default=0.0)
    left = [number for number in trials if over[number] <= least]
    values = {number: [trials[number][name] for name in search.objectives] for number in left}
    return [
        number
        for number in left
        if not any(dominated(values[number], values[o], search.directions) for o in left)
    ]


def _detection(synthetic: pa.Table, parts: Parts, _: SearchConfig, chance: Any) -> float:
    return detection.auc(parts.choice, synthetic, parts.schema, chance, ROWS)


def _utility(synthetic: pa.Table, parts: Parts, search: SearchConfig, chance: Any) -> float:
    target = search.target or utility.default_target(parts.schema)
    return utility.score(synthetic, parts.choice, parts.schema, target, chance).score.value


def _membership(synthetic: pa.Table, parts: Parts, _: SearchConfig, chance: Any) -> float:
    tables = Tables(synthetic, parts.train, parts.choice)
    found = membership.attack(tables, parts.schema, chance)
    return max(risk.value for risk in found)


def _dcr(synthetic: pa.Table, parts: Parts, _: SearchConfig, chance: Any) -> float:
    return abs(dcr.share(synthetic, parts.train, parts.choice, parts.schema, chance) - 0.5)


_MEASURES: dict[str, Callable[[pa.Table, Parts, SearchConfig, Any], float]] = {
    "detection": _detection,
    "utility": _utility,
    "membership": _membership,
    "dcr": _dcr,
}
