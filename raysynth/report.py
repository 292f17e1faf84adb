"""A report as one HTML file that opens without a network.

Nothing in the page is fetched: styles are inside, plots are inline SVG (`plots`, which says what of
a real table may show), and the page's own policy forbids every request. Values from the table reach
it through an escaping template or as escaped SVG text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pyarrow as pa
from markupsafe import Markup

from raysynth.figures import Score
from raysynth.judge import Report
from raysynth.plots import SHARED, curve, draw
from raysynth.schema import Schema, select

COLUMNS = 60  # plots in a report


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
class _Curve:
    """A figure over the epochs of a training, and what it means."""

    name: str
    svg: Markup
    note: str
    value: float | None  # of the weights kept


@dataclass(frozen=True)
class _Cell:
    """One pair's place in the matrix: its score, and 0 to 100 for how far it is off."""

    names: str
    score: float
    off: int


def html(
    report: Report,
    synthetic: pa.Table,
    real: pa.Table,
    schema: Schema,
    title: str = "Synthetic table report",
    epochs: Sequence[Mapping[str, float]] = (),
    kept: int | None = None,
) -> str:
    """The report with plots of both tables, as one page of HTML.

    `synthetic` and `real` are the tables that `report` was made from, `epochs` is what was measured
    while their generator trained, and `kept` the epoch, from 1, whose weights drew them. The first
    `COLUMNS` columns are drawn, of those that are modelled. Raises `TableError` for columns that
    are missing or of another type.
    """
    schema = schema.modelled
    synthetic, real = select(synthetic, schema), select(real, schema)
    drawn = schema.columns[:COLUMNS]
    names = [column.name for column in drawn]
    source = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["score"] = _number
    return environment.from_string(source).render(
        title=title,
        report=report,
        reading=_reading(report),
        curves=_curves(epochs, kept),
        epochs=len(epochs),
        kept=kept,
        drawings=[draw(column, real, synthetic) for column in drawn],
        names=names,
        matrix=[[_cell(report, one, other) for other in names] for one in names],
        hidden=len(schema.columns) - len(drawn),
        shared=SHARED,
    )


def _curves(epochs: Sequence[Mapping[str, float]], kept: int | None) -> list[_Curve]:
    """Of each figure that was measured after two epochs or more, so that there is a line."""
    found = []
    for name, note in MEASURED.items():
        points = {int(epoch["epoch"]): epoch[name] for epoch in epochs if name in epoch}
        if len(points) > 1:
            value = None if kept is None else points.get(kept)
            found.append(_Curve(name, curve(points, kept), note, value))
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _reading(report: Report) -> list[str]:
    """What the figures say, in plain words, with no verdict beyond them."""
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


def _cell(report: Report, one: str, other: str) -> _Cell | None:
    score = report.pairs.get((one, other)) or report.pairs.get((other, one))
    if score is None:
        return None
    # A fifth off is as dark as a cell gets: scores under 0.8 are all plainly bad.
    off = round(100 * min(1.0, (1.0 - score.synthetic) / 0.2))
    return _Cell(f"{one} with {other}", score.synthetic, off)
