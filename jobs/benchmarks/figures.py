"""Spreads, ratios, and the tables on the terminal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from statistics import fmean, median
from typing import Any, Literal

from rich.table import Table

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Compared:
    """One speed of both sides: a value a repeat, taken in turn."""

    name: str
    unit: str
    better: Better
    threads: int
    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times better we are, of each repeat's pair: above 1 is better, either way.

        Not a number where what it is over was too little to be measured.
        """
        pairs = zip(self.ours, self.peer, strict=True)
        over = [(a, b) if self.better == "higher" else (b, a) for a, b in pairs]
        return tuple(a / b if b else nan for a, b in over)

    def to_json(self) -> dict[str, Any]:
        """A JSON value, medians beside all values."""
        middle = {"ours": median(self.ours), "peer": median(self.peer)}
        middle["ratio"] = median(self.ratios)
        return {**asdict(self), "ratios": self.ratios, "median": middle}


@dataclass(frozen=True)
class Judged:
    """One figure of `raysynth.judge` for both sides: a value a seed."""

    name: str
    unit: str
    better: Better
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    ceiling: tuple[float, ...]
    floor: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON value, means beside all values."""
        parts = {"ours": self.ours, "peer": self.peer, "ceiling": self.ceiling, "floor": self.floor}
        return {**asdict(self), "mean": {name: fmean(values) for name, values in parts.items()}}


def number(value: float) -> str:
    """Three digits that count, or the whole number where it has more."""
    size = abs(value)
    digits = next((d for d, least in enumerate((100, 10, 1, 0.1)) if size >= least), 4)
    return f"{value:,.{digits}f}"


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, then the least and the most: '2.85x (2.70..3.01)'; one text if all are one."""
    low, middle, high = (number(value) for value in (min(values), median(values), max(values)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low}..{high})"


def score(values: Sequence[float], places: int = 4) -> str:
    """The mean, then the least and the most: '0.9312 (0.9280..0.9350)'."""
    low, middle, high = (
        f"{value:.{places}f}" for value in (min(values), fmean(values), max(values))
    )
    return middle if low == high else f"{middle} ({low}..{high})"


def speed_table(figures: Sequence[Compared], title: str) -> Table:
    """Ours beside the peer's, a section for each number of threads."""
    table = _table(title, ("threads", "figure", "ours", "peer", "times better"), words=2)
    threads = None
    for figure in figures:
        if threads not in (None, figure.threads):
            table.add_section()
        first = "" if threads == figure.threads else str(figure.threads)
        threads = figure.threads
        sides = spread(figure.ours), spread(figure.peer)
        table.add_row(first, f"{figure.name}, {figure.unit}", *sides, spread(figure.ratios, "x"))
    return table


def quality_table(figures: Sequence[Judged], title: str) -> Table:
    """Ours beside the peer's, and both beside ceiling and floor."""
    table = _table(title, ("figure", "better", "ours", "peer", "ceiling", "floor"), words=2)
    for figure in figures:
        values = figure.ours, figure.peer, figure.ceiling, figure.floor
        table.add_row(f"{figure.name} ({figure.unit})", figure.better, *map(score, values))
    return table


def _table(title: str, names: Sequence[str], words: int) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < words else "right")
    return table
