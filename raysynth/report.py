"""A report as one HTML file that opens without a network.

Nothing in the page is fetched: styles are inside, plots are inline SVG (`plots`, which says what of
a real table may show), and the page's own policy forbids every request. Values from the table reach
it through an escaping template or as escaped SVG text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from raysynth.config import GateConfig
from raysynth.judge import Report
from raysynth.plots import LEAST, draw
from raysynth.printable import printable
from raysynth.reading import bounded
from raysynth.schema import Schema, select
from raysynth.views import curves, matrix, said

COLUMNS = 60  # plots in a report


def html(
    report: Report,
    synthetic: pa.Table,
    real: pa.Table,
    schema: Schema,
    title: str = "Synthetic table report",
    epochs: Sequence[Mapping[str, float]] = (),
    kept: int | None = None,
    *,
    gate: GateConfig | None = None,
    least: int = LEAST,
) -> str:
    """The report with plots of both tables, as one page of HTML.

    `synthetic` and `real` are the tables that `report` was made from, `epochs` is what was measured
    while their generator trained, and `kept` the epoch, from 1, whose weights drew them. `gate` has
    the bars that attacks were held to; they are drawn beside what was measured. What fewer than
    `least` rows of `real` share is neither drawn nor named. The first `COLUMNS` columns are drawn,
    of those that are modelled. Raises `TableError` for columns that are missing or of another type.
    """
    schema = schema.modelled
    synthetic, real = select(synthetic, schema), select(real, schema)
    drawn = schema.columns[:COLUMNS]
    names = [column.name for column in drawn]
    return _template().render(
        title=title,
        report=report,
        **said(report, gate),
        curves=curves(epochs, kept),
        epochs=len(epochs),
        kept=kept,
        drawings=[draw(column, real, synthetic, least) for column in drawn],
        names=names,
        matrix=matrix(report, names),
        hidden=len(schema.columns) - len(drawn),
        least=least,
    )


def _template() -> jinja2.Template:
    here = Path(__file__)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
        loader=jinja2.FileSystemLoader(here.parent),
    )
    environment.filters["score"] = _number
    environment.globals["bounded"] = bounded
    return environment.get_template(here.with_suffix(".html.j2").name)


def _clean(value: Any) -> Any:
    """What the template puts in, in one line; its own markup as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
