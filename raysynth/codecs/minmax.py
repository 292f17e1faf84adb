"""Numbers and times as one scalar, from -1 at the lower end of the range to 1 at the upper.

Source: table-GAN (Park et al., "Data Synthesis based on Generative Adversarial Networks", VLDB
2018), whose records are columns scaled to [-1, 1].

Departures: the ends are values that `least` distinct holders reach, not the least and the greatest,
so nobody's extreme is written down. Nulls, which table-GAN does not know, are a choice of two
beside the scalar, in columns that have them.

**Tolerance.** The scalar is a float32, so a value comes back to within 2 ** -24 of half the range,
and then to the tolerance of `numeric.Scale`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raysynth.codecs import ColumnCodes
from raysynth.hashing import Chance
from raysynth.layout import Part
from raysynth.numeric import Scale, null_share
from raysynth.summary import ColumnSummary


@dataclass(frozen=True)
class Codec:
    """The scale, whose ends are -1 and 1; `nulls` is their share of rows."""

    scale: Scale
    nulls: float

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, **_: Any) -> Self:
        """Fit the range. Raises `TableError` where fewer than 2 `least` holders have a value."""
        return cls(Scale.fit(column, least), null_share(column, least))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The scalar; then, where there are nulls, whether the row has a value (0) or null (1)."""
        return (Part("scalar"), Part("mode", 2, bare=1)) if self.nulls else (Part("scalar"),)

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of rows with a value, and of null."""
        return (1 - self.nulls, self.nulls) if self.nulls else ()

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """The scalar (B, 1), 0 for null, and the choice (B, 1) or (B, 0)."""
        centre, half = self._line
        floats = (self.scale.floats(values) - centre) / half
        nulls = np.isnan(floats)
        scalars = np.where(nulls, 0.0, np.clip(floats, -1.0, 1.0)).astype(np.float32)
        return ColumnCodes(
            nulls.astype(np.int32)[:, None][:, : len(self.parts) - 1], scalars[:, None]
        )

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,) rounded and kept in range as the column's own were."""
        centre, half = self._line
        floats = codes.scalars[:, 0].astype(np.float64) * half + centre
        if self.nulls:
            floats[codes.indices[:, 0] == 1] = np.nan
        return self.scale.values(floats)

    def index_of(self, value: Any) -> int | None:
        """Only null has an index of its own."""
        return 1 if value is None and self.nulls else None

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(Scale.from_json(value["scale"]), value["nulls"])

    @property
    def _line(self) -> tuple[float, float]:
        lower, upper = self.scale.ends
        return lower / 2 + upper / 2, (upper / 2 - lower / 2) or 1.0
