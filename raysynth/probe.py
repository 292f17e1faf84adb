"""How near a model's rows are to held-out ones, cheaply: told while it trains.

Both are decoded, so that what codes have of their own (a generator's offset where an index says
all, the same value in either of two modes) tells nothing. Figures, in [0, 1], best at 1 unless
noted, of up to `ROWS` rows of each and of `COLUMNS` columns:

- `marginals` and `pairs`: the means of `metrics.marginals` and `metrics.pairs`;
- `detection`: that of `metrics.detection`; 0.5 is chance, and best;
- `coverage`: the share of indices held by `SEEN` held-out rows or more, but the pooled ones, that
  the model draws at all;
- `repeats`: the share of drawn rows that repeat another, less that of held-out ones; best at 0.

`fidelity` is one number of them, the mean of marginals, pairs, coverage and 2 (1 - detection). It
ranks the weights of one training. It does not compare tables, or replace a report (`judge`): a
perfect generator stays under 1, by what chance does to so few rows.

Shapes: B rows.
"""

from statistics import fmean

import numpy as np

from raysynth.layout import Codes, Layout
from raysynth.metrics import marginals, pairs
from raysynth.schema import Schema
from raysynth.table import TableCodec

ROWS, COLUMNS = 2_000, 30
FEWEST = 200  # held-out rows under which figures say more of chance than of the model
SEEN = 5


def figures(table: TableCodec, held: Codes, drawn: Codes) -> dict[str, float]:
    """All of the above, of as many drawn rows (B) as held-out ones."""
    from raysynth.metrics import detection  # learners take a second to load: not to open a run

    held, drawn = held.to("cpu"), drawn.to("cpu")
    schema = _some(table.schema.modelled)
    real, made = (
        table.decode(codes, np.arange(codes.rows, dtype=np.uint64), 0).select(list(schema.names))
        for codes in (held, drawn)
    )
    alone = fmean(marginals.scores(real, made, schema).values())
    both = pairs.scores(real, made, schema)
    told = {
        "marginals": alone,
        "pairs": fmean(both.values()) if both else alone,
        "detection": detection.auc(real, made, schema, np.random.default_rng(0)),
        "coverage": _coverage(table.layout, held, drawn),
    }
    good = (told["marginals"], told["pairs"], told["coverage"], 2 * (1 - told["detection"]))
    more = {"repeats": max(0.0, _repeats(drawn) - _repeats(held))}
    return {"fidelity": fmean(good), **told, **more}


def _some(schema: Schema) -> Schema:
    """As many columns as are looked at, the same ones each time."""
    if len(schema.columns) <= COLUMNS:
        return schema
    chosen = np.random.default_rng(0).permutation(len(schema.columns))[:COLUMNS]
    return Schema(tuple(schema.columns[place] for place in sorted(chosen)))


def _coverage(layout: Layout, held: Codes, drawn: Codes) -> float:
    common = missed = 0
    for span in layout.choices:
        counts = [
            codes.indices[:, span.slot].long().bincount(minlength=span.size)
            for codes in (held, drawn)
        ]
        there = counts[0] >= SEEN
        if span.pooled is not None:
            there[span.pooled] = False
        common += int(there.sum())
        missed += int((there & (counts[1] == 0)).sum())
    return 1 - missed / common if common else 1.0


def _repeats(codes: Codes) -> float:
    """The share of rows that are an earlier one's equals."""
    both = np.concatenate([codes.indices.numpy().astype(np.float64), codes.scalars.numpy()], axis=1)
    return 1 - len(np.unique(both, axis=0)) / len(both)
