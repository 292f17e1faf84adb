"""The numbers that Arrow keeps for numbers and times: whole ones of its own unit, or floats."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

WORD = 2**64

Ticks = NDArray[Any]  # int64, uint64, float64, or Python's whole numbers where none is wide enough


def read(values: pa.Array) -> Ticks:
    """The numbers (B,) that Arrow keeps for `values`; what a null holds there means nothing."""
    kind, rows = values.type, slice(values.offset, values.offset + len(values))
    data = values.buffers()[1]
    if kind.bit_width <= 64:
        stored = _stored(kind)
        wide = np.float64 if stored.kind == "f" else np.uint64 if stored == np.uint64 else np.int64
        raw = np.frombuffer(data or b"", stored)[rows]
        return raw.astype(wide, copy=stored.kind == "f")
    words = np.frombuffer(data or b"", np.int64).reshape(-1, kind.bit_width // 64)[rows]
    low, rest = words[:, 0], words[:, 1:]
    if (rest == (low >> 63)[:, None]).all():
        return low
    ticks = words[:, -1].astype(object)
    for word in words[:, -2::-1].T:
        ticks = ticks * WORD + word.view(np.uint64).astype(object)
    return ticks


def write(kind: pa.DataType, ticks: Ticks, nulls: NDArray[np.bool_]) -> pa.Array:
    """The array (B,) that keeps `ticks` (B,): what `read` undoes."""
    valid = pa.array(~nulls).buffers()[1] if nulls.any() else None
    if kind.bit_width <= 64:
        data = np.ascontiguousarray(ticks.astype(_stored(kind)))
    else:
        words: list[Ticks]
        places = range(kind.bit_width // 64)
        if ticks.dtype == object:
            words = [((ticks >> 64 * place) % WORD).astype(np.uint64) for place in places]
        else:
            words = [ticks >> 63 if place else ticks for place in places]
        data = np.ascontiguousarray(np.stack(words, axis=1))
    return pa.Array.from_buffers(kind, len(ticks), [valid, pa.py_buffer(data)])


def _stored(kind: pa.DataType) -> np.dtype[Any]:
    types = pa.types
    letter = "f" if types.is_floating(kind) else "u" if types.is_unsigned_integer(kind) else "i"
    return np.dtype(f"{letter}{kind.bit_width // 8}")
