"""Plots of a report that are not of a table's columns: curves, intervals, scores of learners.

They are of rates and scores over many rows, so no value of a table is in them. Every one says in a
label what it shows, for those who do not see it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from raysynth.figures import Learner, Score
from raysynth.frames import Floats
from raysynth.ink import INK, STYLE, SYNTHETIC, label, plain, svg
from raysynth.risks import Risk


def curve(name: str, points: Mapping[int, float], kept: int | None) -> Markup:
    """A figure by epoch as a line; across it, another where the epoch `kept` is."""
    figure = Figure(figsize=(3.3, 1.9), layout="constrained")
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot(list(points), list(points.values()), color=SYNTHETIC, linewidth=1.5)
        if kept is not None:
            axes.axvline(kept, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
            if kept in points:
                axes.plot([kept], [points[kept]], "o", color=INK, markersize=4)
        axes.set_xlabel("epoch")
        plain(axes)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.locator_params(axis="y", nbins=5)
        first, last = min(points), max(points)
        return svg(
            figure,
            f"{name} by epoch, from {points[first]:.3f} in epoch {first} to {points[last]:.3f} "
            f"in epoch {last}",
        )


def interval(risk: Risk, bars: Sequence[float]) -> Markup:
    """The interval of a risk on a line from chance over a gate's bars, from low to high, to 1.

    Bars are at the same places whatever their numbers, so that the eye can hold attacks beside one
    another; between them the line is even. Where there are no bars, all of it is.
    """
    start = 12.0 if risk.chance else 0.0  # what is under chance needs little room
    places = {0.0: 0.0, risk.chance: start, **dict(zip(bars, (45.0, 75.0), strict=False))}
    ends = sorted({*places, 1.0})
    known = ends if bars else [0.0, 1.0]
    # A bar under chance, or at 1, is where the line has come to by then.
    rising = np.maximum.accumulate([(places | {1.0: 100.0})[end] for end in known])

    def at(value: float) -> float:
        return round(_LEFT + float(np.interp(value, known, rising)) / 100 * _WIDE, 1)

    said = f"{risk.value:.3f}, between {risk.low:.3f} and {risk.high:.3f}, by chance "
    said += f"{risk.chance:g}" + "".join(f", a bar at {bar:g}" for bar in bars)
    zones = [at(ends[0]), *(at(bar) for bar in bars), at(1.0)]
    classes = ("low", "middle", "high") if bars else ("none",)
    drawn = [
        f'<rect class="{name}" x="{start}" y="6" width="{end - start:.1f}" height="12"/>'
        for name, (start, end) in zip(classes, pairwise(zones), strict=True)
    ]
    drawn += [
        f'<text x="{at(end)}" y="31" text-anchor="{"end" if end == 1 else "middle"}">{end:g}</text>'
        for end in ends
        if end > 0 or not risk.chance
    ]
    drawn.append(f'<path class="chance" d="M{at(risk.chance)} 3V21"/>')
    return _line(at, (risk.low, risk.value, risk.high), drawn, said, 34)


def score(one: Score) -> Markup:
    """A score's interval on a line from 0 to 1, with floor and ceiling across it.

    What lies outside is drawn at the end.
    """

    def at(value: float) -> float:
        return round(_LEFT + _WIDE * min(max(value, 0.0), 1.0), 1)

    said = f"{one.synthetic:.3f}, floor {one.floor:.3f}"
    drawn = [f'<rect class="none" x="{_LEFT}" y="9" width="{_WIDE}" height="6"/>']
    drawn.append(f'<path class="floor" d="M{at(one.floor)} 4V20"/>')
    if one.ceiling is not None:
        said += f", ceiling {one.ceiling:.3f}"
        drawn.append(f'<path class="ceiling" d="M{at(one.ceiling)} 4V20"/>')
    low, high = (one.synthetic if end is None else end for end in (one.low, one.high))
    return _line(at, (low, one.synthetic, high), drawn, said, 24)


_LEFT, _WIDE = 8, 184  # of a line, in a box 200 wide


def _line(
    at: Callable[[float], float],
    ends: tuple[float, float, float],
    drawn: list[str],
    said: str,
    height: int,
) -> Markup:
    """What is `drawn` with an interval over it: from its lower end over the value to its upper."""
    low, value, high = (at(end) for end in ends)
    drawn = [
        *drawn,
        f'<rect class="span" x="{low}" y="10" width="{max(high - low, 1):.1f}" height="4"/>',
        f'<circle class="value" cx="{value}" cy="12" r="4.5"/>',
    ]
    return Markup(
        f'<svg class="line" viewBox="0 0 200 {height}" role="img" aria-label="{said}">'
        f"{''.join(drawn)}</svg>"
    )


def roc(points: Sequence[tuple[float, float]], logarithmic: bool) -> Markup:
    """An attack's ROC curve beside that of guessing; `logarithmic` spreads few false alarms.

    Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022,
    arXiv:2112.03570), section III: what an attack does at few false alarms is what matters, and an
    area hides it.
    """
    false, true = np.array(points, dtype=np.float64).T
    kept = false > 0 if logarithmic else np.ones(len(false), dtype=bool)
    least = float(false[kept].min())
    guess = np.geomspace(least, 1, 50) if logarithmic else np.linspace(0, 1, 2)
    figure = Figure(figsize=(3.3, 2.3), layout="constrained")
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot(guess, guess, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.plot(false[kept], true[kept], color=SYNTHETIC, linewidth=1.5)
        plain(axes)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(_share)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("false alarms" + (", spread by magnitude" if logarithmic else ""))
        axes.set_ylabel("rightly told")
        axes.set_ylim(-0.02, 1.02)
        rates = [rate for rate in (0.001, 0.01, 0.1, 0.5) if rate >= least]
        told = [f"{_at(false, true, rate):.3f} at {rate:g}" for rate in rates]
        return svg(
            figure,
            "share rightly told by share of false alarms"
            + (", on a logarithmic scale" * logarithmic)
            + ": "
            + ", ".join(told)
            + "; guessing gives as many of both",
        )


def _at(false: Floats, true: Floats, rate: float) -> float:
    """The best true-positive rate at a false-positive rate of `rate` at most."""
    return float(true[false <= rate + 1e-9].max(initial=0.0))


def learners(shown: Sequence[Learner]) -> Markup:
    """Scores having learned from synthetic rows, over those from real ones; both equal is a line.

    After Esteban, Hyland & Rätsch, "Real-valued (Medical) Time Series Generation with Recurrent
    Conditional GANs" (arXiv:1706.02633): train on synthetic, test on real. All have one unit and a
    ceiling.
    """
    real = np.array([one.ceiling for one in shown], dtype=np.float64)
    mine = np.array([one.synthetic for one in shown], dtype=np.float64)
    low, high = min(real.min(), mine.min()), max(real.max(), mine.max())
    room = max(0.08 * (high - low), 0.01)
    low, high = low - room, high + room
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.plot(real, mine, "o", color=SYNTHETIC, markersize=4.5)
        # Names stand beside the plot, one below the other, since learners often score alike.
        gap = min(0.09, 1 / len(shown))
        places = _apart((mine - low) / (high - low), gap) * (high - low) + low
        for one, x, y, place in zip(shown, real, mine, places, strict=True):
            axes.annotate(
                label(one.name),
                xy=(x, y),
                xytext=(high + 0.03 * (high - low), place),
                va="center",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "relpos": (0, 0.5),  # from the name's own beginning
                    "color": INK,
                    "linewidth": 0.4,
                    "alpha": 0.5,
                },
            )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_xlabel(f"learned from real rows ({shown[0].unit})")
        axes.set_ylabel(f"learned from synthetic rows ({shown[0].unit})")
        plain(axes)
        axes.locator_params(axis="y", nbins=5)
        return svg(
            figure,
            f"{shown[0].unit} of {len(shown)} kinds of model, learned from synthetic rows over "
            "learned from real ones; the table below has the numbers",
        )


def _apart(places: Floats, gap: float) -> Floats:
    """Places of 0 to 1 moved as little as needed upwards, then down, to be `gap` apart."""
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    moved = np.maximum.accumulate(places[order] - steps) + steps
    moved = np.minimum(moved, 1 - gap * np.arange(len(places))[::-1])
    found: Floats = np.empty(len(places))
    found[order] = moved
    return found


def _share(value: float, _: float) -> str:
    return f"{value:g}"
