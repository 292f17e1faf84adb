"""How good predictions are: area under the ROC curve, F1, R2, each with a 95 % interval.

Intervals are over the rows that are asked; that other rows to learn from give another model is not
in them. Sources:

- an area of two classes: DeLong's variance (`raysynth.risks`);
- a mean of areas, one a class against the rest: DeLong's structural components of each class,
  summed over the classes a row takes part in: the infinitesimal jackknife;
- F1 and R2: percentiles of `REPLICATES` bootstraps of the rows (Efron, "Bootstrap methods: another
  look at the jackknife", Annals of Statistics 7, 1979), the same ones for every learner.

Where there is one row or class to be asked about, there is no interval.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from raysynth import risks
from raysynth.frames import Floats, Integers
from raysynth.threads import single

REPLICATES = 100


class Measured(NamedTuple):
    """A figure, the ends of its interval if it has one, and how much each row moves it, (B,).

    The last is its derivative by how often a row is there (the infinitesimal jackknife): of areas
    and R2, and 0 where they are those of chance; of F1 it is left out.
    """

    value: float
    low: float | None = None
    high: float | None = None
    moves: Floats = np.empty(0)


def replicates(rows: int, generator: np.random.Generator) -> Floats:
    """How often each row is in each bootstrap, (`REPLICATES`, rows)."""
    drawn = generator.integers(max(rows, 1), size=(REPLICATES, rows))
    counted = [np.bincount(one, minlength=rows) for one in drawn]
    return np.asarray(counted, dtype=np.float64).reshape(REPLICATES, rows)


def area(truth: Integers, probabilities: Floats) -> Measured:
    """AUC one-vs-rest, the mean over the classes of `truth`; of one class, 0.5.

    `truth` (B,) are columns of `probabilities` (B, K).
    """
    classes, counts = np.unique(truth, return_counts=True)
    if len(classes) < 2:
        return Measured(0.5, moves=np.zeros(len(truth)))
    if len(classes) == 2 and counts.min() > 1 and _divided(probabilities, classes):
        scores, member = probabilities[:, classes[1]], truth == classes[1]
        _, moves = _one_against_rest(member, scores)
        return Measured(*risks.auc(scores[member], scores[~member]), moves)
    parts = [_one_against_rest(truth == k, probabilities[:, k]) for k in classes]
    value = float(np.mean([one for one, _ in parts]))
    influence = np.mean([row for _, row in parts], axis=0)
    half = risks.Z * float(np.sqrt(np.square(influence).sum()))
    if half == 0:  # nothing varies, as where all is told apart: Wilson's, of the rarest class
        few = int(counts.min())
        wilson = risks.share(round(value * few), few)
        return Measured(value, min(wilson.low, value), max(wilson.high, value), influence)
    return Measured(value, max(0.0, value - half), min(1.0, value + half), influence)


def f1(truth: Integers, guess: Integers, weights: Floats) -> Measured:
    """F1 of the rarer class where `truth` has two, else the mean over its classes.

    `guess` (B,) are the classes said to be likeliest; `weights` are `replicates`.
    """
    classes, counts = np.unique(truth, return_counts=True)
    if not len(classes):
        return Measured(0.0)
    asked = classes[[counts.argmin()]] if len(classes) == 2 else classes
    there, said = truth[:, None] == asked, guess[:, None] == asked
    hits, either = (there & said).astype(float), there.astype(float) + said
    value = float(np.mean(2 * hits.sum(axis=0) / either.sum(axis=0)))
    if len(truth) < 2:
        return Measured(value)
    with single():
        over, under = 2 * weights @ hits, weights @ either
    # A class that a replicate neither has nor is said to have counts 0.
    shares = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return _between(value, shares.mean(axis=1))


def explained(truth: Floats, guess: Floats, weights: Floats) -> Measured:
    """R2: 1 for a perfect guess, 0 for the mean, less for worse; 0 where `truth` is constant."""
    if len(truth) < 2 or truth.min() == truth.max():
        return Measured(0.0, moves=np.zeros(len(truth)))
    away = truth - truth.mean()
    missed, squares = np.square(truth - guess), np.square(away)
    whole = float(squares.sum())
    share = float(missed.sum()) / whole
    with single():
        spread = weights @ squares - np.square(weights @ away) / len(truth)
        lost = weights @ missed
    varied = spread > 1e-12 * whole
    found = _between(1.0 - share, 1.0 - lost[varied] / spread[varied])
    return found._replace(moves=(share * squares - missed) / whole)


def _divided(probabilities: Floats, classes: Integers) -> bool:
    """Whether two classes share all probability, so that one's area is the other's."""
    return bool(np.allclose(probabilities[:, classes].sum(axis=1), 1.0))


def _one_against_rest(member: np.ndarray, scores: Floats) -> tuple[float, Floats]:
    """A class's area, and how much each row moves it, (B,)."""
    m, n = int(member.sum()), int((~member).sum())
    joint = rankdata(scores)
    above = (joint[member] - rankdata(scores[member])) / n
    below = 1 - (joint[~member] - rankdata(scores[~member])) / m
    value = float(above.mean())
    influence = np.empty(len(scores))
    influence[member], influence[~member] = (above - value) / m, (below - value) / n
    return value, influence


def _between(value: float, drawn: Floats) -> Measured:
    if not len(drawn):
        return Measured(value)
    low, high = np.percentile(drawn, [50 * (1 - risks.LEVEL), 50 * (1 + risks.LEVEL)])
    return Measured(value, min(float(low), value), max(float(high), value))
