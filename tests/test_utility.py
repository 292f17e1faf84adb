"""What learners make of synthetic rows: order kept or lost, columns leaned on, scores by hand."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from raysynth import frames
from raysynth.figures import Learner
from raysynth.importance import agreement, common, importances
from raysynth.learners import LEARNERS, Task
from raysynth.metrics import utility
from raysynth.predictions import area, explained, f1, replicates
from raysynth.ranking import Scores, kept
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


Compared = tuple[dict[str, utility.Figure], tuple[Learner, ...]]


def compared(synthetic: pa.Table, target: str = "t") -> Compared:
    floor = frames.permuted(TRAIN, seeded())
    found, learners = utility.compared(synthetic, TRAIN, floor, REAL, SCHEMA, target, 0)
    return {figure.name: figure for figure in found}, learners


@pytest.fixture(scope="module")
def good() -> Compared:
    return compared(people(ROWS, 4))


@pytest.fixture
def few_learners(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of boosted trees, one linear, one tree: what is asked does not depend on how many."""
    monkeypatch.setattr(utility, "LEARNERS", (LEARNERS[0], LEARNERS[3], LEARNERS[11]))


def test_training_rows_themselves_keep_order_and_columns() -> None:
    found, _ = compared(TRAIN)
    assert found["utility"].synthetic == found["utility"].ceiling
    for name in ("learners", "importance"):
        # The same answers to the same rows, whichever rows those are.
        assert found[name].low == pytest.approx(1.0)
        assert found[name].synthetic == pytest.approx(1.0)
        assert found[name].high == pytest.approx(1.0)
    assert abs(found["learners"].floor) < 0.5
    assert found["importance"].floor < 0.9
    assert 0.5 < found["importance"].ceiling <= 1.0


def test_a_target_without_relations_loses_both(good: Compared) -> None:
    shuffled = TRAIN["t"].take(seeded(3).permutation(ROWS))
    (lost, _), (kept, _) = compared(TRAIN.set_column(4, "t", shuffled)), good
    for name in ("utility", "f1", "importance"):
        assert lost[name].synthetic < kept[name].synthetic
    for name in ("utility", "learners", "importance"):
        assert lost[name].high is not None
        assert kept[name].low is not None
        assert lost[name].high < kept[name].low
    assert lost["utility"].synthetic == pytest.approx(lost["utility"].floor, abs=0.1)


@pytest.mark.usefixtures("few_learners")
def test_numbers_are_predicted_in_r2_and_have_no_f1() -> None:
    found, _ = compared(people(ROWS, 4), "y")
    assert set(found) == {"utility", "learners", "importance"}
    assert found["utility"].unit == "R2"
    assert found["utility"].synthetic > 0.7


def test_every_learner_is_told_in_each_unit(good: Compared) -> None:
    _, told = good
    names = [learner.name for learner in LEARNERS]
    assert [(one.name, one.unit) for one in told] == [
        (name, unit) for unit in ("AUC", "F1") for name in names
    ]
    assert all(one.ceiling is not None and 0 <= one.synthetic <= 1 for one in told)
    assert all(one.synthetic > one.floor for one in told if one.unit == "AUC")


def test_a_seed_gives_the_same() -> None:
    one, same = (utility.learned(TRAIN.slice(0, 150), REAL, SCHEMA, "t", seeded(3)) for _ in "ab")
    assert one.values == same.values
    assert (one.scores.drawn == same.scores.drawn).all()
    assert (one.scores.apart == same.scores.apart).all()
    assert (one.leaned == same.leaned).all()


@pytest.mark.usefixtures("few_learners")
def test_without_training_rows_there_is_no_order_to_keep() -> None:
    floor = frames.permuted(TRAIN, seeded())
    found, learners = utility.compared(TRAIN, None, floor, REAL, SCHEMA, "t", 0)
    assert [figure.name for figure in found] == ["utility", "f1"]
    assert all(learner.ceiling is None for learner in learners)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows_are_no_trouble(rows: int) -> None:
    few, more = TRAIN.slice(0, rows), TRAIN.slice(0, 100)
    for target in ("t", "y"):
        for side in ((few, more), (more, few)):
            found = utility.learned(*side, SCHEMA, target, seeded())
            assert all(np.isfinite(value) for value in found.values.values())


def ranked(values: list[float], spread: float = 0.01, rows: int = 400) -> Scores:
    """Learners whose scores rows move on their own, each with a standard error of `spread`."""
    moves = seeded(1).normal(size=(len(values), rows))
    moves -= moves.mean(axis=1, keepdims=True)
    moves *= spread / np.sqrt(np.square(moves).sum(axis=1, keepdims=True))
    return Scores.of(np.array(values), moves, replicates(rows, seeded(2)))


def order(one: list[float], reference: list[float]) -> float:
    found = kept(ranked(one), ranked(reference))
    assert found is not None
    assert -1 <= found.low <= found.value <= found.high <= 1
    return found.value


def test_the_order_of_learners_by_hand() -> None:
    reference = [0.9, 0.8, 0.7]
    assert order(reference, reference) == 1.0
    assert order([0.1, 0.2, 0.3], reference) == -1.0
    assert order([0.2, 0.3, 0.1], reference) == pytest.approx(1 / 3)
    assert order([0.2, 0.2, 0.1], reference) == pytest.approx(2 / 3)


def test_an_order_that_rows_do_not_tell_is_not_lost() -> None:
    # Two learners with standard errors of 0.01 are told apart from 0.028 on.
    reference = [0.9, 0.8, 0.7]
    assert order([0.80, 0.82, 0.7], reference) == pytest.approx(2 / 3)
    assert order([0.80, 0.85, 0.7], reference) == pytest.approx(1 / 3)
    assert order([0.80, 0.82, 0.7], [0.82, 0.80, 0.7]) == 1.0
    assert kept(ranked(reference), ranked([0.80, 0.81, 0.82])) is None
    # Two that rows move alike differ by what they differ.
    moves = np.tile(ranked([0.5]).drawn[:1], (2, 2)) * [[0.01, -0.01]]
    alike = Scores.of(np.array([0.8, 0.801]), moves, replicates(2, seeded()))
    assert set(alike.signs[:, 0]) == {-1.0}


def test_an_order_that_is_lost_is_found_out() -> None:
    """Trees see that two columns go together, stumps do not; synthetic rows have it otherwise."""
    g, rows = seeded(), 2_000
    x, y, extra = g.choice([-1.0, 1.0], (2, rows)), g.random(rows) < 0.9, g.normal(size=rows)
    odd, plain = x[0] * x[1] > 0, x[0] > 0
    tables = [
        pa.table({"a": x[0], "b": x[1], "z": extra, "t": np.where(y, one, ~one)})
        for one in (odd, plain)
    ]
    schema = Schema.infer(tables[0].schema)
    both = [
        utility.learned(table.slice(0, 1_000), tables[0].slice(1_000), schema, "t", seeded())
        for table in tables
    ]
    found = kept(both[1].scores, both[0].scores)
    assert found is not None
    assert found.high < 0.5
    assert found.low < 0.2


def test_importances_by_hand() -> None:
    x = seeded().normal(size=(500, 3))

    def measure(asked: np.ndarray) -> utility.Measured:
        lost = -np.square(asked[:, 0] - x[:, 0] + 0.1 * (asked[:, 1] - x[:, 1]))
        return utility.Measured(float(lost.mean()), moves=(lost - lost.mean()) / len(lost))

    drawn = importances(np.copy, measure, x, seeded(), replicates(500, seeded()))
    falls = drawn[0]
    # A shuffled column differs from itself by twice its variance.
    assert falls == pytest.approx([2.0, 0.02, 0.0], rel=0.2)
    assert drawn[1:].mean(axis=0) == pytest.approx(falls, abs=0.1)
    assert 0.02 < drawn[1:, 0].std() < 0.2
    assert (drawn[:, 2] == 0).all()
    other = drawn[:, ::-1]
    assert agreement(drawn, drawn) == pytest.approx((1.0, 1.0, 1.0))
    assert agreement(other, drawn).high < 0.05
    assert agreement(drawn, np.zeros((101, 3))) is None
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


def test_what_a_row_moves_a_score_is_what_leaving_it_out_does() -> None:
    g, rows = seeded(), 400
    truth = g.integers(3, size=rows)
    guess = g.dirichlet([1, 1, 1], rows) + 0.3 * np.eye(3)[truth]
    y = g.normal(size=rows)
    near, two = y + g.normal(size=rows), np.minimum(truth, 1)
    halves = np.stack([guess[:, 0], 1 - guess[:, 0]], axis=1)
    for score, pair in (
        (area, (truth, guess)),
        (area, (two, halves)),
        (lambda *sides: explained(*sides, np.empty((0, len(sides[0])))), (y, near)),
    ):
        whole = score(*pair)
        left = [score(*(np.delete(side, row, axis=0) for side in pair)).value for row in range(40)]
        assert whole.value - np.array(left) == pytest.approx(whole.moves[:40], rel=0.05, abs=1e-5)
        assert whole.moves.sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.usefixtures("few_learners")
@pytest.mark.parametrize("side", ["real", "synthetic", "train"])
@pytest.mark.parametrize("column", ["t", "y"])
def test_a_target_of_one_value_is_no_trouble(side: str, column: str) -> None:
    place = TRAIN.column_names.index(column)
    one = pa.array([TRAIN[column][0].as_py() or 0.0] * 200, TRAIN.schema.field(column).type)
    tables = {"synthetic": people(200, 4), "train": TRAIN.slice(0, 200), "real": REAL.slice(0, 200)}
    tables[side] = tables[side].set_column(place, column, one)
    floor = frames.permuted(tables["train"], seeded())
    found, learners = utility.compared(
        *(tables["synthetic"], tables["train"], floor, tables["real"], SCHEMA, column, 0)
    )
    named = {figure.name: figure for figure in found}
    # Learners of training rows that all answer alike have no order, and need no column.
    assert ("importance" in named) == (side == "synthetic")
    assert "learners" not in named or side == "synthetic"
    chance = 0.5 if column == "t" else 0.0
    if side != "train":
        assert named["utility"].synthetic == chance
    else:
        assert named["utility"].ceiling == chance
    assert len(learners) == 3 * (2 if column == "t" else 1)
    assert all(np.isfinite([one.synthetic, one.ceiling, one.floor]).all() for one in learners)


def test_many_words_and_missing_cells_are_no_trouble() -> None:
    g, rows = seeded(), 120
    words = np.array([f"word {place}" for place in range(rows)])
    table = pa.table(
        {
            "w": pa.array(g.choice(words, rows), mask=g.random(rows) < 0.3),
            "gone": pa.nulls(rows, pa.float64()),
            "v": pa.array(g.choice(words, rows)),
        }
    )
    schema = Schema.infer(table.schema)
    for target in ("w", "gone"):
        found = utility.learned(table, table, schema, target, seeded())
        assert all(np.isfinite(value) for value in found.values.values())
        assert np.isfinite(found.leaned).all()
        assert np.isfinite(found.scores.drawn).all()
