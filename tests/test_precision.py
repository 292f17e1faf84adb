"""Trainings that multiply in few digits: what stays float32, and samples that are, too."""

from typing import Any

import pytest
import torch
from torch import Generator

from raysynth import models
from raysynth.config import TrainConfig
from raysynth.errors import ConfigError
from raysynth.learn import Best, Plan, capture, load
from raysynth.models import TableModel
from raysynth.precision import exact, multiplied
from raysynth.run import plan_of
from tests.conftest import SETTINGS
from tests.training import KINDS, Fitted, Make, equal, learned

CPU = torch.device("cpu")


def trained(model: TableModel, codes: Any, precision: Any, best: Best) -> dict[str, float]:
    plan = Plan(codes.rows, 200, 2, seed=3, precision=precision)
    return list(learned(model, codes, plan, best=best))[-1].losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SETTINGS)
def test_a_training_in_bfloat16_keeps_all_of_it_in_float32_and_comes_near(
    family: str, kind: str, fitted: Fitted, make: Make
) -> None:
    codec, codes = fitted[kind]
    few, whole = make(family, codec), make(family, codec)
    bests = Best(), Best()
    losses = trained(few, codes, "bfloat16", bests[0])
    assert losses == pytest.approx(trained(whole, codes, "float32", bests[1]), rel=0.05, abs=0.05)
    one, other = (load(capture(m, 2, b)) for m, b in zip((few, whole), bests, strict=True))
    assert {n: (t.shape, t.dtype) for n, t in one.items()} == {
        n: (t.shape, t.dtype) for n, t in other.items()
    }
    if family != "independent":  # which multiplies nothing
        assert any(not torch.equal(one[name], other[name]) for name in one)
    whole.load_state_dict(few.state_dict())
    assert equal(*(m.sample(50, Generator().manual_seed(1)) for m in (few, whole)))


def test_losses_of_a_step_are_float32(fitted: Fitted, make: Make) -> None:
    codec, codes = fitted["mixed"]
    for family in SETTINGS:
        model = make(family, codec)
        draw = models.get(family.partition("-")[0]).drawing(model.config)
        generator = Generator().manual_seed(0)
        with multiplied("bfloat16", CPU):
            losses = model.step(draw(codes, codec.layout, 100, generator), generator)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}, family


def test_products_are_rounded_where_they_may_be_and_only_then() -> None:
    rows = torch.full((2, 2), 1 + 2**-12)

    def product() -> torch.Tensor:
        return rows @ torch.eye(2)

    with multiplied("bfloat16", CPU):
        assert product().dtype == torch.bfloat16
        with exact(rows):
            assert torch.equal(product(), rows)
    for precision in ("float32", "tf32"):
        with multiplied(precision, CPU):  # type: ignore[arg-type]
            assert torch.equal(product(), rows)
    assert torch.equal(product(), rows)


def test_weights_that_a_step_changes_are_not_used_as_they_were() -> None:
    layer, rows = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    with multiplied("bfloat16", CPU):
        for value in (1.0, 2.0):
            layer.weight.data.fill_(value)
            with torch.no_grad():
                assert layer(rows).item() == value
        layer(rows).sum().backward()
    assert layer.weight.grad is not None


def test_settings_say_how_precise_a_training_is() -> None:
    asked = {"table": "t.parquet", "precision": "bfloat16"}
    config = TrainConfig.load(None, asked)
    assert plan_of(config, 1_000).precision == "bfloat16"
    assert plan_of(TrainConfig.load(None, {"table": "t.parquet"}), 1_000).precision == "float32"
    with pytest.raises(ConfigError, match="precision: input should be 'float32', 'tf32' or 'bf"):
        TrainConfig.load(None, {**asked, "precision": "half"})
