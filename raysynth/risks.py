"""What an attack achieves: a figure, its interval, and what one who knows nothing would achieve.

Intervals are for one figure at `LEVEL` confidence, two-sided:

- a share of attempts: Wilson, "Probable inference, the law of succession, and statistical
  inference" (JASA 22, 1927);
- an area under a ROC curve: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more
  correlated receiver operating characteristic curves" (Biometrics 44, 1988).
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from raysynth.frames import Floats

LEVEL = 0.95
Z = float(norm.ppf(0.5 + LEVEL / 2))

Unit = Literal["AUC", "risk", "share"]


class Interval(NamedTuple):
    """A figure with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Risk:
    """One attack on the synthetic table, or on its model.

    `value` lies between `low` and `high`; an attacker who learned nothing has `chance`. `tried`
    attempts were made. An attack that could not be made says why in `skipped`: its figures are then
    those of chance with an interval that excludes nothing, and no gate is passed on it. `details`
    are further figures by name; `curve` are points (false-positive rate, true-positive rate).
    """

    name: str
    unit: Unit
    value: float
    low: float
    high: float
    chance: float
    tried: int
    note: str
    skipped: str | None = None
    details: dict[str, float] = field(default_factory=dict)
    curve: tuple[tuple[float, float], ...] = ()


def share(successes: float, tried: int) -> Interval:
    """The share of successes among attempts, by Wilson; the value is the plain share.

    With no attempt the value is 0 and the interval [0, 1].
    """
    if not tried:
        return Interval(0.0, 0.0, 1.0)
    plain, square = successes / tried, Z**2
    centre = (plain + square / (2 * tried)) / (1 + square / tried)
    half = Z * np.sqrt(plain * (1 - plain) / tried + square / (4 * tried**2)) / (1 + square / tried)
    return Interval(plain, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def auc(members: Floats, others: Floats) -> Interval:
    """The area under the ROC curve of scores (M,) that should exceed others (N,), by DeLong.

    Ties count half. Both hold two scores or more, all finite.
    """
    m, n = len(members), len(others)
    joint = rankdata(np.concatenate([members, others]))
    # How many of the other side each score exceeds, as a share: DeLong's structural components.
    above = (joint[:m] - rankdata(members)) / n
    below = 1 - (joint[m:] - rankdata(others)) / m
    value = float(above.mean())
    half = Z * float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    if half == 0:  # perfectly apart: Wilson's interval of as many comparisons as rows
        one = share(round(value * min(m, n)), min(m, n))
        return Interval(value, min(one.low, value), max(one.high, value))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def roc(members: Floats, others: Floats, points: int = 101) -> tuple[tuple[float, float], ...]:
    """Points (false-positive rate, true-positive rate) of a ROC curve, evenly spread by the first.

    The true-positive rate at a rate f is the share of members whose score exceeds that of all but
    a share f of the others.
    """
    rates = np.linspace(0, 1, points)
    return tuple((float(rate), true_rate(members, others, float(rate))) for rate in rates)


def true_rate(members: Floats, others: Floats, false_rate: float) -> float:
    """The true-positive rate at a false-positive rate of at most `false_rate`."""
    allowed = int(false_rate * len(others) + 1e-9)
    if allowed >= len(others):
        return 1.0
    bar = np.sort(others)[len(others) - 1 - allowed]
    return float(np.mean(members > bar))
