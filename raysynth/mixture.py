"""A one-dimensional variational Gaussian mixture over weighted points.

The model is the one that CTGAN's encoding asks for (Xu et al., NeurIPS 2019, section 4.2; Bishop,
PRML, section 10.2; Blei and Jordan, 2006, for the stick-breaking weights): up to `modes` Gaussians,
weight concentration 0.001, superfluous modes starved of weight. Fitting on distinct values and
their counts gives what fitting on rows gives, at a cost that depends on distinct values alone; past
`POINTS` of them neighbours are joined, each group standing for its mean.

Departure: the prior on a mode's variance is `PRIOR` of the column's variance, not all of it, and
that on its mean weighs `PRIOR` rows, not one. With the whole variance as prior, a mode that holds
30,000 equal values keeps a width of 0.6 % of the column's spread, and a spike at zero decodes to
values near zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from raysynth.hashing import Floats

POINTS = 4_096
GRID = 4_096
PRIOR = 1e-6
CONCENTRATION = 1e-3


@dataclass(frozen=True)
class Mixture:
    """Weights, means and standard deviations of the modes, (M,) each."""

    weights: Floats
    means: Floats
    stds: Floats

    def log_density(self, values: Floats) -> Floats:
        """Log of weight times density of each mode at `values` (B,): (M, B)."""
        scaled = (values - self.means[:, None]) / self.stds[:, None]
        log_peaks: Floats = np.log(self.weights / self.stds) - 0.5 * np.log(2 * np.pi)
        return log_peaks[:, None] - 0.5 * scaled * scaled


def fit(
    values: Floats, modes: int, least: float, rounds: int = 100, *, starve: bool = True
) -> Mixture:
    """Fit at most `modes` modes to `values` (B,), each of weight over `least`.

    `starve=False` weighs modes by the rows they hold alone, so that superfluous ones stay, as in a
    mixture fitted by expectation and maximisation.

    A mode that comes to less is taken out and the fit goes on, so that the others spread over the
    values it held. Deterministic: the first guess splits the points by Lloyd's rule from even
    quantiles.
    """
    largest = float(np.abs(values).max()) or 1.0  # the squares of very large floats would overflow
    values = values / largest
    points, counts = _group(values)
    centre, spread = float(np.average(points, weights=counts)), float(values.std()) or 1.0
    points = (points - centre) / spread
    shares = _first_guess(points, counts, min(modes, len(points)))
    while True:
        before = -np.inf
        for _ in range(rounds):
            state = _Posterior.of(points, counts, shares, CONCENTRATION if starve else 1.0)
            joint = state.log_joint(points)
            shares, level = _split(joint, counts)
            if abs(level - before) < 1e-5:
                break
            before = level
        weights = state.weights()
        kept = weights > least
        if kept.all():
            break
        shares, _ = _split(joint[:, kept], counts)
    return Mixture(
        weights,
        (state.means * spread + centre) * largest,
        np.sqrt(state.variances) * spread * largest,
    )


def peaks(values: Floats, least: float) -> int:
    """How many peaks the density of `values` (B,) has, each with over `least` of the rows.

    A Gaussian kernel density estimate of bandwidth 0.9 min(std, IQR / 1.34) B ** -0.2 (Silverman,
    "Density Estimation for Statistics and Data Analysis", 1986, equation 3.31) on a grid of a
    quarter of that, of at most `GRID` points. The rows of a peak are those between the valleys
    beside it: in a far tail, every single row makes a peak.
    """
    low, high = float(values.min()), float(values.max())
    quarters = np.diff(np.quantile(values, [0.25, 0.75]))[0] / 1.34
    spreads = [spread for spread in (float(values.std()), float(quarters)) if spread > 0]
    if not spreads:
        return 1
    bandwidth = 0.9 * min(spreads) * len(values) ** -0.2
    step = max(bandwidth / 4, (high - low) / GRID)
    counts = np.bincount(np.rint((values - low) / step).astype(np.int64)).astype(np.float64)
    reach = int(np.ceil(4 * bandwidth / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    density = np.convolve(np.pad(counts, reach), kernel, mode="same")
    rising = np.diff(density) > 0
    valleys = np.flatnonzero(~rising[:-1] & rising[1:]) + 1
    held = np.add.reduceat(np.pad(counts, reach), np.r_[0, valleys]) / len(values)
    return max(1, int((held > least).sum()))


def _split(joint: Floats, counts: Floats) -> tuple[Floats, float]:
    """Each mode's share of each point, (points, M), and the mean log of their sum."""
    top = joint.max(axis=1)
    shares = np.exp(joint - top[:, None])
    total = shares.sum(axis=1)
    shares /= total[:, None]
    return shares, float(np.average(top + np.log(total), weights=counts))


def _group(values: Floats) -> tuple[Floats, Floats]:
    points, counts = np.unique(values, return_counts=True)
    if len(points) <= POINTS:
        return points, counts.astype(np.float64)
    # Equal shares of rows, cut between distinct values. A value of a whole share or more stands
    # alone: joined with a neighbour, a spike would move.
    place = (np.cumsum(counts) - counts) * POINTS // counts.sum()
    heavy = counts * POINTS >= counts.sum()
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]] | heavy)
    sizes = np.add.reduceat(counts, starts).astype(np.float64)
    return np.add.reduceat(points * counts, starts) / sizes, sizes


def _first_guess(points: Floats, counts: Floats, modes: int) -> Floats:
    # Quantiles of the distinct points, not of the rows: a heavy spike must not take every centre.
    centres = np.unique(np.quantile(points, (np.arange(modes) + 0.5) / modes))
    for _ in range(50):
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, points)
        held = np.bincount(nearest, counts, len(centres))
        sums = np.bincount(nearest, counts * points, len(centres))
        moved = np.where(held > 0, sums / np.maximum(held, 1e-300), centres)
        if np.allclose(moved, centres, rtol=0, atol=1e-9):
            break
        centres = np.sort(moved)
    return np.eye(len(centres))[nearest]


@dataclass(frozen=True)
class _Posterior:
    """Parameters of the variational posterior, (M,) each."""

    sticks: tuple[Floats, Floats]
    precision: Floats
    means: Floats
    freedom: Floats
    variances: Floats

    @classmethod
    def of(
        cls, points: Floats, counts: Floats, shares: Floats, concentration: float
    ) -> "_Posterior":
        weighted = shares * counts[:, None]
        held: NDArray[np.float64] = weighted.sum(axis=0) + 1e-12
        means = weighted.T @ points / held
        gaps = points[:, None] - means
        scatter = (weighted * gaps * gaps).sum(axis=0)
        after = held[::-1].cumsum()[::-1] - held
        # The prior's pull on a mean is as weak as on a variance: one of a whole row would draw a
        # mode of equal values off them by many of its widths.
        precision, freedom = PRIOR + held, 1.0 + held
        variances = (PRIOR + scatter + held / precision * means**2 * PRIOR) / freedom
        return cls(
            (1.0 + held, concentration + after),
            precision,
            held * means / precision,
            freedom,
            variances,
        )

    def log_joint(self, points: Floats) -> Floats:
        """Expected log of weight times density, (points, M)."""
        a, b = self.sticks
        log_weights = digamma(a) - digamma(a + b)
        log_weights[1:] += np.cumsum(digamma(b) - digamma(a + b))[:-1]
        log_precision = np.log(2) + digamma(self.freedom / 2) - np.log(self.freedom)
        offset = log_weights + 0.5 * (log_precision - np.log(self.variances) - 1 / self.precision)
        gaps = points[:, None] - self.means
        joint: Floats = offset - 0.5 * gaps * gaps / self.variances
        return joint

    def weights(self) -> Floats:
        """Expected weights, summing to one."""
        a, b = self.sticks
        left = np.cumprod(np.r_[1.0, (b / (a + b))[:-1]])
        weights: Floats = a / (a + b) * left
        weights /= weights.sum()
        return weights
