"""Fitted, reversible maps from one column to codes: one file a way to encode.

The file name is the registry: `names()` lists the modules of this folder and `get(name)` opens one.
A new codec is one new file that holds a frozen dataclass `Codec` keeping the protocol below; the
contract suite in `tests/test_codecs.py` runs over it unasked.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth import spikes
from raysynth.errors import ConfigError, TableError, nearest
from raysynth.hashing import Chance, Floats
from raysynth.layout import Part
from raysynth.numeric import Scale
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
        """Encode `values` (B,); `chance` (B rows) settles random choices.

        Values are as `arrays.plain`; strings may come as a dictionary.
        """
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


class Stretches(ABC):
    """What codecs have in common that cut a scale into stretches, and some exact values beside.

    The scalar says where in a stretch. The index is that of a stretch, then of an exact value,
    then null; with the last two the scalar is 0. `weights` are shares of rows that are not null,
    `nulls` is the share of null rows.
    """

    scale: Scale
    weights: tuple[float, ...]
    nulls: float

    @property
    @abstractmethod
    def stretches(self) -> int:
        """How many stretches there are."""

    @property
    @abstractmethod
    def exact(self) -> tuple[float, ...]:
        """The exact values, in the scale's floats and ascending."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The scalar, then the index."""
        shares = len(self.shares)
        return Part("scalar"), Part("mode", shares, bare=shares - self.stretches)

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of rows: each stretch, each exact value, then null."""
        if not self.nulls:
            return self.weights
        return (*(weight * (1 - self.nulls) for weight in self.weights), self.nulls)

    def floats(self, values: pa.Array) -> tuple[Floats, NDArray[np.bool_]]:
        """Values (B,) on the scale, its middle for null, and which are null."""
        floats = self.scale.floats(values)
        nulls = np.isnan(floats)
        return np.where(nulls, sum(self.scale.ends) / 2, floats), nulls

    def coded(
        self, places: NDArray[np.int64], scalars: Floats, nulls: NDArray[np.bool_]
    ) -> ColumnCodes:
        """Index (B, 1) and scalar (B, 1) of what lies at `places` or is null."""
        if self.nulls:
            places = np.where(nulls, len(self.weights), places)
        scalars = np.where(places < self.stretches, scalars, 0.0)
        return ColumnCodes(places.astype(np.int32)[:, None], scalars.astype(np.float32)[:, None])

    def index_of(self, value: Any) -> int | None:
        """Null and exact values have an index of their own."""
        if value is None:
            return len(self.weights) if self.nulls else None
        place = int(spikes.index(self.exact, self.scale.point(value))[0])
        return None if place < 0 else self.stretches + place


class Lines(Stretches):
    """Stretches in which the scalar is a line: an offset from the centre."""

    @property
    @abstractmethod
    def lines(self) -> tuple[Floats, Floats]:
        """By stretch and exact value: the centre, and how far from it an offset of 1 lies."""

    def codes(
        self, floats: Floats, nulls: NDArray[np.bool_], places: NDArray[np.int64], clip: float
    ) -> ColumnCodes:
        """Index (B, 1) and offset (B, 1), cut to `clip`, of what `floats` gives, at `places`."""
        centres, reaches = self.lines
        offsets = np.clip((floats - centres[places]) / reaches[places], -clip, clip)
        return self.coded(places, offsets, nulls)

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,) rounded and kept in range as the column's own were."""
        places = codes.indices[:, 0]
        nulls = places >= len(self.weights)
        places = np.where(nulls, 0, places)
        centres, reaches = self.lines
        offsets = np.clip(codes.scalars[:, 0].astype(np.float64), -1.0, 1.0)
        floats = np.where(places < self.stretches, offsets * reaches[places], 0.0)
        floats += centres[places]
        floats[nulls] = np.nan
        return self.scale.values(floats)


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


def check_room(column: ColumnSummary) -> None:
    """Refuse, by `TableError`, a dictionary of 8 bits: more values are invented than it can hold.

    One of 16 bits will do: a sampler decodes fewer rows at once than it can tell apart.
    """
    kind, name = column.column.type, column.column.name
    if pa.types.is_dictionary(kind) and kind.index_type.bit_width < 16:
        raise TableError(
            f"column '{name}' is {kind}, whose indices have no room for as many values as are "
            f"invented; cast it to {kind.value_type}, or leave it out with --drop '{name}'"
        )


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
