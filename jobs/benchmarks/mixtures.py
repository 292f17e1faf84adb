"""The Gaussian mixtures of Xu et al. (NeurIPS 2019), and what is asked of rows made like theirs.

Two figures, higher is better:

- **L_syn**, the mean log-likelihood of the synthetic rows under the true mixture: of what is made,
  how much could be real. Copies of one likely row do well in it.
- **L_test**, that of the test rows under a diagonal mixture fitted to the synthetic rows: of what
  is real, how much is made. It falls where modes are missing.

Departures from the paper:

- L_syn is under the mixture that the rows were drawn from; the paper's is under one fitted to the
  test rows, where tight clusters may score above real rows.
- Modes hit and the share of points near one are beside them, as Srivastava et al. (2017) count.

Shapes: B rows, K modes.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

ROWS = 10_000
VARIANCE = 0.05
NEAR = 3.0  # standard deviations

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """Equal round Gaussians around `means` (K, 2); `refit` components are fitted for L_test."""

    means: Floats
    refit: int

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Rows to train on and rows to test on, always the same."""
        rng = np.random.default_rng(0)
        points = self.sample(2 * ROWS, rng)
        first, second = (_plane(half) for half in (points[:ROWS], points[ROWS:]))
        return first, second

    def sample(self, rows: int, rng: np.random.Generator) -> Floats:
        """Points (B, 2)."""
        centres = self.means[rng.integers(len(self.means), size=rows)]
        return centres + rng.normal(scale=math.sqrt(VARIANCE), size=centres.shape)

    def log_likelihood(self, points: Floats) -> Floats:
        """The log of the density at each point (B)."""
        squares = ((points[:, None] - self.means) ** 2).sum(2)
        scale = math.log(len(self.means) * 2 * math.pi * VARIANCE)
        return np.asarray(logsumexp(-squares / (2 * VARIANCE), axis=1) - scale)

    def modes(self, points: Floats) -> tuple[int, float]:
        """How many modes are hit, and the share of points that hit one.

        A point hits the nearest mode where it lies within three standard deviations of it.
        """
        squares = ((points[:, None] - self.means) ** 2).sum(2)
        near = squares.min(1) <= NEAR**2 * VARIANCE
        return len(np.unique(squares.argmin(1)[near])), float(near.mean())

    def figures(self, drawn: pa.Table, test: pa.Table, seed: int) -> dict[str, float]:
        """L_syn, L_test, modes hit and the share of points within three standard deviations."""
        made, held = _points(drawn), _points(test)
        fitted = GaussianMixture(self.refit, covariance_type="diag", random_state=seed).fit(made)
        hit, near = self.modes(made)
        return {
            "L_syn": float(self.log_likelihood(made).mean()),
            "L_test": float(fitted.score(held)),
            "modes": hit,
            "within 3 sd": near,
        }


def grid() -> Mixture:
    """25 modes on a square grid."""
    return Mixture(_grid(), 30)


def shifted() -> Mixture:
    """The grid, each of its modes moved by up to a half either way (`gridr`)."""
    return Mixture(_grid() + np.random.default_rng(0).uniform(-0.5, 0.5, (25, 2)), 30)


def ring() -> Mixture:
    """8 modes on the unit circle, that overlap."""
    angles = np.arange(8) * math.pi / 4
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], 1), 10)


def _grid() -> Floats:
    return np.array(list(product(range(-4, 5, 2), repeat=2)), np.float64)


def _plane(points: Floats) -> pa.Table:
    return pa.table({"x": points[:, 0], "y": points[:, 1]})


def _points(table: pa.Table) -> Floats:
    return np.stack([table.column(name).to_numpy() for name in ("x", "y")], 1)
