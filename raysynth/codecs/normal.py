"""Numbers and times by normal scores: a value that many rows hold, or where a value ranks.

A value that `share` of the rows or more hold is a **point** and comes back exactly; if `local`, so
is one that stands out from its neighbours (`quantiles.heavy`), and of a category, whose numbers are
codes, each of the most frequent is that `least` hold. All others are of one class, whose scalar is
their normal score: the quantile of the standard normal distribution at the share of the class that
lies below, divided by `REACH`. So a network sees every column, however skewed, as one standard
normal stretch and some points.

Ranks are told by a piecewise linear distribution function between **knots**: the outermost are the
scale's ends, the inner ones lie midway between two values, with `least` distinct holders or more
between two of them, or on both sides of a point, around which there is nobody of the class. Values
of a step (whole numbers, so many decimals) are spread by chance over their step before they are
ranked, so that the class has a density, and rounding brings them back; values past an end share
what lies there by chance.

**Tolerance.** The score is a float32, which tells ranks apart to 2 ** -22: a value comes back to
within the width between its knots, by their share of the class, by that; then to the tolerance of
`numeric.Scale`. Where fewer than `least` holders lie between the ends, they become the ends.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from raysynth import spikes
from raysynth.codecs import ColumnCodes, Stretches
from raysynth.hashing import Chance, Floats
from raysynth.layout import Part
from raysynth.numeric import Scale, distinct, null_share
from raysynth.quantiles import SHARE, cuts, heavy
from raysynth.summary import ColumnSummary

REACH = 5.0  # one row in 3.5 million lies past it
KNOTS = 1_000
OUTERMOST = 0.7  # of a point: the class may have nobody on one side
SPREAD = 0.98  # of a step: what lies at its edges would come back as the next value


@dataclass(frozen=True)
class Codec(Stretches):
    """`points` by value, then the class's distribution function: `below` (K,) at `knots` (K,).

    All in the scale's floats; no knots where every value is a point. `weights` are the class's and
    then the points' shares of rows that are not null; `nulls` is the share of null rows.
    """

    scale: Scale
    points: tuple[float, ...]
    knots: tuple[float, ...]
    below: tuple[float, ...]
    weights: tuple[float, ...]
    nulls: float

    @classmethod
    def fit(
        cls,
        column: ColumnSummary,
        *,
        least: int = 10,
        share: float = SHARE,
        local: bool = True,
        **_: Any,
    ) -> Self:
        """Fit points and knots.

        Raises `TableError` where fewer than 2 `least` distinct holders have a value.
        """
        scale = Scale.fit(column, least)
        floats = scale.floats(column.sample)
        there = ~np.isnan(floats)
        within = ~scale.past(column.sample)[there]
        floats, holders = floats[there], column.holders[there]
        if column.column.kind == "category":
            share = 0.0
        points = heavy(floats[within], holders[within], least, share, scale.grid if local else None)
        place = spikes.index(tuple(points), floats)
        rest, knots, below = place < 0, np.empty(0), np.empty(0)
        if distinct(holders[rest]) >= 2 * least:
            knots, below = _function(floats[rest], holders[rest], points, scale, least)
        counts = np.bincount(place[~rest], minlength=len(points))
        weights = np.r_[rest.sum(), counts] if len(knots) else counts
        return cls(
            scale,
            tuple(points.tolist()),
            tuple(knots.tolist()),
            tuple(below.tolist()),
            tuple((weights / weights.sum()).tolist()),
            null_share(column, least),
        )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The scalar, then the index, with the normal scores of the points."""
        scalar, index = super().parts
        return scalar, index._replace(places=tuple(self._places.tolist()))

    @property
    def _places(self) -> Floats:
        """Scores of the points: by the class, or where there is none by their own ranks."""
        if self.stretches:
            ranks = np.interp(self.points, self.knots, self.below)
        else:
            weights = np.array(self.weights)
            ranks = weights.cumsum() - weights / 2
        return np.asarray(np.clip(ndtri(ranks) / REACH, -OUTERMOST, OUTERMOST))

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Index (B, 1) and normal score by `REACH` (B, 1), spread by `chance`."""
        floats, nulls = self.floats(values)
        point = spikes.index(self.points, floats, nearest=not self.stretches)
        scores = np.zeros(len(floats))
        if self.stretches:
            ranks = self._ranks(floats, chance.uniform)
            scores = np.clip(ndtri(ranks) / REACH, -1.0, 1.0)
        return self.coded(np.where(point < 0, 0, self.stretches + point), scores, nulls)

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,) rounded and kept in range as the column's own were."""
        places = codes.indices[:, 0]
        floats = np.r_[[0.0] * self.stretches, self.points, 0.0][places]
        if self.stretches:
            ranks = ndtr(codes.scalars[:, 0].astype(np.float64) * REACH)
            lower, upper = self.scale.ends
            found = np.interp(ranks, self.below, self.knots)
            found[ranks < self.below[0]] = lower
            found[ranks > self.below[-1]] = upper
            floats = np.where(places == 0, found, floats)
        floats[places >= len(self.weights)] = np.nan
        return self.scale.values(floats)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        read = {name: tuple(value[name]) for name in ("points", "knots", "below", "weights")}
        return cls(**{**value, **read, "scale": Scale.from_json(value["scale"])})

    @property
    def stretches(self) -> int:
        """The class of values that are no points, if there are any."""
        return int(bool(self.knots))

    @property
    def exact(self) -> tuple[float, ...]:
        """The points."""
        return self.points

    def _ranks(self, floats: Floats, uniform: Floats) -> Floats:
        """The share of the class that lies below each value (B,), ties and steps spread."""
        spread = floats + (uniform - 0.5) * (SPREAD * self.scale.grid)
        ranks = np.interp(spread, self.knots, self.below)
        lower, upper = self.scale.ends
        below, above = self.below[0], self.below[-1]
        ranks = np.where(floats <= lower, uniform * below, ranks)
        return np.where(floats >= upper, above + uniform * (1 - above), ranks)


def _function(
    floats: Floats,
    holders: NDArray[np.int64],
    points: Floats,
    scale: Scale,
    least: int,
) -> tuple[Floats, Floats]:
    """Knots (K,), ascending, and the share of the class's `floats` (B,) at or below each.

    Between two knots lie `least` distinct holders or more, or a point and nobody of the class.
    """
    order = np.argsort(floats, kind="stable")
    floats, holders = floats[order], holders[order]
    half = scale.grid / 2
    gaps = _gaps(points, half)
    low, high = scale.ends[0] + half, scale.ends[1] - half
    for left, right in gaps:
        low = right if left <= low < right else low
    for left, right in reversed(gaps):
        high = left if left < high <= right else high
    edges = cuts(floats, holders, least, KNOTS) or ()
    bare = [edge for edge in edges if not any(left <= edge <= right for left, right in gaps)]
    kept = [(low, low)]
    starts = [int(np.searchsorted(floats, low, "right"))]
    for left, right in sorted([*gaps, *((edge, edge) for edge in bare)]):
        end = int(np.searchsorted(floats, left, "right"))
        if low < left and right < high and distinct(holders[starts[-1] : end]) >= least:
            kept.append((left, right))
            starts.append(end)
    stop = int(np.searchsorted(floats, high, "left"))
    while len(kept) > 1 and distinct(holders[starts[-1] : stop]) < least:
        kept.pop()
        starts.pop()
    if distinct(holders[starts[-1] : stop]) < least:  # all but a few lie at the ends
        stop = starts[-1]
    told = {knot: at for pair, at in zip(kept, starts, strict=True) for knot in pair}
    knots, counts = np.array([*told.items(), (max(low, high), stop)]).T
    return knots, counts / len(floats)


def _gaps(points: Floats, half: float) -> list[tuple[float, float]]:
    """Where nobody of the class is: `half` a step on both sides of each point, joined."""
    gaps: list[tuple[float, float]] = []
    for point in points.tolist() if half else ():
        left, right = point - half, point + half
        if gaps and left <= gaps[-1][1]:
            left = gaps.pop()[0]
        gaps.append((left, right))
    return gaps
