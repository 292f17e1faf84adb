"""Patterns of identifiers: literal pieces and runs of characters, one of which is a number.

A pattern is learned from what enough identifiers share: which pieces stay the same, which classes
of characters (digits, upper, lower case) the others are of, and how long they are. Writing it puts
a number of its own into one run, so that no two texts are equal, and chance into the others.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.hashing import Chance, mix

DIGITS, UPPER, LOWER = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
MOST = 8  # patterns of one column
UUID = r"^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$"
COVERED = 0.9  # share of the identifiers that patterns must explain between them
_FIELDS = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|[^0-9A-Za-z]+")
_LARGEST = 2**62  # numbers stay below it

Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Run:
    """`width` characters of an alphabet: drawn by chance, or where there is a `start`, a number.

    Numbers count on from `start`, with as many more characters as they need.
    """

    alphabet: str
    width: int
    start: int | None = None

    def levels(self, limit: int) -> Iterator[tuple[int, int]]:
        """The numbers up to `limit`, as (first, how many) of each width; 2**62 at most at once."""
        base, low = len(self.alphabet), self.start or 0
        high = base**self.width
        while low <= limit:
            end = min(max(high, low), limit + 1, low + _LARGEST)
            if end > low:
                yield low, end - low
            low = end
            if low >= high:
                high *= base

    def characters(self, numbers: NDArray[Any], width: int) -> Bytes:
        """Numbers (B,) as characters, (B, `width`), with leading zeros."""
        base = np.uint64(len(self.alphabet))
        left, places = numbers.astype(np.uint64), []
        for _ in range(width):
            left, digit = np.divmod(left, base)
            places.append(digit)
        letters = np.frombuffer(self.alphabet.encode(), np.uint8)
        found: Bytes = letters[np.stack(places[::-1], axis=1)]
        return found

    def drawn(self, chance: Chance, stream: int) -> Bytes:
        """Characters by chance, (B, `width`)."""
        most = _wide(len(self.alphabet))
        pieces = [
            self.characters(mix(chance.ids, chance.seed, stream + at), min(most, self.width - at))
            for at in range(0, self.width, most)
        ]
        return np.concatenate(pieces, axis=1)


@dataclass(frozen=True)
class Pattern:
    """Literal text and runs in order, exactly one of them a number; `share` is that of rows."""

    pieces: tuple[str | Run, ...]
    share: float

    @property
    def number(self) -> Run:
        """The run that tells texts apart."""
        return next(p for p in self.pieces if isinstance(p, Run) and p.start is not None)

    def write(
        self, numbers: NDArray[Any], chance: Chance, stream: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
        """Texts of all rows, a length at a time: their places among the rows, and they."""
        run = self.number
        base = len(run.alphabet)
        ends = [base**width for width in range(run.width, 64) if base**width < 2**63]
        widths = run.width + np.searchsorted(np.array(ends, np.int64), numbers, "right")
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            here, pieces = chance[rows], []
            for place, piece in enumerate(self.pieces):
                if isinstance(piece, str):
                    one = np.frombuffer(piece.encode(), np.uint8)
                    pieces.append(np.broadcast_to(one, (len(rows), len(one))))
                elif piece.start is not None:
                    pieces.append(piece.characters(numbers[rows], int(width)))
                else:
                    pieces.append(piece.drawn(here, stream + 64 * (place + 1)))
            yield rows, written(np.concatenate(pieces, axis=1))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The pattern that `dataclasses.asdict` described."""
        pieces = (piece if isinstance(piece, str) else Run(**piece) for piece in value["pieces"])
        return cls(tuple(pieces), value["share"])


class Bounds(NamedTuple):
    """What is known of all texts of a table: the largest by code points, and the longest length."""

    largest: str
    longest: int


class Learned(NamedTuple):
    """Patterns, and the range of the numbers where there is but one pattern (else infinite)."""

    patterns: tuple[Pattern, ...]
    span: float


def learn(texts: Sequence[str], owners: NDArray[np.int64], bounds: Bounds, least: int) -> Learned:
    """Patterns of sampled `texts` (B,), each piece of which at least `least` `owners` (B,) share.

    What they write is none of the table's texts: it is larger than the largest, or longer than the
    longest.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    fields = [_FIELDS.findall(text) for text in texts]
    for place, found in enumerate(fields):
        groups[tuple(map(_key, found))].append(place)
    kept = [places for places in groups.values() if len(set(owners[places].tolist())) >= least]
    kept = sorted(kept, key=lambda places: (-len(places), texts[places[0]]))[:MOST]
    if sum(map(len, kept)) < COVERED * len(texts):
        shared = least <= len(set(owners.tolist()))
        return Learned((_token(texts if shared else [], bounds),), np.inf)
    found = [_pattern([fields[place] for place in places], bounds) for places in kept]
    patterns, spans = [one.patterns[0] for one in found], [one.span for one in found]
    if not all(pattern.number.alphabet == DIGITS for pattern in patterns):
        # Letters that grow in number could become another pattern's; digits stay one field.
        patterns, spans = patterns[:1], spans[:1]
    total = sum(pattern.share for pattern in patterns)
    patterns = [replace(pattern, share=pattern.share / total) for pattern in patterns]
    return Learned(tuple(patterns), spans[0] if len(spans) == 1 else np.inf)


def coarse(number: int) -> int:
    """The next number of one digit and zeros, above any `number`; at least 1."""
    if number <= 0:
        return 1
    unit: int = 10 ** (len(str(number)) - 1)
    return (number // unit + 1) * unit


def written(characters: Bytes) -> pa.Array:
    """UTF-8 characters (B, L) as B strings of L bytes."""
    rows, width = characters.shape
    offsets = (np.arange(rows + 1, dtype=np.int64) * width).astype(np.int64)
    data = pa.py_buffer(np.ascontiguousarray(characters).tobytes())
    long = pa.Array.from_buffers(pa.large_string(), rows, [None, pa.py_buffer(offsets), data])
    return long.cast(pa.string())


def _key(field: str) -> str:
    """What a field has in common with others of its pattern: digits of any number, letters not."""
    first = field[0]
    if first in DIGITS:
        return "0"
    return "A" * len(field) if first in UPPER else "a" * len(field) if first in LOWER else field


def _wide(base: int) -> int:
    """How many characters a number below `_LARGEST` may have."""
    width = 1
    while base ** (width + 1) < _LARGEST:
        width += 1
    return width


def _pattern(rows: list[list[str]], bounds: Bounds) -> Learned:
    """The pattern of rows of fields of the same keys."""
    columns = list(zip(*rows, strict=True))
    varied = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    digits = [place for place in varied if columns[place][0][0] in DIGITS]
    at = (digits or varied or [len(columns) - 1])[-1]
    pieces: list[str | Run] = []
    for place, column in enumerate(columns):
        width = min(map(len, column))
        alphabet = next((a for a in (DIGITS, UPPER, LOWER) if column[0][0] in a), "")
        fixed = place not in varied and place != at
        pieces.append(column[0] if fixed or not alphabet else Run(alphabet, width))
    column, run = columns[at], pieces[at]
    if not isinstance(run, Run):  # nothing varies and there is no letter or digit to write in
        run = Run(DIGITS, 1)
        pieces, at = [*pieces, run], at + 1
    span = np.inf
    padded = len(set(map(len, column))) == 1
    if run.alphabet == DIGITS and varied == [at] and run.width <= 18:
        numbers = list(map(int, column))
        span = max(numbers) - min(numbers) + 1
        top = _within(bounds.largest, pieces, at)
        whole = sum(_length(piece) for piece in pieces)
        if padded and top is not None and bounds.longest == whole:
            pieces[at] = replace(run, start=coarse(int(top)))
            return Learned((Pattern(tuple(pieces), float(len(rows))),), span)
    pieces[at : at + 1] = _longer(run, bounds.longest + 1 - _rest(pieces, at))
    return Learned((Pattern(tuple(pieces), float(len(rows))),), span)


def _within(text: str, pieces: list[str | Run], at: int) -> str | None:
    """What stands in `text` where the run at `at` does, if all else is the pattern's."""
    before = "".join(piece for piece in pieces[:at] if isinstance(piece, str))
    after = "".join(piece for piece in pieces[at + 1 :] if isinstance(piece, str))
    inner = text[len(before) : len(text) - len(after)]
    whole = text == before + inner + after and len(inner) == _length(pieces[at])
    return inner if whole and inner.isascii() and inner.isdigit() else None


def _longer(run: Run, width: int) -> list[str | Run]:
    """A run of at least `width` characters: a number, after chance where it would be too large."""
    width = max(width, run.width, 1)
    base, most = len(run.alphabet), _wide(len(run.alphabet))
    wide = min(width, most)
    number = Run(run.alphabet, wide, base ** (wide - 1))
    return [Run(run.alphabet, width - wide), number] if width > wide else [number]


def _token(texts: Sequence[str], bounds: Bounds) -> Pattern:
    """A pattern of texts that have no more in common than a prefix and classes of characters."""
    first, last = min(texts, default=""), max(texts, default="")
    alike = [a == b for a, b in zip(first, last, strict=False)]
    prefix = first[: alike.index(False) if False in alike else len(alike)]
    rest = "".join(text[len(prefix) :] for text in texts)
    classes = [alphabet for alphabet in (DIGITS, UPPER, LOWER) if set(alphabet) & set(rest)]
    run = Run("".join(classes) or DIGITS, 1)
    if not set(rest) - set(DIGITS + LOWER[:6]):
        run = Run(DIGITS + LOWER[:6], 1)
    longer = _longer(run, bounds.longest + 1 - len(prefix))
    return Pattern((*([prefix] if prefix else []), *longer), 1.0)


def _length(piece: str | Run) -> int:
    return len(piece) if isinstance(piece, str) else piece.width


def _rest(pieces: list[str | Run], at: int) -> int:
    return sum(_length(piece) for place, piece in enumerate(pieces) if place != at)
