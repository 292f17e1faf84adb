"""Copies: synthetic rows that are somebody's row.

Rows are compared cell for cell, exactly (no hashes, no rounding); null equals null. A share above
zero is not by itself a leak: a table of few categories repeats itself. So read it beside the same
share for held-out rows, which no training row could have been copied into.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import keys
from raysynth.schema import Schema


def share(rows: pa.Table, reference: pa.Table, schema: Schema) -> float:
    """The share of `rows`, in [0, 1], that equal a row of `reference` in every column.

    Both tables hold at least one row.
    """
    own, others = keys([rows, reference], schema.names)
    return float(np.isin(own, others).mean())
