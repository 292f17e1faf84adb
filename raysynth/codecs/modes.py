"""Numbers by mode-specific normalisation: which Gaussian mode, and the offset inside it.

Source: Xu et al., "Modeling Tabular Data using Conditional GAN", NeurIPS 2019, section 4.2. A value
x of mode (mean, std) becomes the mode's index and (x - mean) / (4 std); the mode is drawn from its
posterior. Null is a mode of its own with offset 0.

Departures: the posterior is not smoothed by 1e-6, which would now and then send a value to a mode
it cannot be decoded from. Decoding restores what the reference forgets: whole numbers, the column's
decimals, and its range, whose ends at least `least` rows reach.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raysynth.codecs import ColumnCodes
from raysynth.errors import TableError
from raysynth.hashing import Chance, Floats
from raysynth.layout import Part
from raysynth.mixture import Mixture, fit
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary

CLIP = 0.99
DECIMALS = 6


@dataclass(frozen=True)
class Codec:
    """Modes by mean; `decimals` is None for full precision; `nulls` is their share of rows."""

    type: str
    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    lower: float
    upper: float
    decimals: int | None
    nulls: float

    @classmethod
    def fit(
        cls,
        column: ColumnSummary,
        *,
        least: int = 10,
        modes: int = 10,
        weight: float = 0.005,
        **_: Any,
    ) -> Self:
        """Fit up to `modes` modes of weight over `weight`, and of more than `least` rows, each.

        Raises `TableError` where fewer than 2 `least` sampled values are not null.
        """
        values = np.asarray(column.sample.drop_null()).astype(np.float64)
        values = np.sort(values[~np.isnan(values)])
        if len(values) < 2 * least:  # with fewer, the ends would cross
            raise TableError(
                f"column '{column.column.name}' has {len(values)} values that are not null; at "
                f"least {2 * least} are needed; leave it out with --drop '{column.column.name}'"
            )
        most = _largest(column.column.type)
        lower, upper = min(float(values[least - 1]), most), min(float(values[-least]), most)
        values = np.clip(values, lower, upper)
        # A mode of fewer rows would write down where they are. There are few enough modes for the
        # heaviest to have more.
        modes = max(1, min(modes, len(values) // (2 * least + 1)))
        mixture = fit(values, modes, max(weight, (least + 1) / len(values)))
        order = np.argsort(mixture.means)
        nulls = column.counters.nulls
        return cls(
            str(column.column.type),
            tuple(mixture.weights[order].tolist()),
            tuple(mixture.means[order].tolist()),
            tuple(mixture.stds[order].tolist()),
            lower,
            upper,
            _decimals(values, column.column.type),
            nulls / column.rows if nulls >= least else 0.0,
        )

    @cached_property
    def _mixture(self) -> Mixture:
        return Mixture(np.array(self.weights), np.array(self.means), np.array(self.stds))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The offset, then the mode (null last)."""
        return Part("scalar"), Part("mode", len(self.shares))

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of rows: each mode, then null."""
        if not self.nulls:
            return self.weights
        return (*(weight * (1 - self.nulls) for weight in self.weights), self.nulls)

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Mode (B, 1) drawn from its posterior by `chance`, and offset (B, 1)."""
        numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))
        nulls = np.isnan(numbers)
        middle = (self.lower + self.upper) / 2
        numbers = np.clip(np.where(nulls, middle, numbers), self.lower, self.upper)
        # Most number columns repeat their values: the posterior is computed once for each.
        points, inverse = np.unique(numbers, return_inverse=True)
        density = self._mixture.log_density(points)
        shares = np.exp(density - density.max(axis=1, keepdims=True))
        cumulative = np.cumsum(shares, axis=1)
        cumulative /= cumulative[:, -1:]
        modes = (cumulative[inverse, :-1] <= chance.uniform[:, None]).sum(axis=1)
        offsets = (numbers - self._mixture.means[modes]) / (4 * self._mixture.stds[modes])
        offsets = np.clip(offsets, -CLIP, CLIP)
        if self.nulls:
            modes = np.where(nulls, len(self.means), modes)
            offsets = np.where(nulls, 0.0, offsets)
        return ColumnCodes(modes.astype(np.int32)[:, None], offsets.astype(np.float32)[:, None])

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,) rounded and kept in range as the column's own were."""
        modes = codes.indices[:, 0]
        nulls = modes >= len(self.means)
        modes = np.minimum(modes, len(self.means) - 1)
        offsets = np.clip(codes.scalars[:, 0].astype(np.float64), -1.0, 1.0)
        numbers = offsets * 4 * self._mixture.stds[modes] + self._mixture.means[modes]
        numbers = np.clip(numbers, self.lower, self.upper)
        if self.decimals is not None:
            numbers = np.round(numbers, self.decimals)
        mask = nulls if self.nulls else None
        kind = arrow_type(self.type)
        if pa.types.is_integer(kind):
            return pa.array(numbers.astype(kind.to_pandas_dtype()), kind, mask=mask)
        return pa.array(numbers, pa.float64(), mask=mask).cast(kind)

    def index_of(self, value: Any) -> int | None:
        """Only null has an index of its own."""
        return len(self.means) if value is None and self.nulls else None

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        lists = {name: tuple(value[name]) for name in ("weights", "means", "stds")}
        return cls(**{**value, **lists})


def _decimals(values: Floats, kind: pa.DataType) -> int | None:
    if pa.types.is_integer(kind):
        return 0
    near = 1e-6 if kind == pa.float32() else 1e-12
    with np.errstate(over="ignore"):
        for decimals in range(DECIMALS + 1):
            if np.allclose(np.round(values, decimals), values, rtol=near, atol=0):
                return decimals
    return None


def _largest(kind: pa.DataType) -> float:
    """The largest float that is a value of `kind`: of 64-bit integers, not their largest value."""
    if not pa.types.is_integer(kind):
        return np.inf
    most = int(np.iinfo(kind.to_pandas_dtype()).max)
    return float(most) if int(float(most)) <= most else float(np.nextafter(float(most), 0))
