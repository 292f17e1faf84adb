"""Learners that are asked what rows teach of a target: six kinds, of two to four settings each.

| name | what it is |
|---|---|
| boosted trees | 100 histogram trees of 31 leaves |
| boosted trees, few | 20 of them |
| boosted stumps | 100 histogram trees of two leaves: columns one by one |
| linear | logistic regression, C = 1; ridge regression, alpha = 1 |
| linear, held less | the same with C = 1 / 33; alpha = 33 |
| linear, held back | the same with C = 0.001; alpha = 1000 |
| forest | 50 random trees, 5 rows a leaf, the root of the columns at each split |
| forest, fine | 50 random trees, a row a leaf |
| forest, shallow | 50 random trees, 6 splits deep |
| tree | one, 50 rows a leaf |
| tree, fine | one, 5 rows a leaf |
| tree, small | one, 4 splits deep |
| tree, smallest | one, 2 splits deep |
| neighbours | the 20 nearest rows, each with one voice |
| neighbours, few | the 5 nearest rows |
| perceptron | one hidden layer of 32, 10 epochs of Adam in batches of 256 |
| perceptron, small | one hidden layer of 4 |
| perceptron, deep | two hidden layers of 32 |

table-GAN (Park et al., 2018, arXiv 1806.03384) compares decision trees, random forests, AdaBoost
and perceptrons. Departures: boosted stumps stand for AdaBoost, which refuses to learn where its
first stump does no better than chance, as it may from independent columns; logistic regression and
neighbours are here too, which see other things; numbers have the same learners as categories.

Boosted ones take columns as they are. The rest take points: numbers less their mean, in standard
deviations of the rows learned from, `FAR` at most; a missing one is the mean, beside an indicator;
categories one-hot, the rarest pooled so that `WIDTH` features are hardly exceeded. The rest also
learn from `ROWS` rows at most, neighbours from half as many: their scores have all but levelled off
there, and the time they take has not.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from raysynth.frames import Floats, codes, features, floats, learnable, missing, pooled
from raysynth.points import Points, points
from raysynth.schema import Schema
from raysynth.threads import single

CLASSES = 10  # a learner grows one tree a class and round: the rarest classes are pooled
ROWS = 10_000
WIDTH = 500
CATEGORIES = 100  # of one column
FAR = 10.0

Predict = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Task:
    """Rows to learn a target from, real rows to try it on; rows without a target are left out.

    `y` (B,) and `truth` (T,) are numbers scaled alike, or codes of the `size` classes. `columns`
    and `points` hold the features of both as `features` gives them and as points.
    """

    y: NDArray[Any]
    truth: NDArray[Any]
    size: int | None  # None for a number
    columns: tuple[Floats, Floats]
    categories: NDArray[np.bool_]
    points: tuple[Floats, Floats]

    @classmethod
    def of(cls, train: pa.Table, test: pa.Table, schema: Schema, target: str) -> "Task":
        """Learn `target` from `train`, try it on `test`. `TableError` if the schema lacks it."""
        number = schema[target].measured
        tables = [table.filter(pa.array(_known(table, target, number))) for table in (train, test)]
        columns, categories = features(tables, schema, without=target)
        size: int | None = None
        y: NDArray[Any]
        truth: NDArray[Any]
        if number:
            # R2 does not change when both sides are scaled, and squares do not overflow.
            numbers = [floats(table, target) for table in tables]
            scale = float(np.abs(np.concatenate(numbers)).max(initial=0.0)) or 1.0
            y, truth = (one / scale for one in numbers)
        else:
            (y, truth), size = pooled(*codes(tables, target), keep=CLASSES)
        if len(y):
            columns = list(learnable(*columns))
        return cls(
            y, truth, size, (columns[0], columns[1]), categories, _seen(tables, schema, target)
        )

    @property
    def hopeless(self) -> bool:
        """Whether there is nothing to learn: no row, a constant target, no other column."""
        width = self.columns[0].shape[1]
        return not len(self.truth) or not width or len(np.unique(self.y)) < 2


@dataclass(frozen=True)
class Method:
    """`make` gives an estimator of scikit-learn for a task and a random state."""

    name: str
    make: Callable[[Task, int], Any]
    rows: int | None = ROWS
    boosted: bool = False

    def predictor(self, task: Task, generator: np.random.Generator) -> Predict:
        """What it learned, as a function of features like those it learned from.

        Of classes it gives probabilities, (B, `size`): 0 for those it never saw. Nothing learned
        is the same answer for every row: the one class there was, or the mean of what is asked.
        """
        state = int(generator.integers(2**31))
        x, y = (task.columns if self.boosted else task.points)[0], task.y
        if self.rows is not None and len(y) > self.rows:
            chosen = np.sort(generator.choice(len(y), self.rows, replace=False))
            x, y = x[chosen], y[chosen]
        if task.hopeless or len(np.unique(y)) < 2:
            return _constant(task)
        if task.size is None:
            return _regressor(self.make(task, state), x, y)
        return _classifier(self.make(task, state), x, y, task.size)

    def predictions(self, task: Task, generator: np.random.Generator) -> Floats:
        """What it says of the task's real rows after learning from the others."""
        return self.predictor(task, generator)(self.asked(task))

    def asked(self, task: Task) -> Floats:
        """The features of the task's real rows, as this learner takes them."""
        return (task.columns if self.boosted else task.points)[1]


def _known(table: pa.Table, target: str, number: bool) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = ~(
        np.isnan(floats(table, target)) if number else missing(table, target)
    )
    return known


def _seen(tables: list[pa.Table], schema: Schema, target: str) -> tuple[Floats, Floats]:
    """Both tables' rows as learners of points take them."""
    others = Schema(tuple(column for column in schema.columns if column.name != target))
    if not tables[0].num_rows or not others.columns:
        return np.empty((tables[0].num_rows, 0)), np.empty((tables[1].num_rows, 0))
    fit, test = points(tables, others)
    middle, spread = fit.numbers.mean(axis=0), fit.numbers.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    keep = max(2, min(CATEGORIES, WIDTH // max(1, len(fit.codes))))
    shared = [
        pooled([one, other], size, keep=keep)
        for one, other, size in zip(fit.codes, test.codes, fit.sizes, strict=True)
    ]

    def matrix(rows: Points, place: int) -> Floats:
        scaled = np.clip((rows.numbers - middle) / spread, -FAR, FAR)
        return np.concatenate([scaled, *(np.eye(size)[both[place]] for both, size in shared)], 1)

    return matrix(fit, 0), matrix(test, 1)


def _constant(task: Task) -> Predict:
    if task.size is None:
        mean = float(task.truth.mean()) if len(task.truth) else 0.0
        return lambda x: np.full(len(x), mean)
    certain = np.zeros(task.size)
    certain[np.unique(task.y)[:1]] = 1.0
    return lambda x: np.tile(certain, (len(x), 1))


def _regressor(model: Any, x: Floats, y: Floats) -> Predict:
    # Learners expect numbers about 1: penalties and steps are of that size.
    middle, spread = y.mean(), y.std() or 1.0
    _fit(model, x, (y - middle) / spread)

    def predict(asked: Floats) -> Floats:
        guess: Floats = _calm(model.predict, asked) * spread + middle
        return guess

    return predict


def _classifier(model: Any, x: Floats, y: NDArray[Any], size: int) -> Predict:
    _fit(model, x, y)

    def predict(asked: Floats) -> Floats:
        probabilities = np.zeros((len(asked), size))
        probabilities[:, model.classes_] = _calm(model.predict_proba, asked)
        return probabilities

    return predict


def _fit(model: Any, *data: Any) -> None:
    with warnings.catch_warnings():
        # One that has not settled in the steps it is given is as good a learner to compare by.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _calm(model.fit, *data)


def _calm(call: Callable[..., Any], *data: Any) -> Any:
    # One thread, and overflows let be, for the reasons that `threads` and detection give.
    with single(), np.errstate(over="ignore"):
        return call(*data)


def _boosted(**options: Any) -> Callable[[Task, int], Any]:
    def make(task: Task, state: int) -> Any:
        kind = (
            HistGradientBoostingRegressor if task.size is None else HistGradientBoostingClassifier
        )
        return kind(
            categorical_features=task.categories,
            early_stopping=False,
            random_state=state,
            **options,
        )

    return make


def _linear(penalty: float) -> Callable[[Task, int], Any]:
    def make(task: Task, _: int) -> Any:
        if task.size is None:
            return Ridge(alpha=penalty, solver="cholesky")
        return LogisticRegression(C=1 / penalty, solver="newton-cg")

    return make


def _forest(**options: Any) -> Callable[[Task, int], Any]:
    def make(task: Task, state: int) -> Any:
        kind = RandomForestRegressor if task.size is None else RandomForestClassifier
        return kind(50, max_features="sqrt", random_state=state, n_jobs=1, **options)

    return make


def _tree(**options: Any) -> Callable[[Task, int], Any]:
    def make(task: Task, state: int) -> Any:
        kind = DecisionTreeRegressor if task.size is None else DecisionTreeClassifier
        return kind(random_state=state, **options)

    return make


def _neighbours(nearest: int) -> Callable[[Task, int], Any]:
    def make(task: Task, _: int) -> Any:
        kind = KNeighborsRegressor if task.size is None else KNeighborsClassifier
        return kind(min(nearest, len(task.y)), algorithm="brute", n_jobs=1)

    return make


def _perceptron(*hidden: int) -> Callable[[Task, int], Any]:
    def make(task: Task, state: int) -> Any:
        kind = MLPRegressor if task.size is None else MLPClassifier
        batch = min(256, len(task.y))
        return kind(hidden_layer_sizes=hidden, max_iter=10, batch_size=batch, random_state=state)

    return make


BOOSTED = Method("boosted trees", _boosted(), rows=None, boosted=True)
LEARNERS = (
    BOOSTED,
    Method("boosted trees, few", _boosted(max_iter=20), boosted=True),
    Method("boosted stumps", _boosted(max_leaf_nodes=2), boosted=True),
    Method("linear", _linear(1.0)),
    Method("linear, held less", _linear(33.0)),
    Method("linear, held back", _linear(1000.0)),
    Method("forest", _forest(min_samples_leaf=5)),
    Method("forest, fine", _forest()),
    Method("forest, shallow", _forest(max_depth=6)),
    Method("tree", _tree(min_samples_leaf=50)),
    Method("tree, fine", _tree(min_samples_leaf=5)),
    Method("tree, small", _tree(max_depth=4)),
    Method("tree, smallest", _tree(max_depth=2)),
    Method("neighbours", _neighbours(20), rows=ROWS // 2),
    Method("neighbours, few", _neighbours(5), rows=ROWS // 2),
    Method("perceptron", _perceptron(32)),
    Method("perceptron, small", _perceptron(4)),
    Method("perceptron, deep", _perceptron(32, 32)),
)
