"""Exact copies: the share of rows that equal some reference row in every column.

A share above zero is not by itself a leak: a table of few categories repeats itself. So read it
beside the same share for held-out rows, which no training row could have been copied into.
"""

import numpy as np
import pyarrow as pa

from raysynth.schema import Schema
from raysynth.sought import Sought


def share(rows: pa.Table, reference: pa.Table, schema: Schema) -> float:
    """The share of `rows` that occur in `reference`, exactly (`raysynth.sought`).

    Both tables hold at least one row.
    """
    sought = Sought.of([rows], schema.names)
    return float(np.mean(sought.counts(reference)[sought.places[0]] > 0))
