"""What an attack achieves: a figure, its interval, and what one who knows nothing would achieve.

Intervals are for one figure at `LEVEL` confidence, two-sided:

- a share of attempts: Wilson, "Probable inference, the law of succession, and statistical
  inference" (JASA 22, 1927);
- an area under a ROC curve: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more
  correlated receiver operating characteristic curves" (Biometrics 44, 1988);
- a residual risk: the errors of two shares propagated, as Anonymeter does (Giomi et al., "A unified
  framework for quantifying privacy risk in synthetic data", PoPETs 2023, arXiv 2211.10459).
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


def share(successes: float, tried: int, worst_of: int = 1) -> Interval:
    """The share of successes among attempts, by Wilson; the value is the plain share.

    With no attempt the value is 0 and the interval [0, 1]. A figure that was picked as the worst of
    several has an interval that holds for all of them at once (Bonferroni).
    """
    if not tried:
        return Interval(0.0, 0.0, 1.0)
    z = float(norm.ppf(1 - (1 - LEVEL) / 2 / worst_of))
    plain, square = successes / tried, z**2
    centre = (plain + square / (2 * tried)) / (1 + square / tried)
    half = z * np.sqrt(plain * (1 - plain) / tried + square / (4 * tried**2)) / (1 + square / tried)
    return Interval(plain, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def residual(main: Interval, control: Interval) -> Interval:
    """What is learned of training rows beyond what is learned of everybody, in [0, 1].

    Of shares m and c of successes against training rows and against the control it is
    (m - c) / (1 - c), their errors propagated as if they were independent. The middle of Wilson's
    interval stands for a share, as in Anonymeter: it is never 1, so a control where every attempt
    succeeds, which leaves nothing to be learned beyond it, gives an interval that excludes nothing.
    """
    (m, m_error), (c, c_error) = (
        ((low + high) / 2, (high - low) / 2) for _, low, high in (main, control)
    )
    value = (m - c) / (1 - c)
    error = float(np.hypot(m_error / (1 - c), c_error * (1 - m) / (1 - c) ** 2))
    ends = (min(1.0, max(0.0, figure)) for figure in (value, value - error, value + error))
    return Interval(*ends)


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


class Attempts(NamedTuple):
    """As many attempts of each kind, and how many succeeded.

    `main` against training rows, `control` against held ones, `baseline` by random guesses against
    training rows (an expected number where it is known).
    """

    tried: int
    main: float
    control: float
    baseline: float

    @property
    def weak(self) -> bool:
        """Whether random guesses do as well: such an attack failing proves nothing."""
        return self.main <= self.baseline

    def residual(self, worst_of: int = 1) -> Interval:
        """What they learned beyond the control; see `share` for `worst_of`."""
        main, control = (share(n, self.tried, worst_of) for n in (self.main, self.control))
        return residual(main, control)

    def risk(self, name: str, note: str, worst_of: int = 1) -> Risk:
        """The risk of that name."""
        if self.weak:
            note += " Random guesses did as well here: the attack was too weak to prove anything."
        details = {
            "success_main": self.main / self.tried,
            "success_control": self.control / self.tried,
            "success_baseline": self.baseline / self.tried,
            "weak": float(self.weak),
        }
        ends = self.residual(worst_of)
        return Risk(name, "risk", *ends, 0.0, self.tried, note, details=details)


def not_tried(name: str, needs: str, note: str) -> Risk:
    """A risk that could not be measured, and what it `needs`."""
    return Risk(name, "risk", 0.0, 0.0, 1.0, 0.0, 0, note, skipped=f"needs {needs}")
