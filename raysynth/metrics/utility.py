"""Utility: does a model learned from synthetic rows work on real ones?

Train on synthetic, test on real (Esteban, Hyland & Raetsch, 2017, arXiv 1706.02633) with
gradient-boosted trees: a classifier where the target is a category or boolean, a regressor where
it is a number. Rows whose target is missing are left out on both sides.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from raysynth.frames import Floats, Integers, codes, features, floats, learnable, missing, pooled
from raysynth.schema import Schema

CLASSES = 10  # a learner grows one tree a class and round: the rarest classes are pooled


@dataclass(frozen=True)
class Utility:
    """`score` in `unit`; `f1` of the minority class (two classes) or macro (more), else None."""

    unit: Literal["AUC", "R2"]
    score: float
    f1: float | None


def default_target(schema: Schema) -> str:
    """The last category or boolean column; the last column where there is none."""
    classes = [column.name for column in schema.columns if not column.measured]
    return (classes or list(schema.names))[-1]


def score(
    train: pa.Table,
    test: pa.Table,
    schema: Schema,
    target: str,
    generator: np.random.Generator,
) -> Utility:
    """Fit on `train` (synthetic), score on `test` (real).

    AUC is one-vs-rest, the mean over the classes of `test`; a class that `train` lacks has
    probability 0. R2 is 1 for a perfect prediction, 0 for the mean, less for worse. Where there is
    nothing to learn (a constant target, no rows with a target, no other column), the score is that
    of chance: AUC 0.5, R2 0. More than `CLASSES` classes: the rarest in both tables are one.
    Raises `TableError` where the schema has no column `target`.
    """
    number = schema[target].measured
    (x, test_x), categories = features([train, test], schema, without=target)
    options = {
        "categorical_features": categories,
        "early_stopping": False,
        "random_state": int(generator.integers(2**31)),
    }
    if number:
        y, test_y = floats(train, target), floats(test, target)
        kept, test_kept = ~np.isnan(y), ~np.isnan(test_y)
        data = (x[kept], y[kept], test_x[test_kept], test_y[test_kept])
        return Utility("R2", _regression(*data, options), None)
    (y_code, test_code), size = pooled(*codes([train, test], target), keep=CLASSES)
    kept, test_kept = ~missing(train, target), ~missing(test, target)
    probabilities = _classify(x[kept], y_code[kept], test_x[test_kept], size, options)
    truth = test_code[test_kept]
    return Utility("AUC", _auc(truth, probabilities), _f1(truth, probabilities.argmax(axis=1)))


def _regression(
    x: Floats, y: Floats, test_x: Floats, test_y: Floats, options: dict[str, object]
) -> float:
    if not x.shape[1] or not len(test_y) or len(np.unique(y)) < 2:
        return 0.0
    # R2 does not change when both sides are scaled, and squares of large targets do not overflow.
    scale = float(np.abs(np.concatenate([y, test_y])).max())
    y, test_y = y / scale, test_y / scale
    spread = float(np.square(test_y - test_y.mean()).sum())
    if spread == 0:
        return 0.0
    x, test_x = learnable(x, test_x)
    # One thread, and overflows let be, for the reasons that detection gives.
    with threadpool_limits(1), np.errstate(over="ignore"):
        guess = HistGradientBoostingRegressor(**options).fit(x, y).predict(test_x)
    return 1.0 - float(np.square(test_y - guess).sum()) / spread


def _classify(
    x: Floats, y: Integers, test_x: Floats, size: int, options: dict[str, object]
) -> Floats:
    """Probabilities of each class, (B, `size`); all the same in every row if none was learned."""
    classes = np.unique(y)
    probabilities = np.zeros((len(test_x), size))
    if len(classes) < 2 or not x.shape[1] or not len(test_x):
        probabilities[:, classes[:1]] = 1.0
        return probabilities
    x, test_x = learnable(x, test_x)
    with threadpool_limits(1), np.errstate(over="ignore"):
        model = HistGradientBoostingClassifier(**options).fit(x, y)
        probabilities[:, model.classes_] = model.predict_proba(test_x)
    return probabilities


def _auc(truth: Integers, probabilities: Floats) -> float:
    classes = np.unique(truth)
    if len(classes) < 2:
        return 0.5
    return float(np.mean([roc_auc_score(truth == k, probabilities[:, k]) for k in classes]))


def _f1(truth: Integers, guess: NDArray[np.intp]) -> float:
    """F1 of the rarer class where `truth` has two (or one), else the mean over its classes."""
    classes, counts = np.unique(truth, return_counts=True)
    if not len(classes):
        return 0.0
    asked = classes[[counts.argmin()]] if len(classes) == 2 else classes
    return float(np.mean([_f1_of(truth == k, guess == k) for k in asked]))


def _f1_of(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    # At least one row of the class is in `truth`, so the denominator is never 0.
    return float(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
