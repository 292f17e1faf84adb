"""Plots of a report as inline SVG, in the colours of its page.

Privacy: a bin or category of a real column is drawn or named only where at least `SHARED` rows of
the real table are in it; the rest is one bar called "other", or a share in a footnote. Categories
that occur in the synthetic table alone go unnamed too. An axis spans what is drawn, so no extreme
value shows.
"""

import io
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raysynth.frames import Floats, codes, floats
from raysynth.schema import Column

SHARED = 10  # rows of the real table that share whatever is drawn or named
CATEGORIES = 20  # bars in a plot
BINS = 40  # about this many in a histogram
_LABEL = 22  # letters of a category's name

# Colours that stand for the page's own, which differ between light, dark and print.
_COLOURS = {"#010203": "var(--ink)", "#020304": "var(--real)", "#030405": "var(--synthetic)"}
_INK, _REAL, _SYNTHETIC = _COLOURS
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raysynth",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 8,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


@dataclass(frozen=True)
class Drawing:
    """One column's plot and what it leaves out, in words."""

    name: str
    svg: Markup
    left_out: str


def draw(column: Column, real: pa.Table, synthetic: pa.Table) -> Drawing:
    """One column of both tables, `real` as areas and `synthetic` over it."""
    figure = Figure(figsize=(3.3, 1.9), layout="constrained")
    put = _histogram if column.measured else _bars
    # Warnings would quote a cell: matplotlib names the letters that its fonts lack.
    with warnings.catch_warnings(), mpl.rc_context(_STYLE), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        left_out = put(figure, column, real, synthetic)
        svg = _svg(figure) if figure.axes else Markup("")
    return Drawing(column.name, svg, left_out)


def curve(points: Mapping[int, float], kept: int | None) -> Markup:
    """A figure by epoch as a line; across it, another where the epoch `kept` is."""
    figure = Figure(figsize=(3.3, 1.9), layout="constrained")
    with mpl.rc_context(_STYLE):
        axes = figure.add_subplot()
        axes.plot(list(points), list(points.values()), color=_SYNTHETIC, linewidth=1.5)
        if kept is not None:
            axes.axvline(kept, color=_INK, linewidth=0.8, linestyle=(0, (3, 2)))
            if kept in points:
                axes.plot([kept], [points[kept]], "o", color=_INK, markersize=4)
        axes.set_xlabel("epoch")
        _plain(axes)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.locator_params(axis="y", nbins=5)
        return _svg(figure)


def _histogram(figure: Figure, column: Column, real: pa.Table, synthetic: pa.Table) -> str:
    """Draw shares of rows over bins with round edges; say what is not drawn."""
    values = [floats(table, column.name) for table in (real, synthetic)]
    present = [value[~np.isnan(value)] for value in values]
    edges = _edges(present[0], pa.types.is_integer(column.type))
    # A value that is a multiple of the step may lie a rounding error below its own edge.
    nudged = edges - 1e-6 * (edges[1] - edges[0])
    counts = [np.histogram(value, nudged)[0] for value in present]
    kept = counts[0] >= SHARED
    if kept.any():
        axes = figure.add_subplot()
        ours, theirs = (
            np.where(kept, count / len(value), np.nan)
            for count, value in zip(counts, values, strict=True)
        )
        axes.stairs(ours, edges, fill=True, color=_REAL, alpha=0.5)
        axes.stairs(theirs, edges, color=_SYNTHETIC, linewidth=1.5)
        first, last = np.flatnonzero(kept)[[0, -1]]
        axes.set_xlim(edges[first], edges[last + 1])
        axes.yaxis.set_major_formatter(_percent)
        _plain(axes)
    rows = (len(values[0]), len(values[1]))
    missing = [len(value) - len(there) for value, there in zip(values, present, strict=True)]
    thin = [len(there) - int(n[kept].sum()) for there, n in zip(present, counts, strict=True)]
    said = [_said("missing", missing, rows), _said("in bins not drawn", thin, rows)]
    return "; ".join(filter(None, said))


def _edges(values: Floats, whole: bool) -> Floats:
    """Edges at multiples of a round step over all but the outermost values, so none shows."""
    values = values[np.abs(values) < 1e300]  # beyond, matplotlib's own sums overflow
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) else (0.0, 0.0)
    step = max(_step(high / BINS - low / BINS), 1e-9 * max(abs(low), abs(high)))
    if whole or step == 0:
        step = max(step, 1.0)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    edges: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    return edges - 0.5 if whole and step == 1 else edges


def _step(width: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... (or 0.5, 0.2, ...) that is not below `width`."""
    if width <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(width))
    return next((k * power for k in (1, 2, 5) if k * power >= width), 10 * power)


def _said(what: str, counts: list[int], rows: tuple[int, int]) -> str:
    """A footnote such as 'missing: real 5.6%, synthetic 5.1%'; empty where there are none."""
    if not any(counts):
        return ""
    few = 0 < counts[0] < SHARED
    real = f"fewer than {SHARED} rows" if few else f"{counts[0] / rows[0]:.1%}"
    return f"{what}: real {real}, synthetic {counts[1] / rows[1]:.1%}"


def _bars(figure: Figure, column: Column, real: pa.Table, synthetic: pa.Table) -> str:
    """Draw the shares of the most frequent real categories, the rest as one; say what is pooled."""
    arrays, size = codes([real, synthetic], column.name)
    counts = [np.bincount(array, minlength=size) for array in arrays]
    order = np.argsort(-counts[0], kind="stable")
    shown = [code for code in order[:CATEGORIES] if counts[0][code] >= SHARED]
    if not shown:
        return f"not drawn: fewer than {SHARED} real rows share any value"
    found = [real.column(column.name)[int(np.argmax(arrays[0] == code))] for code in shown]
    labels = [_label(value.as_py()) for value in found]
    rest = [len(array) - int(n[shown].sum()) for array, n in zip(arrays, counts, strict=True)]
    shares = [list(n[shown] / len(a)) for a, n in zip(arrays, counts, strict=True)]
    if any(rest):
        labels.append("other")
        shares[0].append(rest[0] / len(arrays[0]) if rest[0] >= SHARED else 0.0)
        shares[1].append(rest[1] / len(arrays[1]))
    figure.set_size_inches(3.3, 0.45 + 0.21 * len(labels))
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    axes.barh(places - 0.2, shares[0], 0.36, color=_REAL, alpha=0.8)
    axes.barh(places + 0.2, shares[1], 0.36, color=_SYNTHETIC)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.xaxis.set_major_formatter(_percent)
    _plain(axes)
    return _said("other", rest, (len(arrays[0]), len(arrays[1])))


def _label(value: object) -> str:
    if value is None:
        return "(missing)"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # Line breaks, control characters and marks that turn the direction of text go.
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.6g}%"


def _plain(axes: Axes) -> None:
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=5)


def _svg(figure: Figure) -> Markup:
    """The figure as an inline SVG element in the page's colours, without a link to anything."""
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    unnamed = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=unnamed)
    root, body = buffer.getvalue().partition("<svg")[2].split(">", 1)
    box = re.search(r'viewBox="[-0-9. ]+"', root)
    assert box is not None, "matplotlib wrote an SVG without a viewBox"
    body = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL
    )
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    for stand_in, colour in _COLOURS.items():
        body = body.replace(stand_in, colour)
    return Markup(f'<svg {box[0]} aria-hidden="true">{body}')
