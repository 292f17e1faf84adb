"""Search spaces: whatever they suggest is a setting of the family; limits narrow or refuse."""

import optuna
import pytest

from raysynth import models, space
from raysynth.config import parse
from raysynth.errors import ConfigError
from raysynth.search import SearchConfig, dominated, front

optuna.logging.set_verbosity(optuna.logging.ERROR)


def drawn(families: list[str], limits: dict, count: int = 25) -> list[space.Suggested]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask(), families, limits) for _ in range(count)]


@pytest.mark.parametrize("family", models.names())
def test_what_is_suggested_is_a_setting_of_the_family(family: str) -> None:
    space.check([family], {})
    module = models.get(family)
    for one in drawn([family], {}):
        assert one.family == family
        config = parse(module.Config, one.model)
        module.encoding(config)
        assert module.batch_rows(config.batch, config) > 0
        coded = module.encoding(config).number == "modes"
        assert (one.modes is not None) == coded


@pytest.mark.parametrize("family", models.names())
def test_a_search_begins_with_the_best_settings_known(family: str) -> None:
    module = models.get(family)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    (start,) = space.starts([family], 50_000)
    study.enqueue_trial(start)
    found = space.suggest(study.ask(), [family], {})
    config = parse(module.Config, found.model)
    best = (
        module.Config(preset="improved") if hasattr(module.Config, "improved") else module.Config()
    )
    apart = (
        {"hidden", "dropout", "rate"} if family == "autoregressive" else set()
    )  # which go by the table
    assert config.model_dump(exclude=apart) == best.model_dump(exclude=apart)
    assert found.modes in (None, space.USUAL)


def test_the_family_is_a_choice_and_modes_go_with_modes() -> None:
    found = drawn(["ctgan", "tvae", "independent"], {}, 60)
    assert {one.family for one in found} == {"ctgan", "tvae", "independent"}
    assert {one.modes is None for one in found if one.family == "ctgan"} == {True, False}


def test_limits_fix_and_narrow_by_either_name() -> None:
    limits = {
        "hidden": 64,
        "autoregressive.mixtures": {"low": 6, "high": 8},
        "batch": [128, 256],
        "rnn.rate": 1e-3,
        "dropout": {"high": 0.1},
    }
    space.check(["autoregressive", "rnn"], limits)
    for one in drawn(["autoregressive", "rnn"], limits, 40):
        assert one.model["hidden"] == 64
        assert one.model["batch"] in (128, 256)
        assert one.model["dropout"] <= 0.1
        if one.family == "rnn":
            assert one.model["rate"] == 1e-3
        else:
            assert 6 <= one.model["mixtures"] <= 8


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"hiden": 64}, "no parameter is called 'hiden'.*hidden"),
        ({"hidden": 63}, "space.hidden: expected some of"),
        ({"hidden": []}, "space.hidden: expected some of"),
        ({"rate": {"low": 1e-2, "high": 1e-3}}, "space.rate: expected low and high, in order"),
        ({"rate": {"least": 1e-2}}, "space.rate: expected low and high"),
        ({"rate": "fast"}, "space.rate: expected a number"),
        ({"tvae.rate": 1e-3}, "no parameter is called 'tvae.rate'"),
    ],
)
def test_limits_that_leave_nothing_are_refused(limits: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space.check(["autoregressive"], limits)


def test_least_is_searched_only_where_it_is_named() -> None:
    assert {one.least for one in drawn(["rnn"], {})} == {None}
    limits = {"least": {"low": 5, "high": 20}}
    space.check(["rnn"], limits)
    found = {one.least for one in drawn(["rnn"], limits)}
    assert len(found) > 1
    assert min(found) >= 5
    assert max(found) <= 20
    with pytest.raises(ConfigError, match="least: expected low and high"):
        space.check(["rnn"], {"least": {"low": 1}})


def test_of_a_former_trial_what_limits_allow_is_tried_again() -> None:
    families = ["rnn", "tvae"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(10):
        trial = study.ask()
        space.suggest(trial, families, {})
        assert space.allowed(families, {}, trial.params) == trial.params
        narrow = space.allowed(families, {"rate": {"high": 5.01e-4}}, trial.params)
        assert narrow.items() < trial.params.items()
        assert not {name for name in narrow if name.endswith("rate")}
        alone = space.allowed(["rnn"], {}, trial.params)
        assert {name.partition(".")[0] for name in alone} <= {"rnn"}


def test_no_family_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="one family or more"):
        space.check([], {})
    with pytest.raises(ConfigError, match="ctgan"):
        space.check(["ctgann"], {})


def test_objectives_must_be_there_and_each_once() -> None:
    for objectives in ((), ("detection", "detection"), ("detektion",)):
        with pytest.raises(ConfigError):
            SearchConfig(objectives=objectives).check()
    with pytest.raises(ConfigError, match="membership"):
        SearchConfig(at_most={"member": 0.5}).check()


def test_a_front_by_hand() -> None:
    assert dominated((2, 0.5), (1, 0.6), ("min", "max"))
    assert not dominated((1, 0.5), (1, 0.5), ("min", "max"))
    assert not dominated((1, 0.5), (2, 0.6), ("min", "max"))
    trials = {
        0: {"detection": 0.9, "utility": 0.9, "membership": 0.7},
        1: {"detection": 0.6, "utility": 0.8, "membership": 0.5},
        2: {"detection": 0.7, "utility": 0.85, "membership": 0.5},
        3: {"detection": 0.7, "utility": 0.84, "membership": 0.5},
    }
    both = SearchConfig(objectives=("detection", "utility"))
    assert front(trials, both) == [0, 1, 2]
    bound = both.model_copy(update={"at_most": {"membership": 0.55}})
    assert front(trials, bound) == [1, 2]
    hopeless = both.model_copy(update={"at_most": {"membership": 0.4}})
    assert front(trials, hopeless) == [1, 2], "the nearest to what was asked"
    assert front(trials, SearchConfig()) == [1]
    assert front({}, SearchConfig()) == []
