"""Plots of a report as inline SVG, in the colours of its page.

Privacy: a bin or category of a real column is drawn or named only where at least `least` rows of
the real table are in it; the rest is one bar called "other", or a share in a footnote. Categories
that occur in the synthetic table alone go unnamed too. An axis spans what is drawn, so no extreme
value shows; nor does it set the width of bins, which would tell how far off it is.
"""

import math
import warnings
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from raysynth.frames import Floats, codes, floats
from raysynth.ink import REAL, STYLE, SYNTHETIC, label, plain, svg
from raysynth.schema import Column

LEAST = 10  # rows of the real table that share whatever is drawn or named
CATEGORIES = 20  # bars in a plot
BINS = 40  # about this many in a histogram


@dataclass(frozen=True)
class Drawing:
    """One column's plot and what it leaves out, in words."""

    name: str
    svg: Markup
    left_out: str


def draw(column: Column, real: pa.Table, synthetic: pa.Table, least: int = LEAST) -> Drawing:
    """One column of both tables, `real` as areas and `synthetic` over it.

    What fewer than `least` rows of `real` share is neither drawn nor named; one is the least.
    """
    least = max(least, 1)
    figure = Figure(figsize=(3.3, 1.9), layout="constrained")
    put = _histogram if column.measured else _bars
    # Warnings would quote a cell: matplotlib names the letters that its fonts lack.
    with warnings.catch_warnings(), mpl.rc_context(STYLE), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        left_out = put(figure, column, real, synthetic, least)
        said = f"{column.name}: share of rows by value, real and synthetic"
        drawn = svg(figure, said) if figure.axes else Markup("")
    return Drawing(column.name, drawn, left_out)


def _histogram(
    figure: Figure, column: Column, real: pa.Table, synthetic: pa.Table, least: int
) -> str:
    """Draw shares of rows over bins with round edges; say what is not drawn."""
    values = [floats(table, column.name) for table in (real, synthetic)]
    present = [value[~np.isnan(value)] for value in values]
    edges = _edges(present[0], pa.types.is_integer(column.type), least)
    # A value that is a multiple of the step may lie a rounding error below its own edge.
    nudged = edges - 1e-6 * (edges[1] - edges[0])
    counts = [np.histogram(value, nudged)[0] for value in present]
    kept = counts[0] >= least
    if kept.any():
        axes = figure.add_subplot()
        ours, theirs = (
            np.where(kept, count / len(value), np.nan)
            for count, value in zip(counts, values, strict=True)
        )
        axes.stairs(ours, edges, fill=True, color=REAL, alpha=0.5)
        axes.stairs(theirs, edges, color=SYNTHETIC, linewidth=1.5)
        first, last = np.flatnonzero(kept)[[0, -1]]
        axes.set_xlim(edges[first], edges[last + 1])
        axes.yaxis.set_major_formatter(_percent)
        plain(axes)
    rows = (len(values[0]), len(values[1]))
    missing = [len(value) - len(there) for value, there in zip(values, present, strict=True)]
    thin = [len(there) - int(n[kept].sum()) for there, n in zip(present, counts, strict=True)]
    said = [
        _said(what, counts, rows, least)
        for what, counts in (("missing", missing), ("in bins not drawn", thin))
    ]
    return "; ".join(filter(None, said))


def _edges(values: Floats, whole: bool, least: int) -> Floats:
    """Edges at multiples of a round step over all but the outermost values, so none shows.

    The step comes from values that `least` rows reach on either side, so that none tells of it.
    """
    values = np.sort(values[np.abs(values) < 1e300])  # beyond, matplotlib's own sums overflow
    if not len(values):
        values = np.zeros(1)
    low, high = np.quantile(values, [0.005, 0.995])
    reached = min(least, (len(values) + 1) // 2)
    inner, outer = max(low, values[reached - 1]), min(high, values[-reached])
    step = max(_step(outer / BINS - inner / BINS), 1e-9 * max(abs(inner), abs(outer)))
    if whole or step == 0:
        step = max(step, 1.0)
    # Bins further out may hold enough rows too, but an outlier would make them countless.
    first = math.floor(max(low / step, inner / step - BINS))
    last = math.floor(min(high / step, outer / step + BINS)) + 1
    edges: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    return edges - 0.5 if whole and step == 1 else edges


def _step(width: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... (or 0.5, 0.2, ...) that is not below `width`."""
    if width <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(width))
    return next((k * power for k in (1, 2, 5) if k * power >= width), 10 * power)


def _said(what: str, counts: list[int], rows: tuple[int, int], least: int) -> str:
    """A footnote such as 'missing: real 5.6%, synthetic 5.1%'; empty where there are none."""
    if not any(counts):
        return ""
    few = 0 < counts[0] < least
    real = f"fewer than {least} rows" if few else f"{counts[0] / rows[0]:.1%}"
    return f"{what}: real {real}, synthetic {counts[1] / rows[1]:.1%}"


def _bars(figure: Figure, column: Column, real: pa.Table, synthetic: pa.Table, least: int) -> str:
    """Draw the shares of the most frequent real categories, the rest as one; say what is pooled."""
    arrays, size = codes([real, synthetic], column.name)
    counts = [np.bincount(array, minlength=size) for array in arrays]
    order = np.argsort(-counts[0], kind="stable")
    shown = [code for code in order[:CATEGORIES] if counts[0][code] >= least]
    if not shown:
        return f"not drawn: fewer than {least} real rows share any value"
    found = [real.column(column.name)[int(np.argmax(arrays[0] == code))] for code in shown]
    labels = [label(value.as_py()) for value in found]
    rest = [len(array) - int(n[shown].sum()) for array, n in zip(arrays, counts, strict=True)]
    shares = [list(n[shown] / len(a)) for a, n in zip(arrays, counts, strict=True)]
    if any(rest):
        labels.append("other")
        shares[0].append(rest[0] / len(arrays[0]) if rest[0] >= least else 0.0)
        shares[1].append(rest[1] / len(arrays[1]))
    figure.set_size_inches(3.3, 0.45 + 0.21 * len(labels))
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    axes.barh(places - 0.2, shares[0], 0.36, color=REAL, alpha=0.8)
    axes.barh(places + 0.2, shares[1], 0.36, color=SYNTHETIC)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.xaxis.set_major_formatter(_percent)
    plain(axes)
    return _said("other", rest, (len(arrays[0]), len(arrays[1])), least)


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.6g}%"
