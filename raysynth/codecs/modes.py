"""Numbers and times by mode-specific normalisation: which Gaussian mode, and the offset inside it.

Source: Xu et al., "Modeling Tabular Data using Conditional GAN", NeurIPS 2019, section 4.2. A value
x of mode (mean, std) becomes the mode's index and (x - mean) / (4 std); the mode is drawn from its
posterior. `numeric.Scale` makes floats of values, and restores type, decimals, unit and range.

Departures
- A **spike**, one exact value that many rows hold (zeros, a sentinel such as -1 or 999), has an
  index of its own beside the modes, which are fitted on what remains; `spikes.find` has the rule.
  A Gaussian of next to no width would do in encoding, but a generated offset never is exactly 0.
- Null is an index of its own, the last. Spikes and null have offset 0.
- The posterior is not smoothed by 1e-6, which would now and then send a value to a mode it cannot
  be decoded from, and only modes are drawn whose offset stays within `CLIP`.
- Where no mode reaches a sampled value so, the one that misses by least is given a longer `reach`
  than 4 std, in steps of the square root of 2: far tails are kept, not clipped. So they are with
  `widths=2`, TGAN's, which then is the reach of inner modes alone.

**Tolerance.** An offset is a float32, so a value comes back to within 2 ** -24 of its mode's reach,
and then to the scale's own tolerance. Only where no sampled value lay near, a value past every
mode's reach loses what it lies past. Where spikes leave too few rows for a mode, the rest becomes
the nearest spike.

Modes are counted in three ways: at most `modes`, starved ones pruned (CTGAN's variational mixture);
with `prune=False` as many as asked for, as TGAN's five (Xu and Veeramachaneni, 2018), where the
column has as many values and each mode enough rows; and with `count="density"` at most one for each
peak of a kernel density estimate (TGAN's way to tell that a column has several).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth import spikes
from raysynth.codecs import ColumnCodes, Lines
from raysynth.hashing import Chance, Floats
from raysynth.mixture import Mixture, fit, peaks
from raysynth.numeric import Scale, distinct, null_share
from raysynth.summary import ColumnSummary

CLIP = 0.99

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Codec(Lines):
    """Modes by mean, then spikes by value, in the scale's floats.

    `weights` are the modes' and then the spikes' shares of rows that are not null; `reaches` how
    far from its mean each mode's offset of 1 lies; `nulls` is the share of null rows.
    """

    scale: Scale
    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    reaches: tuple[float, ...]
    spikes: tuple[float, ...]
    nulls: float

    @classmethod
    def fit(
        cls,
        column: ColumnSummary,
        *,
        least: int = 10,
        modes: int = 10,
        weight: float = 0.005,
        prune: bool = True,
        widths: float = 4.0,
        count: Literal["mixture", "density"] = "mixture",
        **_: Any,
    ) -> Self:
        """Fit up to `modes` modes of weight over `weight`, and of more than `least` holders, each.

        An offset of 1 lies `widths` standard deviations from the mean, or farther.

        Raises `TableError` where fewer than 2 `least` distinct holders have a value.
        """
        scale = Scale.fit(column, least)
        floats = scale.floats(column.sample)
        there, kept = ~np.isnan(floats), ~scale.past(column.sample) & ~np.isnan(floats)
        spiked = spikes.find(floats[kept], column.holders[kept], least)
        floats, holders = floats[there], column.holders[there]
        rest = ~np.isin(floats, spiked)
        share = float(rest.mean())
        counts = (floats[:, None] == spiked).mean(axis=0)
        found = Mixture(np.empty(0), np.empty(0), np.empty(0))
        if distinct(holders[rest]) > least:
            # A mode's weight is told of all rows, but no more is asked than the heaviest has.
            weight = min(weight / share, 0.5 / modes) if prune else 0.0
            found = _modes(floats[rest], holders[rest], least, modes, weight, count)
        shares = np.concatenate([found.weights * share, counts])
        return cls(
            scale,
            tuple((shares / shares.sum()).tolist()),
            tuple(found.means.tolist()),
            tuple(found.stds.tolist()),
            tuple(_reaches(found, floats[rest], widths).tolist()),
            tuple(spiked.tolist()),
            null_share(column, least),
        )

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Mode (B, 1) drawn from its posterior by `chance`, and offset (B, 1)."""
        floats, nulls = self.floats(values)
        # Most number columns repeat their values: the posterior is computed once for each. Arrow
        # finds them by hashing, which takes a tenth of the time that sorting does.
        found = pc.dictionary_encode(pa.array(floats))
        points, inverse = found.dictionary.to_numpy(), found.indices.to_numpy().astype(np.int64)
        spiked, cumulative = self._posterior(points)
        drawn = np.zeros(len(floats), np.uint16)
        for bound in cumulative:
            drawn += bound.take(inverse) <= chance.uniform
        modes = drawn.astype(np.int64)
        if self.spikes:
            place = spiked.take(inverse)
            modes = np.where(place < 0, modes, len(self.means) + place)
        return self.codes(floats, nulls, modes, CLIP)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        lists = ("weights", "means", "stds", "reaches", "spikes")
        read = {name: tuple(value[name]) for name in lists}
        return cls(**{**value, **read, "scale": Scale.from_json(value["scale"])})

    @cached_property
    def _mixture(self) -> Mixture:
        weights = np.array(self.weights[: len(self.means)])
        return Mixture(weights, np.array(self.means), np.array(self.stds))

    @property
    def stretches(self) -> int:
        """Modes."""
        return len(self.means)

    @property
    def exact(self) -> tuple[float, ...]:
        """The spikes."""
        return self.spikes

    @cached_property
    def lines(self) -> tuple[Floats, Floats]:
        """By mode and spike: the centre, and how far from it an offset of 1 lies."""
        return np.array(self.means + self.spikes), np.array(
            self.reaches + (1.0,) * len(self.spikes)
        )

    def _posterior(self, points: Floats) -> tuple[Ints, Floats]:
        """Which spike each point is, or -1; and the modes' cumulative posterior, all but the last.

        Shapes: (points,) and (M - 1, points).
        """
        spiked = spikes.index(self.spikes, points, nearest=not self.means)
        if len(self.means) < 2:
            return spiked, np.empty((0, len(points)))
        log_shares = self._mixture.log_density(points)
        past = np.abs(points - self._mixture.means[:, None]) / np.array(self.reaches)[:, None]
        # The mode that misses by least is drawn where none reaches.
        allowed = (past <= CLIP) | (past == past.min(axis=0))
        log_shares = np.where(allowed, log_shares, -np.inf)
        shares = np.exp(log_shares - log_shares.max(axis=0))
        cumulative = np.cumsum(shares, axis=0)
        cumulative /= cumulative[-1]
        return spiked, cumulative[:-1]


def _modes(
    floats: Floats,
    holders: Ints,
    least: int,
    modes: int,
    weight: float,
    count: str,
) -> Mixture:
    """The modes by mean, each of more than `least` holders, or it would tell where they are."""
    # There are few enough modes for the heaviest to have more.
    found = distinct(holders)
    modes = max(1, min(modes, found // (2 * least + 1)))
    if count == "density":
        modes = min(modes, peaks(floats, weight))
    enough = (least + 1) / len(floats)
    mixture = fit(floats, modes, max(weight, enough) if modes > 1 else 0.0, starve=weight > 0)
    order = np.argsort(mixture.means)
    if found < len(holders):
        held = mixture.log_density(floats)[order].argmax(axis=0)
        pairs = np.unique(np.stack([held, holders]), axis=1)
        order = order[np.bincount(pairs[0], minlength=len(order)) > least]
    if not len(order):  # every mode is one of few holders' many rows
        spread = float(floats.std()) or 1.0
        return Mixture(np.ones(1), floats.mean(keepdims=True), np.array([spread]))
    weights = mixture.weights[order]
    return Mixture(weights / weights.sum(), mixture.means[order], mixture.stds[order])


def _reaches(mixture: Mixture, floats: Floats, widths: float) -> Floats:
    """How far from its mean an offset of 1 lies: `widths` of it, more where values would be cut.

    Longer by powers of the square root of 2 only, so that a lone value's place is not told.
    """
    reaches = widths * mixture.stds
    if not len(reaches):
        return reaches
    points = np.unique(floats)
    past = np.abs(points[:, None] - mixture.means) / (CLIP * reaches)
    nearest, missed = past.argmin(axis=1), past.min(axis=1)
    most = np.ones(len(reaches))
    np.maximum.at(most, nearest, missed)
    longer: Floats = reaches * 2.0 ** (np.ceil(2 * np.log2(most)) / 2)
    return longer
