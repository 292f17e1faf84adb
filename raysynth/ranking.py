"""Which of several learners is the better, and whether rows of another kind would say the same.

Two learners are asked about the same rows, so that of the difference of their scores there is an
interval of its own: by the infinitesimal jackknife, from how much each row moves either score
(`raysynth.predictions`), as DeLong's of two areas. Learners whose interval holds 0 tie: an order is
said to be lost only where rows tell it.

Replicates of the scores take the same moves for linear: a score of rows drawn again is the score
plus what each row moves it, as often as it is there more than once.

Shapes: R, the rows as they are and then the replicates; B rows asked; L learners; P pairs of them.
"""

from dataclasses import dataclass

import numpy as np

from raysynth import resample
from raysynth.frames import Floats
from raysynth.risks import Interval, Z
from raysynth.threads import single

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Scores:
    """Scores (R, L), and how far apart two must be for one to be the better, (L, L)."""

    drawn: Floats
    apart: Floats

    @classmethod
    def of(cls, values: Floats, moves: Floats, weights: Floats) -> "Scores":
        """Of scores (L,), what each row moves them (L, B), and how often it is drawn (R - 1, B)."""
        with single():
            products = moves @ moves.T
        squares = np.diag(products)
        apart = Z * np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0.0))
        return cls(moved(values, moves, weights), apart + _ROUNDING)

    @property
    def signs(self) -> Floats:
        """Of each pair 1 where the first is the better, -1 the second, 0 where they tie, (R, P)."""
        one, other = np.triu_indices(len(self.apart), 1)
        away = self.drawn[:, one] - self.drawn[:, other]
        signs: Floats = np.sign(away) * (np.abs(away) > self.apart[one, other])
        return signs


def moved(values: Floats, moves: Floats, weights: Floats) -> Floats:
    """Figures (K,) as they are, then of rows drawn again, (R, K); `moves` is (K, B)."""
    with single():
        off = weights @ moves.T - moves.sum(axis=1)
    drawn: Floats = values + np.concatenate([np.zeros((1, len(values))), off])
    return drawn


def kept(one: Scores, reference: Scores) -> Interval | None:
    """How well `one` orders learners as `reference` does: 1 as well as can be, -1 the reverse.

    Of the pairs that do not tie in `reference`, those ordered alike less those reversed, as a
    share; a pair that ties in `one` alone is neither. That is Somers' D (American Sociological
    Review 27, 1962): Kendall's tau, but for ties. None where all tie: there is no order to keep.
    The interval is over the rows asked; both are to be asked about the same, drawn alike.
    """
    mine, theirs = one.signs, reference.signs
    pairs = np.count_nonzero(theirs, axis=1)
    if not pairs[0]:
        return None
    found = (mine * theirs).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    if len(found) < 3:
        return Interval(float(found[0]), -1.0, 1.0)
    ends = resample.interval((1 + found) / 2)
    return Interval(float(found[0]), 2 * ends.low - 1, 2 * ends.high - 1)
