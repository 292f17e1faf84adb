"""What a report says in plain words, for those who decide whether a table may be shared.

The words claim no more than was measured: of attacks that failed it is said that those attacks
failed, never that a table is safe.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from raysynth.figures import Figure, Score
from raysynth.gate import Level, Reason, Verdict
from raysynth.judge import Report
from raysynth.risks import Risk

T = TypeVar("T")

LEVELS: tuple[Level, ...] = ("fail", "warn", "pass")  # the gravest first

HEADLINES: dict[Level, str] = {
    "fail": "Do not share",
    "warn": "Share with care",
    "pass": "No attack we made succeeded",
}
MEANINGS: dict[Level, str] = {
    "fail": "A check failed: the reasons marked Fail say which, and what it means.",
    "warn": (
        "No check failed, but an attack gained something, could not be ruled out, or could not be "
        "made: see the reasons marked Warn. Somebody has to weigh them before it is handed on."
    ),
    "pass": (
        "Every check was passed. That holds for the attacks that were made, and is no proof that "
        "nobody can be recognised by another."
    ),
}

# Figures by what they look at, in the order of the page.
GROUPS = {
    "Columns": ("shape",),
    "Pairs of columns": ("trend",),
    "Whole rows": ("alpha_precision", "beta_recall", "detection", "detection_logistic"),
    "Usefulness": ("utility", "f1"),
    "Copies": ("dcr_share", "copies"),
}
OTHERS = "Further figures"

# What an attacker is after, by how the name of the attack begins; the longest that fits counts.
ATTACKS = {
    "membership": "Tell whether a person was among the training rows",
    "membership_model": "The same, with the trained model in hand and not only the table",
    "singling_out": "Find a description that fits one person and nobody else",
    "linkability": "Find out which two parts of the data belong to one person",
    "inference": "Guess what is not known about a person from what is known",
    "rare": "Find a value or combination that few people have",
    "exact_copies": "Find a person's whole row in the table",
    "near_copies": "Find a row close to a person's",
    "canary": "Find a row that was planted to be found",
}


@dataclass(frozen=True)
class Group(Generic[T]):
    """What belongs under one heading."""

    name: str
    members: tuple[T, ...]


def sorted_reasons(verdict: Verdict) -> list[Reason]:
    """The reasons, the gravest first, and otherwise as the gate gave them."""
    return sorted(verdict.reasons, key=lambda reason: LEVELS.index(reason.level))


def levels(verdict: Verdict | None) -> dict[str, Level]:
    """By figure or attack, the gravest level a reason has."""
    reasons = [] if verdict is None else sorted_reasons(verdict)
    return {reason.name: reason.level for reason in reversed(reasons)}


def grouped(figures: Iterable[Figure]) -> list[Group[Figure]]:
    """The figures under headings; a heading without one is left out."""
    heading = {name: group for group, names in GROUPS.items() for name in names}
    found: dict[str, list[Figure]] = {group: [] for group in (*GROUPS, OTHERS)}
    for figure in figures:
        found[heading.get(figure.name, OTHERS)].append(figure)
    return [Group(group, tuple(members)) for group, members in found.items() if members]


def question(risk: Risk) -> str:
    """What the attacker is after; of an attack that has no words here, its name."""
    fitting = [start for start in ATTACKS if risk.name.startswith(start)]
    name = risk.name.replace("_", " ")
    return ATTACKS[max(fitting, key=len)] if fitting else name[:1].upper() + name[1:]


def brief(report: Report) -> str:
    """How like the real table it is, in one or two sentences."""
    figures = {figure.name: figure for figure in report.figures}
    said = f"Columns are {figures['shape'].synthetic:.1%} like the real ones"
    if "trend" in figures:
        said += f", relations between two columns {figures['trend'].synthetic:.1%}"
    said += (
        "; shown one real and one synthetic row, a trained classifier picks the synthetic one "
        f"{figures['detection'].synthetic:.0%} of the time (guessing: 50%)."
    )
    if "utility" in figures:
        figure = figures["utility"]
        said += (
            f" A model that learned '{report.target}' from it reaches {figure.synthetic:.3f} "
            f"({figure.unit}) on real rows{_beside(figure.ceiling)}."
        )
    return said


def reading(report: Report) -> list[str]:
    """What the figures say, with no verdict beyond them."""
    figures = {figure.name: figure for figure in report.figures}
    column = report.worst_column
    shape = figures["shape"].synthetic
    said = [f"Taken one by one, columns are on average {shape:.1%} like the real ones."]
    said[0] += f" The worst is '{column}' at {report.columns[column].synthetic:.1%}."
    if report.worst_pair is not None:
        one, other = report.worst_pair
        said.append(
            f"Taken two by two, relations are {figures['trend'].synthetic:.1%} like the real ones"
            f"{_way(figures['trend'].synthetic, figures['trend'])}. The worst pair is '{one}' "
            f"with '{other}' at {report.pairs[one, other].synthetic:.1%}."
        )
    said.append(
        "Shown one real and one synthetic row, a trained classifier picks the synthetic one "
        f"{figures['detection'].synthetic:.0%} of the time; guessing is right 50% of the time."
    )
    if "utility" in figures:
        figure = figures["utility"]
        said.append(
            f"A model that learned '{report.target}' from synthetic rows reaches "
            f"{figure.synthetic:.3f} ({figure.unit}) on real rows{_beside(figure.ceiling)}."
        )
    copied = figures["copies"]
    said.append(
        f"{copied.synthetic:.2%} of the synthetic rows are exact copies of a "
        + ("real row." if copied.ceiling is None else "training row; ")
        + ("" if copied.ceiling is None else f"of fresh real rows, {copied.ceiling:.2%} are.")
    )
    return said


def _way(value: float, figure: Score) -> str:
    if figure.ceiling is None or figure.ceiling - figure.floor < 0.01:
        return ""
    way = (value - figure.floor) / (figure.ceiling - figure.floor)
    return f", {min(max(way, 0.0), 1.0):.0%} of the way from independent columns to real rows"


def _beside(ceiling: float | None) -> str:
    return "" if ceiling is None else f"; one that learned from real rows reaches {ceiling:.3f}"


def bounded(low: float | None, high: float | None) -> str:
    """An interval in words; a dash where there is none."""
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def worst(scores: dict[T, Score], most: int) -> Sequence[tuple[T, Score]]:
    """The `most` lowest synthetic scores, the lowest first."""
    return sorted(scores.items(), key=lambda item: item[1].synthetic)[:most]
