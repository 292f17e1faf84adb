"""Detection: can a classifier tell synthetic rows from real ones?

The classifier two-sample test (Lopez-Paz & Oquab, 2017, "Revisiting Classifier Two-Sample Tests",
ICLR) with gradient-boosted trees: equal numbers of real and synthetic rows, each row scored by a
model that was fitted without it (three folds), and the area under the ROC curve of those scores.
"""

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from raysynth.frames import features, learnable, subsample
from raysynth.schema import Schema

FOLDS = 3


def auc(
    real: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    generator: np.random.Generator,
    rows: int = 20_000,
) -> float:
    """Out-of-fold AUC in [0.5, 1]: 0.5 is indistinguishable, 1 perfectly told apart.

    At most `rows` of each table are drawn, as many of one as of the other; each holds at least
    three. An AUC under 0.5 is reported as 0.5: it is chance, or synthetic rows that copy real
    ones, so that a model has seen the row it scores with the other answer (`copies` finds those).
    """
    rows = min(rows, real.num_rows, synthetic.num_rows)
    tables = [subsample(table, rows, generator) for table in (real, synthetic)]
    matrices, categories = features(tables, schema)
    x, y = np.concatenate(matrices), np.repeat([0, 1], rows)
    state = int(generator.integers(2**31))
    chances = np.empty(len(y))
    for fit, held in StratifiedKFold(FOLDS, shuffle=True, random_state=state).split(x, y):
        fit_x, held_x = learnable(x[fit], x[held])
        model = HistGradientBoostingClassifier(
            categorical_features=categories, early_stopping=False, random_state=state
        )
        # One thread: sums that several share are rounded in another order on another machine.
        # Midpoints between bins near the largest float overflow harmlessly.
        with threadpool_limits(1), np.errstate(over="ignore"):
            chances[held] = model.fit(fit_x, y[fit]).predict_proba(held_x)[:, 1]
    return max(0.5, float(roc_auc_score(y, chances)))
