"""The autoregressive family: a likelihood that sums to one, sampled as it says, in any order."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import Generator

from raysynth.layout import Codes, Layout, Part
from raysynth.learn import Plan, Resident, learn
from raysynth.models.autoregressive import DRAW, Config, Model
from raysynth.sampler import Sampler

SIZES = (2, 3, 4)
AHEAD = ((), (2,), (1, 2), (0, 1, 2))


def small(*columns: tuple[Part, ...], **settings: Any) -> Model:
    """A model of these columns, its weights far from where they start."""
    layout = Layout.of([(f"c{place}", parts) for place, parts in enumerate(columns)])
    shares = {f"c{i}": (1 / s.size,) * s.size for i, s in enumerate(p[-1] for p in columns)}
    torch.manual_seed(1)
    config = Config(**{"hidden": 16, "mixtures": 3, "dropout": 0.0, **settings})
    model = Model(layout, shares, config)
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


def marked(places: Iterable[int], columns: int, rows: int) -> torch.Tensor:
    """The columns at these places ahead in every row."""
    ahead = torch.zeros(columns, rows, dtype=torch.bool)
    ahead[list(places)] = True
    return ahead


@pytest.mark.parametrize("places", AHEAD)
def test_probabilities_of_all_rows_sum_to_one_in_any_order(
    three: Model, places: tuple[int, ...]
) -> None:
    codes = every()
    with torch.inference_mode():
        chances = torch.exp2(-three.bits(codes, marked(places, 3, codes.rows)).sum(0))
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    assert chances.min() < 0.5 * chances.max(), "weights far from where they start"


@pytest.mark.parametrize("places", AHEAD)
def test_a_column_sees_those_before_it_alone(places: tuple[int, ...]) -> None:
    model = small(
        (Part("category", 3),),
        (Part("scalar"), Part("mode", 3, 1)),
        (Part("scalar"), Part("mode", 2)),
    )
    g = torch.Generator().manual_seed(0)
    codes = Codes(torch.zeros(6, 3, dtype=torch.uint8), torch.rand(6, 2, generator=g))
    ahead = marked(places, 3, 6)
    order = sorted(range(3), key=lambda place: (place not in places, place))
    with torch.inference_mode():
        before = model.bits(codes, ahead)
        for turn, changed in enumerate(order):
            indices, scalars = codes.indices.clone(), codes.scalars.clone()
            indices[:, changed] = 1
            if changed:
                scalars[:, changed - 1] *= -0.5
            after = model.bits(Codes(indices, scalars), ahead)
            same = [bool(torch.equal(before[column], after[column])) for column in order]
            assert all(same[:turn])
            assert not any(same[turn:])


def test_rows_of_a_batch_have_orders_of_their_own(three: Model) -> None:
    codes = every()
    sets = [marked(places, 3, codes.rows) for places in AHEAD]
    mixed = torch.stack([sets[row % len(sets)][:, row] for row in range(codes.rows)], 1)
    with torch.inference_mode():
        found = three.bits(codes, mixed)
        for row in range(codes.rows):
            alone = three.bits(codes, sets[row % len(sets)])[:, row]
            assert torch.allclose(found[:, row], alone, atol=1e-5)


def test_a_density_integrates_to_one_for_each_index_that_has_one() -> None:
    model = small((Part("scalar"), Part("mode", 4, 2)))
    scalars = torch.linspace(-40, 40, 400_001)[:, None]
    with torch.inference_mode():
        hidden = model._hidden(torch.zeros(1, 1, 16), None)[0]
        shares = torch.addmm(model.biases[0], hidden, model.heads[0]).softmax(1)[0]
        for index in range(4):
            codes = Codes(torch.full((len(scalars), 1), index, dtype=torch.uint8), scalars)
            chance = torch.exp2(-model.bits(codes)[0].double())
            if index < 2:
                mass = float(chance.sum()) * 80 / 400_000
                assert mass == pytest.approx(float(shares[index]), rel=1e-3)
            else:
                assert chance.unique().numel() == 1, "the scalar says nothing"


@pytest.mark.parametrize("given", [{}, {1: 2}, {2: 1, 0: 1}])
def test_rows_are_sampled_as_often_as_they_are_likely(
    three: Model, given: dict[int, int], seeded: Callable[[int], Generator]
) -> None:
    rows, codes = 40_000, every()
    with torch.inference_mode():
        bits = three.bits(codes, marked(given, 3, codes.rows))
    rest = [place for place in range(3) if place not in given]
    there = torch.ones(codes.rows, dtype=torch.bool)
    for slot, index in given.items():
        there &= codes.indices[:, slot] == index
    likely = torch.exp2(-bits[rest].sum(0))[there].double()
    assert float(likely.sum()) == pytest.approx(1, abs=1e-5)
    drawn = three.sample(rows, seeded(3), given)
    number = torch.tensor([12, 4, 1])
    counts = (drawn.indices.long() * number).sum(1).bincount(minlength=24)
    assert not counts[~there].any()
    expected = likely / likely.sum() * rows
    assert stats.chisquare(counts[there].numpy(), expected.numpy()).pvalue > 1e-4


def test_scalars_are_sampled_as_they_are_likely(seeded: Callable[[int], Generator]) -> None:
    model = small((Part("scalar"), Part("mode", 2, 1)))
    model.biases[0].data = torch.tensor([9.0, 0.0])  # nearly every row has a scalar that says
    drawn = model.sample(20_000, seeded(0))
    classed = drawn.indices[:, 0] == 0
    assert not drawn.scalars[~classed].any()
    grid = torch.linspace(-1, 1, 2_001)
    with torch.inference_mode():
        codes = Codes(torch.zeros(2_001, 1, dtype=torch.uint8), grid[:, None])
        density = torch.exp2(-model.bits(codes)[0].double())
    scalars = drawn.scalars[classed, 0]
    inside = scalars[scalars.abs() < 1]
    assert len(inside) > 5_000
    reached = density.cumsum(0) / density.sum()
    assert stats.kstest(inside.numpy(), lambda x: np.interp(x, grid, reached)).pvalue > 1e-4


def test_some_rows_keep_the_tables_order_and_any_set_may_come_first(
    seeded: Callable[[int], Generator],
) -> None:
    model = small(*((Part("category", 2),) for _ in range(4)), natural=0.3)
    ahead = model.ahead(20_000, seeded(0))
    sets = Counter(map(tuple, ahead.t().tolist()))
    assert len(sets) == 2**4
    # Of a chance drawn evenly, every number of columns is as likely: 1 in 5, by so many sets each.
    assert sets[(False,) * 4] / 20_000 == pytest.approx(0.3 + 0.7 / 5, abs=0.02)
    assert sets[(True, False, False, True)] / 20_000 == pytest.approx(0.7 / 5 / 6, abs=0.01)


def test_what_depends_is_learned_and_held_to_both_ways(fit: Any) -> None:
    g = np.random.default_rng(0)
    size = g.choice(["s", "m", "l"], 3_000)
    centre = {"s": 0.0, "m": 5.0, "l": 9.0}
    table = pa.table({"size": size, "weight": [centre[s] for s in size] + g.normal(0, 0.3, 3_000)})
    codec, codes = fit(table, "autoregressive")
    torch.manual_seed(0)
    model = Model(codec.layout, codec.shares, Config(hidden=64, mixtures=5, dropout=0.1))
    for _ in learn(model, codec.layout, DRAW, Resident(codes), Plan(3_000, 256, 40, 0)):
        pass
    sampler = Sampler(model.eval(), codec, torch.device("cpu"))
    drawn = sampler.sample(2_000, seed=1).to_pandas()
    real = table.to_pandas().groupby("size").weight
    made = drawn.groupby("size").weight
    assert np.abs(made.mean() - real.mean()).max() < 0.4
    assert made.std().max() < 1.2
    given = list(sampler.stream(1_000, 1, {"size": "l"}))
    assert sum(piece.tried for piece in given) == 1_000, "no row is rejected"
    weights = pa.concat_tables(piece.table for piece in given).column("weight").to_numpy()
    assert np.mean(weights > 7) > 0.95


def test_the_rate_rises_then_falls_to_nothing() -> None:
    model = small((Part("category", 2),))
    rates = []
    for share in (0.0, 0.05, 0.1, 0.55, 0.999):
        model.at(share)
        rates.append(model.optimizers[0].param_groups[0]["lr"] / model.config.rate)
    assert rates == pytest.approx([0.04, 0.52, 1, 0.5, 0], abs=1e-3)
