"""TGAN: its recurrence and attention, its discriminator, its losses, how a row is drawn."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draw import Batch
from raysynth.hashing import Chance
from raysynth.layout import Codes, Layout, Part
from raysynth.learn import capture, restore
from raysynth.models import tgan
from tests.conftest import fit_table
from tests.training import KINDS, Fitted, Make, Seeded, assert_dense, batches, trained

SMALL = {"preset": "paper", "noise": 8, "hidden": 16, "features": 8, "discriminator": (16, 16)}


def of(layout: Layout, **settings: Any) -> tgan.Model:
    """A small model of a layout, all of whose indices are as frequent."""
    shares = {span.column: (1 / span.size,) * span.size for span in layout.choices}
    torch.manual_seed(0)
    return tgan.Model(layout, shares, tgan.Config(**{**SMALL, **settings}))


def codes_of(layout: Layout, rows: int) -> Codes:
    """Codes drawn evenly."""
    g = torch.Generator().manual_seed(4)
    sizes = torch.tensor([span.size for span in layout.choices])
    indices = (torch.rand(rows, len(sizes), generator=g) * sizes).to(layout.index_dtype)
    return Codes(indices, torch.rand(rows, len(layout.scalars), generator=g) * 1.8 - 0.9)


def roused(model: Any) -> Any:
    """The model with weights large enough for all it does to be seen."""
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.normal_(std=0.5, generator=torch.Generator().manual_seed(weight.numel()))
    return model


# -- encoding -----------------------------------------------------------------------------------


def test_the_dense_row_is_a_value_and_a_cluster_a_number_and_every_category(
    tables: dict[str, pa.Table], make: Make
) -> None:
    """Its width, and the steps in the table's order, value before cluster (check 2)."""
    codec, _ = fit_table(tables["mixed"], "tgan")
    layout = codec.layout
    numbers = [column for column in layout.columns if column.scalar is not None]
    assert [column.name for column in numbers] == ["real", "whole", "cents"]
    assert layout.width == len(numbers) + sum(span.size for span in layout.choices)
    steps = [(step.span.column, step.span.kind) for step in make("tgan", codec).generator.steps]
    assert steps == [
        *(("real", "scalar"), ("real", "mode"), ("whole", "scalar"), ("whole", "mode")),
        *(("city", "category"), ("cents", "scalar"), ("cents", "mode")),
        *(("yes", "category"), ("grade", "category")),
    ]


def test_numbers_come_back_and_no_offset_is_cut(tables: dict[str, pa.Table]) -> None:
    """Within the clip, of which no row is past (check 1)."""
    table = tables["mixed"]
    codec, codes = fit_table(table, "tgan")
    modes = codec.codecs[0]
    assert len(modes.means) == 5
    assert codes.scalars.abs().max() <= 0.99
    wide = np.array(modes.reaches) / np.array(modes.stds)
    assert wide.min() == pytest.approx(2)
    assert np.log2(wide / 2) * 2 == pytest.approx(np.round(np.log2(wide / 2) * 2))
    back = codec.decode(codes, np.arange(codes.rows, dtype=np.uint64), 0)
    lo, hi = modes.scale.ends
    real, found = (t["real"].to_numpy() for t in (table, back))
    inside = (real >= lo) & (real <= hi)
    assert inside.mean() > 0.95
    assert np.abs(real - found)[inside].max() < 1e-4


def test_a_drawn_cluster_is_on_average_the_posterior(tables: dict[str, pa.Table]) -> None:
    """What the paper's cluster vector holds, where every mode reaches the value."""
    codec, _ = fit_table(tables["mixed"], "tgan")
    modes = codec.codecs[0]
    values = pa.array(np.repeat(np.array(modes.means), 4_000))
    means, stds = np.array(modes.means)[:, None], np.array(modes.stds)[:, None]
    points = means[:, 0]
    reached = np.abs(points - means) <= 0.99 * np.array(modes.reaches)[:, None]
    density = np.array(modes.weights)[: len(points), None] * stats.norm.pdf(points, means, stds)
    posterior = density * reached / (density * reached).sum(0)
    assert (posterior.max(0) < 0.99).any()
    chance = Chance(np.arange(len(values), dtype=np.uint64), 0)
    drawn = modes.encode(values, chance).indices[:, 0].reshape(len(points), -1)
    for row, expected in zip(drawn, posterior.T, strict=True):
        share = np.bincount(row, minlength=len(points))[: len(points)] / len(row)
        assert np.abs(share - expected).max() < 4 * math.sqrt(0.25 / len(row))


# -- generator ----------------------------------------------------------------------------------


def plainly(model: Any, noise: Tensor) -> Tensor:
    """The generator's dense rows by torch's own LSTM cell, everything fed to it at each step."""
    net, rows, width = model.generator, len(noise), model.generator.hidden
    cell = nn.LSTMCell(model.config.features + model.config.noise + width, width)
    fed_weight, seen_weight, state_weight = net.gates.T.split(
        [model.config.features, width, width], dim=1
    )
    order = [1, 0, 3, 2]  # ours are forget, take, show, fresh; torch's take, forget, fresh, show

    def turned(weight: Tensor) -> Tensor:
        return torch.cat([weight.chunk(4)[place] for place in order])

    with torch.no_grad():
        inputs = [fed_weight, net.noise.weight, seen_weight]
        cell.weight_ih.copy_(turned(torch.cat(inputs, dim=1)))
        cell.weight_hh.copy_(turned(state_weight))
        cell.bias_ih.copy_(turned(net.noise.bias))
        cell.bias_hh.zero_()
    fed, seen = net.start.repeat(rows, 1), torch.zeros(rows, width)
    memory, states, blocks = (torch.zeros(rows, width),) * 2, list[Tensor](), {}
    for place, step in enumerate(net.steps):
        memory = cell(torch.cat([fed, noise, seen], dim=1), memory)
        states.append(memory[0])
        if place < len(net.attention):
            shares = net.attention[place, : place + 1].softmax(0)
            seen = torch.stack([s * state for s, state in zip(shares, states, strict=True)]).sum(0)
        fed = step.features(memory[0]).tanh()
        out = step.output(fed)
        blocks[step.span] = out.tanh() if step.span.kind == "scalar" else out.softmax(1)
        if step.after is not None and step.span.kind == "mode":
            fed = blocks[step.span] @ step.after.weight.T + step.after.bias
        if step.after is not None and step.span.kind == "category":
            hot = functional.one_hot(out.argmax(1), step.span.size).float()
            fed = hot @ step.after.weight
    return torch.cat([blocks[span] for span in model.layout.spans], dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_is_an_lstm_with_attention(kind: str, fitted: Fitted, make: Make) -> None:
    """Noise at every step, state and attention carried, each span by its own layers (check 8)."""
    model = roused(make("tgan", fitted[kind][0]))
    noise = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.generator(noise), plainly(model, noise), atol=1e-5)


def test_the_generator_is_the_same_past_many_blocks_of_states() -> None:
    parts = [(f"c{n}", [Part("scalar"), Part("mode", 3)]) for n in range(2 * tgan.BLOCK + 1)]
    model = roused(of(Layout.of(parts)))
    noise = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.generator(noise), plainly(model, noise), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_span_changes_with_the_noise(kind: str, fitted: Fitted, make: Make) -> None:
    codec, _ = fitted[kind]
    model = make("tgan", codec)
    dense = model.generator(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    for span in codec.layout.spans:
        assert (dense[:, span.slice].std(0) > 1e-5).all(), span


def test_every_later_span_changes_with_an_earlier_one_and_no_earlier_does(
    fitted: Fitted, make: Make
) -> None:
    """A step's output is moved, and with it what it feeds on (check 8)."""
    codec, _ = fitted["mixed"]
    model = roused(make("tgan", codec))
    net, noise = model.generator, torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    before = net(noise)
    for place, step in enumerate(net.steps):
        kept = step.features.bias.detach().clone()
        with torch.no_grad():
            step.features.bias += 3.0
            after = net(noise)
            step.features.bias.copy_(kept)
        for other, later in enumerate(net.steps):
            told = torch.equal(before[:, later.span.slice], after[:, later.span.slice])
            assert told == (other < place), (place, other)


def test_a_chosen_category_is_what_later_steps_are_fed(fitted: Fitted, make: Make) -> None:
    codec, _ = fitted["categories"]
    model = roused(make("tgan", codec))
    noise = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    first, second, third = codec.layout.spans
    dense = [
        model.generator(
            noise, lambda span, block, n=n: torch.full((20,), n if span == first else 0)
        )
        for n in (0, 1)
    ]
    assert torch.equal(*(rows[:, first.slice] for rows in dense))
    for span in (second, third):
        assert not torch.allclose(*(rows[:, span.slice] for rows in dense), atol=1e-4)


def test_attention_weighs_the_states_before_a_step_and_sums_to_one() -> None:
    parts = [(f"c{n}", [Part("category", 3)]) for n in range(11)]
    net = roused(of(Layout.of(parts))).generator
    weights = net.weights()
    assert weights.shape == (11, 11)
    assert not weights.triu().any()
    assert (weights.tril(-1) > 0).sum() == 55
    assert torch.allclose(weights.sum(1), torch.tensor([0.0] + [1.0] * 10))


def test_attention_is_learned_for_every_pair_of_steps(fitted: Fitted, make: Make) -> None:
    model = roused(make("tgan", fitted["mixed"][0]))
    model.generator(torch.randn(50, 8)).square().sum().backward()
    slopes = model.generator.attention.grad
    # The first row has one state to see, whatever its weight.
    assert (slopes.tril()[1:].abs() > 0).sum() == slopes.tril()[1:].ne(0).sum() == 35
    assert not slopes.triu(1).any()
    assert model.generator.start.grad.abs().min() > 0


def test_memory_grows_with_the_steps_and_not_with_their_square() -> None:
    def held(columns: int) -> int:
        net = of(Layout.of([(f"c{n}", [Part("category", 2)]) for n in range(columns)])).generator
        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = net(torch.randn(200, 8))
        assert out.requires_grad
        return sum(seen.values())

    few, many = held(50), held(200)
    assert many < 4.2 * few


@pytest.mark.parametrize(
    "parts",
    [
        [("a", [Part("category", 4)])],
        [("a", [Part("scalar")])],
        [("a", [Part("mode", 3)]), ("b", [Part("scalar")])],
        [("a", [Part("mode", 4, bare=2), Part("scalar")]), ("b", [Part("category", 300)])],
        [(f"c{n}", [Part("scalar"), Part("mode", 5, bare=n % 3)]) for n in range(60)],
    ],
    ids=["category", "scalar", "mode", "swapped", "wide"],
)
def test_any_layout_trains_samples_and_is_restored(
    parts: list[tuple[str, list[Part]]], seeded: Seeded
) -> None:
    """Spans in any order, of any kind alone, one step or very many."""
    layout = Layout.of(parts)
    model, codes = of(layout), codes_of(layout, 40)
    drawn = batches("tgan", model, codes, 20, 0)
    for _ in range(2):
        losses = model.step(drawn, seeded(0))
    assert all(loss.isfinite() for loss in losses.values())
    assert_dense(model.generator(torch.randn(9, 8)), layout)
    other = of(layout)
    assert restore(other, capture(model, 3), "here") == 3
    one, two = (m.sample(30, seeded(1)) for m in (model, other))
    assert torch.equal(one.indices, two.indices)
    assert torch.equal(one.scalars, two.scalars)
    for column in layout.columns:
        if column.scalar is not None:
            silent = ~column.says(column.index(one))
            assert not one.scalars[silent, column.scalar.slot].any()
            assert one.scalars[~silent, column.scalar.slot].all()


# -- discriminator ------------------------------------------------------------------------------


def test_diversity_is_the_double_loop_over_the_batch() -> None:
    projected = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0))
    told = torch.zeros(7, 3)
    for row in range(7):
        for other in range(7):
            for kernel in range(3):
                apart = (projected[row, kernel] - projected[other, kernel]).abs().sum()
                told[row, kernel] += (-apart).exp()
    found = tgan.diversity(projected)
    assert (found > 1).all()
    assert torch.allclose(found, told, atol=1e-5)


def test_the_discriminator_is_its_layers_written_out(fitted: Fitted, make: Make) -> None:
    """Diversity of a layer's own output, then batch norm with a shift and no scale."""
    codec, codes = fitted["mixed"]
    net = make("tgan", codec, dropout=0).discriminator
    with torch.no_grad():
        for shift in net.shifts:
            shift.normal_()
    rows = codec.layout.expand(codes.take(slice(0, 20)))
    hidden = rows
    for layer, projection, shift in zip(net.layers, net.projections, net.shifts, strict=True):
        plain = hidden @ layer.weight.T
        kernels = (plain @ projection.weight.T).view(20, 3, 4)
        both = torch.cat([plain, tgan.diversity(kernels)], dim=1)
        both = (both - both.mean(0)) / (both.var(0, unbiased=False) + 1e-5).sqrt() + shift
        hidden = torch.where(both > 0, both, 0.2 * both)
    found = net(rows, torch.Generator())
    assert torch.allclose(found, net.top(hidden)[:, 0], atol=1e-4)


def test_dropout_comes_from_the_generator_and_keeps_the_mean(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    net = make("tgan", codec, discriminator=[64]).discriminator
    rows = codec.layout.expand(codes.take(slice(0, 20)))
    assert torch.equal(net(rows, seeded(1)), net(rows, seeded(1)))
    g = seeded(0)
    drawn = torch.stack([net(rows, g) for _ in range(2_000)])
    net.keep = 1
    error = (drawn.mean(0) - net(rows, g)) / (drawn.std(0) / 2_000**0.5)
    assert (drawn.std(0) > 0).all()
    assert error.abs().max() < 4.5


class Seen:
    """What the discriminator is shown, call by call."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[Tensor] = []
        forward = model.discriminator.forward

        def spy(rows: Tensor, *rest: Any) -> Any:
            self.rows.append(rows.detach().clone())
            return forward(rows, *rest)

        monkeypatch.setattr(model.discriminator, "forward", spy)


@pytest.mark.parametrize("kind", KINDS)
def test_real_and_fake_rows_pass_apart_and_noise_is_on_the_real_alone(
    kind: str, fitted: Fitted, make: Make, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, codes = fitted[kind]
    layout = codec.layout
    model = make("tgan", codec)
    made: list[Tensor] = []
    model.generator.register_forward_hook(lambda *call: made.append(call[2].detach().clone()))
    seen = Seen(model, monkeypatch)
    batch = codes.take(slice(0, 50))
    model.step(iter([Batch(batch, None)]), seeded(0))
    assert len(made) == 1
    first, real, second = seen.rows
    assert torch.equal(first, made[0])
    assert torch.equal(second, made[0])
    plain = layout.expand(batch)
    for rows in (first, real):
        assert_dense(rows, layout)
    for span in layout.spans:
        if span.kind == "scalar":
            assert torch.equal(real[:, span.slice], plain[:, span.slice])
        else:
            assert not torch.equal(real[:, span.slice], plain[:, span.slice])
            assert torch.equal(real[:, span.slice].argmax(1), plain[:, span.slice].argmax(1))


def test_noise_is_fresh_and_up_to_the_blur_in_every_cell(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["categories"]
    model, g = make("tgan", codec, blur=0.2), seeded(0)
    batch = codes
    one, two = model.real(batch, g), model.real(batch, g)
    assert (one != two).float().mean() > 0.99
    plain = codec.layout.expand(batch)
    for span in codec.layout.choices:
        block, hot = one[:, span.slice], plain[:, span.slice]
        ratio = block[hot == 0].view(len(block), -1) / block[hot == 1][:, None]
        assert (ratio >= 0).all()
        assert (ratio <= 0.2).all()
        # u / (1 + v) of two that are even on [0, 0.2]: the hot cell has noise too.
        error = ratio.mean(1).std() / len(block) ** 0.5
        assert (ratio.mean() - 0.5 * math.log(1.2)).abs() < 4 * error
    assert torch.equal(make("tgan", codec, blur=0).real(batch, g), plain)


# -- losses -------------------------------------------------------------------------------------


def slopes(loss: Tensor, network: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([slope.flatten() for slope in found])


def test_smoothing_turns_the_discriminators_gradient_and_the_references_only_scales_it(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """Beside plain labels, the reference takes 0.3 of the real rows' part off (check 8)."""
    codec, codes = fitted["mixed"]
    fake = make("tgan", codec).generator(torch.randn(60, 8)).detach()
    turned = {}
    for name, settings in {
        "plain": {"smoothing": 0},
        "smoothed": {},
        "reference": {"labels": "reference"},
    }.items():
        model = make("tgan", codec, **settings)
        real = model.real(codes.take(slice(0, 60)), seeded(1))
        g = seeded(2)
        turned[name] = slopes(model.discriminator_loss(real, fake, g), model.discriminator)
    logits = model.discriminator(real, seeded(2))
    part = slopes(0.5 * functional.softplus(-logits).mean(), model.discriminator)
    taken = turned["plain"] - turned["reference"]
    assert torch.allclose(taken, 0.3 * part, atol=1e-6)
    smoothed = turned["plain"] - turned["smoothed"]
    likeness = functional.cosine_similarity(smoothed, part, dim=0)
    assert smoothed.norm() > 0.01 * part.norm()
    assert likeness.abs() < 0.99


def test_the_losses_are_cross_entropies(fitted: Fitted, make: Make, seeded: Seeded) -> None:
    """With a target drawn in [0.7, 1] for each real row, none smoothed for the fake."""
    codec, codes = fitted["mixed"]
    fake = make("tgan", codec).generator(torch.randn(60, 8)).detach()
    found = {}
    for labels in ("smoothed", "reference"):
        model = make("tgan", codec, labels=labels)
        real = model.real(codes.take(slice(0, 60)), seeded(1))
        found[labels] = model.discriminator_loss(real, fake, seeded(2)).item()
    g = seeded(2)
    is_real = model.discriminator(real, g).sigmoid()
    lacks = 0.3 * torch.rand(60, generator=g)
    is_fake = model.discriminator(fake, g).sigmoid()
    wrong = -(1 - is_fake).log().mean()
    hit, missed = -is_real.log(), -(1 - is_real).log()
    smooth = ((1 - lacks) * hit + lacks * missed).mean()
    assert found["smoothed"] == pytest.approx((0.5 * smooth + 0.5 * wrong).item(), abs=1e-5)
    reference = (0.7 * hit + lacks).mean()
    assert found["reference"] == pytest.approx((0.5 * reference + 0.5 * wrong).item(), abs=1e-5)
    g = seeded(2)
    told = model.generator_losses(real, fake, g)["generator"]
    expected = -model.discriminator(fake, seeded(2)).sigmoid().log().mean()
    assert told.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_is_of_shares_and_reaches_the_generator_alone(
    kind: str, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted[kind]
    model = make("tgan", codec)
    real = model.real(codes.take(slice(0, 60)), seeded(1))
    fake = model.generator(torch.randn(60, 8))
    found = model.generator_losses(real, fake, seeded(2))["divergence"]
    told = 0.0
    for span in codec.layout.choices:
        mine, theirs = (rows[:, span.slice].mean(0) for rows in (fake, real))
        for p, q in zip(mine.tolist(), theirs.tolist(), strict=True):
            told += p * (math.log(p + 1e-4) - math.log(q + 1e-4))
    assert told > 0.01
    assert found.item() == pytest.approx(told, abs=1e-5)
    mean = make("tgan", codec, divergence="mean").generator_losses(real, fake, seeded(2))
    assert mean["divergence"].item() == pytest.approx(told / len(codec.layout.choices), abs=1e-6)
    weights = list(model.discriminator.parameters())
    reached = torch.autograd.grad(found, weights, retain_graph=True, allow_unused=True)
    assert all(slope is None for slope in reached)
    makers = [step.output.weight for step in model.generator.steps if step.span.kind != "scalar"]
    assert all(slope.any() for slope in torch.autograd.grad(found, makers))


def test_each_update_leaves_the_other_network_alone_and_clips_each_gradient(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    model = make("tgan", codec, clip=1e-3, decay=0)
    maker, judge = model.optimizers
    seen: list[str] = []
    start = {name: w.detach().clone() for name, w in model.named_parameters()}

    def moved(prefix: str) -> bool:
        mine = {n: w for n, w in model.named_parameters() if n.startswith(prefix)}
        return any(not torch.equal(start[name], weight) for name, weight in mine.items())

    def clipped(network: nn.Module) -> bool:
        found = [w.grad.abs().max() for w in network.parameters() if w.numel()]
        return float(max(found)) == pytest.approx(1e-3)

    def before_maker(*_: Any) -> None:
        seen.append("generator")
        assert all(w.grad is None for w in model.discriminator.parameters())

    def before_judge(*_: Any) -> None:
        seen.append("discriminator")
        assert moved("generator")
        assert not moved("discriminator")
        start.update({n: w.detach().clone() for n, w in model.named_parameters()})

    maker.register_step_pre_hook(before_maker)
    judge.register_step_pre_hook(before_judge)
    model.step(batches("tgan", model, codes, 60, 0), seeded(0))
    assert seen == ["generator", "discriminator"]
    assert moved("discriminator")
    assert not moved("generator")
    assert clipped(model.generator)
    assert clipped(model.discriminator)


# -- sampling -----------------------------------------------------------------------------------


def test_a_table_smaller_than_a_batch_trains_and_any_number_of_rows_is_drawn(
    fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    """Three rows for a batch of a hundred, and fewer rows drawn than a batch has (check 8)."""
    codec, codes = fitted["mixed"]
    model = trained(make("tgan", codec), codes.take(slice(0, 3)), 2)
    for rows in (1, 3, 99, 257):
        assert model.sample(rows, seeded(0)).rows == rows


def test_rows_are_drawn_in_pieces_that_fit_memory(
    fitted: Fitted, make: Make, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("tgan", fitted["mixed"][0])
    sizes: list[int] = []
    model.generator.register_forward_hook(lambda *call: sizes.append(len(call[2])))
    monkeypatch.setattr(tgan, "SAMPLED", 9 * 16 * 40)
    assert model.sample(100, seeded(0)).rows == 100
    assert sizes == [40, 40, 20]


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_row_does_not_depend_on_its_batch_mates(
    kind: str, fitted: Fitted, make: Make
) -> None:
    """For fixed noise, batches of any order and size give the same row (check 6)."""
    codec, codes = fitted[kind]
    net = trained(make("tgan", codec), codes, 2).eval().generator
    noise = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    whole, order = net(noise), torch.randperm(40)
    assert torch.allclose(net(noise[order]), whole[order], atol=1e-5)
    assert torch.allclose(net(noise[:1]), whole[:1], atol=1e-5)


def test_a_blurred_row_is_drawn_as_what_it_was(seeded: Seeded) -> None:
    """By the softmax as it is, its noise would be drawn more often than not."""
    layout = Layout.of([("a", [Part("category", 20)])])
    model = of(layout)
    indices = torch.randint(20, (20_000, 1), generator=seeded(0))
    real = model.real(Codes(indices.to(torch.uint8), torch.empty(20_000, 0)), seeded(1))
    uniform = torch.rand(20_000, generator=seeded(2))
    assert torch.equal(model.chosen_index(real, uniform), indices[:, 0])
    plain = of(layout, blur=0).chosen_index(real, uniform)
    assert (plain == indices[:, 0]).float().mean() < 0.5


def test_a_cell_is_drawn_by_what_it_has_over_the_blur(seeded: Seeded) -> None:
    layout = Layout.of([("a", [Part("category", 5)])])
    block = torch.tensor([[0.1, 0.5, 0.25, 0.15, 0.0]]).expand(4_000, -1)
    drawn = of(layout).chosen_index(block, torch.rand(4_000, generator=seeded(0)))
    counts = drawn.bincount(minlength=5)
    assert counts[0] == counts[4] == 0, "a fifth of the largest, as noise may give"
    expected = np.array([0.4, 0.15, 0.05]) / 0.6 * 4_000
    assert stats.chisquare(counts[1:4].numpy(), expected).pvalue > 1e-3


def test_argmax_takes_the_largest(seeded: Seeded) -> None:
    layout = Layout.of([("a", [Part("category", 3)])])
    block = torch.tensor([[0.5, 0.3, 0.2]]).expand(1_000, -1)
    uniform = torch.rand(1_000, generator=seeded(0))
    assert not of(layout, choose="argmax").chosen_index(block, uniform).any()
    drawn = of(layout, blur=0).chosen_index(block, uniform).bincount(minlength=3)
    assert stats.chisquare(drawn.numpy(), [500, 300, 200]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 300), (5_000, 300), (32_561, 61), (200_000, 10), (10**8, 1)]
)
def test_a_training_takes_as_many_rows_within_reason(rows: int, epochs: int) -> None:
    assert tgan.epochs(rows, tgan.Config(preset="paper")) == epochs


@pytest.mark.parametrize(("batch", "rows"), [(1, 2), (2, 2), (200, 200)])
def test_a_batch_holds_two_rows_at_least(batch: int, rows: int) -> None:
    assert tgan.batch_rows(batch, tgan.Config()) == rows


# -- the improved preset ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def improved(tables: dict[str, pa.Table], make: Make) -> tuple[Any, Codes]:
    codec, codes = fit_table(tables["mixed"], "tgan-improved")
    return make("tgan-improved", codec), codes


def test_a_preset_is_what_is_not_said() -> None:
    paper, new = tgan.Config(preset="paper"), tgan.Config(preset="improved", hidden=7)
    assert (paper.numbers, paper.temperature, paper.share) == ("modes", 0.0, 1.0)
    assert (new.numbers, new.temperature, new.share, new.hidden) == ("normal", 0.2, 0.0, 7)
    assert [tgan.encoding(config).number for config in (paper, new)] == ["modes", "normal"]


def test_a_softened_choice_is_what_later_steps_are_fed_with_its_gradient(
    improved: tuple[Any, Codes], seeded: Seeded
) -> None:
    """Training: later spans move with a choice's logits. Sampling: with the index that is drawn."""
    model, _ = improved
    net, layout = model.generator, model.layout
    first = next(step for step in net.steps if step.span.kind == "category")
    places = [step.span for step in net.steps]
    later = next(s for s in places[places.index(first.span) :] if s.kind == "scalar")
    noise = torch.randn(40, 8, generator=seeded(0))
    dense = net(noise, None, model._noisy(seeded(1)))
    loss = dense[:, later.slice].square().sum()
    (slope,) = torch.autograd.grad(loss, first.output.weight)
    assert slope.any()
    for one in layout.choices:
        nearly = dense[:, one.slice].amax(1)
        assert torch.allclose(dense[:, one.slice].sum(1), torch.ones(40), atol=1e-5)
        assert nearly.median() > 0.9, "nearly one-hot"
    drawn = [
        net(noise, lambda span, block, n=n: torch.full((40,), n if span is first.span else 0))
        for n in (0, 1)
    ]
    for rows, index in zip(drawn, (0, 1), strict=True):
        assert (rows[:, first.span.slice].argmax(1) == index).all()
        assert (rows[:, layout.choices[-1].slice].amax(1) == 1).all()
    assert not torch.allclose(*(rows[:, later.slice] for rows in drawn), atol=1e-6)


def test_a_drawn_scalar_is_what_its_step_wrote(improved: tuple[Any, Codes], seeded: Seeded) -> None:
    """Hushed by the index that is drawn, 0 or all of it, and not by how likely it was."""
    model, _ = improved
    drawn = model.sample(500, seeded(3))
    loud = model.generator.hush
    model.generator.hush = None
    plain = model.sample(500, seeded(3))
    model.generator.hush = loud
    assert torch.equal(drawn.indices, plain.indices)
    assert torch.equal(drawn.scalars, plain.scalars)
    assert (drawn.scalars == 0).any()


def test_the_critic_and_the_generator_pull_apart(
    improved: tuple[Any, Codes], seeded: Seeded
) -> None:
    """The relativistic loss of each, and the penalty, against autograd."""
    model, codes = improved
    g = seeded(0)
    real = model.real(codes.take(slice(0, 40)), g)
    assert torch.equal(real, model.layout.expand(codes.take(slice(0, 40))))
    fake = model.generator(model._noise(40, g), None, model._noisy(g)).detach()
    rows = torch.cat([real, fake]).requires_grad_()
    scores, _ = model.discriminator(rows, None, g)
    (slopes,) = torch.autograd.grad(scores.sum(), rows)
    apart = scores[:40] - scores[40:]
    told = model.critic_losses(real, fake, g)
    assert told["discriminator"].item() == pytest.approx(functional.softplus(-apart).mean().item())
    expected = 4.0 * slopes.square().sum(1).mean().item()
    assert told["penalty"].item() == pytest.approx(expected, rel=1e-4)
    made = model.generator_losses(real, fake, g)
    assert made["generator"].item() == pytest.approx(functional.softplus(apart).mean().item())
    assert made["divergence"] == 0


def test_samples_are_of_the_average(fit: Any, tables: Any, make: Make, seeded: Seeded) -> None:
    codec, codes = fit(tables["mixed"], "tgan-improved")
    model: Any = trained(make("tgan-improved", codec), codes, 2)
    before = model.sample(64, seeded(5))
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.add_(1.0)
    assert torch.equal(before.scalars, model.sample(64, seeded(5)).scalars)
    with torch.no_grad():
        model.average.start.add_(1.0)
    assert not torch.equal(before.scalars, model.sample(64, seeded(5)).scalars)
