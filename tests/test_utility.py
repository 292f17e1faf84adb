"""What learners make of synthetic rows: order kept or lost, columns leaned on, scores by hand."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from raysynth import frames
from raysynth.importance import common, importances
from raysynth.learners import LEARNERS, Task
from raysynth.metrics import utility
from raysynth.predictions import area, explained, f1, replicates
from raysynth.schema import Schema

ROWS = 600


def people(rows: int, seed: int) -> pa.Table:
    """A target that a number and a category tell of, beside one of neither; some nulls."""
    g = np.random.default_rng(seed)
    x, c, z = g.normal(size=rows), g.choice(["a", "b", "c"], rows), g.normal(size=rows)
    odds = 2 * x + 2.0 * (c == "a") - 1
    target = np.where(g.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no")
    gone = g.random(rows) < 0.1
    return pa.table(
        {
            "x": pa.array(x, mask=gone),
            "c": c,
            "z": z,
            "y": 3 * x + g.normal(size=rows),
            "t": pa.array(target, mask=g.random(rows) < 0.05),
        }
    )


REAL, TRAIN = people(ROWS, 1), people(ROWS, 2)
SCHEMA = Schema.infer(REAL.schema)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def figures(synthetic: pa.Table, target: str = "t") -> dict[str, utility.Figure]:
    floor = frames.permuted(TRAIN, seeded())
    found, _ = utility.compared(synthetic, TRAIN, floor, REAL, SCHEMA, target, 0)
    return {figure.name: figure for figure in found}


def test_training_rows_themselves_keep_order_and_columns() -> None:
    found = figures(TRAIN)
    assert found["utility"].synthetic == found["utility"].ceiling
    assert found["learners"].synthetic == 1.0
    assert found["importance"].synthetic == pytest.approx(1.0)
    assert found["importance"].floor < 0.9
    assert 0.5 < found["importance"].ceiling <= 1.0


def test_a_target_without_relations_loses_both() -> None:
    lost = figures(TRAIN.set_column(4, "t", TRAIN["t"].take(seeded(3).permutation(ROWS))))
    kept = figures(people(ROWS, 4))
    for name in ("utility", "f1", "importance"):
        assert lost[name].synthetic < kept[name].synthetic
    assert kept["learners"].synthetic > lost["learners"].synthetic
    assert lost["utility"].high is not None
    assert kept["utility"].low is not None
    assert lost["utility"].high < kept["utility"].low


def test_numbers_are_predicted_in_r2_and_have_no_f1() -> None:
    found = figures(people(ROWS, 4), "y")
    assert set(found) == {"utility", "learners", "importance"}
    assert found["utility"].unit == "R2"
    assert found["utility"].synthetic > 0.7


def test_every_learner_is_told_in_each_unit_and_a_seed_gives_the_same() -> None:
    floor = frames.permuted(TRAIN, seeded())
    one = utility.compared(people(ROWS, 4), TRAIN, floor, REAL, SCHEMA, "t", 3)
    assert one == utility.compared(people(ROWS, 4), TRAIN, floor, REAL, SCHEMA, "t", 3)
    names = [learner.name for learner in LEARNERS]
    assert [(one.name, one.unit) for one in one[1]] == [
        (name, unit) for unit in ("AUC", "F1") for name in names
    ]
    assert all(one.ceiling is not None and 0 <= one.synthetic <= 1 for one in one[1])
    assert all(one.synthetic > one.floor for one in one[1] if one.unit == "AUC")


def test_without_training_rows_there_is_no_order_to_keep() -> None:
    floor = frames.permuted(TRAIN, seeded())
    found, learners = utility.compared(TRAIN, None, floor, REAL, SCHEMA, "t", 0)
    assert [figure.name for figure in found] == ["utility", "f1"]
    assert all(learner.ceiling is None for learner in learners)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows_are_no_trouble(rows: int) -> None:
    few = TRAIN.slice(0, rows)
    for target in ("t", "y"):
        for side in ((few, REAL), (TRAIN, few)):
            found = utility.learned(*side, SCHEMA, target, seeded())
            assert all(np.isfinite(value) for value in found.values.values())


def test_the_order_of_learners_by_hand() -> None:
    reference = {"a": 0.9, "b": 0.8, "c": 0.7}
    assert utility.kept(reference, reference) == 1.0
    assert utility.kept({"a": 1, "b": 2, "c": 3}, reference) == -1.0
    assert utility.kept({"a": 2, "b": 3, "c": 1}, reference) == pytest.approx(1 / 3)
    assert utility.kept({"a": 2, "b": 2, "c": 1}, reference) == pytest.approx(2 / 3)
    assert utility.kept({"a": 1, "b": 2, "c": 3}, dict.fromkeys("abc", 0.5)) == 1.0


def test_importances_by_hand() -> None:
    x = seeded().normal(size=(500, 3))

    def measure(asked: np.ndarray) -> float:
        return float(-np.square(asked[:, 0] - x[:, 0] + 0.1 * (asked[:, 1] - x[:, 1])).mean())

    falls = importances(measure, x, seeded())
    # A shuffled column differs from itself by twice its variance.
    assert falls == pytest.approx([2.0, 0.02, 0.0], rel=0.2)
    assert common(falls, falls) == pytest.approx(1.0)
    assert common(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == 0.0
    assert common(np.array([1.0, 1.0]), np.array([3.0, 1.0])) == pytest.approx(0.75)
    assert common(np.zeros(2), np.zeros(2)) == 1.0
    assert common(np.array([-1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


def test_scores_are_scikit_learns() -> None:
    g = seeded()
    truth = g.integers(3, size=200)
    probabilities = g.dirichlet([1, 1, 1], 200) + 0.3 * np.eye(3)[truth]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = area(truth, probabilities)
    wanted = roc_auc_score(truth, probabilities, multi_class="ovr")
    assert found.value == pytest.approx(wanted)
    guess, weights = probabilities.argmax(axis=1), replicates(200, g)
    assert f1(truth, guess, weights).value == pytest.approx(f1_score(truth, guess, average="macro"))
    y = g.normal(size=200)
    near = y + g.normal(size=200)
    assert explained(y, near, weights).value == pytest.approx(r2_score(y, near))
    for one in (found, f1(truth, guess, weights), explained(y, near, weights)):
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of guesses of one quality on 100 rows, against that of a great many."""
    g, held = seeded(), {"area": 0, "r2": 0}

    def drawn(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = g.integers(2, size=rows)
        score = 1 / (1 + np.exp(-(2 * truth - 1 + 1.5 * g.normal(size=rows))))
        return truth, np.stack([1 - score, score], axis=1), g.normal(size=rows)

    def measured(rows: int) -> dict[str, utility.Measured]:
        truth, probabilities, y = drawn(rows)
        weights = replicates(rows, g) if rows < 1000 else np.empty((0, rows))
        return {
            "area": area(truth, probabilities),
            "r2": explained(y, y + 0.7 * g.normal(size=rows), weights),
        }

    true = measured(100_000)
    for _ in range(300):
        for name, one in measured(100).items():
            held[name] += one.low <= true[name].value <= one.high
    assert 0.9 <= held["area"] / 300 <= 0.99
    assert 0.88 <= held["r2"] / 300 <= 0.99


def test_a_class_that_training_rows_lack_has_no_probability() -> None:
    lacking = TRAIN.filter(pa.compute.equal(TRAIN["t"], "no"))
    task = Task.of(lacking, REAL, SCHEMA, "t")
    for learner in LEARNERS:
        guess = learner.predictions(task, seeded())
        assert guess.shape == (len(task.truth), 2)
        assert set(guess.sum(axis=1)) == {1.0}
        assert area(task.truth, guess).value == 0.5
