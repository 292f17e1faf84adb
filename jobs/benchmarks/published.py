"""What Xu et al. (NeurIPS 2019) publish of their benchmark, and our figures beside it.

arXiv 1907.00503v2, supplement, Table 6: likelihoods of the simulated tables, scores of the real
ones, a mean of three repeats each. The paper's Table 2 has means over tables of the same figures,
not all of which are the means of Table 6. A method that we do not have stands in a row of its own.
"""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from rich.table import Table

from benchmarks.figures import score

Entry = dict[str, Any]

GROUPS = {  # what is printed together, and its figures
    "Gaussian mixtures": (("grid", "gridr", "ring"), ("L_syn", "L_test", "modes", "within 3 sd")),
    "Bayesian networks": (("asia", "alarm", "child", "insurance"), ("L_syn", "L_test")),
    "real tables, F1 (adult), R2 (news), macro F1": (
        ("adult", "covertype", "intrusion", "news"),
        ("score",),
    ),
}
TABLES = tuple(name for names, _ in GROUPS.values() for name in names)

# L_syn/L_test of the seven simulated tables; then F1, macro F1, macro F1, R2.
PAPER = {
    name: dict(zip(TABLES, cells.split(), strict=True))
    for name, cells in {
        "Identity": "-3.06/-3.06 -3.06/-3.07 -1.70/-1.70 -2.23/-2.24 -10.3/-10.3 -12.0/-12.0 "
        "-12.8/-12.9 .669 .652 .862 .14",
        "CLBN": "-3.68/-8.62 -3.76/-11.60 -1.75/-1.70 -2.44/-2.27 -12.4/-11.2 -12.6/-12.3 "
        "-15.2/-13.9 .334 .319 .384 -6.28",
        "PrivBN": "-4.33/-21.67 -3.98/-13.88 -1.82/-1.71 -2.28/-2.24 -11.9/-10.9 -12.3/-12.2 "
        "-14.7/-13.6 .414 .270 .384 -4.49",
        "MedGAN": "-10.04/-62.93 -9.45/-72.00 -2.32/-45.16 -2.81/-2.59 -10.9/-14.2 -14.2/-15.4 "
        "-16.4/-16.4 .375 .093 .299 -8.80",
        "VEEGAN": "-9.81/-4.79 -12.51/-4.94 -7.85/-2.92 -8.11/-4.63 -17.7/-14.9 -17.6/-17.8 "
        "-18.2/-18.1 .235 .082 .261 -6.5e6",
        "TableGAN": "-8.70/-4.99 -9.64/-4.70 -6.38/-2.66 -3.64/-2.77 -12.7/-11.5 -15.0/-13.3 "
        "-16.0/-14.3 .492 .000 .000 -3.09",
        "TVAE": "-2.86/-11.26 -3.41/-3.20 -1.68/-1.79 -2.31/-2.27 -11.2/-10.7 -12.3/-12.3 "
        "-14.7/-14.2 .626 .433 .511 -.20",
        "CTGAN": "-5.63/-3.69 -8.11/-4.31 -3.43/-2.19 -2.56/-2.31 -14.2/-12.6 -13.4/-12.7 "
        "-16.5/-14.8 .601 .324 .528 -.43",
    }.items()
}
METHODS = {"identity": "Identity", "ctgan": "CTGAN", "tvae": "TVAE", "tablegan": "TableGAN"}
OTHERS = ("CLBN", "PrivBN", "MedGAN", "VEEGAN")
PUBLISHED = {"L_syn": 0, "L_test": 1, "score": 0}  # place in a cell of PAPER
PLACES = {"L_syn": 2, "L_test": 2, "modes": 1}


def shown(entries: list[Entry]) -> list[Table]:
    """A printed table for each group: a family a row, the paper's figures beside ours."""
    printed = []
    for group, (names, figures) in GROUPS.items():
        there = [name for name in names if any(entry["table"] == name for entry in entries)]
        if not there:
            continue
        table = Table(title=f"{group}: mean (least..most) over seeds", title_justify="left")
        for column in ("table", "family"):
            table.add_column(column)
        for column in ("seeds", "train s", *_headed(figures)):
            table.add_column(column, justify="right")
        for name in there:
            table.add_section()
            for row in _rows(name, [e for e in entries if e["table"] == name], figures):
                table.add_row(*row)
        printed.append(table)
    return printed


def _headed(figures: tuple[str, ...]) -> Iterator[str]:
    for name in figures:
        yield name
        if name in PUBLISHED:
            yield "paper"


def _rows(name: str, entries: list[Entry], figures: tuple[str, ...]) -> Iterator[list[str]]:
    """A row a family, then one for each method that the paper has and these families are not."""
    methods = dict(METHODS)
    for family in dict.fromkeys(entry["family"] for entry in entries):
        mine = [entry for entry in entries if entry["family"] == family]
        seconds = [entry["spent"]["train"]["wall_s"] for entry in mine if "spent" in entry]
        row = [name, family, str(len(mine)), f"{fmean(seconds):.0f}" if seconds else ""]
        method = methods.pop(family, None)
        for figure in figures:
            values = [entry["figures"][figure] for entry in mine]
            row.append(score(values, PLACES.get(figure, 3)))
            row += _published(name, method, figure)
        yield row
    for method in (*methods.values(), *OTHERS):
        row = [name, f"{method} (paper)", "", ""]
        for figure in figures:
            row += ["", *_published(name, method, figure)]
        yield row


def _published(table: str, method: str | None, figure: str) -> list[str]:
    """The paper's figure as a row's next cell; no cell where the paper has no such figure."""
    if figure not in PUBLISHED:
        return []
    return ["" if method is None else PAPER[method][table].split("/")[PUBLISHED[figure]]]
