"""Identifiers: never modelled; made anew in the same pattern, as a function of the row's number.

Nothing is encoded, so the codec has no parts. Decoding turns row i into an identifier by a one to
one map, so identifiers are unique however many rows are sampled, in whatever pieces. From the table
come the pattern (what at least `least` sampled identifiers share) and one coarse bound, no more.

**None equals a real one, by construction:**

- whole numbers start above the largest real one, rounded up to one leading digit (29,483 gives
  30,000), and go on to more digits when those are used up; where the type ends too soon, they go
  down from below the least;
- text with one run of digits of fixed width (AW00029483) does the same within the run, where the
  largest real text is of the pattern: what is larger than the largest of all is none of them;
- any other text is longer than the longest real one;
- UUIDs are random of version 4: that any of n made equals any of m real ones has a chance of at
  most n * m / 2**122 (100,000 against a billion: 2e-23).

The issue suggested to check by hashed membership of the real identifiers. Such a filter in the run
would let anybody who tries all identifiers of a small space (eight digits take seconds) learn who
was in the table, so there is none. A test checks by hashed membership, outside of any run.

A sequence without gaps comes back as one; other numbers are scattered over their range. Nulls are
drawn with their share. Where a subject has several rows, each sampled row gets an identifier of its
own all the same.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import is_text, plain_type, restored
from raysynth.codecs import ColumnCodes, Unmodelled, check_room, nulled
from raysynth.errors import TableError
from raysynth.hashing import Chance, Ids, mix, permute
from raysynth.patterns import DIGITS, UUID, Bounds, Pattern, Run, coarse, learn, written
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary

DENSE = 4  # a range of at most this many numbers a row is a sequence
_STREAM = 2**34  # past those of columns and of what a row's columns share
_EACH = 2**14  # streams of one column
_HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Codec(Unmodelled):
    """The patterns and their shares of rows; a `sequence` counts on in order.

    `form` is "whole" (one pattern of one run; `down` counts down from 0), "text", or how UUIDs are
    written: "uuid", in upper case "UUID", without hyphens "uuid32" or "UUID32".
    """

    type: str
    form: str
    patterns: tuple[Pattern, ...]
    sequence: bool
    down: bool
    nulls: float

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, **_: Any) -> Self:
        """Learn the pattern.

        Raises `TableError` where the column's type has no room for as many others.
        """
        check_room(column)
        nulls = column.counted_nulls(least) / max(column.counted, 1)
        kind = str(column.column.type)
        if not is_text(column.column.type):
            return cls(kind, "whole", *_whole(column), nulls)
        texts = column.sample.drop_null().cast(pa.string())
        if form := _uuid(texts):
            return cls(kind, form, (), False, False, nulls)
        owners = column.holders[np.asarray(column.sample.is_valid())]
        bounds = Bounds(column.counters.maximum or "", column.counters.longest or 0)
        patterns, span = learn(texts.to_pylist(), owners, bounds, least)
        sequence = len(patterns) == 1 and span <= DENSE * column.rows
        return cls(kind, "text", patterns, sequence, False, nulls)

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Identifiers (B,) of the rows that `chance` numbers.

        Raises `TableError` where the column's type has no room for a row's.
        """
        kind = arrow_type(self.type)
        if self.form == "whole":
            made = self._whole(chance, plain_type(kind))
        else:
            made = self._texts(chance) if self.form == "text" else _uuids(self.form, chance)
            made = made.cast(plain_type(kind))
        return restored(nulled(made, self.nulls, chance), kind)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(**{**value, "patterns": tuple(map(Pattern.from_json, value["patterns"]))})

    def _whole(self, chance: Chance, kind: pa.DataType) -> pa.Array:
        numbers = self._numbers(self.patterns[0].number, chance, _most(kind, not self.down))
        if kind == pa.uint64():
            return pa.array(numbers)
        signed = numbers.astype(np.int64)
        made = pa.array(-signed if self.down else signed)
        # From 64 bits Arrow makes decimals of 19 digits and more only.
        return (made.cast(pa.decimal128(38, 0)) if pa.types.is_decimal(kind) else made).cast(kind)

    def _texts(self, chance: Chance) -> pa.Array:
        ends = np.cumsum([pattern.share for pattern in self.patterns])
        drawn = mix(chance.ids, chance.seed, _STREAM + _EACH * chance.stream) >> np.uint64(11)
        which = np.searchsorted(ends, drawn * 2.0**-53 * ends[-1], "right")
        pieces, places = [], []
        for place, pattern in enumerate(self.patterns):
            rows = np.flatnonzero(np.minimum(which, len(self.patterns) - 1) == place)
            numbers = self._numbers(pattern.number, chance[rows], 2**62)
            for at, texts in pattern.write(numbers, chance[rows], _STREAM + _EACH * chance.stream):
                pieces.append(texts)
                places.append(rows[at])
        made = pa.concat_arrays([*pieces, pa.array([], pa.string())])
        return made.take(pa.array(np.argsort(np.concatenate([*places, np.empty(0, np.int64)]))))

    def _numbers(self, run: Run, chance: Chance, limit: int) -> Ids:
        """The run's numbers of the rows: counted on from its start, or scattered digit by digit."""
        numbers = np.empty(len(chance.ids), np.uint64)
        left = np.ones(len(chance.ids), bool)
        before = 0
        for low, size in run.levels(limit):
            here = left & (chance.ids < np.uint64(min(before + size, 2**64 - 1)))
            at = chance.ids[here] - np.uint64(before)
            if not self.sequence:
                at = permute(at, size, chance.seed, _STREAM + _EACH * chance.stream + 1)
            numbers[here] = at + np.uint64(low)
            left &= ~here
            before += size
            if not left.any():
                break
        else:
            if left.any():
                raise TableError(
                    f"an identifier column of type {self.type} has room for {before:,} new "
                    "identifiers; sample fewer rows, or train with the column cast to a wider type"
                )
        return numbers


def _whole(column: ColumnSummary) -> tuple[tuple[Pattern, ...], bool, bool]:
    """The pattern of whole numbers, whether they are a sequence, and whether they go down."""
    low, high = column.counters.minimum or 0, column.counters.maximum or 0
    kind = plain_type(column.column.type)
    most, least = _most(kind), _most(kind, up=False)
    start, below = coarse(high), coarse(-low)
    rooms = most - start + 1, least - below + 1
    down = rooms[0] < min(10 * column.rows, rooms[1])
    if rooms[down] < column.rows:
        raise TableError(
            f"column '{column.column.name}' is {column.column.type}, which has no room for as many "
            "new identifiers; cast it to a wider type, or leave it out with "
            f"--drop '{column.column.name}'"
        )
    start = below if down else start
    run = Run(DIGITS, len(str(start)), start)
    values = column.rows - column.counters.nulls
    return (Pattern((run,), 1.0),), high - low + 1 <= DENSE * values, down


def _most(kind: pa.DataType, up: bool = True) -> int:
    """The largest number of a type; or how far below 0 it goes."""
    if pa.types.is_decimal(kind):
        return int(min(10**kind.precision - 1, 2**62))
    info = np.iinfo(kind.to_pandas_dtype())
    return int(info.max) if up else min(-int(info.min), 2**62)


def _uuid(texts: pa.Array) -> str | None:
    """How UUIDs are written, or None where texts are none."""
    matched = np.asarray(pc.match_substring_regex(texts, UUID))
    if not len(texts) or matched.mean() < 0.99:
        return None
    upper = np.asarray(pc.match_substring_regex(texts, "[A-F]")).mean() > 0.5
    bare = np.asarray(pc.equal(pc.utf8_length(texts), 32)).mean() > 0.5
    return ("UUID" if upper else "uuid") + ("32" if bare else "")


def _uuids(form: str, chance: Chance) -> pa.Array:
    """Random UUIDs of version 4: all 64 bits of a one to one hash of the row, and 58 more."""
    stream = _STREAM + _EACH * chance.stream
    first, second = (mix(chance.ids, chance.seed, stream + turn) for turn in (0, 1))
    # 122 free bits: the top 60 of `first`, its lowest 4, and 58 of `second`.
    top = ((first >> np.uint64(16)) << np.uint64(16)) | np.uint64(0x4000)
    top |= (first >> np.uint64(4)) & np.uint64(0xFFF)
    low = np.uint64(1 << 63) | ((first & np.uint64(15)) << np.uint64(58))
    low |= second >> np.uint64(6)
    nibbles = np.concatenate([_nibbles(top), _nibbles(low)], axis=1)
    digits = (_HEX.upper() if form.startswith("UUID") else _HEX).encode()
    pieces = np.split(np.frombuffer(digits, np.uint8)[nibbles], [8, 12, 16, 20], axis=1)
    if not form.endswith("32"):
        hyphen = np.full((len(nibbles), 1), ord("-"), np.uint8)
        pieces = [piece for group in pieces for piece in (group, hyphen)][:-1]
    return written(np.concatenate(pieces, axis=1))


def _nibbles(values: Ids) -> NDArray[np.uint64]:
    """Hexadecimal digits of `values` (B,), the highest first, (B, 16)."""
    places = np.arange(60, -1, -4, dtype=np.uint64)
    return (values[:, None] >> places) & np.uint64(15)
