"""What the page of a report shows, made ready for its template: in words, and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from raysynth import reading
from raysynth.config import GateConfig
from raysynth.curves import curve, interval, learners, roc, score
from raysynth.figures import Figure, Learner, Score
from raysynth.gate import Level, bars_of
from raysynth.judge import Report
from raysynth.risks import Risk

MOST = 60  # scores in a table of the worst
FEW = 0.1  # false alarms: a curve with points under this is drawn by magnitude, too

MEASURED = {
    "fidelity": (
        "A quick look at rows drawn beside real ones, by columns, pairs, categories covered and a "
        "detector: higher is nearer. It ranks the epochs of one training and no more."
    ),
    "held": (
        "Bits that a held-out row costs under the model, its negative log-likelihood: fewer is "
        "better. Where it rises again, the model has begun to learn its rows by heart."
    ),
}


@dataclass(frozen=True)
class Curve:
    """A figure over the epochs of a training, and what it means."""

    name: str
    svg: Markup
    note: str
    value: float | None  # of the weights kept


@dataclass(frozen=True)
class Attack:
    """A risk in plain words and drawn: its place between chance and 1, and its curves."""

    risk: Risk
    question: str
    level: Level | None
    svg: Markup | None  # None where it was skipped
    curves: list[Markup]


@dataclass(frozen=True)
class Measured:
    """A figure drawn, and what the gate says of it."""

    figure: Figure
    level: Level | None
    svg: Markup


@dataclass(frozen=True)
class Part:
    """A score of a column, a pair, or the groups of a column."""

    name: str
    score: Score
    svg: Markup


@dataclass(frozen=True)
class Learned:
    """Learners that are scored in one unit."""

    unit: str
    members: list[Learner]
    svg: Markup | None


@dataclass(frozen=True)
class Cell:
    """One pair's place in the matrix: its score, and 0 to 100 for how far it is off."""

    names: str
    score: float
    off: int


def said(report: Report, gate: GateConfig | None) -> dict[str, Any]:
    """All that the page says of the report and does not draw from its tables."""
    grave, passed = reading.split(report)
    pairs = {" with ".join(names): one for names, one in report.pairs.items()}
    return {
        "headline": reading.headline(report),
        "meaning": reading.meaning(report),
        "grave": grave,
        "passed": passed,
        "untried": reading.untried(report),
        "reading": reading.reading(report),
        "attacks": [_attack(report, risk, gate) for risk in report.risks],
        "groups": [
            reading.Group(group.name, tuple(_measured(report, one) for one in group.members))
            for group in reading.grouped(report.figures)
        ],
        "learned": _learned(report),
        "most": MOST,
        "parts": {
            "Columns": _worst(report.columns),
            "Pairs of columns": _worst(pairs),
            "The worst group that each column makes": _worst(report.groups),
        },
    }


def curves(epochs: Sequence[Mapping[str, float]], kept: int | None) -> list[Curve]:
    """Of each figure that was measured after two epochs or more, so that there is a line."""
    found = []
    for name, note in MEASURED.items():
        points = {int(epoch["epoch"]): epoch[name] for epoch in epochs if name in epoch}
        if len(points) > 1:
            value = None if kept is None else points.get(kept)
            found.append(Curve(name, curve(name, points, kept), note, value))
    return found


def matrix(report: Report, names: Sequence[str]) -> list[list[Cell | None]]:
    """Pairs of those columns; a column with itself is None."""
    return [[_cell(report, one, other) for other in names] for one in names]


def _attack(report: Report, risk: Risk, gate: GateConfig | None) -> Attack:
    level, asked = reading.level_of(report, risk.name), reading.question(risk)
    if risk.skipped is not None:
        return Attack(risk, asked, level, None, [])
    bars = () if gate is None else bars_of(risk.name, gate)
    # Only where false alarms are counted finely enough is there something to spread.
    few = any(0 < false <= FEW for false, _ in risk.curve)
    spreads = [False, True] if few else [False] if len(risk.curve) > 1 else []
    drawn = [roc(risk.curve, spread) for spread in spreads]
    return Attack(risk, asked, level, interval(risk, bars), drawn)


def _measured(report: Report, figure: Figure) -> Measured:
    return Measured(figure, reading.level_of(report, figure.name), score(figure))


def _worst(scores: Mapping[str, Score]) -> list[Part]:
    """The lowest synthetic scores, the lowest first."""
    lowest = sorted(scores.items(), key=lambda item: item[1].synthetic)[:MOST]
    return [Part(name, one, score(one)) for name, one in lowest]


def _learned(report: Report) -> list[Learned]:
    """Learners by unit, since scores of two units have no axis in common."""
    found: dict[str, list[Learner]] = {}
    for learner in report.learners:
        found.setdefault(learner.unit, []).append(learner)
    held = {unit: [o for o in members if o.ceiling is not None] for unit, members in found.items()}
    return [
        Learned(unit, members, learners(held[unit]) if held[unit] else None)
        for unit, members in found.items()
    ]


def _cell(report: Report, one: str, other: str) -> Cell | None:
    found = report.pairs.get((one, other)) or report.pairs.get((other, one))
    if found is None:
        return None
    # A fifth off is as dark as a cell gets: scores under 0.8 are all plainly bad.
    off = round(100 * min(1.0, (1.0 - found.synthetic) / 0.2))
    return Cell(f"{one} with {other}", found.synthetic, off)
