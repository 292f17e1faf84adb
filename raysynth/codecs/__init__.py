"""Fitted, reversible maps from one column to codes: one file a way to encode.

The file name is the registry: `names()` lists the modules of this folder and `get(name)` opens one.
A new codec is one new file that holds a frozen dataclass `Codec` keeping the protocol below; the
contract suite in `tests/test_codecs.py` runs over it unasked.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import ConfigError, nearest
from raysynth.hashing import Chance
from raysynth.layout import Part
from raysynth.summary import ColumnSummary


class ColumnCodes(NamedTuple):
    """One column's codes: `indices` (B, k) int32 and `scalars` (B, s) float32."""

    indices: NDArray[np.int32]
    scalars: NDArray[np.float32]


class Codec(Protocol):
    """A fitted, reversible map for one column: a frozen value that goes to JSON and back."""

    @classmethod
    def fit(cls, column: ColumnSummary, **options: Any) -> Self:
        """Fit on a column's summary. Raises `TableError` naming the column it cannot encode."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a row's code, in order."""
        ...

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the table's rows in each index of the first mode or category part."""
        ...

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Encode `values` (B,); `chance` (B rows) settles random choices."""
        ...

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """The values (B,) in the column's own Arrow type."""
        ...

    def index_of(self, value: Any) -> int | None:
        """The index that stands for `value`, or None where no single index does."""
        ...

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` turns back into an equal codec."""
        ...

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The codec that `to_json` described."""
        ...


class Unmodelled:
    """What the codecs of columns that nothing is learned from have in common: no parts."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """None: nothing is modelled."""
        return ()

    @property
    def shares(self) -> tuple[float, ...]:
        """None."""
        return ()

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Nothing, (B, 0) and (B, 0), whatever the values."""
        rows = len(values)
        return ColumnCodes(np.empty((rows, 0), np.int32), np.empty((rows, 0), np.float32))

    def index_of(self, value: Any) -> int | None:
        """No index stands for a value."""
        return None


def nulled(values: pa.Array, share: float, chance: Chance) -> pa.Array:
    """Invented `values` (B,), a `share` of them null by chance."""
    null = chance.uniform < share
    return (
        pc.if_else(pa.array(null), pa.scalar(None, values.type), values) if null.any() else values
    )


def names() -> tuple[str, ...]:
    """Names of every codec, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def get(name: str) -> type[Codec]:
    """The codec called `name`; `ConfigError` naming the nearest where there is none."""
    if name not in names():
        raise ConfigError(f"no codec is called '{name}'; {nearest(name, names())}")
    return cast("type[Codec]", import_module(f"{__name__}.{name}").Codec)
