"""Figures of a report: a score beside ceiling and floor, its unit, and how to read it."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "near 0.5"]


@dataclass(frozen=True)
class Score:
    """One measurement taken three times; `ceiling` is None where no training rows were given.

    `low` and `high` are the ends of a 95 % confidence interval of `synthetic`, None where none was
    computed. What an interval is about is said where it is: `raysynth.risks`, `raysynth.resample`.
    """

    synthetic: float
    ceiling: float | None
    floor: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Learner:
    """How well one kind of model predicts real rows, by what it learned from.

    `synthetic` is its score having learned from synthetic rows, `ceiling` from real ones, `floor`
    from rows without relations.
    """

    name: str
    unit: str
    synthetic: float
    ceiling: float | None
    floor: float


@dataclass(frozen=True, kw_only=True)
class Figure(Score):
    """A score with its name, its unit, which way is better, and how to read it."""

    name: str
    unit: str
    better: Better
    note: str


def figure(name: str, score: Score, unit: str | None = None) -> Figure:
    """The figure of that name, in `unit` if not in its own."""
    return Figure(
        score.synthetic,
        score.ceiling,
        score.floor,
        score.low,
        score.high,
        name=name,
        unit=unit or _UNITS.get(name, "score"),
        better=_BETTER.get(name, "higher"),
        note=_NOTES[name],
    )


_BETTER: dict[str, Better] = dict.fromkeys(("detection", "detection_logistic", "copies"), "lower")
_BETTER["dcr_share"] = "near 0.5"
_UNITS = {
    "f1": "F1",
    "detection": "AUC",
    "detection_logistic": "AUC",
    "copies": "share",
    "dcr_share": "share",
}
_NOTES = {
    "shape": (
        "How near each column's own distribution comes to the real one, 1 being the same, as a "
        "mean over columns; the floor is high here, since it keeps every column and loses only "
        "relations."
    ),
    "trend": (
        "How near the relation of each two columns comes to the real one, 1 being the same, as a "
        "mean over pairs."
    ),
    "mutual_information": (
        "How near what one column tells of another comes to what it tells in the real table, 1 "
        "being as much, as a mean over pairs; it sees any relation, of numbers and categories."
    ),
    "three_way": (
        "How near the shares of values that three columns take together come to the real ones, as "
        "a mean over triples; sampling noise alone keeps it well under 1, as the ceiling shows."
    ),
    "cumulative": (
        "How far numbers would have to be moved to be distributed as the real ones, in ranges of "
        "their column: 1 is not at all. Far-off values count by how far they are off."
    ),
    "tails": (
        "Whether as many numbers as in the real table lie in its lowest and its highest hundredth: "
        "1 is as many, 0.5 half or twice as many, 0 none."
    ),
    "coverage": (
        "The share of categories that 10 real rows or more have, and of the ranges of numbers, "
        "that occur at all; how often they occur does not matter here."
    ),
    "missingness": (
        "Whether as many cells are missing, as a mean over the columns that miss any: 1 is as many."
    ),
    "missing_together": (
        "Whether the same columns are missing in the same rows: 1 is every pattern as often as in "
        "the real table; the floor misses as much in each column, but not together."
    ),
    "groups": (
        "The shape of the other columns within the worst group, of those that 100 real rows or "
        "more make by one category; noise lowers it in small groups, as the ceiling shows."
    ),
    "alpha_precision": (
        "How evenly rows spread about the centre of the real ones, 1 being the same; it sees rows "
        "that are far out, or too typical, and little else, so the floor is high."
    ),
    "beta_recall": (
        "How many real rows have a synthetic one as near as their nearest real one; a perfect "
        "generator has the ceiling, mostly about 0.5, and one that leaves rare rows out has less."
    ),
    "detection": (
        "How well boosted trees tell these rows from real ones: 0.5 is not at all, 1 is always."
    ),
    "detection_logistic": (
        "The same of a logistic regression, which sees columns one by one and no relation; the "
        "floor is low here, and papers report 2 (1 - this)."
    ),
    "utility": (
        "How well a model that learned from these rows predicts the target of real ones: chance "
        "is 0.5 in AUC and 0 in R2, perfect is 1."
    ),
    "f1": (
        "The same model's balance of precision and recall for the rarer of two classes (the mean "
        "over classes where there are more), 1 being perfect."
    ),
    "learners": (
        "How well learners of six kinds, scored on real rows, keep the order that they have having "
        "learned from real ones, of those that can be told apart: 1 is the same, 0 none, -1 the "
        "reverse. The ceiling is of training rows drawn again with replacement."
    ),
    "importance": (
        "How far boosted trees lean on the same columns as those that learned from real rows: 1 is "
        "the same, 0 none of them. The ceiling is of training rows drawn again with replacement."
    ),
    "dcr_share": (
        "The share of rows nearer to a training row than to any of as many held-out rows; much "
        "over 0.5 means rows were remembered. A smoke test: 0.5 proves nothing about privacy."
    ),
    "copies": (
        "The share of rows that equal a training row in every column; the ceiling is that share "
        "among real rows, and much more than that means rows were remembered."
    ),
}
