"""What a report says in plain words, for those who decide whether a table may be shared.

The words claim no more than was measured: of attacks that failed it is said that those attacks
failed, never that a table is safe. Levels and reasons are the gate's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from raysynth.figures import Figure, Score
from raysynth.gate import LEVELS, Level, Reason, longest
from raysynth.judge import Report
from raysynth.risks import Risk

T = TypeVar("T")

HEADLINES: dict[Level, str] = {
    "fail": "Do not share this table",
    "warn": "Weigh the warnings before sharing this table",
    "pass": "No check speaks against sharing this table",
}
NONE = "Whether this table may be shared was not judged"

# Figures by what they look at, in the order of the page.
GROUPS = {
    "Columns, one by one": ("shape", "cumulative", "tails", "coverage", "missingness"),
    "Relations between columns": ("trend", "mutual_information", "three_way", "missing_together"),
    "Groups of rows": ("groups",),
    "Whole rows": ("alpha_precision", "beta_recall", "detection", "detection_logistic"),
    "Usefulness": ("utility", "f1", "learners", "importance"),
    "Nearness to training rows": ("dcr_share", "copies"),
}
OTHERS = "Further figures"

# What an attacker asks, by how the name of the attack begins; the longest that fits counts.
ATTACKS = {
    "membership": "Was this person among the training rows?",
    "membership_model": "The same, asked with the trained model in hand and not only the table",
    "singling_out": "Is there a description that fits one person and nobody else?",
    "linkability": "Do these two parts of a record belong to one person?",
    "inference": "What is the cell of this person that I do not know, given the others?",
    "inference_worst": (
        "The same of the column that is guessed best (of several, so the interval's lower end "
        "counts)"
    ),
    "rare_values": "Does the table show a value that few people have?",
    "rare_combinations": "Does the table show a combination that one person alone has?",
    "exact_copies": "Is somebody's whole row in the table?",
    "near_copies": "Are rows in the table suspiciously close to somebody's?",
    "canary": "Is a row in the table that was planted to be found?",
}


@dataclass(frozen=True)
class Group(Generic[T]):
    """What belongs under one heading."""

    name: str
    members: tuple[T, ...]


def headline(report: Report) -> str:
    """Whether the table may be shared, in one line."""
    return NONE if report.verdict is None else HEADLINES[report.verdict.verdict]


def meaning(report: Report) -> str:
    """What the verdict means, by whether attacks or figures of fidelity led to it."""
    verdict, fidelity = report.verdict, {figure.name for figure in report.figures}
    if verdict is None:
        return "No gate was asked. The figures below say how like the real table it is, no more."
    grave = [one.name for one in verdict.reasons if one.level == verdict.verdict]
    attacks = [name for name in grave if name not in fidelity]
    if verdict.verdict == "pass":
        return (
            "Every check stayed under its bars. That holds for the attacks that were made, and "
            "proves nothing about others."
        )
    if verdict.verdict == "fail" and attacks:
        return (
            "An attack works: whoever gets the table can learn more about people in the training "
            "rows than about anybody else."
        )
    if verdict.verdict == "fail":
        return "No attack went over its bar that fails, but a figure of fidelity did."
    if attacks:
        return (
            "No check failed, but an attack gained something, cannot be ruled out, or could not "
            "be made. The warnings say which."
        )
    return (
        "Every attack that was made stayed under its bars; what is in doubt is whether the table "
        "is like enough to the real one for its use."
    )


def level_of(report: Report, name: str) -> Level | None:
    """The gravest level the gate gives a figure or an attack, with its rate; None for none."""
    verdict = report.verdict
    reasons = () if verdict is None else verdict.reasons
    found = [one.level for one in reasons if one.name in (name, f"{name}_rate")]
    return max(found, key=LEVELS.index, default=None)


def split(report: Report) -> tuple[list[Reason], list[Reason]]:
    """The reasons that speak against the table, the gravest first, and those that do not."""
    reasons = () if report.verdict is None else report.verdict.reasons
    grave = [reason for reason in reasons if reason.level != "pass"]
    return grave, [reason for reason in reasons if reason.level == "pass"]


def untried(report: Report) -> list[str]:
    """What was not tried: attacks that could not be made, and those that never are."""
    skipped = [
        f"{question(risk)} ({risk.name}: {risk.skipped})"
        for risk in report.risks
        if risk.skipped is not None
    ]
    if report.verdict is None and not report.risks:
        return [*skipped, "No attack was made: nothing here is about privacy."]
    return skipped + list(() if report.verdict is None else report.verdict.untried)


def grouped(figures: Iterable[Figure]) -> list[Group[Figure]]:
    """The figures under headings; a heading without one is left out."""
    heading = {name: group for group, names in GROUPS.items() for name in names}
    found: dict[str, list[Figure]] = {group: [] for group in (*GROUPS, OTHERS)}
    for figure in figures:
        found[heading.get(figure.name, OTHERS)].append(figure)
    return [Group(group, tuple(members)) for group, members in found.items() if members]


def question(risk: Risk) -> str:
    """What the attacker asks; of an attack that has no words here, its name."""
    name = risk.name.replace("_", " ")
    return longest(ATTACKS, risk.name) or name[:1].upper() + name[1:]


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
    if report.worst_group is not None and "groups" in figures:
        said.append(
            f"The group of rows that comes out worst, one of those that '{report.worst_group}' "
            f"makes, has columns {figures['groups'].synthetic:.1%} like the real ones"
            f"{_of_real(figures['groups'].ceiling)}."
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


def _of_real(ceiling: float | None) -> str:
    return "" if ceiling is None else f"; of training rows that is {ceiling:.1%}"


def _beside(ceiling: float | None) -> str:
    return "" if ceiling is None else f"; one that learned from real rows reaches {ceiling:.3f}"


def bounded(low: float | None, high: float | None) -> str:
    """An interval in words; empty where there is none."""
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
