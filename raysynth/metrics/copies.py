"""Copies: synthetic rows that are somebody's row.

Rows are compared cell for cell, exactly (no hashes, no rounding); null equals null. A share above
zero is not by itself a leak: a table of few categories repeats itself. So read it beside the same
share for held-out rows, which no training row could have been copied into.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.frames import Integers, codes
from raysynth.schema import Schema

_LIMIT = 1 << 62  # keys of joined columns stay below this, inside int64


def share(rows: pa.Table, reference: pa.Table, schema: Schema) -> float:
    """The share of `rows`, in [0, 1], that equal a row of `reference` in every column.

    Both tables hold at least one row.
    """
    keys, sizes = np.zeros(rows.num_rows + reference.num_rows, dtype=np.int64), 1
    for name in schema.names:
        joined, size = codes([rows, reference], name)
        if sizes * size >= _LIMIT:
            keys, sizes = _dense(keys)
        keys = keys * size + np.concatenate(joined)
        sizes *= size
    own, others = np.split(keys, [rows.num_rows])
    return float(np.isin(own, others).mean())


def _dense(keys: Integers) -> tuple[Integers, int]:
    """The same groups numbered from 0, and how many there are."""
    encoded: Any = pc.dictionary_encode(pa.array(keys))
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
