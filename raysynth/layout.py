"""Where each codec writes, and the compact codes themselves.

A row of codes is a few small integers (mode, category) and a few float32 offsets. Only
`Layout.expand` makes the dense one-hot network input, on the device, a batch at a time, and
`Span.slice` is the only place a dense offset is computed.

Shapes: B rows, K indices a row, S scalars a row, W dense width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

PartKind = Literal["scalar", "mode", "category"]


class Part(NamedTuple):
    """One piece of a column's code: a scalar in [-1, 1], a mode, or a category out of `size`.

    With the last `bare` of the modes the column's scalar is 0 and says nothing. `places` are what
    it would say with the first of those: where on its scale their values lie. The index `pooled`
    stands for what too few hold to be shown; a model learns it and draws another in its place, one
    that fits the row, as decoding could not.
    """

    kind: PartKind
    size: int = 1
    bare: int = 0
    places: tuple[float, ...] = ()
    pooled: int | None = None


class Codes(NamedTuple):
    """Compact rows: `indices` (B, K) integer and `scalars` (B, S) float32."""

    indices: Tensor
    scalars: Tensor

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.indices.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes one row takes."""
        return sum(t.shape[1] * t.element_size() for t in (self.indices, self.scalars))

    def take(self, rows: Tensor | slice) -> "Codes":
        """The codes of the rows at the positions `rows`."""
        return Codes(self.indices[rows], self.scalars[rows])

    def pieces(self, rows: int) -> "Iterator[Codes]":
        """The codes `rows` rows at a time, in order."""
        for start in range(0, self.rows, rows):
            yield self.take(slice(start, start + rows))

    def to(self, device: torch.device | str) -> "Codes":
        """The same codes on another device."""
        return Codes(self.indices.to(device), self.scalars.to(device))

    @staticmethod
    def concat(pieces: Sequence["Codes"]) -> "Codes":
        """The rows of all pieces, in order."""
        return Codes(
            torch.cat([piece.indices for piece in pieces]),
            torch.cat([piece.scalars for piece in pieces]),
        )


@dataclass(frozen=True)
class Span:
    """Where one part of one column lies.

    `start` and `size` place it in the dense row; `slot` is its place among the scalars (kind
    "scalar") or among the indices (the others). `bare`, `places` and `pooled` are as in `Part`.
    """

    column: str
    kind: PartKind
    start: int
    size: int
    slot: int
    bare: int = 0
    places: tuple[float, ...] = ()
    pooled: int | None = None

    @property
    def slice(self) -> slice:
        """The dense columns of this span."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class ColumnSpans:
    """One column's spans, of those that have one choice and one scalar at most.

    `first` is the place of its index 0 among the indices of all columns, one after the other.
    """

    name: str
    choice: Span | None
    scalar: Span | None
    first: int

    @property
    def size(self) -> int:
        """Indices there are; a column without a choice counts as having one."""
        return 1 if self.choice is None else self.choice.size

    def index(self, codes: Codes) -> Tensor:
        """The index (B,) of each row."""
        if self.choice is None:
            return torch.zeros(codes.rows, dtype=torch.long, device=codes.scalars.device)
        return codes.indices[:, self.choice.slot].long()

    def scalar_of(self, codes: Codes) -> Tensor | None:
        """The scalar (B,) of each row, of a column that has one."""
        return None if self.scalar is None else codes.scalars[:, self.scalar.slot]

    @property
    def places(self) -> tuple[float, ...]:
        """By index: where on the scalar's scale its value lies, 0 where the scalar says it."""
        told = () if self.choice is None else self.choice.places
        start = self.size - (0 if self.choice is None else self.choice.bare)
        return (0.0,) * start + told + (0.0,) * (self.size - start - len(told))

    @property
    def pooled(self) -> int | None:
        """The index that is never drawn, if there is one."""
        return None if self.choice is None else self.choice.pooled

    def says(self, index: Tensor) -> Tensor:
        """Whether the scalar says something with each index (B,)."""
        return index < self.size - (0 if self.choice is None else self.choice.bare)


class Bounds(NamedTuple):
    """What is asked of one column: with each index (n,), the `lows` and `highs` of its scalar.

    Scalars from low to high are allowed, both of them among those; an index is not allowed where
    its low is above its high. An index whose scalar says nothing goes from -1 to 1.
    """

    lows: Tensor
    highs: Tensor

    @classmethod
    def just(cls, index: int, size: int) -> "Bounds":
        """One index of `size`, with any scalar."""
        lows = torch.ones(size)
        lows[index] = -1.0
        return cls(lows, -lows)

    def to(self, device: torch.device | str) -> "Bounds":
        """The same bounds on another device."""
        return Bounds(self.lows.to(device), self.highs.to(device))

    @property
    def allowed(self) -> Tensor:
        """The indices that are, ascending."""
        return (self.lows <= self.highs).nonzero()[:, 0]

    @property
    def only(self) -> int | None:
        """The one index allowed, with any scalar; None where more is."""
        allowed = self.allowed
        if len(allowed) != 1 or self.lows[allowed] > -1 or self.highs[allowed] < 1:
            return None
        return int(allowed)

    def both(self, other: "Bounds") -> "Bounds":
        """What these and the others allow."""
        return Bounds(torch.maximum(self.lows, other.lows), torch.minimum(self.highs, other.highs))

    def hold(self, index: Tensor, scalars: Tensor | None) -> Tensor:
        """Which rows, of these indices (B,) and scalars (B,), have what is asked."""
        lows, highs = (ends[index] for ends in self.to(index.device))
        if scalars is None:
            return lows <= highs
        return (lows <= scalars) & (scalars <= highs)


@dataclass(frozen=True)
class Layout:
    """All spans of a table, in column order, and how many rows it has, where that is known."""

    spans: tuple[Span, ...]
    rows: int | None = None

    @classmethod
    def of(cls, columns: Sequence[tuple[str, Sequence[Part]]], rows: int | None = None) -> "Layout":
        """Lay the parts of (name, parts) pairs side by side."""
        spans: list[Span] = []
        start, slots = 0, {True: 0, False: 0}
        for name, parts in columns:
            for part in parts:
                scalar = part.kind == "scalar"
                lies = (start, part.size, slots[scalar])
                spans.append(Span(name, part.kind, *lies, part.bare, part.places, part.pooled))
                slots[scalar] += 1
                start += part.size
        return cls(tuple(spans), rows)

    @property
    def width(self) -> int:
        """W: width of the dense row."""
        return sum(span.size for span in self.spans)

    @cached_property
    def scalars(self) -> tuple[Span, ...]:
        """Spans of the scalars, by slot."""
        return tuple(span for span in self.spans if span.kind == "scalar")

    @cached_property
    def choices(self) -> tuple[Span, ...]:
        """Spans of modes and categories, by slot: the softmax blocks."""
        return tuple(span for span in self.spans if span.kind != "scalar")

    @cached_property
    def categories(self) -> tuple[Span, ...]:
        """Spans of categories only: what a condition can name."""
        return tuple(span for span in self.spans if span.kind == "category")

    @cached_property
    def columns(self) -> tuple[ColumnSpans, ...]:
        """The columns that have spans, in the table's order."""
        found, first = list[ColumnSpans](), 0
        for name in dict.fromkeys(span.column for span in self.spans):
            mine = [span for span in self.spans if span.column == name]
            choice = next((span for span in mine if span.kind != "scalar"), None)
            scalar = next((span for span in mine if span.kind == "scalar"), None)
            found.append(ColumnSpans(name, choice, scalar, first))
            first += found[-1].size
        return tuple(found)

    @property
    def index_dtype(self) -> torch.dtype:
        """The smallest integer type that holds every index."""
        largest = max((span.size for span in self.choices), default=1)
        return torch.uint8 if largest <= 2**8 else torch.int16 if largest <= 2**15 else torch.int32

    @property
    def row_bytes(self) -> int:
        """Bytes one row of codes takes."""
        return len(self.choices) * self.index_dtype.itemsize + 4 * len(self.scalars)

    @cached_property
    def _starts(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def __reduce__(self) -> tuple[type["Layout"], tuple[tuple[Span, ...]]]:
        """Only the spans go along: another process need not have the devices of this one."""
        return Layout, (self.spans,)

    def starts(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where the choices' spans begin, (K,), and the scalars', (S,).

        On the device since it was first asked: to bring them there anew, the host would wait.
        """
        if device not in self._starts:
            with torch.inference_mode(mode=False):  # training may be next to ask
                choices, scalars = (
                    torch.tensor([span.start for span in spans], dtype=torch.long, device=device)
                    for spans in (self.choices, self.scalars)
                )
            self._starts[device] = choices, scalars
        return self._starts[device]

    def expand(self, codes: Codes) -> Tensor:
        """The dense rows (B, W) float32 of `codes`: scalars as they are, the rest one-hot."""
        device = codes.scalars.device
        dense = torch.zeros(codes.rows, self.width, device=device)
        choices, scalars = self.starts(device)
        if self.choices:
            dense.scatter_(1, codes.indices.long() + choices, 1.0)
        if self.scalars:
            dense[:, scalars] = codes.scalars
        return dense
