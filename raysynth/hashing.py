"""Randomness tied to a row: a counter goes in, a number comes out, whatever the partitioning.

Every random choice of summary and encoding is a pure function of (seed, row id, column), so one
worker or a hundred, one file or a thousand, first try or retry give the same result.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 2**33  # the first stream of what a row's columns share, past those of columns and shuffle


def mix(ids: Ids, seed: int, stream: int = 0) -> Ids:
    """Scatter `ids` (B,) over all of uint64, one to one, by splitmix64's finaliser.

    Distinct ids stay distinct for any `seed` and `stream`. Source of the constants: Steele, Lea
    and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        key = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) * _STEP + np.uint64(stream)
        return _finalise((ids.astype(np.uint64) ^ _finalise(key * _STEP + _STEP)) + _STEP)


def uniform(ids: Ids, seed: int, stream: int = 0) -> Floats:
    """One float64 in [0, 1) for each of `ids` (B,)."""
    return (mix(ids, seed, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_of(seed: int, *counters: int) -> int:
    """A seed for a generator of its own: the same for the same (seed, counters)."""
    value = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    for counter in counters:
        value = mix(value, counter)
    return int(value[0] >> np.uint64(1))


@dataclass(frozen=True)
class Chance:
    """What settles the random choices of one column in B rows: their `ids` (B,), seed and stream.

    Each column has a `stream` of its own. What several columns of a row must agree on (one invented
    person's name and e-mail) comes from `of_row`, which leaves the column out.
    """

    ids: Ids
    seed: int
    stream: int = 0

    @cached_property
    def uniform(self) -> Floats:
        """One float64 in [0, 1) a row, (B,), of this column's own."""
        return uniform(self.ids, self.seed, self.stream)

    def of_row(self, topic: int) -> Floats:
        """One float64 in [0, 1) a row, (B,): the same whichever column asks about `topic`."""
        return uniform(self.ids, self.seed, _ROWS + topic)

    def __getitem__(self, rows: Any) -> "Chance":
        """That of the rows at the positions `rows`."""
        return Chance(self.ids[rows], self.seed, self.stream)


def _finalise(value: Ids) -> Ids:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def permute(ids: Ids, size: int, seed: int, stream: int = 0) -> Ids:
    """A shuffle of 0 .. `size` - 1: each of `ids` (B,) below `size` to another, one to one.

    A Feistel network of four rounds on the next even number of bits, walked until it comes back
    below `size` (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): four
    steps on average at most. `size` is at most 2**62.
    """
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    moved = _feistel(ids.astype(np.uint64), half, mask, seed, stream)
    while (away := moved >= np.uint64(size)).any():
        moved[away] = _feistel(moved[away], half, mask, seed, stream)
    return moved


def _feistel(values: Ids, half: np.uint64, mask: np.uint64, seed: int, stream: int) -> Ids:
    left, right = values >> half, values & mask
    for turn in range(4):
        left, right = right, left ^ (mix(right, seed, stream + turn) & mask)
    return (left << half) | right
