"""What an attack achieves: a figure, its interval, and what one who knows nothing would achieve.

Intervals are for one figure at `LEVEL` confidence, two-sided:

- a share of attempts: Wilson, "Probable inference, the law of succession, and statistical
  inference" (JASA 22, 1927);
- a share over that of a control (the residual risk of Giomi et al., "A unified framework for
  quantifying privacy risk in synthetic data", PoPETs 2023, arXiv 2211.10459, as Anonymeter has it):
  of the ratio of failures, from both Wilson intervals, Newcombe,
  "MOVER-R confidence intervals for ratios and products of two independently estimated quantities"
  (Statistical Methods in Medical Research 25, 2016). It lies above 0 exactly where his interval of
  the difference does ("Interval estimation for the difference between independent proportions",
  Statistics in Medicine 17, 1998, method 10);
- an area under a ROC curve: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more
  correlated receiver operating characteristic curves" (Biometrics 44, 1988).
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtri

from raysynth.frames import Bools, Floats

LEVEL = 0.95
FEWEST = 30  # rows of a side under which an attack says nothing
Z = float(ndtri(0.5 + LEVEL / 2))

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


def share(successes: float, tried: float, worst_of: int = 1) -> Interval:
    """The share of successes among attempts, by Wilson; the value is the plain share.

    With no attempt the value is 0 and the interval [0, 1]. A figure that was picked as the worst of
    several has an interval that holds for all of them at once (Bonferroni).
    """
    if not tried:
        return Interval(0.0, 0.0, 1.0)
    z = float(ndtri(1 - (1 - LEVEL) / 2 / worst_of))
    plain, square = successes / tried, z**2
    centre = (plain + square / (2 * tried)) / (1 + square / tried)
    half = z * np.sqrt(plain * (1 - plain) / tried + square / (4 * tried**2)) / (1 + square / tried)
    # Rounding may put an end of 0 or 1 a hair inside.
    low, high = min(plain, max(0.0, centre - half)), max(plain, min(1.0, centre + half))
    return Interval(plain, float(low), float(high))


def clustered(hits: Bools) -> Interval:
    """The share of successes among (K, B) attempts, K of each row, which go together.

    Wilson's of as many independent attempts as would give the share's variance over rows: Kish's
    effective sample size, "Survey Sampling" (1965), between B and K B.
    """
    several, rows = hits.shape
    each = hits.mean(axis=0)
    value, spread = float(each.mean()), float(each.var(ddof=1)) if rows > 1 else 0.0
    effective = rows * value * (1 - value) / spread if spread else rows
    count = float(np.clip(effective, rows, several * rows))
    return share(value * count, count)


def residual(main: Interval, control: Interval) -> Interval:
    """What is learned of training rows beyond what is learned of everybody, in [0, 1].

    Of shares of successes against training rows and against a control it is (main - control) /
    (1 - control), Anonymeter's measure. What lies under 0 is 0, the interval's ends too: less than
    the control is nothing learned. A share of no attempts, or a control that always succeeds and
    so leaves nothing to be learned beyond it, gives 0 and an interval that excludes nothing.

    Departure: Anonymeter propagates the errors of both shares as if normal and symmetric, which at
    the few successes of a good table gives intervals that are too narrow above.
    """
    # Of the ratio of failures, to which the figure adds up to 1.
    failed, failed_base = 1 - main.value, 1 - control.value
    if failed_base == 0 or any(one[1:] == (0, 1) for one in (main, control)):
        return Interval(0.0, 0.0, 1.0)

    def solved(end: float, base_end: float) -> tuple[float, float, float]:
        wide = base_end * (2 * failed_base - base_end)
        both, rest = failed * failed_base, end * (2 * failed - end)
        return wide, rest, both + float(np.sqrt(max(0.0, both**2 - wide * rest)))

    wide, _, root = solved(1 - main.low, 1 - control.high)
    most = root / wide if wide > 0 else np.inf
    _, rest, root = solved(1 - main.high, 1 - control.low)
    least = max(0.0, rest / root) if root > 0 else 0.0
    ends = (1 - failed / failed_base, 1 - most, 1 - least)
    return Interval(*(float(max(0.0, end)) for end in ends))


def auc(members: Floats, others: Floats) -> Interval:
    """The area under the ROC curve of scores (M,) that should exceed others (N,), by DeLong.

    Ties count half. Both hold two scores or more, all finite.
    """
    from scipy.stats import rankdata  # takes half a second to load: not to open a run

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

    Of so many others that rates under 0.01 can be told, some such are there too. The true-positive
    rate at a rate f is the share of members whose score exceeds that of all but a share f of the
    others.
    """
    few = [rate for rate in (0.001, 0.002, 0.005) if rate * len(others) >= 1]
    rates = np.union1d(np.linspace(0, 1, points), few)
    return tuple((float(rate), true_rate(members, others, float(rate))) for rate in rates)


def true_rate(members: Floats, others: Floats, false_rate: float) -> float:
    """The true-positive rate at a false-positive rate of at most `false_rate`."""
    allowed = int(false_rate * len(others) + 1e-9)
    if allowed >= len(others):
        return 1.0
    bar = np.sort(others)[len(others) - 1 - allowed]
    return float(np.mean(members > bar))


def membership(name: str, members: Floats, others: Floats, note: str) -> Risk:
    """How well members are told by scores (M,) that should exceed those of others (N,).

    With fewer than `FEWEST` on a side it is skipped. The true-positive rates have Wilson's ends
    over the members, the threshold being taken as given.
    """
    if min(len(members), len(others)) < FEWEST:
        return skipped(name, "AUC", note, f"needs {FEWEST} rows on each side")
    found, details = auc(members, others), {}
    for label, rate in (("1pct", 0.01), ("0.1pct", 0.001)):
        told = share(true_rate(members, others, rate) * len(members), len(members))
        details[f"tpr_at_{label}"] = told.value
        details[f"tpr_at_{label}_low"], details[f"tpr_at_{label}_high"] = told.low, told.high
    tried, curve = len(members) + len(others), roc(members, others)
    return Risk(name, "AUC", *found, 0.5, tried, note, details=details, curve=curve)


def over_control(name: str, hits: Bools, control: Bools, note: str, **details: float) -> Risk:
    """How much oftener an attack hits than among a control's rows, both (B,): see `residual`."""
    if min(len(hits), len(control)) < FEWEST:
        return skipped(name, "risk", note, f"needs {FEWEST} rows on each side")
    shares = (share(int(side.sum()), len(side)) for side in (hits, control))
    found = residual(*shares)
    told = {"rate": float(hits.mean()), "control": float(control.mean()), **details}
    return Risk(name, "risk", *found, 0.0, len(hits), note, details=told)


def skipped(name: str, unit: Unit, note: str, why: str) -> Risk:
    """An attack that could not be made: the figures of chance, and an interval of everything."""
    chance = 0.5 if unit == "AUC" else 0.0
    return Risk(name, unit, chance, 0.0, 1.0, chance, 0, note, skipped=why)


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

    def risk(self, name: str, note: str, ends: Interval | None = None) -> Risk:
        """The risk of that name; `ends` is its interval, where it is not that of `residual`."""
        if self.weak:
            note += " Random guesses did as well here: the attack was too weak to prove anything."
        details = {
            "success_main": self.main / self.tried,
            "success_control": self.control / self.tried,
            "success_baseline": self.baseline / self.tried,
            "weak": float(self.weak),
        }
        return Risk(
            name, "risk", *(ends or self.residual()), 0.0, self.tried, note, details=details
        )
