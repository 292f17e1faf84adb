"""Numbers and times by quantile bins: which bin, and where inside it.

Bins hold equal shares of the rows, as far as values that repeat allow, so the index alone says most
of what a value is, and a network learns a column of any shape as a choice. A value of a bin's share
of the rows or more has a bin of its own and comes back exactly, offset 0. Null is the last.

Every bin has `least` distinct holders or more; one of fewer is joined with the next. An edge lies
midway between two values, and the outermost ones are the scale's ends, so none is a lone value.

**Tolerance.** The offset, from -1 to 1, is a float32, so a value comes back to within 2 ** -24 of
half its bin's width, and then to the tolerance of `numeric.Scale`. Where heavy values leave fewer
than `least` holders, these become the nearest of them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth import spikes
from raysynth.codecs import ColumnCodes, Lines
from raysynth.hashing import Chance, Floats
from raysynth.numeric import Scale, null_share
from raysynth.quantiles import cuts, heavy
from raysynth.summary import ColumnSummary


@dataclass(frozen=True)
class Codec(Lines):
    """Bins between `edges`, then `heavy` values, in the scale's floats and ascending.

    `weights` are their shares of rows that are not null; `nulls` is the share of null rows.
    """

    scale: Scale
    edges: tuple[float, ...]
    heavy: tuple[float, ...]
    weights: tuple[float, ...]
    nulls: float

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, bins: int = 50, **_: Any) -> Self:
        """Fit at most `bins` bins, heavy values included and null apart.

        Raises `TableError` where fewer than 2 `least` distinct holders have a value.
        """
        scale = Scale.fit(column, least)
        floats = scale.floats(column.sample)
        there = ~np.isnan(floats)
        floats, holders = floats[there], column.holders[there]
        points = heavy(floats, holders, least, 1 / bins)
        rest = ~np.isin(floats, points)
        inner = cuts(floats[rest], holders[rest], least, bins - len(points))
        edges = () if inner is None else (scale.ends[0], *inner, scale.ends[1])
        codec = cls(scale, edges, tuple(points.tolist()), (), null_share(column, least))
        places = codec._places(floats)
        weights = np.bincount(places, minlength=codec.stretches + len(points)) / len(floats)
        return cls(scale, edges, codec.heavy, tuple(weights.tolist()), codec.nulls)

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Bin (B, 1) and offset (B, 1)."""
        floats, nulls = self.floats(values)
        return self.codes(floats, nulls, self._places(floats), clip=1.0)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        read = {name: tuple(value[name]) for name in ("edges", "heavy", "weights")}
        return cls(**{**value, **read, "scale": Scale.from_json(value["scale"])})

    @property
    def stretches(self) -> int:
        """Bins that are no heavy value's."""
        return max(0, len(self.edges) - 1)

    @property
    def exact(self) -> tuple[float, ...]:
        """The heavy values."""
        return self.heavy

    @cached_property
    def lines(self) -> tuple[Floats, Floats]:
        """By bin and heavy value: the centre, and half the width."""
        edges = np.array(self.edges)
        centres = np.r_[edges[:-1] / 2 + edges[1:] / 2, self.heavy]
        return centres, np.r_[np.diff(edges) / 2, np.ones(len(self.heavy))]

    def _places(self, floats: Floats) -> NDArray[np.int64]:
        heavy = spikes.index(self.heavy, floats, nearest=not self.stretches)
        bins = np.searchsorted(np.array(self.edges[1:-1]), floats)
        return np.where(heavy < 0, bins, self.stretches + heavy)
