"""Intervals and rates of attacks: against plain definitions, and how often they hold the truth."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from raysynth import risks


def test_a_share_has_wilsons_interval() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I: 81 of
    # 263 gives 0.2553 to 0.3662, 15 of 148 gives 0.0624 to 0.1605, 0 of 20 gives 0 to 0.1611.
    for successes, tried, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = risks.share(successes, tried)
        assert found == pytest.approx((successes / tried, low, high), abs=5e-5)
    assert risks.share(0, 20) == pytest.approx((0, 0, 0.1611), abs=5e-5)
    assert risks.share(20, 20) == pytest.approx((1, 0.8389, 1), abs=5e-5)
    assert risks.share(0, 0) == (0, 0, 1)


def test_an_area_is_that_of_scikit_learn_ties_and_all() -> None:
    g = np.random.default_rng(0)
    members, others = g.integers(1, 9, 300).astype(float), g.integers(0, 8, 200).astype(float)
    found = risks.auc(members, others)
    truth = np.repeat([1, 0], [300, 200])
    wanted = roc_auc_score(truth, np.concatenate([members, others]))
    assert found.value == pytest.approx(wanted, abs=1e-12)
    assert found.low < found.value < found.high


def test_an_areas_interval_holds_the_truth_as_often_as_it_says() -> None:
    g, held = np.random.default_rng(1), 0
    truth = 0.7602499  # of normals one apart: Phi(1 / sqrt 2)
    for _ in range(400):
        found = risks.auc(g.normal(1, 1, 80), g.normal(0, 1, 120))
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_perfectly_told_apart_leaves_room_below_and_none_above() -> None:
    found = risks.auc(np.arange(10.0) + 100, np.arange(10.0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.6 < found.low < 0.8
    assert risks.auc(np.ones(5), np.ones(5)).value == 0.5


def test_rates_are_those_of_the_roc_curve() -> None:
    g = np.random.default_rng(2)
    members, others = g.normal(1, 1, 500), g.normal(0, 1, 1000)
    scores = np.concatenate([members, others])
    false, true, _ = roc_curve(np.repeat([1, 0], [500, 1000]), scores, drop_intermediate=False)
    for rate in (0.0, 0.001, 0.01, 0.1, 1.0):
        wanted = true[false <= rate + 1e-12].max()
        assert risks.true_rate(members, others, rate) == pytest.approx(wanted)
    curve = risks.roc(members, others)
    assert len(curve) == 104
    assert [false for false, _ in curve[:5]] == [0.0, 0.001, 0.002, 0.005, 0.01]
    assert [false for false, _ in risks.roc(members, others[:300])[:3]] == [0.0, 0.005, 0.01]
    assert curve[-1] == (1.0, 1.0)
    assert all(one[1] <= other[1] for one, other in itertools.pairwise(curve))


def test_rows_that_score_alike_are_not_told_apart_by_order() -> None:
    assert risks.true_rate(np.ones(10), np.ones(10), 0.5) == 0.0


def newcombe(one: int, tried: int, other: int, other_tried: int) -> tuple[float, float]:
    """The interval of the difference of two shares by his method 10."""
    first, second = risks.share(one, tried), risks.share(other, other_tried)
    apart = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return apart - low, apart + high


def over(one: int, tried: int, other: int, other_tried: int) -> risks.Interval:
    return risks.residual(risks.share(one, tried), risks.share(other, other_tried))


def test_a_residual_is_over_the_control_and_agrees_with_the_difference() -> None:
    # 56 of 70 against 48 of 80 gives 0.0524 to 0.3339 by method 10: table II of Newcombe, "Interval
    # estimation for the difference between independent proportions" (1998).
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert over(56, 70, 48, 80).value == pytest.approx((0.8 - 0.6) / 0.4)
    g = np.random.default_rng(0)
    for _ in range(500):
        tried, other_tried = (int(n) for n in g.integers(5, 200, 2))
        one, other = int(g.integers(0, tried + 1)), int(g.integers(0, other_tried))
        found = over(one, tried, other, other_tried)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert (found.low > 0) == (newcombe(one, tried, other, other_tried)[0] > 1e-12)
        assert (found.high > 0) == (newcombe(one, tried, other, other_tried)[1] > 1e-12)


def test_a_residuals_interval_holds_the_truth_as_often_as_it_says() -> None:
    g = np.random.default_rng(1)
    for share, control in ((0.3, 0.1), (0.9, 0.5), (0.05, 0.01)):
        truth, held = (share - control) / (1 - control), 0
        for _ in range(1000):
            found = over(g.binomial(150, share), 150, g.binomial(100, control), 100)
            held += found.low <= truth <= found.high
        assert 0.93 <= held / 1000 <= 0.99, (share, control)


def test_a_residual_at_its_ends() -> None:
    assert over(0, 100, 0, 100).value == 0
    assert over(0, 100, 0, 100).low == 0
    assert over(100, 100, 0, 100).value == 1
    assert over(100, 100, 0, 100).low > 0.9
    assert over(0, 100, 90, 100) == (0, 0, 0), "less than strangers is nothing learned"
    for nothing in ((9, 10, 10, 10), (0, 0, 1, 10), (1, 10, 0, 0)):
        assert over(*nothing) == (0, 0, 1)


def test_membership_has_rates_with_ends_and_is_skipped_for_few() -> None:
    g = np.random.default_rng(2)
    members, others = g.normal(1, 1, 500), g.normal(0, 1, 1000)
    risk = risks.membership("one", members, others, "a note")
    assert (risk.value, risk.low, risk.high) == risks.auc(members, others)
    for label, rate in (("1pct", 0.01), ("0.1pct", 0.001)):
        value, low, high = (risk.details[f"tpr_at_{label}{end}"] for end in ("", "_low", "_high"))
        assert value == pytest.approx(risks.true_rate(members, others, rate))
        assert low < value < high
    assert risk.curve == risks.roc(members, others)
    few = risks.membership("one", members[:29], others, "a note")
    assert few.skipped
    assert (few.value, few.low, few.high, few.chance, few.tried) == (0.5, 0, 1, 0.5, 0)


def test_a_residual_risk_is_anonymeters() -> None:
    # `EvaluationResults.risk` of Anonymeter 1.1.0: attempts, successes of main and control.
    for tried, main, control, *wanted in (
        (1000, 650, 300, 0.498632, 0.451784, 0.54548),
        (100, 10, 12, 0.0, 0.0, 0.079991),
        (500, 499, 500, 0.0, 0.0, 1.0),
        (2000, 0, 0, 0.0, 0.0, 0.001357),
        (200, 5, 200, 0.0, 0.0, 1.0),
    ):
        found = risks.residual(risks.share(main, tried), risks.share(control, tried))
        # Anonymeter shrinks both shares towards a half, and propagates their errors as if normal.
        assert found == pytest.approx(wanted, abs=5e-3)


def test_a_residual_risks_interval_holds_the_truth_as_often_as_it_says() -> None:
    g, held = np.random.default_rng(3), 0
    for _ in range(1000):
        main, control = (int(g.binomial(300, rate)) for rate in (0.6, 0.3))
        found = risks.residual(risks.share(main, 300), risks.share(control, 300))
        held += found.low <= (0.6 - 0.3) / 0.7 <= found.high
    assert 0.93 <= held / 1000 <= 0.97


def test_the_worst_of_several_has_a_wider_interval_that_holds_for_all() -> None:
    g, held = np.random.default_rng(4), 0
    for _ in range(500):
        several = [risks.Attempts(400, *g.binomial(400, [0.3, 0.3, 0.1])) for _ in range(8)]
        held += all(one.residual(8).low == 0 for one in several)
    # Of no residual at all the interval is left above alone, half of 5 %.
    assert held / 500 >= 0.95
    assert risks.share(5, 100, 8).low < risks.share(5, 100).low
    assert risks.share(5, 100, 8).high > risks.share(5, 100).high


def test_a_risk_that_was_not_tried_excludes_nothing() -> None:
    risk = risks.skipped("some", "risk", "How to read it.", "needs at least 100 rows")
    assert (risk.value, risk.low, risk.high, risk.chance, risk.tried) == (0, 0, 1, 0, 0)
    assert risk.skipped == "needs at least 100 rows"
