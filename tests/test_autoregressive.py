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

from raysynth import draw
from raysynth.layout import Bounds, Codes, Layout, Part
from raysynth.learn import Plan, Resident, learn
from raysynth.models.autoregressive import Config, Model, epochs
from raysynth.normals import log_mass, scalar, scalar_within
from raysynth.sampler import Sampler

SIZES = (2, 3, 4)
AHEAD = ((), (2,), (1, 2), (0, 1, 2))


def small(*columns: tuple[Part, ...], **settings: Any) -> Model:
    """A model of these columns, its weights far from where they start."""
    seed = settings.pop("seed", 1)
    layout = Layout.of([(f"c{place}", parts) for place, parts in enumerate(columns)])
    shares = {f"c{i}": (1 / s.size,) * s.size for i, s in enumerate(p[-1] for p in columns)}
    torch.manual_seed(seed)
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
    asked = {f"c{slot}": Bounds.just(index, SIZES[slot]) for slot, index in given.items()}
    drawn = three.sample(rows, seeded(3), asked)
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


def mixed() -> Model:
    """A category of three, and two numbers with two points each, that depend on one another."""
    model = small((Part("category", 3),), *((Part("scalar"), Part("mode", 3, 2)),) * 2)
    with torch.no_grad():
        model.mixture.bias[:, 0, 3:6] = torch.tensor([-0.4, 0.1, 0.5])
        model.mixture.bias[:, 0, 6:] = -1.5
        model.mixture.weight.mul_(0.1)
        model.shift.weight.mul_(0.2)
        for head, bias in zip(model.heads, model.biases, strict=True):
            head.mul_(0.1)
            bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    return model


def asked_of(low: float, high: float) -> Bounds:
    """The class between two scalars, and the first point."""
    return Bounds(torch.tensor([low, -1.0, 1.0]), torch.tensor([high, 1.0, -1.0]))


def every_scalar() -> Bounds:
    """Nothing is asked, but that the column comes first."""
    return Bounds(torch.full((3,), -1.0), torch.ones(3))


def alike(left: Codes, right: Codes) -> None:
    """Both come from one distribution: each column, and pairs of them."""
    for slot in range(left.indices.shape[1]):
        counts = [c.indices[:, slot].long().bincount(minlength=3).numpy() for c in (left, right)]
        assert stats.chi2_contingency(np.stack(counts)[:, sum(counts) > 0]).pvalue > 1e-4
    for slot in range(left.scalars.shape[1]):
        assert stats.ks_2samp(left.scalars[:, slot], right.scalars[:, slot]).pvalue > 1e-4
    products = [c.scalars[:, 0] * c.scalars[:, 1] for c in (left, right)]
    assert stats.ks_2samp(*products).pvalue > 1e-4


@pytest.mark.parametrize("first", [None, (-0.3, 0.4)])
@pytest.mark.parametrize("category", [None, 1])
def test_ranges_are_held_and_what_is_drawn_is_as_likely_as_among_all_rows(
    category: int | None, first: tuple[float, float] | None, seeded: Callable[[int], Generator]
) -> None:
    """Against rows drawn freely of which those that have what is asked are kept."""
    model = mixed()
    given = {"c2": asked_of(-0.2, 1.0)}
    if first:
        given["c1"] = asked_of(*first)
    if category is not None:
        given["c0"] = Bounds.just(category, 3)
    free = model.sample(60_000, seeded(0), {name: every_scalar() for name in given})
    holds = torch.ones(free.rows, dtype=torch.bool)
    for column in model.columns:
        if column.name in given:
            bounds = given[column.name]
            holds &= bounds.hold(column.index(free), column.scalar_of(free))
    drawn = model.sample(4_000, seeded(1), given)
    for column in model.columns:
        if column.name in given:
            bounds = given[column.name]
            assert bounds.hold(column.index(drawn), column.scalar_of(drawn)).all()
    told = free.take(holds)
    assert told.rows > 1_000
    alike(drawn, told)


def test_a_far_tail_is_drawn_within_its_bounds(seeded: Callable[[int], Generator]) -> None:
    parameters = torch.cat([torch.zeros(500, 2), torch.tensor([[-0.5, -0.4]] * 500)], 1)
    parameters = torch.cat([parameters, torch.full((500, 2), -4.0)], 1)  # standard deviation .018
    for low, high in ((0.9, 0.95), (-0.99, -0.98), (0.9, 1.0), (-0.6, -0.3)):
        ends = torch.full((500,), low), torch.full((500,), high)
        drawn = scalar_within(parameters, *ends, seeded(0))
        assert drawn.isfinite().all()
        assert ((drawn >= low) & (drawn <= high)).all()
        mass = log_mass(parameters, *(end[:, None] for end in ends)).logsumexp(1)
        assert not mass.isnan().any()
    assert float(mass[0].exp()) == pytest.approx(1, abs=1e-3), "all but a tail"


def test_a_draw_within_bounds_has_the_mixtures_own_distribution(
    seeded: Callable[[int], Generator],
) -> None:
    parameters = torch.tensor([[0.3, -0.5, -0.2, 0.4, -1.5, -0.7]]).expand(40_000, -1)
    free = scalar(parameters, seeded(0))
    low, high = torch.tensor(-0.1), torch.tensor(0.5)
    inside = free[(free >= low) & (free <= high)]
    drawn = scalar_within(parameters, low.expand(40_000), high.expand(40_000), seeded(1))
    assert stats.ks_2samp(drawn.numpy(), inside.numpy()).pvalue > 1e-3
    mass = float(log_mass(parameters[:1], low, high).exp().sum())
    assert mass == pytest.approx(len(inside) / 40_000, abs=0.01)


def test_cells_are_filled_given_all_that_is_known(seeded: Callable[[int], Generator]) -> None:
    """A row's own cells, whichever they are; what is known stays."""
    model = mixed()
    g = seeded(2)
    codes = model.sample(6_000, g)
    known = torch.rand(6_000, 3, generator=g) < 0.5
    known[:2_000] = torch.tensor([True, False, True])
    known[2_000:4_000] = torch.tensor([True, False, False])
    allowed = {"c1": asked_of(-1.0, 1.0)}
    filled = model.fill(codes, known, seeded(3), allowed)
    for place, column in enumerate(model.columns):
        rows = known[:, place]
        assert torch.equal(column.index(codes)[rows], column.index(filled)[rows])
        value, told = column.scalar_of(codes), column.scalar_of(filled)
        if value is not None and told is not None:
            assert torch.equal(value[rows], told[rows])
    missing = ~known[:, 1]
    assert (filled.indices[missing, 1] < 2).all(), "the third index is not allowed"
    # With the first column known alone, the others are drawn as when it is given.
    drawn = Codes(*(part[2_000:4_000] for part in filled))
    for category in range(3):
        mine = drawn.take(drawn.indices[:, 0] == category)
        if mine.rows > 200:
            asked = {"c0": Bounds.just(category, 3), **allowed}
            alike(mine, model.sample(mine.rows, seeded(4), asked))


def test_what_is_filled_changes_with_what_is_known(seeded: Callable[[int], Generator]) -> None:
    model = mixed()
    codes = Codes(torch.zeros(2_000, 3, dtype=torch.uint8), torch.zeros(2_000, 2))
    codes.indices[1_000:, 0] = 2
    known = torch.tensor([[True, False, False]]).expand(2_000, -1)
    filled = model.fill(codes, known, seeded(0))
    halves = [filled.scalars[rows, 0].numpy() for rows in (slice(1_000), slice(1_000, None))]
    assert stats.ks_2samp(*halves).pvalue < 1e-3


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
    for _ in learn(model, codec.layout, draw.uniform, Resident(codes), Plan(3_000, 256, 40, 0)):
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
        rates.append(model.optimizers[0].param_groups[0]["lr"] / model.rate)
    assert rates == pytest.approx([0.04, 0.52, 1, 0.5, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("columns", "rows", "settings", "width"),
    [
        (1, 100, {}, 128),
        (1, 32_561, {}, 128),
        (1, 32_561, {"preset": "small"}, 64),
        (1, 32_561, {"preset": "small", "hidden": 48}, 48),
        (1, 100_000, {}, 256),
        (1, 10**9, {}, 256),
        (1, 10**9, {"preset": "small"}, 128),
        (1_000, 10**9, {}, 64),
        (1, None, {}, 256),  # a run that does not say: as all were then
        (1, None, {"preset": "small"}, 128),
    ],
)
def test_networks_are_wider_for_more_rows_and_narrower_for_many_columns(
    columns: int, rows: int | None, settings: dict[str, Any], width: int
) -> None:
    names = [f"c{place}" for place in range(columns)]
    layout = Layout.of([(name, (Part("category", 2),)) for name in names], rows)
    with torch.device("meta"):
        model = Model(layout, dict.fromkeys(names, (0.5, 0.5)), Config(**settings))
    assert model.width == width


def test_narrower_networks_learn_at_a_higher_rate_unless_one_is_said() -> None:
    layout = Layout.of([("c0", (Part("category", 2),))])
    told = [Config(hidden=width) for width in (256, 64)] + [Config(hidden=64, rate=1e-4)]
    rates = [Model(layout, {"c0": (0.5, 0.5)}, config).rate for config in told]
    assert rates == pytest.approx([2e-3, 4e-3, 1e-4])


def test_what_is_pooled_is_learned_and_not_drawn(seeded: Callable[[int], Generator]) -> None:
    model = small((Part("category", 4, pooled=3),), (Part("category", 2),))
    model.biases[0].data = torch.tensor([0.0, 0.0, 0.0, 3.0])
    drawn = model.sample(2_000, seeded(0)).indices[:, 0]
    assert set(drawn.tolist()) == {0, 1, 2}
    codes = Codes(torch.tensor([[3, 0]], dtype=torch.uint8), torch.empty(1, 0))
    assert torch.isfinite(model.bits(codes)).all()


def test_dropout_is_for_tables_that_would_be_known_by_heart() -> None:
    model = small((Part("category", 2),), dropout=None)
    shares = []
    for rows in (1_000, 32_000, 320_000):
        model.trains_on(rows)
        shares.append(model.dropout)
    assert shares == [0.5, 0.5, 0.05]
    model = small((Part("category", 2),), dropout=0.3)
    model.trains_on(1_000)
    assert model.dropout == 0.3


def test_large_tables_are_passed_over_less_often_and_seen_more() -> None:
    passes = [epochs(rows, Config()) for rows in (100, 10_000, 32_000, 320_000, 32_000_000)]
    assert passes == [100, 40, 12, 7, 2]
