"""What an attack achieves: a figure, its interval, and what one who knows nothing would achieve.

Intervals are for one figure at `LEVEL` confidence, two-sided:

- a share of attempts: Wilson, "Probable inference, the law of succession, and statistical
  inference" (JASA 22, 1927);
- a share over that of a control: of the ratio of failures, from both Wilson intervals, Newcombe,
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
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from raysynth.frames import Floats

LEVEL = 0.95
FEWEST = 30  # rows of a side under which an attack says nothing
Z = float(norm.ppf(0.5 + LEVEL / 2))

Bools = NDArray[np.bool_]
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


def residual(successes: float, tried: int, control: float, control_tried: int) -> Interval:
    """What a share of successes has over that of a control: (share - control) / (1 - control).

    So Giomi et al., "A Unified Framework for Quantifying Privacy Risk in Synthetic Data" (PoPETs
    2023, arXiv 2211.10459), have it. What lies under 0 is 0, the interval's ends too: less than the
    control is nothing learned. With a control that always succeeds nothing is left to learn: 0.
    """
    main, base = share(successes, tried), share(control, control_tried)
    # Of the ratio of failures, to which the figure adds up to 1.
    failed, failed_base = 1 - main.value, 1 - base.value
    if not tried or not control_tried or failed_base == 0:
        return Interval(0.0, 0.0, 1.0)

    def solved(end: float, base_end: float) -> tuple[float, float, float]:
        wide = base_end * (2 * failed_base - base_end)
        both, rest = failed * failed_base, end * (2 * failed - end)
        return wide, rest, both + float(np.sqrt(max(0.0, both**2 - wide * rest)))

    wide, _, root = solved(1 - main.low, 1 - base.high)
    most = root / wide if wide > 0 else np.inf
    _, rest, root = solved(1 - main.high, 1 - base.low)
    least = max(0.0, rest / root) if root > 0 else 0.0
    ends = (1 - failed / failed_base, 1 - most, 1 - least)
    return Interval(*(float(max(0.0, end)) for end in ends))


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


def membership(name: str, members: Floats, others: Floats, note: str) -> Risk:
    """How well members are told by scores (M,) that should exceed those of others (N,).

    With fewer than `FEWEST` on a side it is skipped. The true-positive rates have Wilson's ends
    over the members, the threshold being taken as given.
    """
    if min(len(members), len(others)) < FEWEST:
        return skipped(name, "AUC", note, f"fewer than {FEWEST} rows on a side")
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
        return skipped(name, "risk", note, f"fewer than {FEWEST} rows on a side")
    found = residual(int(hits.sum()), len(hits), int(control.sum()), len(control))
    told = {"rate": float(hits.mean()), "control": float(control.mean()), **details}
    return Risk(name, "risk", *found, 0.0, len(hits), note, details=told)


def skipped(name: str, unit: Unit, note: str, why: str) -> Risk:
    """An attack that could not be made: the figures of chance, and an interval of everything."""
    chance = 0.5 if unit == "AUC" else 0.0
    return Risk(name, unit, chance, 0.0, 1.0, chance, 0, note, skipped=why)
