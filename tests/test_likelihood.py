"""The model in hand: bits of rows, and who is told by them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysynth.attacks import likelihood
from raysynth.errors import GivenError, TableError
from raysynth.frames import permuted
from raysynth.run import Run
from raysynth.sampler import Sampler
from tests import training


def test_fewer_bits_are_a_members() -> None:
    g = np.random.default_rng(0)
    (risk,) = likelihood.attack_with(g.normal(20, 1, 4_000), g.normal(21, 1, 4_000))
    assert (risk.name, risk.unit, risk.chance, risk.tried) == ("membership_model", "AUC", 0.5, 8000)
    assert risk.low < 0.7602 < risk.high  # of normals one apart


def test_calibration_subtracts_what_is_hard_for_everybody() -> None:
    g = np.random.default_rng(0)
    hard = [g.normal(40, 10, 1_000) for _ in range(2)]
    members, others = (
        h + g.normal(size=1_000) - gain for h, gain in zip(hard, (1, 0), strict=True)
    )
    plain, calibrated = likelihood.attack_with(members, others, *hard)
    assert plain.value < 0.57
    assert calibrated.name == "membership_model_calibrated"
    assert calibrated.value == pytest.approx(0.7602, abs=0.03)


def test_bits_of_one_distribution_are_chance() -> None:
    missed, g = 0, np.random.default_rng(0)
    for _ in range(200):
        (risk,) = likelihood.attack_with(g.normal(size=100), g.normal(size=150))
        missed += not risk.low <= 0.5 <= risk.high
    assert 2 <= missed <= 20


def test_infinite_bits_are_the_most_and_nan_is_refused() -> None:
    members, others = np.arange(40.0), np.arange(40.0)
    others[:20] = np.inf
    (risk,) = likelihood.attack_with(members, others)
    # Half of the others exceed all members; the rest, 20 to 39, exceed 29.5 of 40 on the mean.
    assert risk.value == pytest.approx((20 + 20 * 30 / 40) / 40)
    others[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        likelihood.attack_with(members, others)
    with pytest.raises(ValueError, match="bits of 39 rows"):
        likelihood.attack_with(members, members, members[1:], members)


def test_few_rows_are_skipped() -> None:
    (risk,) = likelihood.attack_with(np.arange(5.0), np.arange(100.0))
    assert risk.skipped
    assert (risk.value, risk.low, risk.high) == (0.5, 0, 1)


@pytest.mark.parametrize("family", ["autoregressive", "rnn"])
def test_a_sampler_measures_each_row(
    family: str, tables: dict[str, pa.Table], fit: Any, make: Any
) -> None:
    table = tables["mixed"]
    codec, codes = fit(table, family)
    model = training.trained(make(family, codec), codes, 20).eval()
    sampler = Sampler(model, codec, torch.device("cpu"))
    bits = sampler.bits(table)
    assert bits.shape == (1_000,)
    assert float(bits.mean()) == pytest.approx(float(model.score(codes)), rel=1e-4)
    one = sampler.bits(table.slice(0, 7))
    assert one == pytest.approx(bits[:7], rel=1e-4, abs=1e-3)
    loose = permuted(table, np.random.default_rng(0))
    assert sampler.bits(loose).mean() > bits.mean() + 0.3
    assert sampler.bits(table.slice(0, 0)).shape == (0,)
    with pytest.raises(TableError, match="lacks 'real'"):
        sampler.bits(table.drop_columns(["real"]))


def test_a_training_too_long_for_its_rows_is_told(
    tables: dict[str, pa.Table], fit: Any, make: Any
) -> None:
    """300 rows, without dropout and over and over: known by heart, and those beside not."""
    train, held = tables["mixed"].slice(0, 300), tables["mixed"].slice(300, 300)
    codec, codes = fit(train, "autoregressive")
    model = make("autoregressive", codec, dropout=0.0, hidden=64)
    model = training.trained(model, codes, 150).eval()
    sampler = Sampler(model, codec, torch.device("cpu"))
    (risk,) = likelihood.attack_with(sampler.bits(train), sampler.bits(held))
    assert risk.low > 0.6


def test_families_without_a_likelihood_say_so(trained: Run, tables: dict[str, pa.Table]) -> None:
    with pytest.raises(GivenError, match="--family autoregressive"):
        Sampler.open(trained, "cpu").bits(tables["mixed"])
