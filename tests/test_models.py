"""One contract for every family, on tables of both kinds of column and of one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from raysynth import models
from raysynth.config import parse
from raysynth.errors import ConfigError, RunError
from raysynth.learn import Part, capture, load_weights, restore
from raysynth.models import ctgan
from raysynth.sampler import Sampler
from tests.conftest import SETTINGS
from tests.training import KINDS, Fitted, Make, Seeded, batches, equal, settings, trained

FAMILIES = (*models.names(), *(name for name in SETTINGS if "-" in name))


@pytest.mark.parametrize("pack", [1, 3, 10])
@pytest.mark.parametrize("batch", [1, 7, 10, 64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_any_batch_size_moves_every_network(
    family: str, kind: str, batch: int, pack: int, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted[kind]
    model = make(family, codec, **settings(family, pack=pack))
    weights = [w for o in model.optimizers for group in o.param_groups for w in group["params"]]
    assert {id(w) for w in weights} == {id(w) for w in model.parameters()}
    before = [w.detach().clone() for w in weights]
    drawn = batches(family, model, codes, batch, 0)
    losses = [model.step(drawn, seeded(1)) for _ in range(3)]
    assert len({tuple(loss) for loss in losses}) == 1
    for loss in losses:
        assert all(value.isfinite() and not value.requires_grad for value in loss.values())
    assert all(w.isfinite().all() for w in weights)
    for optimizer in model.optimizers:
        mine = {id(w) for group in optimizer.param_groups for w in group["params"]}
        moved = [
            not torch.equal(w, b) for w, b in zip(weights, before, strict=True) if id(w) in mine
        ]
        assert any(moved)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_codes_lie_within_the_layout(
    family: str, kind: str, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted[kind]
    model = trained(make(family, codec), codes, 1)
    for rows in (1, 257):
        drawn = model.sample(rows, seeded(5))
        sizes = torch.tensor([span.size for span in codec.layout.choices])
        assert drawn.indices.shape == (rows, len(sizes))
        assert drawn.indices.dtype == codec.layout.index_dtype
        assert drawn.scalars.shape == (rows, len(codec.layout.scalars))
        assert drawn.scalars.dtype == torch.float32
        assert (drawn.indices >= 0).all()
        assert (drawn.indices < sizes).all()
        assert (drawn.scalars.abs() <= 1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_changes_nothing_and_repeats(
    family: str, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    model = trained(make(family, codec), codes, 1)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    one = model.sample(64, seeded(5))
    assert not model.training
    assert equal(one, model.sample(64, seeded(5)))
    assert not equal(one, model.sample(64, seeded(6)))
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_several_threads_draw_the_rows_of_one(
    family: str,
    fitted: Fitted,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    codec, codes = fitted["mixed"]
    sampler = Sampler(trained(make(family, codec), codes, 1), codec, torch.device("cpu"))
    monkeypatch.setattr("raysynth.sampler.GROUP", 1)  # so that there are some pieces
    whole = sampler.sample(6_000, seed=2)
    request.getfixturevalue("three_threads")
    assert sampler.sample(6_000, seed=2).equals(whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_dict_brings_back_the_same_model(
    family: str, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    model = trained(make(family, codec), codes, 1)
    copy = make(family, codec, seed=9)
    assert not equal(copy.sample(64, seeded(5)), model.sample(64, seeded(5)))
    load_weights(copy, model.state_dict(), "here")
    assert equal(copy.sample(64, seeded(5)), model.sample(64, seeded(5)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_training_ends_bit_for_bit_where_an_unbroken_one_does(
    family: str, kind: str, fitted: Fitted, make: Make, tmp_path: Path
) -> None:
    codec, codes = fitted[kind]
    unbroken = capture(trained(make(family, codec), codes, 4), 4)
    state = capture(trained(make(family, codec), codes, 4, until=2), 2)
    other = make(family, codec, seed=7)
    done = restore(other, state, "here")
    assert done == 2
    (tmp_path / "unbroken").write_bytes(unbroken)
    (tmp_path / "resumed").write_bytes(capture(trained(other, codes, 4, done), 4))
    with (
        safe_open(tmp_path / "unbroken", "pt") as one,
        safe_open(tmp_path / "resumed", "pt") as two,
    ):
        assert json.loads(one.metadata()["epoch"]) == 4
        assert set(one.keys()) == set(two.keys())
        remembered = any(optimizer.state_dict()["state"] for optimizer in other.optimizers)
        kept = [name for name in one.keys() if name.startswith("optimizer.")]  # noqa: SIM118
        assert bool(kept) == remembered
        for name in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(name), two.get_tensor(name)), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_resumed_inside_an_epoch_ends_bit_for_bit_where_an_unbroken_one_does(
    family: str, fitted: Fitted, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysynth.learn.STRETCH", 2)
    codec, codes = fitted["mixed"]
    unbroken = trained(make(family, codec), codes, 3)
    broken, states = make(family, codec), []

    def pause(done: int, part: Part) -> bool:
        if (done, part.steps) == (1, 2):
            states.append(capture(broken, done, part=part))
        return bool(states)

    trained(broken, codes, 3, pause=pause)
    other, part = make(family, codec, seed=7), Part()
    done = restore(other, states[0], "here", part=part)
    trained(other, codes, 3, done, part=part)
    for name, weights in unbroken.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_another_layout_are_refused(family: str, fitted: Fitted, make: Make) -> None:
    model, other = (make(family, fitted[kind][0]) for kind in ("mixed", "numbers"))
    with pytest.raises(RunError, match="here: weights of another model"):
        restore(other, capture(model, 1), "here")


def test_training_that_diverges_says_so(fitted: Fitted, make: Make) -> None:
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, critic_rate=1e30)
    with pytest.raises(ArithmeticError, match="lower the learning rates"):
        trained(model, codes, 3)


def test_unknown_family_and_setting_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no family is called 'ctgna'; did you mean 'ctgan'"):
        models.get("ctgna")
    with pytest.raises(ConfigError, match="no setting is called 'pac'; did you mean 'pack'"):
        parse(ctgan.Config, {"pac": 3})
    with pytest.raises(ConfigError, match="dropout: input should be less than 1"):
        parse(ctgan.Config, {"dropout": 1})
