"""Utility: do models learned from synthetic rows work on real ones?

Train on synthetic, test on real (Esteban, Hyland & Raetsch, 2017, arXiv 1706.02633), with the
`LEARNERS` of `raysynth.learners`: classifiers where the target is a category or boolean, regressors
where it is a number. Rows whose target is missing are left out on both sides. Beyond how good the
models are:

- **ranking**: whether one who compares learners on synthetic rows would choose as on real ones, as
  in synthetic ranking agreement (Jordon, Yoon & van der Schaar, 2018, arXiv 1806.11345).
  Departures: both are tested on real rows, since that is where a model is put to use; from -1 to 1,
  as Kendall's tau is, not a share of pairs; and learners that the rows asked do not tell apart tie
  (`raysynth.ranking`).
- **importances**: whether boosted trees lean on the same columns (`raysynth.importance`).
- **compatibility** (table-GAN; Park et al., 2018, arXiv 1806.03384): each learner's score when
  trained on synthetic rows beside that when trained on real ones. Departures: that paper has ten
  settings a kind of learner, here are two to four; and an AUC beside F1, R2 in place of a relative
  error, which has no value for numbers about 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from raysynth.figures import Figure, Learner, Score, figure
from raysynth.frames import Floats
from raysynth.importance import agreement, importances, rows
from raysynth.learners import BOOSTED, LEARNERS, Predict, Task
from raysynth.predictions import REPLICATES, Measured, area, explained, f1, replicates
from raysynth.ranking import Scores, kept
from raysynth.risks import Interval
from raysynth.schema import Schema

Unit = Literal["AUC", "R2"]


@dataclass(frozen=True)
class Utility:
    """`score` in `unit`; `f1` of the minority class (two classes) or macro (more), else None."""

    unit: Unit
    score: Measured
    f1: Measured | None


@dataclass(frozen=True)
class Learned:
    """What learners are worth on real rows by their names, and on what boosted trees lean, (R, F).

    `scores` are those of the same learners, to be put in order. R: `raysynth.ranking`.
    """

    utilities: dict[str, Utility]
    scores: Scores
    leaned: Floats

    @property
    def values(self) -> dict[tuple[str, str], float]:
        """By learner and unit: the score of each, then F1 of each if the target has classes."""
        values: dict[tuple[str, str], float] = {
            (name, one.unit): one.score.value for name, one in self.utilities.items()
        }
        return values | {(name, "F1"): o.f1.value for name, o in self.utilities.items() if o.f1}


def default_target(schema: Schema) -> str:
    """The last category or boolean column; the last column where there is none."""
    classes = [column.name for column in schema.columns if not column.measured]
    return (classes or list(schema.names))[-1]


def score(
    train: pa.Table,
    test: pa.Table,
    schema: Schema,
    target: str,
    generator: np.random.Generator,
) -> Utility:
    """Fit boosted trees on `train` (synthetic), score them on `test` (real).

    AUC is one-vs-rest, the mean over the classes of `test`; a class that `train` lacks has
    probability 0. R2 is 1 for a perfect prediction, 0 for the mean, less for worse. Where there is
    nothing to learn (a constant target, no rows with a target, no other column), the score is that
    of chance: AUC 0.5, R2 0. More than ten classes: the rarest in both tables are one. Raises
    `TableError` where the schema has no column `target`.
    """
    task = Task.of(train, test, schema, target)
    guess = BOOSTED.predictions(task, generator)
    return _graded(task, guess, replicates(len(task.truth), generator))


def learned(
    train: pa.Table,
    test: pa.Table,
    schema: Schema,
    target: str,
    generator: np.random.Generator,
) -> Learned:
    """The same of every learner, and boosted trees' importances.

    Generators of one state have all tables asked about the same rows, shuffled alike.
    """
    task = Task.of(train, test, schema, target)
    draws = generator.spawn(len(LEARNERS) + 2)
    weights = replicates(len(task.truth), draws.pop())
    shuffles = draws.pop()
    predictors = {
        learner: learner.predictor(task, draw)
        for learner, draw in zip(LEARNERS, draws, strict=True)
    }
    utilities = {
        learner.name: _graded(task, predict(learner.asked(task)), weights)
        for learner, predict in predictors.items()
    }
    measured = [one.score for one in utilities.values()]
    values, moves = np.array([one.value for one in measured]), np.stack([o.moves for o in measured])
    scores = Scores.of(values, moves, weights)
    return Learned(utilities, scores, _leaned(task, predictors[BOOSTED], shuffles))


def compared(
    synthetic: pa.Table,
    ceiling: pa.Table | None,
    floor: pa.Table,
    real: pa.Table,
    schema: Schema,
    target: str,
    seed: int,
) -> tuple[list[Figure], tuple[Learner, ...]]:
    """Figures of utility, and what each learner is worth in its units; all tested on `real`.

    Ranking and importances are held against those learned from `ceiling`, training rows. There
    their own ceiling is of as many of those rows, drawn again with replacement: what a generator
    would keep that knows no more of the population than training rows tell. Without `ceiling` both
    are left out; so is the ranking where learners of `ceiling` all tie, and importances where their
    trees need no column, as with a target of one class: there is nothing to agree on.
    """

    def learn(table: pa.Table) -> Learned:
        # The same draws for all, so that they differ by the tables alone.
        return learned(table, real, schema, target, np.random.default_rng([seed, 6]))

    mine, none = learn(synthetic), learn(floor)
    best = None if ceiling is None else learn(ceiling)
    figures = _figures(mine, best, none)
    if ceiling is not None and best is not None:
        drawn = np.random.default_rng([seed, 10]).integers(ceiling.num_rows, size=ceiling.num_rows)
        again = learn(ceiling.take(np.sort(drawn)))
        three = mine, again, none
        agreed = {
            "learners": _agreed(three, lambda one: kept(one.scores, best.scores)),
            "importance": _agreed(three, lambda one: agreement(one.leaned, best.leaned)),
        }
        figures += [figure(name, score) for name, score in agreed.items() if score]
    return figures, _each(mine, best, none)


def _agreed(
    three: tuple[Learned, Learned, Learned], find: Callable[[Learned], Interval | None]
) -> Score | None:
    own, top, floor = (find(one) for one in three)
    if own is None or top is None or floor is None:
        return None
    return Score(own.value, top.value, floor.value, own.low, own.high)


def _figures(mine: Learned, best: Learned | None, none: Learned) -> list[Figure]:
    """Utility and F1 of boosted trees."""
    name = BOOSTED.name
    own, floor = mine.utilities[name], none.utilities[name]
    top = None if best is None else best.utilities[name]
    score = _score(own.score, None if top is None else top.score, floor.score)
    figures = [figure("utility", score, own.unit)]
    if own.f1 is not None and floor.f1 is not None:
        figures += [figure("f1", _score(own.f1, None if top is None else top.f1, floor.f1))]
    return figures


def _score(own: Measured, top: Measured | None, floor: Measured) -> Score:
    return Score(own.value, None if top is None else top.value, floor.value, own.low, own.high)


def _each(mine: Learned, best: Learned | None, none: Learned) -> tuple[Learner, ...]:
    """Each learner by its score, then each by F1 if the target has classes."""
    values = [None if one is None else one.values for one in (mine, best, none)]
    own, top, floor = values
    assert own is not None
    assert floor is not None
    return tuple(
        Learner(name, unit, value, None if top is None else top[name, unit], floor[name, unit])
        for (name, unit), value in own.items()
    )


def _graded(task: Task, guess: Floats, weights: Floats) -> Utility:
    if task.size is None:
        return Utility("R2", explained(task.truth, guess, weights), None)
    likeliest = guess.argmax(axis=1) if len(guess) else np.empty(0, dtype=np.int64)
    return Utility("AUC", area(task.truth, guess), f1(task.truth, likeliest, weights))


def _leaned(task: Task, predict: Predict, generator: np.random.Generator) -> Floats:
    x, width = BOOSTED.asked(task), task.columns[0].shape[1]
    if task.hopeless:
        return np.zeros((1 + REPLICATES, width))
    few = rows(width, task.size or 1)
    chosen = np.sort(generator.permutation(len(x))[:few])
    truth = task.truth[chosen]
    weights = replicates(len(truth), generator)

    def measure(guess: Floats) -> Measured:
        if task.size is None:
            return explained(truth, guess, weights[:0])
        return area(truth, guess)

    return importances(predict, measure, x[chosen], generator, weights)
