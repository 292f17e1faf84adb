"""How near a model's rows are to held-out ones, on codes and cheaply: told while it trains.

Figures, all in [0, 1], best at 1 unless noted:

- `marginals`: mean over columns of 1 less the total variation between the two tables' shares;
- `pairs`: the same over pairs of columns, `PAIRS` of them;
- `detection`: the area under the ROC curve of small boosted trees that tell the tables apart, each
  row scored by a half of the forest that has not seen it; 0.5 is chance;
- `coverage`: the share of indices held by `SEEN` held-out rows or more that the model draws at all;
- `repeats`: the share of drawn rows that repeat another, less that of held-out ones; best at 0.

`fidelity` is one number of them, the mean of marginals, pairs, coverage and 2 (1 - detection); 1
means that nothing here tells the model's rows from rows it never saw. It ranks the weights of one
training. It does not compare tables, or replace a report (`judge`): scalars are cut to tenths.

Shapes: B rows, D columns.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from raysynth.layout import Codes, ColumnSpans, Layout

ROWS = 2_000
FEWEST = 200  # held-out rows under which figures say more of chance than of the model
PAIRS = 60
TENTHS = 10
SEEN = 5
LARGEST = 20  # symbols told apart in a pair
TREES = 30

Ints = NDArray[np.int64]


def figures(layout: Layout, held: Codes, drawn: Codes) -> dict[str, float]:
    """All of the above, of as many drawn rows (B) as held-out ones."""
    held, drawn = (_plain(layout, codes) for codes in (held, drawn))
    symbols = [_symbols(column, held, drawn) for column in layout.columns]
    marginals = float(np.mean([_overlap(*pair) for pair in symbols]))
    pairs = _pairs(symbols) if len(symbols) > 1 else marginals
    detection = _detection(layout, held, drawn)
    coverage = _coverage(layout, held, drawn)
    told = {"marginals": marginals, "pairs": pairs, "detection": detection, "coverage": coverage}
    fidelity = (marginals + pairs + coverage + 2 * (1 - detection)) / 4
    return {"fidelity": fidelity, **told, "repeats": max(0.0, _repeats(drawn) - _repeats(held))}


def _plain(layout: Layout, codes: Codes) -> Codes:
    """Codes on this side, scalars 0 where they say nothing: decoded, they would tell nobody."""
    codes = Codes(codes.indices.cpu(), codes.scalars.cpu().clone())
    for column in layout.columns:
        if column.scalar is not None:
            codes.scalars[:, column.scalar.slot] *= column.says(column.index(codes))
    return codes


def _symbols(column: ColumnSpans, held: Codes, drawn: Codes) -> tuple[Ints, Ints]:
    """Index, and tenth of the held-out rows' scalars, as one whole number a row."""
    found = [column.index(codes).numpy() for codes in (held, drawn)]
    if column.scalar is None:
        return found[0], found[1]
    scalars = [codes.scalars[:, column.scalar.slot].double().numpy() for codes in (held, drawn)]
    says = [column.says(torch.from_numpy(index)).numpy() for index in found]
    cuts = np.empty(0)
    if says[0].any():
        cuts = np.unique(np.quantile(scalars[0][says[0]], np.linspace(0, 1, TENTHS + 1)[1:-1]))
    one, other = (
        index * TENTHS + np.where(said, np.searchsorted(cuts, scalar), 0)
        for index, said, scalar in zip(found, says, scalars, strict=True)
    )
    return one, other


def _overlap(held: Ints, drawn: Ints) -> float:
    """1 less the total variation between the shares of both."""
    size = int(max(held.max(), drawn.max())) + 1
    shares = [np.bincount(side, minlength=size) / len(side) for side in (held, drawn)]
    return float(np.minimum(*shares).sum())


def _pairs(symbols: list[tuple[Ints, Ints]]) -> float:
    few = [_fewer(*pair) for pair in symbols]
    count = len(few)
    chosen = np.random.default_rng(0).permutation(count * (count - 1) // 2)[:PAIRS]
    first, second = np.triu_indices(count, 1)
    return float(
        np.mean(
            [
                _overlap(*(a * LARGEST + b for a, b in zip(few[i], few[j], strict=True)))
                for i, j in zip(first[chosen], second[chosen], strict=True)
            ]
        )
    )


def _fewer(held: Ints, drawn: Ints) -> tuple[Ints, Ints]:
    """The commonest symbols of the held-out rows by rank, all others as one."""
    values, counts = np.unique(held, return_counts=True)
    kept = np.sort(values[np.argsort(-counts, kind="stable")][: LARGEST - 1])
    places = [np.searchsorted(kept, side).clip(max=len(kept) - 1) for side in (held, drawn)]
    one, other = (
        np.where(kept[place] == side, place, LARGEST - 1)
        for place, side in zip(places, (held, drawn), strict=True)
    )
    return one, other


def _detection(layout: Layout, held: Codes, drawn: Codes) -> float:
    rows = min(held.rows, drawn.rows)
    x = np.concatenate(
        [
            np.concatenate([codes.indices[:rows].numpy(), codes.scalars[:rows].numpy()], axis=1)
            for codes in (held, drawn)
        ]
    ).astype(np.float64)
    y, half = np.repeat([0, 1], rows), np.arange(2 * rows) % 2 == 0
    chances = np.empty(2 * rows)
    for fit in (half, ~half):
        model = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=0)
        with threadpool_limits(1):  # sums that several threads share are rounded in another order
            chances[~fit] = model.fit(x[fit], y[fit]).predict_proba(x[~fit])[:, 1]
    return max(0.5, float(roc_auc_score(y, chances)))


def _coverage(layout: Layout, held: Codes, drawn: Codes) -> float:
    common = missed = 0
    for span in layout.choices:
        counts = [
            codes.indices[:, span.slot].long().bincount(minlength=span.size)
            for codes in (held, drawn)
        ]
        there = counts[0] >= SEEN
        common += int(there.sum())
        missed += int((there & (counts[1] == 0)).sum())
    return 1 - missed / common if common else 1.0


def _repeats(codes: Codes) -> float:
    """The share of rows that are an earlier one's equals."""
    both = np.concatenate([codes.indices.numpy().astype(np.float64), codes.scalars.numpy()], axis=1)
    return 1 - len(np.unique(both, axis=0)) / len(both)
