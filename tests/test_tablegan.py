"""table-GAN: cells of a square, its three networks, its losses."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from raysynth.codecs import Part
from raysynth.config import parse
from raysynth.draw import Batch
from raysynth.errors import ConfigError
from raysynth.layout import Codes, Layout
from raysynth.models import tablegan
from raysynth.table import TableCodec
from tests.training import KINDS, Fitted, Make, Seeded, assert_dense, batches, equal, trained

LOSSES = ("paper", "reference")
SIZES = (1, 2, 3, 12, 200, 256, 1_000, 40_000)


def layout_of(cells: int) -> Layout:
    return Layout.of([(f"c{place}", (Part("scalar"),)) for place in range(cells)])


def model_of(layout: Layout, shares: Any = None, **config: Any) -> Any:
    torch.manual_seed(0)
    settings = {"preset": "paper", "channels": 4, "noise": 8, **config}
    return tablegan.Model(layout, shares or {}, parse(tablegan.Config, settings))


@pytest.fixture(scope="module")
def own(tables: dict[str, pa.Table], fit: Any) -> tuple[TableCodec, Codes]:
    """The mixed table by the family's own codecs."""
    found: tuple[TableCodec, Codes] = fit(tables["mixed"], "tablegan")
    return found


# -- cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_index_comes_back_from_its_cell(size: int) -> None:
    model = model_of(Layout.of([("c", (Part("category", size),))]), {"c": (1 / size,) * size})
    indices = torch.arange(size).to(model.layout.index_dtype)[:, None]
    cells = model.cells(Codes(indices, torch.empty(size, 0)))
    assert cells.abs().max() <= 1
    if size == 1:
        assert cells.tolist() == [[0.0]]
    else:
        told = 2 * torch.arange(size, dtype=torch.float64) / (size - 1) - 1
        assert torch.allclose(cells[:, 0].double(), told, atol=1e-6)
    assert equal(model.codes(cells), Codes(indices, torch.empty(size, 0)))


def test_any_codes_come_back_from_their_cells(seeded: Seeded) -> None:
    """Choices before and behind their scalars, alone, of one index, and bare ones."""
    layout = Layout.of(
        [
            ("a", (Part("scalar"), Part("mode", 7, bare=3))),
            ("b", (Part("category", 300),)),
            ("c", (Part("mode", 2, bare=1), Part("scalar"))),
            ("d", (Part("scalar"),)),
            ("e", (Part("category", 1),)),
        ]
    )
    g, rows = seeded(0), 2_000
    drawn = [torch.randint(span.size, (rows,), generator=g) for span in layout.choices]
    scalars = torch.rand(rows, 3, generator=g) * 2 - 1
    scalars[:, 0] *= drawn[0] < 4
    scalars[:, 1] *= drawn[2] < 1
    codes = Codes(torch.stack(drawn, 1).to(layout.index_dtype), scalars)
    model = model_of(layout)
    cells = model.cells(codes)
    assert cells.shape == (rows, 7)
    assert torch.equal(cells[:, [0, 4, 5]], scalars)
    assert equal(model.codes(cells), codes)
    # A bare choice has no scalar, whatever the generator drew.
    noisy = cells.clone()
    noisy[:, [0, 4, 5]] = 0.5
    back = model.codes(noisy)
    assert torch.equal(back.scalars[:, 0], 0.5 * (drawn[0] < 4))
    assert torch.equal(back.scalars[:, 1], 0.5 * (drawn[2] < 1))


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_tables_come_back_from_their_cells(kind: str, fitted: Fitted, make: Make) -> None:
    """With the codecs of another family: modes beside offsets (check 1)."""
    codec, codes = fitted[kind]
    model: Any = make("tablegan", codec)
    assert equal(model.codes(model.cells(codes)), codes)


def test_cells_round_to_the_nearest_index_within_range() -> None:
    model = model_of(Layout.of([("c", (Part("category", 5),)), ("x", (Part("scalar"),))]))
    cells = torch.tensor([-7.0, -1.0, -0.76, -0.74, 0.2, 0.3, 1.0, 9.0])
    codes = model.codes(torch.stack([cells, cells], 1))
    assert codes.indices[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4]
    assert codes.scalars[:, 0].tolist() == cells.clamp(-1, 1).tolist()


# -- networks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "side"),
    [(1, 4), (16, 4), (17, 8), (64, 8), (65, 16), (256, 16), (257, 32), (1_024, 32), (1_025, 64)],
)
def test_the_smallest_side_holds_all_cells(cells: int, side: int, seeded: Seeded) -> None:
    """And the networks of that side train and draw."""
    layout = layout_of(cells)
    model = model_of(layout, channels=2, target="c0" if cells > 1 else None)
    assert tablegan.side_of(cells) == side
    noise = torch.rand(3, 8, 1, 1)
    assert model.generator(noise).shape == (3, 1, side, side)
    real = Codes(torch.empty(6, 0, dtype=torch.uint8), torch.rand(6, cells) * 2 - 1)
    losses = model.step(iter([Batch(real, None)]), seeded(0))
    assert all(loss.isfinite() for loss in losses.values())
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.any()
    assert model.sample(5, seeded(0)).scalars.shape == (5, cells)


def test_channels_double_as_the_side_halves() -> None:
    assert tablegan._channels(4, 64) == [64, 128]
    assert tablegan._channels(8, 64) == [64, 128, 256]
    assert tablegan._channels(64, 64) == [64, 128, 256, 512, 512, 512]


def test_cells_that_lie_far_apart_meet_in_the_discriminator() -> None:
    """The slope at the first cell depends on the last one: their effects do not just add up."""
    model = model_of(layout_of(16))
    with torch.no_grad():
        for weight in model.discriminator.parameters():
            weight.mul_(20)
    rows = torch.rand(8, 16) * 2 - 1
    other = rows.clone()
    other[:, 15] = -rows[:, 15]
    slopes = []
    for cells in (rows, other):
        cells.requires_grad_()
        features, _ = model.discriminator(cells)
        (slope,) = torch.autograd.grad(features.square().sum(1)[0], cells)
        slopes.append(slope[0, 0])
    assert abs(slopes[0] - slopes[1]) > 1e-3


def test_weights_start_as_dcgans() -> None:
    model = model_of(layout_of(64), channels=32, target="c0")
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert not layer.bias.any()
        elif isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert layer.bias is None or not layer.bias.any()


def test_noise_fills_a_cube(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = model_of(layout_of(4)), list[Tensor]()
    model.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.sample(5_000, seeded(0))
    noise = seen[0].flatten()
    assert noise.min() >= -1
    assert noise.max() <= 1
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(3**-0.5, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_row_does_not_depend_on_its_batch_mates(
    kind: str, fitted: Fitted, make: Make
) -> None:
    """In eval mode, for fixed noise: batches of any order and size give the same row (check 6)."""
    codec, codes = fitted[kind]
    model: Any = trained(make("tablegan", codec), codes, 2).eval()
    torch.manual_seed(0)
    noise, order = torch.rand(40, 16, 1, 1) * 2 - 1, torch.randperm(40)
    whole = model.generator(noise)
    assert torch.allclose(model.generator(noise[order]), whole[order], atol=1e-5)
    assert torch.allclose(model.generator(noise[:1]), whole[:1], atol=1e-5)
    model.train()
    assert not torch.allclose(model.generator(noise[:20]), whole[:20], atol=1e-3)


# -- losses ---------------------------------------------------------------------------------


def test_the_gan_losses_are_cross_entropies(
    own: tuple[TableCodec, Codes], make: Make, seeded: Seeded
) -> None:
    codec, codes = own
    model: Any = make("tablegan", codec).train()
    real = model.cells(codes.take(slice(0, 50)))
    with torch.no_grad():
        drawn = model._drawn(50, seeded(4))
        (_, found), (_, missed) = model.discriminator(real), model.discriminator(drawn)
    entropy = functional.binary_cross_entropy
    told = entropy(found.sigmoid(), torch.ones(50, 1)) + entropy(
        missed.sigmoid(), torch.zeros(50, 1)
    )
    assert torch.allclose(
        model.discriminator_losses(real, seeded(4))["discriminator"], told, atol=1e-6
    )
    deceived = entropy(missed.sigmoid(), torch.ones(50, 1))
    losses = model.generator_losses(real, seeded(4))
    assert torch.allclose(losses["generator"], deceived, atol=1e-6)


@pytest.mark.parametrize("losses", LOSSES)
def test_the_information_loss_against_its_formula(losses: str, seeded: Seeded) -> None:
    """On one batch, where the averages are the batch's own."""
    model = model_of(layout_of(4), losses=losses, mean_delta=0.05, deviation_delta=0.02)
    width = model.discriminator.width
    real, drawn = torch.randn(2, 30, width, generator=seeded(0))
    drawn = 1.5 * drawn + 0.4
    told = model.information(real, drawn).item()
    mean = drawn.mean(0) - real.mean(0)
    if losses == "paper":
        spread = drawn.std(0, correction=0) - real.std(0, correction=0)
        expected = mean.norm() - 0.05 + spread.norm() - 0.02
    else:
        spread = drawn.var(0, correction=0) - real.var(0, correction=0)
        expected = (mean.abs() - 0.05).sum() + (spread.abs() - 0.02).sum()
    assert told == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("losses", LOSSES)
def test_a_delta_above_its_gap_leaves_no_gradient(losses: str, seeded: Seeded) -> None:
    """Each delta holds its own gap alone; below the gap it changes no gradient (check 9)."""
    real, drawn = torch.randn(2, 30, 8, generator=seeded(0))
    drawn = 1.5 * drawn + 0.4

    def gradient(mean_delta: float, deviation_delta: float) -> tuple[float, Tensor]:
        deltas = {"mean_delta": mean_delta, "deviation_delta": deviation_delta}
        model = model_of(layout_of(4), losses=losses, channels=4, **deltas)
        row = drawn.clone().requires_grad_()
        loss = model.information(real, row)
        (slope,) = torch.autograd.grad(loss, row)
        return loss.item(), slope

    both, mean, spread = gradient(0, 0), gradient(0, 99), gradient(99, 0)
    assert gradient(99, 99)[0] == 0
    assert not gradient(99, 99)[1].any()
    assert mean[1].any()
    assert spread[1].any()
    assert torch.allclose(mean[1] + spread[1], both[1], atol=1e-7)
    assert torch.allclose(mean[1], mean[1].mean(0).expand(30, -1), atol=1e-7)
    assert torch.allclose(spread[1].sum(0), torch.zeros(8), atol=1e-6)
    loss, slope = gradient(0.01, 0.01)
    assert 0 < loss < both[0]
    assert torch.allclose(slope, both[1])


@pytest.mark.parametrize("losses", LOSSES)
def test_the_averages_against_a_direct_computation(losses: str, seeded: Seeded) -> None:
    """Batches weigh 0.99 to the power of their age, all weights together 1."""
    model = model_of(layout_of(4), losses=losses)
    g, seen = seeded(0), list[Tensor]()
    for _ in range(20):
        real, drawn = torch.randn(2, 30, 8, generator=g) * torch.rand(1, generator=g)
        spread = torch.std if losses == "paper" else torch.var
        moments = [torch.stack([x.mean(0), spread(x, 0, correction=0)]) for x in (real, drawn)]
        seen.append(torch.stack(moments).double())
        loss = model.information(real, drawn)
    ages = torch.arange(20, dtype=torch.float64).flip(0)
    weights = 0.99**ages
    weights /= weights.sum()
    told = (weights[:, None, None, None] * torch.stack(seen)).sum(0)
    average = model.averages.running_mean / model.averages.weight
    assert torch.allclose(average.double(), told, atol=1e-5)
    gaps = told[1] - told[0]
    value = gaps.norm(dim=1).sum() if losses == "paper" else gaps.abs().sum()
    assert loss.item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize(("losses", "share"), [("paper", 1.0), ("reference", 0.01)])
def test_how_much_of_the_gradient_passes_an_average(
    losses: str, share: float, seeded: Seeded
) -> None:
    """All of it, or the batch's weight of 0.01, once the average is as long as it gets."""
    model = model_of(layout_of(4), losses=losses, deviation_delta=1e6)
    model.averages.weight.fill_(1.0)
    model.averages.running_mean[0, 0] = 5.0
    drawn = torch.randn(30, 8, generator=seeded(0)).requires_grad_()
    model.information(torch.randn(30, 8, generator=seeded(1)), drawn).backward()
    # The norm's slopes at every mean make a unit vector; absolute values have slope -1 each.
    told = drawn.grad.sum(0)
    unit = told.norm() if losses == "paper" else told.abs().mean()
    assert (told < 0).all()
    assert unit.item() == pytest.approx(share, rel=1e-4)


def test_the_averages_are_those_that_workers_share(own: Any, make: Make) -> None:
    """`parallel.average_statistics` goes by name."""
    kept = make("tablegan", own[0]).state_dict()
    assert "averages.running_mean" in kept
    assert not any("running" in name for name in kept if name.startswith("discriminator"))


def test_the_information_loss_reaches_the_generator_alone(
    own: tuple[TableCodec, Codes], make: Make, seeded: Seeded
) -> None:
    """In what the step does with it; real features carry no gradient at all (check 9)."""
    codec, codes = own
    model: Any = make("tablegan", codec).train()
    real = model.cells(codes.take(slice(0, 50))).requires_grad_()
    model.discriminator.requires_grad_(False)
    model.generator_losses(real, seeded(0))["information"].backward()
    assert real.grad is None
    assert all(weight.grad is None for weight in model.discriminator.parameters())
    assert all(weight.grad.any() for weight in model.generator.parameters())
    features = torch.randn(2, 30, model.discriminator.width, generator=seeded(0))
    wanted, drawn = features[0].requires_grad_(), features[1].clone().requires_grad_()
    model.information(wanted, drawn).backward()
    assert wanted.grad is None
    assert drawn.grad.any()


# -- classifier -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["city", "yes", "cents", "real"])
def test_the_classifier_never_sees_the_label(
    target: str, own: tuple[TableCodec, Codes], make: Make, seeded: Seeded
) -> None:
    """Nor, of a number with nulls, whether it is null; its gradient is not moved (check 9)."""
    codec, codes = own
    model: Any = make("tablegan", codec, target=target).train()
    spans = codec.layout.spans
    hidden = [place for place, span in enumerate(spans) if span.column == target]
    assert len(hidden) == (2 if target == "cents" else 1)
    assert model.target.tolist() == hidden
    cells = model.cells(codes.take(slice(0, 50)))
    other = cells.clone()
    other[:, hidden] = torch.rand(50, len(hidden), generator=seeded(0)) * 2 - 1
    gradients = []
    for rows in (cells, other):
        rows.requires_grad_()
        told = model.told(model.classifier, rows)
        gradients.append(torch.autograd.grad(told.square().sum(), model.classifier.parameters()))
        (slope,) = torch.autograd.grad(model.told(model.classifier, rows).sum(), rows)
        seen = [place for place in range(len(spans)) if place not in hidden]
        assert not slope[:, hidden].any()
        assert (slope[:, seen] != 0).any(0).all()
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("target", ["yes", "cents"])
def test_the_label_of_a_drawn_row_is_led_to_what_the_classifier_says(
    target: str, own: tuple[TableCodec, Codes], make: Make
) -> None:
    """The loss is the mean difference; its slope at a label cell is its sign over their number."""
    codec, codes = own
    model: Any = make("tablegan", codec, target=target).train()
    cells = model.cells(codes.take(slice(0, 50))).requires_grad_()
    loss = model.disagreement(model.classifier, cells)
    _, told = model.classifier(cells * model.shown)
    apart = cells[:, model.target] - told.tanh()
    assert loss.item() == pytest.approx(apart.abs().mean().item())
    (slope,) = torch.autograd.grad(loss, cells)
    assert torch.allclose(slope[:, model.target], apart.sign() / apart.numel())
    others = model.shown.bool()
    assert slope[:, others].any(), "the other cells are led as well"


def test_two_classes_have_the_papers_loss(own: tuple[TableCodec, Codes], make: Make) -> None:
    """|label - C(x)|, label and C in [0, 1]: half of ours, whose cells are twice as far apart."""
    codec, codes = own
    model: Any = make("tablegan", codec, target="yes").train()
    some = codes.take(slice(0, 50))
    cells = model.cells(some)
    span = next(span for span in codec.layout.categories if span.column == "yes")
    with torch.no_grad():
        _, told = model.classifier(cells * model.shown)
    label = some.indices[:, span.slot, None].float()
    paper = (label - (2 * told).sigmoid()).abs().mean()
    loss = model.disagreement(model.classifier, cells)
    assert loss.item() == pytest.approx(2 * paper.item(), rel=1e-5)


def test_the_classifier_learns_its_column(
    own: tuple[TableCodec, Codes], make: Make, seeded: Seeded
) -> None:
    """Which follows from the number `real`; guessing the commoner value misses as many as it is."""
    codec, codes = own
    model: Any = trained(make("tablegan", codec, target="yes", rate=2e-3), codes, 40)
    missed = model.disagreement(model.classifier, model.cells(codes)) / 2
    share = codec.shares["yes"]
    assert missed < 0.7 * min(share)


def test_an_absent_or_constant_target_is_refused(tables: Any, fit: Any, make: Make) -> None:
    table = tables["mixed"].append_column("grades", pa.array(["x"] * 1_000))
    codec, _ = fit(table, "tablegan")
    with pytest.raises(ConfigError, match="'ctiy' is not in the table; did you mean 'city'"):
        make("tablegan", codec, target="ctiy")
    with pytest.raises(ConfigError, match=r"'grades' has one value.*did you mean 'grade'"):
        make("tablegan", codec, target="grades")


@pytest.mark.parametrize(
    "wrong", [{"mean_delta": -0.1}, {"deviation_delta": -1e-9}, {"momentum": 1}, {"losses": "both"}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: input should be"):
        parse(tablegan.Config, wrong)


# -- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("target", ["yes", "real"])
def test_a_step_moves_the_classifier_as_well(
    target: str, batch: int, losses: str, own: Any, make: Make, seeded: Seeded
) -> None:
    codec, codes = own
    model: Any = make("tablegan", codec, target=target, losses=losses)
    before = [weight.detach().clone() for weight in model.classifier.parameters()]
    told = model.step(batches("tablegan", model, codes, batch, 0), seeded(1))
    assert list(told) == [
        "discriminator",
        "classifier",
        "generator",
        "information",
        "classification",
    ]
    assert all(loss.isfinite() for loss in told.values())
    after = list(model.classifier.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_each_update_leaves_the_other_networks_alone(own: Any, make: Make, seeded: Seeded) -> None:
    """Their weights and their gradients."""
    codec, codes = own
    model: Any = make("tablegan", codec, target="yes", generator_steps=2)
    networks = {
        "generator": model.generator,
        "discriminator": model.discriminator,
        "classifier": model.classifier,
    }
    seen: list[str] = []
    state: dict[str, list[Tensor]] = {}

    def all_of(network: Any) -> list[Tensor]:
        weights = list(network.parameters())
        return [w.detach().clone() for w in weights] + [
            torch.zeros(()) if w.grad is None else w.grad.clone() for w in weights
        ]

    def same(name: str) -> bool:
        now = all_of(networks[name])
        return all(torch.equal(a, b) for a, b in zip(state[name], now, strict=True))

    def before(name: str) -> Any:
        def hook(*_: Any) -> None:
            seen.append(name)
            assert any(w.grad.any() for w in networks[name].parameters())
            assert all(same(other) for other in networks if other != name)

        return hook

    def after(name: str) -> Any:
        def hook(*_: Any) -> None:
            assert not same(name)
            state[name] = all_of(networks[name])

        return hook

    for name, optimizer in zip(networks, model.optimizers, strict=True):
        optimizer.register_step_pre_hook(before(name))
        optimizer.register_step_post_hook(after(name))
    state = {name: all_of(network) for name, network in networks.items()}
    drawn = batches("tablegan", model, codes, 60, 0)
    for _ in range(2):
        model.step(drawn, seeded(0))
    assert seen == ["discriminator", "classifier", "generator", "generator"] * 2
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("losses", LOSSES)
def test_rows_all_alike_and_a_saturated_generator_leave_numbers(
    losses: str, own: Any, make: Make, seeded: Seeded
) -> None:
    """Features without variance have no slope, where a root's would be infinite."""
    codec, codes = own
    alike = codes.take(torch.zeros(50, dtype=torch.long))
    model: Any = make("tablegan", codec, target="yes", losses=losses)
    with torch.no_grad():
        last = model.generator[-2]
        last.weight.zero_()
        last.bias.fill_(50.0)

    def endless() -> Iterator[Batch]:
        while True:
            yield Batch(alike, None)

    assert (model._drawn(50, seeded(0)) == 1).all()
    for _ in range(3):
        assert all(x.isfinite() for x in model.step(endless(), seeded(0)).values())
    assert all(weight.isfinite().all() for weight in model.parameters())
    alone = torch.ones(50, 8).requires_grad_()
    small = model_of(layout_of(4), losses=losses)
    small.information(torch.zeros(50, 8), alone).backward()
    assert alone.grad.isfinite().all()


def test_training_brings_shares_and_their_relation(own: Any, make: Make, seeded: Seeded) -> None:
    """`yes` goes with the upper mode of `real`: nine in ten there, two in ten elsewhere."""
    codec, codes = own
    settings = {"rate": 1e-3, "channels": 16, "target": "yes"}
    untrained: Any = make("tablegan", codec, **settings)
    model: Any = trained(make("tablegan", codec, **settings), codes, 60)
    places = [span.column for span in codec.layout.spans]
    real, yes = places.index("real"), places.index("yes")

    def relation(cells: Tensor) -> tuple[float, float]:
        joined = torch.corrcoef(cells[:, [real, yes]].T)[0, 1]
        return cells[:, yes].mean().item(), joined.item()

    told = relation(model.cells(codes))
    drawn = relation(model.cells(model.sample(4_000, seeded(0))))
    start = relation(untrained.cells(untrained.sample(4_000, seeded(0))))
    assert told[1] > 0.6
    assert abs(drawn[0] - told[0]) < 0.3
    assert abs(drawn[1] - told[1]) < 0.25
    assert abs(start[1] - told[1]) > 0.4


# -- the improved preset ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def improved(tables: dict[str, pa.Table], fit: Any, make: Make) -> tuple[Any, Codes]:
    codec, codes = fit(tables["mixed"], "tablegan-improved")
    return make("tablegan-improved", codec, target="yes"), codes


def test_a_preset_is_what_is_not_said() -> None:
    paper = parse(tablegan.Config, {"preset": "paper"})
    new = parse(tablegan.Config, {"preset": "improved", "channels": 9})
    assert (paper.square, paper.numbers, paper.loss) == ("ordered", "minmax", "entropy")
    assert (new.square, new.numbers, new.loss, new.channels) == (
        "one-hot",
        "normal",
        "relativistic",
        9,
    )
    assert [tablegan.encoding(config).number for config in (paper, new)] == ["minmax", "normal"]


def test_a_one_hot_square_holds_the_dense_row(improved: tuple[Any, Codes], seeded: Seeded) -> None:
    """Real and drawn alike, and the target is all cells of its column."""
    model, codes = improved
    layout = model.layout
    some = codes.take(slice(0, 50))
    assert torch.equal(model.cells(some), layout.expand(some))
    assert_dense(model.train()._drawn(50, seeded(0)), layout)
    (span,) = (span for span in layout.spans if span.column == "yes")
    assert model.target.tolist() == list(range(span.start, span.start + span.size))
    assert not model.shown[span.slice].any()
    assert model.shown.sum() == layout.width - span.size


def test_the_relativistic_losses_and_the_slope_of_each_row(
    improved: tuple[Any, Codes], seeded: Seeded
) -> None:
    """No row's score depends on its batch, so the slope of their sum is each row's own."""
    model, codes = improved
    model.train()
    real = model.cells(codes.take(slice(0, 20)))
    with torch.no_grad():
        drawn = model._drawn(20, seeded(4))
        whole = model.discriminator(real)[1]
        assert torch.allclose(model.discriminator(real[:3])[1], whole[:3], atol=1e-6)
    squares = []
    for one in torch.cat([real, drawn]):
        row = one[None].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.discriminator(row)[1].sum(), row)
        squares.append(slope.square().sum())
    losses = model.discriminator_losses(real, seeded(4))
    expected = model.config.penalty * torch.stack(squares).mean().item()
    assert losses["penalty"].item() == pytest.approx(expected, rel=1e-4)
    apart = whole - model.discriminator(drawn)[1]
    told = functional.softplus(-apart).mean().item()
    assert losses["discriminator"].item() == pytest.approx(told, rel=1e-5)
    losses["penalty"].backward()
    assert model.discriminator.top.weight.grad.any(), "by double backward"
    model.zero_grad()
    made = model.generator_losses(real, seeded(4))["generator"].item()
    assert made == pytest.approx(functional.softplus(apart).mean().item(), rel=1e-5)


def test_samples_are_of_the_average(fit: Any, tables: Any, make: Make, seeded: Seeded) -> None:
    codec, codes = fit(tables["mixed"], "tablegan-improved")
    model: Any = trained(make("tablegan-improved", codec), codes, 2)
    before = model.sample(64, seeded(5))
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.add_(1.0)
    assert equal(before, model.sample(64, seeded(5)))
    with torch.no_grad():
        for tensor in model.weights.buffers():
            tensor.mul_(1.5)
    assert not equal(before, model.sample(64, seeded(5)))
