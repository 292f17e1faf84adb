"""Figures of fidelity whose intervals come from drawing rows again, each beside ceiling and floor.

Every metric says what it found by column, pair or triple, over the rows as they are and as drawn
again (`raysynth.resample`); a figure sums that up. Ceiling and floor are measured once: they are
there to read the figure by.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from raysynth.figures import Figure, Score, figure
from raysynth.frames import Floats
from raysynth.metrics import (
    coverage,
    cumulative,
    groups,
    information,
    marginals,
    missing,
    pairs,
    precision,
    tails,
    triples,
)
from raysynth.resample import REPLICATES, Draws, interval
from raysynth.schema import Schema

K = TypeVar("K")
Measure = Callable[[pa.Table, pa.Table, Schema, Draws], dict[K, Floats]]


@dataclass(frozen=True)
class Fidelity:
    """What was found: figures, and the scores that those of shape, trend and groups sum up."""

    figures: list[Figure]
    columns: dict[str, Score]
    pairs: dict[tuple[str, str], Score]
    groups: dict[str, Score]


@dataclass(frozen=True)
class Compared:
    """Tables of as many rows as `real`, to be held against it.

    Nearest neighbours are looked for of `asked` rows.
    """

    real: pa.Table
    synthetic: pa.Table
    ceiling: pa.Table | None
    floor: pa.Table
    schema: Schema
    seed: int
    asked: int

    def fidelity(self) -> Fidelity:
        """Measure all that is measured here; what a table of few columns cannot have is absent."""
        shape, trend = self._found(marginals.replicates), self._found(pairs.replicates)
        parts = self._found(groups.replicates)
        sums = [
            ("shape", shape.whole()),
            ("trend", trend.whole()),
            ("mutual_information", self._found(self._chance(information.replicates)).whole()),
            ("three_way", self._found(self._chance(triples.replicates)).whole()),
            ("cumulative", self._found(cumulative.replicates).whole()),
            ("tails", self._found(tails.replicates).whole()),
            ("coverage", self._found(coverage.replicates).whole()),
            ("missingness", self._found(missing.replicates).whole(empty=1.0)),
            ("missing_together", self._found(missing.together).whole(empty=1.0)),
            ("groups", parts.whole(np.min)),
        ]
        figures = [figure(name, score) for name, score in sums if score is not None]
        return Fidelity(figures + self._supported(), shape.each(), trend.each(), parts.each())

    def _found(self, measure: Measure[K]) -> "_Found[K]":
        again, once = self._draws()
        ceiling = self.ceiling
        return _Found(
            measure(self.real, self.synthetic, self.schema, again),
            None if ceiling is None else measure(self.real, ceiling, self.schema, once),
            measure(self.real, self.floor, self.schema, once),
        )

    def _draws(self) -> tuple[Draws, Draws]:
        """Of the synthetic table, and of the others: the same rows drawn again for each figure."""
        rows = self.real.num_rows, self.synthetic.num_rows
        return Draws.of(*rows, np.random.default_rng([self.seed, 10])), Draws.of(*rows)

    def _chance(self, measure: Callable[..., dict[K, Floats]]) -> Measure[K]:
        """A measure that chooses what to look at, the same of all three tables."""

        def chosen(*compared: Any) -> dict[K, Floats]:
            return measure(*compared, np.random.default_rng([self.seed, 11]))

        return chosen

    def _supported(self) -> list[Figure]:
        """Alpha-precision and beta-recall, for which the real rows are measured once."""
        generator = np.random.default_rng([self.seed, 7])
        real = precision.Real.of(self.real, self.schema, generator, self.asked)
        found = self._found(lambda _, table, __, draws: real.replicates(table, draws))
        return [figure(name, score) for name, score in found.each().items()]


@dataclass(frozen=True)
class _Found(Generic[K]):
    """Replicates (R) of each score; one replicate of ceiling and floor."""

    synthetic: dict[K, Floats]
    ceiling: dict[K, Floats] | None
    floor: dict[K, Floats]

    def each(self) -> dict[K, Score]:
        """Every score; the three have the same."""
        ceiling = self.ceiling
        return {
            key: _score(values, None if ceiling is None else ceiling[key], self.floor[key])
            for key, values in self.synthetic.items()
        }

    def whole(self, sum_up: Any = np.mean, empty: float | None = None) -> Score | None:
        """One score of all: their mean, or the least. Without any, None, or a score of `empty`."""

        def summed(scores: dict[K, Floats]) -> Floats:
            values = list(scores.values())
            found: Floats = sum_up(values, axis=0) if values else np.full(1 + REPLICATES, empty)
            return found

        if empty is None and not self.synthetic:
            return None
        ceiling = None if self.ceiling is None else summed(self.ceiling)
        return _score(summed(self.synthetic), ceiling, summed(self.floor))


def _score(synthetic: Floats, ceiling: Floats | None, floor: Floats) -> Score:
    value, low, high = interval(synthetic)
    return Score(value, None if ceiling is None else float(ceiling[0]), float(floor[0]), low, high)
