"""The recurrent family: a likelihood that sums to one, and rows sampled as it says."""

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats

from raysynth import draw
from raysynth.layout import Codes, Layout, Part
from raysynth.learn import Best, Plan, Resident, learn
from raysynth.models.rnn import Config, Model
from raysynth.sampler import CHUNK, Sampler
from tests.training import Fitted, Make, Seeded, batches, equal

SIZES = (2, 3, 4)


def small(*columns: tuple[Part, ...], **settings: Any) -> Model:
    """A model of these columns, its weights far from where they start."""
    layout = Layout.of([(f"c{place}", parts) for place, parts in enumerate(columns)])
    torch.manual_seed(1)
    model = Model(layout, {}, Config(**{"hidden": 16, "mixtures": 3, **settings}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.5)
    return model.eval()


@pytest.fixture
def three() -> Model:
    return small(*((Part("category", size),) for size in SIZES))


def every() -> Codes:
    """Each row that there can be."""
    rows = torch.tensor(list(product(*map(range, SIZES))), dtype=torch.uint8)
    return Codes(rows, torch.empty(len(rows), 0))


def test_probabilities_of_all_rows_sum_to_one(three: Model) -> None:
    with torch.inference_mode():
        chances = torch.exp2(-three.bits(every()).sum(0))
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    assert chances.min() < 0.5 * chances.max(), "weights far from where they start"


def test_a_column_sees_those_before_it_alone() -> None:
    """Its index and its scalar, of every column before it; and its scalar sees its own index."""
    model = small(
        (Part("category", 3),),
        (Part("scalar"), Part("mode", 3, 1)),
        (Part("scalar"),),
        (Part("scalar"), Part("mode", 2)),
    )
    g = torch.Generator().manual_seed(0)
    codes = Codes(torch.zeros(6, 3, dtype=torch.uint8), torch.rand(6, 3, generator=g))
    with torch.inference_mode():
        before = model.bits(codes)
        for span in model.layout.spans:
            place = [column.name for column in model.columns].index(span.column)
            indices, scalars = codes.indices.clone(), codes.scalars.clone()
            if span.kind == "scalar":
                scalars[:, span.slot] *= -0.5
            else:
                indices[:, span.slot] = 1
            after = model.bits(Codes(indices, scalars))
            assert torch.equal(after[:place], before[:place])
            assert (after[place:] != before[place:]).any(1).all()


def test_a_density_integrates_to_one_for_each_index_that_has_one() -> None:
    model = small((Part("scalar"), Part("mode", 4, 2)))
    scalars = torch.linspace(-40, 40, 400_001)[:, None]
    with torch.inference_mode():
        hidden, _ = model.recurrence(model.begin[None, None])
        shares = model.heads[0](hidden[0, 0])[:4].softmax(0)
        for index in range(4):
            codes = Codes(torch.full((len(scalars), 1), index, dtype=torch.uint8), scalars)
            chance = torch.exp2(-model.bits(codes)[0].double())
            if index < 2:
                mass = float(chance.sum()) * 80 / 400_000
                assert mass == pytest.approx(float(shares[index]), rel=1e-3)
            else:
                assert chance.unique().numel() == 1, "the scalar says nothing"
                assert float(chance[0]) == pytest.approx(float(shares[index]), rel=1e-4)


def test_rows_are_sampled_as_often_as_they_are_likely(three: Model, seeded: Seeded) -> None:
    rows = 40_000
    with torch.inference_mode():
        likely = torch.exp2(-three.bits(every()).sum(0)).double()
    drawn = three.sample(rows, seeded(3))
    counts = (drawn.indices.long() * torch.tensor([12, 4, 1])).sum(1).bincount(minlength=24)
    expected = likely / likely.sum() * rows
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-4


def test_scalars_are_sampled_as_they_are_likely_given_what_lies_before(seeded: Seeded) -> None:
    model = small((Part("category", 2),), (Part("scalar"), Part("mode", 2, 1)))
    drawn = model.sample(60_000, seeded(0))
    says = drawn.indices[:, 1] == 0
    assert not drawn.scalars[~says].any()
    grid = torch.linspace(-1, 1, 2_001)
    found = []
    for first in range(2):
        with torch.inference_mode():
            indices = torch.tensor([[first, 0]], dtype=torch.uint8).expand(2_001, -1)
            density = torch.exp2(-model.bits(Codes(indices, grid[:, None]))[1].double())
        scalars = drawn.scalars[says & (drawn.indices[:, 0] == first), 0]
        inside = scalars[scalars.abs() < 1].numpy()
        assert len(inside) > 2_000
        reached = (density.cumsum(0) / density.sum()).numpy()
        found.append(reached)
        assert stats.kstest(inside, lambda x, to=reached: np.interp(x, grid, to)).pvalue > 1e-4
    assert np.abs(found[0] - found[1]).max() > 0.05, "they differ by what lies before"


def test_a_given_value_changes_no_draw_and_is_held_to_by_rejection(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec = fitted["mixed"][0]
    model = make("rnn", codec)
    slots = Sampler(model.eval(), codec, torch.device("cpu")).asked({"city": "Oslo"})
    assert equal(model.sample(64, seeded(1), slots), model.sample(64, seeded(1)))
    sampler = Sampler(model, codec, torch.device("cpu"))
    (piece,) = sampler.stream(200, 1, {"city": "Oslo"})
    assert set(piece.table["city"].to_pylist()) == {"Oslo"}
    assert piece.tried > CHUNK
    assert piece.forced == 0


def test_dropout_is_drawn_from_the_generator_and_left_out_of_a_score(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    model, bare = make("rnn", codec, dropout=0.5), make("rnn", codec, dropout=0.0)
    with torch.inference_mode():
        one, same, other = (model.bits(codes, seeded(seed)).sum() for seed in (1, 1, 2))
    assert one == same != other
    assert model.score(codes) == bare.score(codes) == model.score(codes)
    mean = bare.bits(codes).sum(0).mean()
    assert torch.allclose(bare.score(codes), mean, atol=1e-4)


def test_a_score_is_the_same_in_pieces(
    fitted: Fitted, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, codes = fitted["mixed"]
    model = make("rnn", codec)
    whole = model.score(codes)
    monkeypatch.setattr("raysynth.models.rnn.SCORED", 32 * 6 * 7)
    assert torch.allclose(model.score(codes), whole, rtol=1e-5)


def test_weights_that_scored_best_on_rows_held_out_are_kept(fitted: Fitted, make: Make) -> None:
    """A training far too long for its table ends with those of an epoch in its middle."""
    codec, codes = fitted["mixed"]
    few = codes.take(slice(0, 300))
    model, best = make("rnn", codec, rate=1e-2, dropout=0.0), Best()
    plan = Plan(few.rows, batch=50, epochs=25, seed=0)
    told = [
        e.losses["held"]
        for e in learn(model, codec.layout, draw.uniform, Resident(few), plan, 0, best)
    ]
    assert best.score == min(told) < min(told[0], told[-1]) - 0.1
    best.put(model)
    assert float(model.score(few.take(slice(-15, None)))) == pytest.approx(min(told), abs=1e-4)


def test_what_depends_is_learned(fit: Any) -> None:
    g = np.random.default_rng(0)
    size = g.choice(["s", "m", "l"], 3_000)
    centre = {"s": 0.0, "m": 5.0, "l": 9.0}
    weight = np.array([centre[s] for s in size]) + g.normal(0, 0.3, 3_000)
    table = pa.table(
        {"size": size, "weight": weight, "heavy": weight + g.normal(0, 0.1, 3_000) > 5}
    )
    codec, codes = fit(table, "rnn")
    torch.manual_seed(0)
    model = Model(codec.layout, codec.shares, Config(hidden=64, mixtures=5, dropout=0.1))
    for _ in learn(model, codec.layout, draw.uniform, Resident(codes), Plan(3_000, 250, 40, 0)):
        pass
    sampler = Sampler(model.eval(), codec, torch.device("cpu"))
    drawn = sampler.sample(2_000, seed=1).to_pandas()
    real, made = table.to_pandas().groupby("size").weight, drawn.groupby("size").weight
    assert np.abs(made.mean() - real.mean()).max() < 0.4
    assert made.std().max() < 1.2
    assert (drawn.heavy == (drawn.weight > 5)).mean() > 0.93, "one column back"
    assert drawn.heavy[drawn["size"] == "s"].mean() < 0.05, "two columns back"


def test_the_rate_falls_to_nothing_and_steps_use_it(three: Model, seeded: Seeded) -> None:
    rates = []
    for share in (0.0, 0.5, 0.999):
        three.at(share)
        rates.append(three.optimizers[0].param_groups[0]["lr"] / three.config.rate)
    assert rates == pytest.approx([1, 0.5, 0], abs=1e-3)
    moved = []
    for share in (0.0, 0.999):
        three.at(share)
        before = three.begin.detach().clone()
        three.step(batches("rnn", three, every(), 24, 0), seeded(0))
        moved.append((three.begin.detach() - before).abs().max())
    assert moved[1] < 0.01 * moved[0]
