"""Detection: can a classifier tell synthetic rows from real ones?

The classifier two-sample test (Lopez-Paz & Oquab, 2017, "Revisiting Classifier Two-Sample Tests",
ICLR): equal numbers of real and synthetic rows, each row scored by a model that was fitted without
it (three folds), and the area under the ROC curve of those scores. Two classifiers:

- `trees`: gradient-boosted, which see any relation;
- `logistic`: logistic regression over scaled numbers and one-hot categories, which sees columns one
  by one: those shuffled to have no relation escape it. So is SDMetrics' LogisticDetection, whose
  score, 2 (1 - AUC), most papers report. Missing numbers are the mean beside an indicator, as in
  `raysynth.points`; of a column's categories all but the most frequent are one (`CATEGORIES`).

The interval is DeLong's (`raysynth.risks`) over the scores of all rows. It is that of the
classifiers that were fitted: that other rows would have fitted others is not in it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from raysynth.frames import Floats, Integers, features, learnable, pooled, subsample
from raysynth.points import points
from raysynth.risks import Interval
from raysynth.risks import auc as delong
from raysynth.schema import Schema
from raysynth.threads import single

FOLDS = 3
CATEGORIES = 100

Classifier = Literal["trees", "logistic"]
Learner = Callable[[Any, Integers, Any], NDArray[np.float64]]  # scores of the rows held out


def auc(
    real: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    generator: np.random.Generator,
    rows: int = 20_000,
    classifier: Classifier = "trees",
) -> float:
    """The value of `interval`."""
    return interval(real, synthetic, schema, generator, rows, classifier).value


def interval(
    real: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    generator: np.random.Generator,
    rows: int = 20_000,
    classifier: Classifier = "trees",
) -> Interval:
    """Out-of-fold AUC in [0.5, 1]: 0.5 is indistinguishable, 1 perfectly told apart.

    At most `rows` of each table are drawn, as many of one as of the other; each holds at least
    three. An AUC under 0.5 is reported as 0.5: it is chance, or synthetic rows that copy real
    ones, so that a model has seen the row it scores with the other answer (`copies` finds those).
    """
    rows = min(rows, real.num_rows, synthetic.num_rows)
    tables = [subsample(table, rows, generator) for table in (real, synthetic)]
    state = int(generator.integers(2**31))
    x, learner = _CLASSIFIERS[classifier](tables, schema, state)
    y = np.repeat([0, 1], rows)
    scores = np.empty(len(y))
    with single():
        for fit, held in StratifiedKFold(FOLDS, shuffle=True, random_state=state).split(y, y):
            scores[held] = learner(x[fit], y[fit], x[held])
    return Interval(*(max(0.5, end) for end in delong(scores[rows:], scores[:rows])))


def _trees(tables: Sequence[pa.Table], schema: Schema, state: int) -> tuple[Floats, Learner]:
    matrices, categories = features(tables, schema)

    def learner(x: Floats, y: Integers, held: Floats) -> Floats:
        x, held = learnable(x, held)
        model = HistGradientBoostingClassifier(
            categorical_features=categories, early_stopping=False, random_state=state
        )
        # Midpoints between bins near the largest float overflow harmlessly.
        with np.errstate(over="ignore"):
            chances: Floats = model.fit(x, y).predict_proba(held)[:, 1]
        return chances

    return np.concatenate(matrices), learner


def _logistic(tables: Sequence[pa.Table], schema: Schema, _: int) -> tuple[Any, Learner]:
    real, made = points(tables, schema)
    numbers = np.concatenate([real.numbers, made.numbers])
    spreads = numbers.std(axis=0)
    numbers = (numbers - numbers.mean(axis=0)) / np.where(spreads > 0, spreads, 1.0)
    parts = [sparse.csr_array(numbers)]
    for one, other, size in zip(real.codes, made.codes, real.sizes, strict=True):
        (code,), kept = pooled([np.concatenate([one, other])], size, keep=CATEGORIES)
        ones = np.ones(len(code)), (np.arange(len(code)), code)
        parts.append(sparse.csr_array(ones, shape=(len(code), kept)))

    def learner(x: Any, y: Integers, held: Any) -> Floats:
        # Newton's steps settle in a third of the time that L-BFGS takes.
        model = LogisticRegression(solver="newton-cg").fit(x, y)
        scores: Floats = model.decision_function(held)
        return scores

    return sparse.hstack(parts, format="csr"), learner


_CLASSIFIERS = {"trees": _trees, "logistic": _logistic}
