"""CTGAN: its condition, its losses, its critic."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from raysynth.draw import Batch
from raysynth.layout import Bounds, Codes
from raysynth.learn import capture, restore
from raysynth.models import ctgan
from raysynth.networks import soften
from tests.training import KINDS, Fitted, Make, Seeded, assert_dense, batches, equal, trained


def given_of(model: Any, rows: int) -> Tensor | None:
    """Conditions of every category in turn."""
    return torch.arange(rows) % model.given_width if model.given_width else None


def batch_of(model: Any, codes: Codes, rows: int) -> Batch:
    return Batch(codes.take(slice(0, rows)), given_of(model, rows))


def test_given_reaches_the_right_bit_of_every_category_column(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """One 1 in the condition, in the asked column, for every column and value (check 2)."""
    layout = fitted["mixed"][0].layout
    model = make("ctgan", fitted["mixed"][0])
    bits = [(span, index) for span in layout.categories for index in range(span.size)]
    assert model.given_width == len(bits)
    for place, (span, index) in enumerate(bits):
        found = model.conditions(5, seeded(0), {span.column: Bounds.just(index, span.size)})
        assert found.tolist() == [place] * 5


def test_of_several_given_values_the_rarest_is_the_condition(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec = fitted["mixed"][0]
    model, spans = make("ctgan", codec), codec.layout.categories
    least = {span.column: int(np.argmin(codec.shares[span.column])) for span in spans}
    rarest = {span.column: Bounds.just(least[span.column], span.size) for span in spans}
    shares = [min(codec.shares[span.column]) for span in spans]
    place = int(np.argmin(shares))
    offset = sum(span.size for span in spans[:place])
    told = model.conditions(1, seeded(0), rarest)
    assert told.item() == offset + least[spans[place].column]


def test_the_cross_entropy_is_taken_within_the_asked_column(fitted: Fitted, make: Make) -> None:
    """For every category of every column, against the logits of that column alone (check 2)."""
    layout = fitted["mixed"][0].layout
    model = make("ctgan", fitted["mixed"][0])
    torch.manual_seed(0)
    logits = torch.randn(model.given_width, layout.width)
    terms, row = [], 0
    for span in layout.categories:
        for index in range(span.size):
            target = torch.tensor([index])
            terms.append(functional.cross_entropy(logits[row : row + 1, span.slice], target))
            row += 1
    missed = model._missed(logits, torch.arange(model.given_width))
    assert torch.allclose(missed, torch.stack(terms).mean())


def test_a_looked_up_condition_is_a_layer_over_its_one_hot(fitted: Fitted, make: Make) -> None:
    """Generator and critic equal the paper's fully connected layers over rows and condition."""
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, pack=3, dropout=0).eval()
    torch.manual_seed(0)
    given, noise = torch.randint(model.given_width, (12,)), torch.randn(12, 16)
    hot = functional.one_hot(given, model.given_width).float()
    parts = torch.split(model.generator.given.weight, model.generator.widths, dim=1)
    hidden = noise
    layers = list(zip(model.generator.layers, parts, strict=True))
    for (layer, part), norm in zip(layers[:-1], model.generator.norms, strict=True):
        weight = torch.cat([layer.weight, part.T], dim=1)
        before = functional.linear(torch.cat([hidden, hot], 1), weight, layer.bias)
        hidden = torch.cat([norm(before).relu(), hidden], 1)
    layer, part = layers[-1]
    weight = torch.cat([layer.weight, part.T], dim=1)
    logits = functional.linear(torch.cat([hidden, hot], 1), weight, layer.bias)
    assert torch.allclose(model.generator(noise, given), logits, atol=1e-5)

    rows = model._pack(codec.layout.expand(codes.take(slice(0, 12))))
    both = torch.cat([rows, hot.view(4, -1)], dim=1)
    critic = model.critic
    weight = torch.cat([critic.layers[0].weight, critic.given.weight.T], dim=1)
    hidden = functional.leaky_relu(functional.linear(both, weight, critic.layers[0].bias), 0.2)
    for layer in critic.layers[1:-1]:
        hidden = functional.leaky_relu(layer(hidden), 0.2)
    score, _ = critic(rows, critic.asked(given), torch.Generator())
    assert torch.allclose(score, critic.layers[-1](hidden)[:, 0], atol=1e-5)


def test_sampling_conditions_follow_the_true_marginals(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """Columns alike, categories by their share of the table (check 3)."""
    codec = fitted["mixed"][0]
    drawn = make("ctgan", codec).conditions(60_000, seeded(0)).numpy()
    offset, totals = 0, []
    for span in codec.layout.categories:
        mine = drawn[(drawn >= offset) & (drawn < offset + span.size)] - offset
        counts = np.bincount(mine, minlength=span.size)
        expected = np.array(codec.shares[span.column]) * len(mine)
        assert stats.chisquare(counts, expected).pvalue > 1e-3
        totals.append(len(mine))
        offset += span.size
    assert sum(totals) == 60_000
    assert stats.chisquare(totals).pvalue > 1e-3


class Seen:
    """What a method of the critic is shown first, call by call."""

    def __init__(self, model: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[Tensor] = []
        plain = getattr(model.critic, method)

        def spy(rows: Tensor, *rest: Any) -> Any:
            self.rows.append(rows.detach())
            return plain(rows, *rest)

        monkeypatch.setattr(model.critic, method, spy)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fake_the_critic_sees_is_activated(
    kind: str, fitted: Fitted, make: Make, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the critic's step and the generator's, with and without category columns (check 4)."""
    codec, codes = fitted[kind]
    model = make("ctgan", codec, pack=3)
    seen, batch = Seen(model, "entered", monkeypatch), batch_of(model, codes, 60)
    model.critic_losses(batch, seeded(0))
    model.generator_losses(batch, seeded(0))
    both, fake = (rows.view(-1, codec.layout.width) for rows in seen.rows)
    assert torch.equal(both[60:], codec.layout.expand(batch.codes))
    for rows in (both[:60], fake):
        assert_dense(rows, codec.layout)
        assert not torch.equal(rows, codec.layout.expand(batch.codes))


def test_fake_and_real_share_condition_and_one_blend_a_pack(
    fitted: Fitted, make: Make, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blended behind the first layer, which is linear: what it makes of the blended pack."""
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, pack=5, critic=[64])
    packs, entered = (Seen(model, method, monkeypatch) for method in ("entered", "scored"))
    batch = batch_of(model, codes, 200)
    model.critic_losses(batch, seeded(0))
    blended, both = entered.rows
    fake, real = both.split(40)
    apart = (fake - real).abs() > 1e-2
    blends = (blended - real) / (fake - real)
    of_pack = [row[mask] for row, mask in zip(blends, apart, strict=True)]
    assert all(len(row) > 50 and row.std() < 1e-4 for row in of_pack)
    blend = torch.stack([row.mean() for row in of_pack])[:, None]
    fake, real = packs.rows[0].split(40)
    asked = model.critic.asked(batch.given)
    assert torch.allclose(
        blended, model.critic.entered(torch.lerp(real, fake, blend), asked), atol=1e-4
    )
    means = torch.stack([row.mean() for row in of_pack])
    assert stats.kstest(means.numpy(), "uniform").pvalue > 1e-3


def linear_critic(model: Any, scale: float) -> None:
    """Make the critic linear wherever rows lie, with a gradient of norm `scale` over a pack."""
    critic = model.critic
    with torch.no_grad():
        for layer in critic.layers:
            layer.weight.zero_()
            layer.bias.fill_(1_000.0)
            layer.weight[0, 0] = 1.0
        direction = torch.randn(critic.layers[0].in_features)
        critic.layers[0].weight[0] = scale * direction / direction.norm()


@pytest.mark.parametrize(("scale", "penalty"), [(1.0, 0.0), (3.0, 40.0)])
def test_the_penalty_of_a_linear_critic_is_known(
    scale: float, penalty: float, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """Nothing for a unit gradient over the whole pack, else 10 (norm - 1) ** 2 (check 5)."""
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, pack=4, dropout=0)
    linear_critic(model, scale)
    losses = model.critic_losses(batch_of(model, codes, 80), seeded(0))
    assert losses["penalty"].item() == pytest.approx(penalty, abs=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("critic", [[16], [16, 12], [16, 12, 8]])
@pytest.mark.parametrize("kind", ["mixed", "numbers"])
def test_the_penalty_equals_autograds_to_second_order(
    kind: str, critic: list[int], dropout: float, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """The written-out gradient is autograd's, and so is the penalty's own on every weight."""
    codec, codes = fitted[kind]
    model = make("ctgan", codec, pack=3, dropout=dropout, critic=critic)
    batch = batch_of(model, codes, 30)
    rows = model._pack(codec.layout.expand(batch.codes)).requires_grad_()

    scores, _ = model.critic(rows, model.critic.asked(batch.given), seeded(1))
    (told,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
    (told.norm(dim=1) - 1).square().mean().backward()
    expected = {n: w.grad.clone() for n, w in model.critic.named_parameters() if w.grad is not None}

    model.critic.zero_grad(set_to_none=True)
    with torch.no_grad():
        _, slopes = model.critic(rows, model.critic.asked(batch.given), seeded(1))
    gradient = model.critic.gradient(slopes)
    assert torch.allclose(gradient, told, atol=1e-6)
    assert (gradient.norm(dim=1) > 0).all()
    (gradient.norm(dim=1) - 1).square().mean().backward()
    for name, weight in model.critic.named_parameters():
        if weight.grad is None:  # autograd gives it zeros: it moves no slope
            assert not expected.get(name, torch.zeros(1)).any(), name
        else:
            assert torch.allclose(weight.grad, expected[name], atol=1e-6), name
    assert any(gradient.any() for gradient in expected.values())


def test_dropout_keeps_the_score_on_average(fitted: Fitted, make: Make, seeded: Seeded) -> None:
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, pack=1, dropout=0.5, critic=[64])
    plain = make("ctgan", codec, pack=1, dropout=0, critic=[64])
    batch = batch_of(model, codes, 20)
    rows = codec.layout.expand(batch.codes)
    asked = model.critic.asked(batch.given)
    g = seeded(0)
    drawn = torch.stack([model.critic(rows, asked, g)[0] for _ in range(2_000)])
    told, _ = plain.critic(rows, plain.critic.asked(batch.given), g)
    assert (drawn.std(0) > 0).all()
    error = (drawn.mean(0) - told) / (drawn.std(0) / 2_000**0.5)
    assert error.abs().max() < 4.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_row_does_not_depend_on_its_batch_mates(
    kind: str, fitted: Fitted, make: Make
) -> None:
    """In eval mode, for fixed noise: batches of any order and size give the same row (check 6)."""
    codec, codes = fitted[kind]
    model = trained(make("ctgan", codec), codes, 2).eval()
    torch.manual_seed(0)
    noise, given = torch.randn(40, 16), given_of(model, 40)
    whole = model.generator(noise, given)
    order = torch.randperm(40)
    moved = model.generator(noise[order], None if given is None else given[order])
    assert torch.allclose(moved, whole[order], atol=1e-5)
    one = model.generator(noise[:1], None if given is None else given[:1])
    assert torch.allclose(one, whole[:1], atol=1e-5)
    model.train()
    assert not torch.allclose(model.generator(noise, given), whole, atol=1e-3)


def test_each_update_leaves_the_other_network_alone(fitted: Fitted, make: Make) -> None:
    """Its weights and its gradients, in both directions."""
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec, critic_steps=2)
    critic, maker = model.optimizers
    seen: list[str] = []
    kept = [w.detach().clone() for w in model.generator.parameters()]
    left: list[tuple[Tensor, Tensor]] = []

    def before_critic(*_: Any) -> None:
        seen.append("critic")
        assert all(w.grad is None for w in model.generator.parameters())
        assert any(w.grad.any() for w in model.critic.parameters())

    def after_critic(*_: Any) -> None:
        left[:] = [(w.detach().clone(), w.grad.clone()) for w in model.critic.parameters()]

    def before_maker(*_: Any) -> None:
        seen.append("generator")
        for old, weight in zip(kept, model.generator.parameters(), strict=True):
            assert torch.equal(old, weight), "the critic's updates moved the generator"

    critic.register_step_pre_hook(before_critic)
    critic.register_step_post_hook(after_critic)
    maker.register_step_pre_hook(before_maker)
    model.step(batches("ctgan", model, codes, 60, 0), torch.Generator().manual_seed(0))
    assert seen == ["critic", "critic", "generator"]
    for (old, slope), weight in zip(left, model.critic.parameters(), strict=True):
        assert torch.equal(old, weight), "the generator's update moved the critic"
        assert torch.equal(slope, weight.grad), "it left gradients on the critic"
        assert weight.requires_grad


def test_the_losses_are_wassersteins(fitted: Fitted, make: Make, seeded: Seeded) -> None:
    """Mean over packs of fake minus real for the critic; minus fake for the generator."""
    codec, codes = fitted["numbers"]
    model = make("ctgan", codec, pack=2, dropout=0)
    linear_critic(model, 1.0)
    batch = batch_of(model, codes, 40)
    with torch.no_grad():
        g = seeded(3)
        fake = model._pack(model._soft(model._logits(batch, g), g))
    real = model._pack(codec.layout.expand(batch.codes))
    direction = model.critic.layers[0].weight[0]
    losses = model.critic_losses(batch, seeded(3))
    # Two biases of 1,000 and a third are in both scores, and cancel.
    assert losses["critic"].item() == pytest.approx(
        ((fake @ direction).mean() - (real @ direction).mean()).item(), abs=1e-3
    )
    told = model.generator_losses(batch, seeded(3))
    assert told["generator"].item() == pytest.approx(
        -((fake @ direction).mean().item() + 3_000), abs=1e-2
    )
    assert told["condition"].item() == 0


@pytest.mark.parametrize(
    ("batch", "pack", "rows"),
    [(500, 10, 500), (7, 10, 10), (64, 10, 60), (7, 1, 7), (10, 3, 9), (1, 1, 2)],
)
def test_a_batch_is_cut_to_whole_packs_and_holds_one(batch: int, pack: int, rows: int) -> None:
    assert ctgan.batch_rows(batch, ctgan.Config(pack=pack)) == rows


# -- the improved preset ------------------------------------------------------------------------


def test_a_preset_is_what_is_not_said() -> None:
    improved = ctgan.Config()
    assert (improved.numbers, improved.conditional, improved.pack) == ("normal", False, 1)
    mixed = ctgan.Config(preset="improved", pack=4)
    assert (mixed.pack, mixed.average) == (4, 0.998)
    paper = ctgan.Config(preset="paper")
    assert (paper.numbers, paper.conditional, paper.average) == ("modes", True, 0.0)
    assert ctgan.encoding(improved).number == "normal"
    assert ctgan.encoding(paper).number == "modes"


def test_the_papers_preset_keeps_the_last_weights(fit: Any, tables: Any, make: Make) -> None:
    codec, _ = fit(tables["mixed"])
    assert not make("ctgan", codec).chooses
    assert make("ctgan", codec, preset="improved").chooses


def test_without_a_condition_rows_are_drawn_alike_and_nothing_is_asked(
    fit: Any, tables: Any, make: Make, seeded: Seeded
) -> None:
    codec, codes = fit(tables["mixed"])
    model = make("ctgan", codec, conditional=False)
    assert model.given_width == 0
    assert model.conditions(5, seeded(0)) is None
    batch = next(batches("ctgan", model, codes, 60, 0))
    assert batch.given is None
    assert model.step(iter([batch] * 2), seeded(1))["condition"] == 0


def test_rows_are_drawn_from_the_average_of_the_generator(
    fit: Any, tables: Any, make: Make, seeded: Seeded
) -> None:
    codec, codes = fit(tables["mixed"])
    model = make("ctgan", codec, average=0.75)
    name = "layers.0.weight"
    weights = dict(model.generator.named_parameters())
    average = weights[name].detach().clone()
    drawn = batches("ctgan", model, codes, 60, 0)
    for turn in range(40):
        model.step(drawn, seeded(turn))
        kept = min(0.75, (2 + turn) / (11 + turn))
        average = average + (1 - kept) * (weights[name].detach() - average)
    assert kept == 0.75
    assert torch.allclose(model.average.layers_0_weight, average, atol=1e-6)
    before = model.sample(64, seeded(5))
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.add_(1.0)
    after = model.sample(64, seeded(5))
    assert torch.equal(before.indices, after.indices)
    with torch.no_grad():
        model.average.layers_0_weight.add_(1.0)
    assert not torch.equal(before.scalars, model.sample(64, seeded(5)).scalars)


@pytest.mark.parametrize("kind", KINDS)
def test_the_improved_preset_trains_and_goes_on_where_it_was_stopped(
    kind: str, fit: Any, tables: Any, make: Make, seeded: Seeded
) -> None:
    codec, codes = fit(tables[kind], "ctgan", share=0.02)
    small = {"batch": 100, "noise": 16, "generator": [32], "critic": [32]}
    settings = ctgan.Config.improved | small
    whole = trained(make("ctgan", codec, **settings), codes, 4)
    half = trained(make("ctgan", codec, **settings), codes, 4, until=2)
    other = make("ctgan", codec, seed=7, **settings)
    done = restore(other, capture(half, 2), "here")
    resumed = trained(other, codes, 4, done)
    assert equal(whole.sample(64, seeded(5)), resumed.sample(64, seeded(5)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_relativistic_losses_and_the_penalty_at_both_kinds_of_row(
    kind: str, fit: Any, tables: Any, make: Make, seeded: Seeded
) -> None:
    """Each drawn row against a real one; half the mean squared slope of both, by autograd."""
    codec, codes = fit(tables[kind], "ctgan-improved")
    model = make("ctgan-improved", codec, penalty=4.0)
    batch = batch_of(model, codes, 50)._replace(given=None)
    real = codec.layout.expand(batch.codes)
    g = seeded(3)
    with torch.no_grad():
        fake = model._soft(model._logits(batch, g), g)
    points = torch.cat([fake, real]).requires_grad_()
    scores, _ = model.critic(points, None, g)
    (slopes,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    penalty = 4.0 * 0.5 * (slopes[:50].square().sum(1).mean() + slopes[50:].square().sum(1).mean())
    apart = scores[50:] - scores[:50]
    losses = model.critic_losses(batch, seeded(3))
    assert losses["penalty"].item() == pytest.approx(penalty.item(), rel=1e-4)
    assert losses["critic"].item() == pytest.approx(-apart.sigmoid().log().mean().item(), rel=1e-4)
    expected = torch.autograd.grad(penalty, model.critic.layers[0].weight)[0]
    told = torch.autograd.grad(losses["penalty"], model.critic.layers[0].weight)[0]
    assert expected.any()
    assert torch.allclose(told, expected, atol=1e-5)
    made = model.generator_losses(batch, seeded(3))["generator"]
    assert made.item() == pytest.approx(-(-apart).sigmoid().log().mean().item(), rel=1e-4)


def test_a_hushed_scalar_goes_as_its_index_does(
    fit: Any, tables: Any, make: Make, seeded: Seeded
) -> None:
    codec, _ = fit(tables["mixed"], "ctgan-improved")
    layout = codec.layout
    logits = torch.randn(50, layout.width, generator=seeded(0))
    loud, hushed = (soften(logits, layout, 0.2, seeded(1), hush) for hush in (False, True))
    silenced = 0
    for column in layout.columns:
        if column.choice is not None:
            assert torch.equal(loud[:, column.choice.slice], hushed[:, column.choice.slice])
        if column.scalar is None:
            continue
        said = torch.ones(50)
        if column.choice is not None:
            said = loud[:, column.choice.slice] @ column.says(torch.arange(column.size)).float()
        place = column.scalar.start
        assert torch.allclose(hushed[:, place], loud[:, place] * said, atol=1e-6)
        silenced += int((said < 0.5).sum())
    assert silenced > 10


def test_rates_fall_to_nothing_along_a_cosine(fitted: Fitted, make: Make) -> None:
    model = make("ctgan", fitted["mixed"][0], anneal=True, critic_rate=1e-3, generator_rate=4e-4)
    for share, scale in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (0.25, 0.5 + 0.125**0.5)):
        model.at(share)
        told = [optimizer.param_groups[0]["lr"] for optimizer in model.optimizers]
        assert told == pytest.approx([scale * 1e-3, scale * 4e-4], abs=1e-9)
    model.pace = 0.5
    model.at(0.5)
    assert model.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.25e-3)


@pytest.mark.parametrize(
    ("preset", "rows", "epochs"),
    [("paper", 10, 300), ("paper", 10**7, 300), ("improved", 10, 600), ("improved", 50_000, 100)],
)
def test_an_improved_training_takes_as_many_rows_within_reason(
    preset: str, rows: int, epochs: int
) -> None:
    assert ctgan.epochs(rows, ctgan.Config(preset=preset)) == epochs
