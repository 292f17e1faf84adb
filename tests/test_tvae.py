"""TVAE: its bound, its decoder's distributions, and what is drawn from them."""

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from raysynth import draw
from raysynth.codecs import modes
from raysynth.layout import Codes, Layout, Part
from raysynth.learn import Plan, Resident, learn
from raysynth.models import tvae
from raysynth.models.tvae import Config, Model
from raysynth.sampler import Sampler
from tests.training import KINDS, Fitted, Make, Seeded, batches, trained


@pytest.fixture(scope="session")
def coded(fit: Any, tables: dict[str, pa.Table]) -> Fitted:
    """Codecs and codes of the small tables, as the family asks for them."""
    return {kind: fit(table, "tvae") for kind, table in tables.items()}


def plain(*columns: tuple[Part, ...], **settings: Any) -> Model:
    """A small model of these columns."""
    layout = Layout.of([(f"c{place}", parts) for place, parts in enumerate(columns)])
    torch.manual_seed(1)
    config = {"preset": "paper", "latent": 2, "encoder": [16], "decoder": [16], **settings}
    return Model(layout, {}, Config.model_validate(config))


def test_what_is_encoded_comes_back_but_what_lies_past_the_clip(
    coded: Fitted, tables: dict[str, pa.Table]
) -> None:
    """Check 1: in every column, and hardly an offset lies at the clip."""
    (codec, codes), table = coded["mixed"], tables["mixed"]
    back = codec.decode(codes, np.arange(table.num_rows, dtype=np.uint64), seed=0)
    clipped = codes.scalars.abs() >= modes.CLIP - 1e-6
    assert clipped.float().mean() < 0.01
    for name in table.column_names:
        was, now = table[name].to_pandas(), back[name].to_pandas()
        assert was.isna().equals(now.isna())
        if pa.types.is_floating(table[name].type):
            # A range ends where ten rows lie beyond: those come back as its end.
            inside = (was > now.min()) & (was < now.max())
            assert inside.sum() >= was.notna().sum() - 2 * 11
            assert np.allclose(was[inside], now[inside], atol=1e-5)
        elif name != "grade":
            assert (was == now)[was.notna()].mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_the_width_is_one_for_each_scalar_and_choice(coded: Fitted, make: Make, kind: str) -> None:
    """Check 2: both networks have it, and the decoder tells one width of a normal a scalar."""
    codec = coded[kind][0]
    parts = [part for column in codec.codecs for part in column.parts]
    numbers = sum(part.kind == "scalar" for part in parts)
    width = numbers + sum(part.size for part in parts if part.kind != "scalar")
    model = make("tvae", codec)
    assert model.encoder[0].in_features == model.decoder[-1].out_features == width
    assert model.stds.shape == (numbers,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_batch_mates(coded: Fitted, make: Make, kind: str) -> None:
    """Check 6, in training as well: there is no batch norm."""
    codec, codes = coded[kind]
    model = trained(make("tvae", codec), codes, 2).eval()
    torch.manual_seed(0)
    latent, order = torch.randn(40, 8), torch.randperm(40)
    whole = model.decoder(latent)
    assert torch.allclose(model.decoder(latent[order]), whole[order], atol=1e-5)
    assert torch.allclose(model.decoder(latent[:1]), whole[:1], atol=1e-5)
    assert torch.allclose(model.train().decoder(latent), whole, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_covers_every_block(coded: Fitted, make: Make, seeded: Seeded, kind: str) -> None:
    """Check 7: every softmax, modes included, and every scalar that says something."""
    codec, codes = coded[kind]
    model, codes = make("tvae", codec), codes.take(slice(0, 200))
    model.stds.data.uniform_(0.05, 0.9, generator=seeded(1))
    logits = torch.randn(200, codec.layout.width, generator=seeded(0)).requires_grad_()
    expected = torch.zeros(200)
    bare = {s.column: s.size - s.bare for s in codec.layout.choices}
    index = {s.column: codes.indices[:, s.slot].long() for s in codec.layout.choices}
    for span in codec.layout.spans:
        block = logits[:, span.slice]
        if span.kind == "scalar":
            normal = Normal(block[:, 0].tanh(), model.stds[span.slot])
            says = index[span.column] < bare[span.column]
            expected = expected - normal.log_prob(codes.scalars[:, span.slot]) * says
        else:
            expected = expected - Categorical(logits=block).log_prob(index[span.column])
    missed = model.missed(logits, codes)
    assert torch.allclose(missed, expected, rtol=1e-4, atol=1e-4)
    missed.sum().backward()
    assert logits.grad is not None
    for span in codec.layout.choices:
        assert (logits.grad[:, span.slice] != 0).all()
    for span in codec.layout.scalars:
        says = index[span.column] < bare[span.column]
        assert torch.equal(logits.grad[:, span.start] != 0, says)
        assert 0 < says.sum() <= 200


def test_the_divergence_is_that_of_two_normals(coded: Fitted, make: Make, seeded: Seeded) -> None:
    codec, codes = coded["mixed"]
    model = trained(make("tvae", codec), codes, 2)
    means, log_variances = model.encoder(codec.layout.expand(codes)).chunk(2, 1)
    there = Normal(means, (0.5 * log_variances).exp())
    apart = kl_divergence(there, Normal(0.0, 1.0)).sum(1).mean()
    assert apart > 0.01
    assert torch.allclose(model.losses(codes, seeded(0))["divergence"], apart, rtol=1e-4)


def test_the_bound_lies_below_the_likelihood_of_every_row(seeded: Seeded) -> None:
    """And nowhere far below it, once trained; likelihoods, summed over codes, come to one."""
    sizes = (2, 3)
    model = plain(*((Part("category", size),) for size in sizes), factor=1.0, rate=1e-2)
    every = torch.tensor(list(product(*map(range, sizes))), dtype=torch.uint8)
    seen = every[[0, 0, 0, 4, 4, 5]].repeat(50, 1)
    rows = Codes(seen, torch.empty(len(seen), 0))
    for _ in learn(model, model.layout, draw.uniform, Resident(rows), Plan(300, 100, 100, 0)):
        pass
    with torch.inference_mode():
        latent = torch.randn(20_000, 2, generator=seeded(0))
        blocks = [block.softmax(1) for block in model.decoder(latent).split(sizes, 1)]
        likely = torch.einsum("za,zb->zab", *blocks).mean(0).flatten()
        assert float(likely.sum()) == pytest.approx(1, abs=1e-5)
        for row, chance in zip(every, likely, strict=True):
            same = Codes(row.expand(20_000, -1), torch.empty(20_000, 0))
            bound = -sum(model.losses(same, seeded(1)).values())
            assert bound < chance.log() + 0.02
            if chance > 0.1:
                assert bound > chance.log() - 0.5
    assert likely[[0, 4, 5]].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.08)


def test_an_argmax_is_of_the_logits_and_a_draw_follows_the_softmax(
    coded: Fitted, make: Make, seeded: Seeded
) -> None:
    """Check 7: logits past 9 or so, whose tanh is the same, are told apart."""
    codec = coded["mixed"][0]
    model, layout = make("tvae", codec, draw="argmax"), codec.layout
    logits = 12 + 3 * torch.rand(300, layout.width, generator=seeded(0))
    assert (logits.tanh() == 1).all()
    drawn = model.drawn(logits, seeded(1))
    for span in layout.choices:
        highest = logits[:, span.slice].argmax(1)
        assert torch.equal(drawn.indices[:, span.slot].long(), highest)
        assert highest.unique().numel() > 1
    model = make("tvae", codec, draw="softmax")
    drawn = model.drawn(logits[:1].expand(20_000, -1), seeded(1))
    for span in layout.choices:
        counts = drawn.indices[:, span.slot].long().bincount(minlength=span.size).numpy()
        expected = logits[0, span.slice].double().softmax(0).numpy() * 20_000
        assert stats.chisquare(counts, expected / expected.sum() * 20_000).pvalue > 1e-4


def test_scalars_are_drawn_from_their_normal_cut_to_the_range(seeded: Seeded) -> None:
    """And are 0 where the index says all, and drawn as well where there is no index."""
    model = plain((Part("scalar"), Part("mode", 3, bare=1)), (Part("scalar"),))
    model.stds = nn.Parameter(torch.tensor([0.3, 0.5]), requires_grad=False)
    logits = torch.tensor([0.4, 0.0, 0.0, 0.0, -0.8]).expand(30_000, -1)
    drawn = model.drawn(logits, seeded(0))
    bare = drawn.indices[:, 0] == 2
    assert bare.float().mean() == pytest.approx(1 / 3, abs=0.02)
    assert not drawn.scalars[bare, 0].any()
    assert drawn.scalars[:, 0].abs().max() <= 1
    for scalars, at, std in (
        (drawn.scalars[~bare, 0], 0.4, 0.3),
        (drawn.scalars[:, 1], -0.8, 0.5),
    ):
        normal = stats.norm(np.tanh(at), std)
        assert (scalars == -1).float().mean() == pytest.approx(normal.cdf(-1), abs=0.01)
        assert (scalars == 1).float().mean() == pytest.approx(normal.sf(1), abs=0.01)
        inside = scalars[scalars.abs() < 1].numpy()
        mean = np.tanh(at)
        cut = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, mean, std)
        assert stats.kstest(inside, cut.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("scalar", "end"), [(0.0, tvae.NARROWEST), (0.99, tvae.WIDEST)])
def test_a_scalars_width_keeps_to_its_range(scalar: float, end: float, seeded: Seeded) -> None:
    """Rows at the mean make it narrow, rows far from it wide, up to the ends and no further."""
    model = plain((Part("scalar"),), rate=0.2)
    for weight in model.decoder.parameters():
        weight.data.zero_()
        weight.requires_grad_(False)
    signs = torch.tensor([-1.0, 1.0]).repeat(50)
    rows = Codes(torch.empty(100, 0, dtype=torch.uint8), (3 * scalar * signs)[:, None])
    drawn = batches("tvae", model, rows, 100, 0)
    for _ in range(20):
        model.step(drawn, seeded(0))
    assert model.stds.item() == pytest.approx(end, abs=1e-6)


def test_points_and_nulls_leave_the_width_of_a_scalar_alone(make: Make, coded: Fitted) -> None:
    """Its gradient is that of the rows whose scalar says something."""
    codec, codes = coded["mixed"]
    model = make("tvae", codec)
    logits = torch.randn(codes.rows, codec.layout.width)
    (span,) = (s for s in codec.layout.scalars if s.column == "whole")
    says = model._says(codes)[:, span.slot]
    assert 0.2 < says.mean() < 0.8, "six in ten are zeros"

    def slope(part: Tensor) -> Tensor:
        model.zero_grad()
        model.missed(logits[part], codes.take(part)).sum().backward()
        assert model.stds.grad is not None
        return model.stds.grad[span.slot]

    assert slope(says == 0) == 0
    everything = torch.ones_like(says, dtype=torch.bool)
    assert slope(everything).item() == pytest.approx(slope(says == 1).item(), rel=1e-4)


def test_a_table_smaller_than_a_batch_is_learned(coded: Fitted, make: Make) -> None:
    codec, codes = coded["mixed"]
    few = codes.take(slice(0, 30))
    model = make("tvae", codec, rate=1e-2)
    plan = Plan(few.rows, batch=500, epochs=60, seed=0)
    told = [
        sum(e.losses.values())
        for e in learn(model, codec.layout, draw.uniform, Resident(few), plan)
    ]
    assert len(told) == 60
    assert told[-1] < told[0] - 5


def test_what_depends_is_learned_and_what_is_rare_is_drawn(fit: Any) -> None:
    g = np.random.default_rng(0)
    size = g.choice(["s", "m", "l"], 3_000)
    centre = {"s": 0.0, "m": 5.0, "l": 9.0}
    rare = g.choice(["often", "seldom"], 3_000, p=[0.95, 0.05])
    weight = np.array([centre[s] for s in size]) + g.normal(0, 0.3, 3_000)
    table = pa.table({"size": size, "weight": weight, "rare": rare})
    codec, codes = fit(table, "tvae")
    torch.manual_seed(0)
    config = Config(preset="paper", rate=2e-3, latent=8, encoder=(64,), decoder=(64,))
    model = Model(codec.layout, codec.shares, config)
    for _ in learn(model, codec.layout, draw.uniform, Resident(codes), Plan(3_000, 250, 60, 0)):
        pass
    sampler = Sampler(model.eval(), codec, torch.device("cpu"))
    drawn = sampler.sample(4_000, seed=1).to_pandas()
    nearest = drawn.weight.map(lambda w: min(centre, key=lambda size: abs(centre[size] - w)))
    assert (nearest == drawn["size"]).mean() > 0.75, "1 in 3 by chance"
    medians = drawn.groupby("size").weight.median()
    assert all(medians[size] == pytest.approx(at, abs=0.5) for size, at in centre.items())
    assert drawn["size"].value_counts(normalize=True).between(0.25, 0.42).all()
    assert (drawn.rare == "seldom").mean() == pytest.approx(0.05, abs=0.02)
    asked = sampler.sample(500, seed=1, given={"size": "l"}).to_pandas()
    assert (asked["size"] == "l").all()
    assert (asked.weight > 7).mean() > 0.75
    model.config = config.model_copy(update={"draw": "argmax"})
    assert (sampler.sample(4_000, seed=1).to_pandas().rare == "seldom").mean() < 0.01


# -- the improved preset ------------------------------------------------------------------------


def test_the_prior_is_a_mixture_of_normals(seeded: Seeded) -> None:
    """Its density, but for the constant, is torch's own, and what it draws follows it."""
    torch.manual_seed(0)
    prior = tvae.Prior(3, 2)
    with torch.no_grad():
        prior.weights.copy_(torch.tensor([0.0, 1.0, -0.5]))
        prior.log_stds.normal_(std=0.5)
        normals = Independent(Normal(prior.means, prior.log_stds.exp()), 1)
        mixture = MixtureSameFamily(Categorical(logits=prior.weights), normals)
        latent = torch.randn(200, 2, generator=seeded(1))
        constant = np.log(2 * np.pi)  # half of it for each of two numbers
        told = prior.log_density(latent) - constant
        assert torch.allclose(told, mixture.log_prob(latent), atol=1e-4)
        drawn = prior(20_000, seeded(2))
        error = (drawn.mean(0) - mixture.mean) / (drawn.std(0) / 20_000**0.5)
        assert error.abs().max() < 4.5
        assert torch.allclose(drawn.var(0), mixture.variance, rtol=0.05)


def test_the_divergence_from_a_mixture_of_one_standard_normal_is_that_from_the_normal(
    coded: Fitted, make: Make, seeded: Seeded
) -> None:
    """Estimated at drawn codes, whose mean over many draws has no bias."""
    codec, codes = coded["mixed"]
    mixed, plain = make("tvae", codec, prior=4), make("tvae", codec)
    for network in ("encoder", "decoder"):
        getattr(mixed, network).load_state_dict(getattr(plain, network).state_dict())
    with torch.no_grad():
        mixed.prior.means.zero_()
        g = seeded(0)
        told = torch.stack([mixed.losses(codes, g)["divergence"] for _ in range(200)])
        expected = plain.losses(codes, g)["divergence"]
    error = (told.mean() - expected) / (told.std() / 200**0.5)
    assert told.std() > 0
    assert error.abs() < 4


def test_the_prior_learns_where_codes_lie(fit: Any, tables: Any, make: Make) -> None:
    """Its gradient brings drawn codes nearer: the divergence is less than from the normal's."""
    codec, codes = fit(tables["mixed"], "tvae-improved")
    model = trained(make("tvae-improved", codec, rate=1e-2), codes, 60)
    g = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        told = model.losses(codes, g)["divergence"]
        means, log_variances = model.encoder(codec.layout.expand(codes)).chunk(2, 1)
        there = Normal(means, (0.5 * log_variances).exp())
        assert told < kl_divergence(there, Normal(0.0, 1.0)).sum(1).mean() - 0.2


def test_samples_are_of_the_averages(fit: Any, tables: Any, make: Make, seeded: Seeded) -> None:
    codec, codes = fit(tables["mixed"], "tvae-improved")
    model = trained(make("tvae-improved", codec), codes, 2)
    before = model.sample(64, seeded(5))
    with torch.no_grad():
        for weight in (*model.decoder.parameters(), *model.prior.parameters()):
            weight.add_(1.0)
    assert torch.equal(before.scalars, model.sample(64, seeded(5)).scalars)
    for average in model.averages:
        kept = {name: tensor.clone() for name, tensor in average.state_dict().items()}
        with torch.no_grad():
            for tensor in average.buffers():
                tensor.mul_(1.5)
        assert not torch.equal(before.scalars, model.sample(64, seeded(5)).scalars)
        average.load_state_dict(kept)


def test_a_preset_is_what_is_not_said() -> None:
    new, paper = Config(preset="improved", decay=0.5), Config(preset="paper")
    assert (new.prior, new.latent, new.average, new.decay) == (64, 32, 0.998, 0.5)
    assert (paper.numbers, paper.prior, paper.latent, paper.average) == ("modes", 0, 128, 0)
    assert tvae.encoding(paper).number == "modes"
    assert tvae.encoding(Config(numbers="normal")).number == "normal"
    assert [tvae.epochs(50_000, config) for config in (new, paper)] == [100, 300]
