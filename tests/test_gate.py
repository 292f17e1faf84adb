"""The gate: evidence fails, doubt warns, and what is in doubt is never passed."""

from dataclasses import replace

import pytest

from raysynth.config import GateConfig, TrainConfig
from raysynth.errors import ConfigError
from raysynth.figures import Score, figure
from raysynth.gate import Verdict, decide
from raysynth.risks import Risk

QUIET = Risk("membership_trees", "AUC", 0.51, 0.49, 0.53, 0.5, 2000, "how to read it")
BARS = GateConfig()


def level(*risks: Risk, figures: tuple = (), config: GateConfig = BARS) -> str:
    return decide(risks, figures, config, ()).verdict


def at(value: float, half: float, risk: Risk = QUIET) -> Risk:
    return replace(risk, value=value, low=value - half, high=value + half)


@pytest.mark.parametrize(
    ("value", "half", "wanted"),
    [
        (0.50, 0.02, "pass"),
        (0.50, 0.12, "warn"),  # few rows: it may be anything
        (0.56, 0.01, "warn"),
        (0.62, 0.03, "warn"),  # above the bar, and not surely
        (0.64, 0.03, "fail"),
        (0.99, 0.00, "fail"),
    ],
)
def test_evidence_fails_and_doubt_warns(value: float, half: float, wanted: str) -> None:
    assert level(at(value, half)) == wanted


def test_of_the_worst_of_several_only_the_sure_end_counts() -> None:
    worst = replace(QUIET, name="inference_worst", unit="risk", chance=0.0)
    assert level(at(0.12, 0.12, worst)) == "pass"
    assert (
        "risk at least 0.000 (0.120 measured"
        in decide([at(0.12, 0.12, worst)], (), BARS, ()).reasons[0].said
    )
    assert level(at(0.12, 0.06, worst)) == "warn"
    assert level(at(0.30, 0.12, worst)) == "fail"
    assert level(at(0.12, 0.12, replace(worst, name="inference"))) == "warn"


def test_the_verdict_is_the_worst_and_the_worst_comes_first() -> None:
    risks = [QUIET, at(0.9, 0.01, replace(QUIET, name="membership_density")), at(0.56, 0.01)]
    found = decide(risks, (), BARS, ("That was not tried.",))
    assert found.verdict == "fail"
    assert [reason.level for reason in found.reasons] == ["fail", "warn", "pass"]
    assert found.reasons[0].name == "membership_density"
    assert "works" in found.reasons[0].said
    assert "0.900 (0.890 to 0.910" in found.reasons[0].said
    assert found.untried == ("That was not tried.",)


def test_an_attack_that_could_not_be_made_passes_nothing() -> None:
    skipped = replace(QUIET, low=0.0, high=1.0, skipped="needs at least 100 rows")
    found = decide([skipped], (), BARS, ())
    assert found.verdict == "warn"
    assert "could not be tried (needs at least 100 rows)" in found.reasons[0].said
    without = decide((), (), BARS, ())
    assert without.verdict == "warn"
    assert "No attack was made" in without.reasons[0].said


def test_few_who_are_surely_found_are_enough() -> None:
    """An AUC of 0.5 may hide some who are told without a doubt (Carlini et al., 2022)."""
    rates = {"tpr_at_1pct": 0.09, "tpr_at_1pct_low": 0.07, "tpr_at_1pct_high": 0.11}
    found = decide([replace(QUIET, details=rates)], (), BARS, ())
    assert found.verdict == "fail"
    assert found.reasons[0].name == "membership_trees_rate"


def test_the_model_in_hand_warns_at_most() -> None:
    found = decide([at(0.9, 0.01, replace(QUIET, name="membership_model"))], (), BARS, ())
    assert found.verdict == "warn"
    assert "keep the run where the table is" in found.reasons[0].said


def test_bars_are_the_users() -> None:
    strict = GateConfig(membership=(0.5, 0.5), detection=(0.6, 0.7))
    assert level(at(0.53, 0.01), config=strict) == "fail"
    told = figure("detection", Score(0.75, 0.5, 0.99))
    assert level(QUIET, figures=(told,)) == "pass"
    assert level(QUIET, figures=(told,), config=strict) == "fail"


def test_useless_rows_warn() -> None:
    useless = figure("utility", Score(0.70, 0.92, 0.5), "AUC")
    found = decide([QUIET], (useless,), BARS, ())
    assert found.verdict == "warn"
    assert "0.220 of AUC" in found.reasons[0].said
    assert level(QUIET, figures=(figure("utility", Score(0.91, 0.92, 0.5), "AUC"),)) == "pass"
    assert level(QUIET, figures=(figure("utility", Score(0.7, None, 0.5), "AUC"),)) == "pass"


def test_an_attack_without_a_bar_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError, match="unheard_of"):
        decide([replace(QUIET, name="unheard_of")], (), BARS, ())


def test_a_verdict_is_json() -> None:
    found = decide([QUIET], (), BARS, ("That was not tried.",)).to_json()
    assert found["verdict"] == "pass"
    assert set(found["reasons"][0]) == {"level", "name", "said"}
    assert found["untried"] == ("That was not tried.",)
    assert isinstance(Verdict("pass", (), ()).to_json(), dict)


def test_settings_of_the_gate_are_checked_and_change_no_training() -> None:
    base = {"table": "t.parquet"}
    mine = TrainConfig.load(None, {**base, "gate": {"membership": (0.52, 0.55)}})
    assert mine.gate.membership == (0.52, 0.55)
    assert mine.meaning == TrainConfig.load(None, base).meaning
    with pytest.raises(ConfigError, match=r"gate.membership: .*in order"):
        TrainConfig.load(None, {**base, "gate": {"membership": (0.6, 0.5)}})
    with pytest.raises(ConfigError, match="did you mean 'membership'"):
        TrainConfig.load(None, {**base, "gate": {"membrship": (0.5, 0.6)}})
