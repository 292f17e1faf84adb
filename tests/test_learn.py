"""The loop of one worker: steps, windows, and where its chances come from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from raysynth import draw, parallel
from raysynth.draw import Batch
from raysynth.layout import Codes, Layout
from raysynth.learn import Best, Epoch, Part, Plan, Resident, capture, ended, learn, restore
from raysynth.models import TableModel
from raysynth.table import TableCodec

Fitted = dict[str, tuple[TableCodec, Codes]]


@dataclass
class Trace:
    """A way to draw, and windows, that remember what they were asked."""

    codes: Codes
    count: int
    rows: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def in_order(self, seed: int, first: int = 0) -> Iterator[tuple[int, Codes]]:
        self.orders.append(seed)
        for number in np.random.default_rng(seed).permutation(self.count)[first:]:
            yield int(number), self.codes.take(slice(int(number), None, self.count))

    def draw(
        self, window: Codes, layout: Layout, rows: int, generator: Generator
    ) -> Iterator[Batch]:
        self.seeds.append(generator.initial_seed())
        self.batches.append(0)
        for batch in draw.uniform(window, layout, rows, generator):
            self.batches[-1] += 1
            self.rows.append(batch.codes.rows)
            yield batch


class Counting(TableModel):
    """Takes one batch a step and has one weight."""

    def __init__(self, loss: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps, self.loss = 0, loss

    def _optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (torch.optim.SGD(self.parameters(), lr=0.1),)

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, torch.Tensor]:
        next(batches)
        self.steps += 1
        return {"loss": torch.tensor(self.loss * self.steps)}

    def sample(self, rows: int, generator: Generator, given: Any = None) -> Codes:
        raise NotImplementedError


@pytest.fixture
def trace(fitted: Fitted) -> Callable[[int], Trace]:
    return lambda windows: Trace(fitted["mixed"][1], windows)


def run(
    model: TableModel, trace: Trace, layout: Layout, plan: Plan, done: int = 0, **more: Any
) -> list[Epoch]:
    return list(learn(model, layout, trace.draw, trace, plan, done, **more))


@pytest.mark.parametrize(("rows", "batch", "steps"), [(1_000, 300, 3), (1_000, 5_000, 1)])
def test_an_epoch_has_whole_batches_and_at_least_one(
    rows: int, batch: int, steps: int, fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    model, seen = Counting(), trace(1)
    epochs = run(model, seen, fitted["mixed"][0].layout, Plan(rows, batch, epochs=2, seed=0))
    assert model.steps == 2 * steps
    assert set(seen.rows) == {batch}
    assert [(epoch.number, epoch.rows) for epoch in epochs] == [
        (1, steps * batch),
        (2, steps * batch),
    ]
    # A mean over the steps of the epoch.
    assert epochs[0].losses["loss"] == pytest.approx((steps + 1) / 2)


@pytest.mark.parametrize("windows", [1, 3, 4, 30])
def test_windows_share_the_steps_of_an_epoch_evenly(
    windows: int, fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    model, seen = Counting(), trace(windows)
    run(model, seen, fitted["mixed"][0].layout, Plan(1_000, 100, epochs=1, seed=0))
    assert model.steps == 10
    shares = seen.batches + [0] * (windows - len(seen.batches))
    assert sum(shares) == 10
    assert max(shares) - min(shares) <= 1


def test_every_epoch_and_worker_has_chances_of_its_own(
    fitted: Fitted, trace: Callable[[int], Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an order of windows of its own, the same for every worker, whenever it is run."""
    layout, plan = fitted["mixed"][0].layout, Plan(1_000, 100, epochs=4, seed=5)
    by_worker = []
    for rank in (0, 1):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        seen = trace(1)
        run(Counting(), seen, layout, plan)
        by_worker.append(seen)
    seeds = [seed for seen in by_worker for seed in seen.seeds]
    assert len(set(seeds)) == 8
    assert by_worker[0].orders == by_worker[1].orders
    assert len({*by_worker[0].orders, *seeds}) == 12
    late = trace(1)
    run(Counting(), late, layout, plan, done=2)
    assert late.seeds == by_worker[1].seeds[2:]
    assert late.orders == by_worker[1].orders[2:]
    other = trace(1)
    run(Counting(), other, layout, Plan(1_000, 100, epochs=4, seed=6))
    assert not set(other.seeds) & set(seeds)


def test_a_loss_that_stays_not_finite_ends_the_training(
    fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    said = r"epoch 1: a loss is no longer finite \(loss\), nor at 0.125 times"
    with pytest.raises(ArithmeticError, match=said):
        run(Counting(float("nan")), trace(1), fitted["mixed"][0].layout, Plan(100, 10, 3, 0))


class Diverging(Counting):
    """Has no finite loss in its second epoch while the rate is above a quarter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[int, float, float]] = []

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, torch.Tensor]:
        rate = self.optimizers[0].param_groups[0]["lr"]
        self.begun.append((self.epoch, self.weight.item(), rate))
        self.weight.data += rate
        told = super().step(batches, generator)
        return {"loss": torch.tensor(float("inf"))} if self.epoch == 2 and rate > 0.03 else told

    def at(self, share: float) -> None:
        self.epoch = 1 + int(share * 3)
        super().at(share)


def test_an_epoch_with_a_loss_that_is_not_finite_is_taken_back_at_half_the_rate(
    fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    model = Diverging()
    epochs = run(model, trace(1), fitted["mixed"][0].layout, Plan(100, 100, 3, 0))
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert [(epoch, round(weight, 4), round(rate, 4)) for epoch, weight, rate in model.begun] == [
        (1, 0, 0.1),
        (2, 0.1, 0.1),
        (2, 0.1, 0.05),
        (2, 0.1, 0.025),
        (3, 0.125, 0.025),
    ]
    again = Diverging()
    restore(again, capture(model, 3), "here")
    assert again.pace == 0.25


def test_codes_in_memory_are_one_window(fitted: Fitted) -> None:
    codes = fitted["mixed"][1]
    assert len(Resident(codes)) == 1
    assert [(number, window is codes) for number, window in Resident(codes).in_order(3)] == [
        (0, True)
    ]
    assert not list(Resident(codes).in_order(3, 1))


# -- inside an epoch ----------------------------------------------------------------------------


class Wandering(Counting):
    """Its weight depends on every batch and every draw; its loss is the weight."""

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, torch.Tensor]:
        drawn = next(batches).codes.indices.double().mean()
        self.weight.data += drawn.float() + torch.rand((), generator=generator)
        return {"loss": self.weight.detach().clone()}


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.learn.STRETCH", 2)


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("windows", [1, 2, 3, 12])
@pytest.mark.parametrize("steps", [2, 6, 8])
def test_a_training_resumes_inside_an_epoch_as_if_it_had_never_stopped(
    windows: int, steps: int, fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    layout, plan = fitted["mixed"][0].layout, Plan(1_000, 100, epochs=3, seed=0)
    straight, asked = Wandering(), list[tuple[int, int]]()

    def never(done: int, part: Part) -> bool:
        asked.append((done, part.steps))
        return False

    seen = trace(windows)
    whole = run(straight, seen, layout, plan, pause=never)
    assert asked == [(done, step) for done in range(3) for step in (2, 4, 6, 8)]

    first, states = Wandering(), list[bytes]()

    def once(done: int, part: Part) -> bool:
        if (done, part.steps) == (1, steps):
            states.append(capture(first, done, part=part))
            return True
        return False

    assert run(first, trace(windows), layout, plan, pause=once) == whole[:1]
    second, part, seen = Wandering(), Part(), trace(windows)
    done = restore(second, states[0], "here", part=part)
    assert (done, part.steps) == (1, steps)
    assert run(second, seen, layout, plan, done, part=part, pause=never) == whole[1:]
    assert second.weight == straight.weight
    # What comes before is not read again.
    over = sum(10 * (number + 1) // windows <= steps for number in range(windows))
    assert len(seen.batches) <= 2 * windows - over


@pytest.mark.usefixtures("short_stretches")
def test_a_loss_that_is_not_finite_is_never_kept_inside_an_epoch(
    fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    """The epoch is taken back at once, to where it was begun."""
    layout, plan, asked = fitted["mixed"][0].layout, Plan(1_000, 100, 3, 0), list[int]()

    def told(done: int, part: Part) -> bool:
        asked.extend([done] if done == 1 else [])
        return False

    model = Diverging()
    run(model, trace(1), layout, plan, pause=told)
    assert asked == [1] * 4  # of the last time, when all losses were finite
    assert [epoch for epoch, *_ in model.begun].count(2) == 2 + 2 + 10


@pytest.mark.usefixtures("short_stretches")
def test_with_other_workers_a_training_goes_on_at_the_same_step(
    fitted: Fitted, trace: Callable[[int], Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an epoch has fewer steps than were taken of it."""
    layout = fitted["mixed"][0].layout
    for batch, left in ((100, 4), (200, 1)):
        model = Counting()
        plan = Plan(1_000, batch, epochs=1, seed=0)
        run(model, trace(1), layout, plan, part=Part(6, {"loss": torch.tensor(0.0)}))
        assert model.steps == left


# -- the best weights ---------------------------------------------------------------------------


class Scoring(Counting):
    """A model that scores as it is told, and remembers on which rows."""

    scores = True

    def __init__(self, *told: float) -> None:
        super().__init__()
        self.told, self.held = list(told), list[Codes]()

    def score(self, codes: Codes) -> torch.Tensor:
        self.held.append(codes)
        return torch.tensor(self.told.pop(0))

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, torch.Tensor]:
        self.weight.data += 1
        return super().step(batches, generator)


def numbered(rows: int) -> Codes:
    return Codes(torch.arange(rows, dtype=torch.int32)[:, None], torch.empty(rows, 0))


def test_rows_held_out_are_scored_and_never_trained_on(fitted: Fitted) -> None:
    layout, model = fitted["categories"][0].layout, Scoring(1.0, 2.0)
    seen: set[int] = set()

    def remember(window: Codes, *rest: Any) -> Iterator[Batch]:
        seen.update(window.indices[:, 0].tolist())
        yield from draw.uniform(window, *rest)

    epochs = list(learn(model, layout, remember, Resident(numbered(100)), Plan(100, 10, 2, 0)))
    assert [epoch.losses["held"] for epoch in epochs] == [1, 2]
    for held in model.held:
        assert held.indices[:, 0].tolist() == [95, 96, 97, 98, 99]
    assert seen == {*range(95)}


def test_too_few_rows_to_hold_any_out_are_all_trained_on(fitted: Fitted) -> None:
    layout, model = fitted["categories"][0].layout, Scoring()
    best = Best()
    plan = Plan(19, 10, 1, 0)
    (epoch,) = learn(model, layout, draw.uniform, Resident(numbered(19)), plan, 0, best)
    assert "held" not in epoch.losses
    assert not best.weights


def test_the_weights_that_scored_lowest_are_kept_also_by_a_training_that_resumes(
    fitted: Fitted,
) -> None:
    layout, plan, window = fitted["categories"][0].layout, Plan(100, 10, 4, 0), numbered(100)
    first, best = Scoring(3.0, 1.0, 2.0, 4.0), Best()
    state = b""
    for epoch in learn(first, layout, draw.uniform, Resident(window), plan, 0, best):
        if epoch.number == 2:
            kept = first.weight.item()
        if epoch.number == 3:
            state = capture(first, 3, best)
    assert (best.score, float(best.weights["weight"])) == (1, kept)
    second, again = Scoring(2.0), Best()
    done = restore(second, state, "here", again)
    assert (done, again.score) == (3, 1)
    list(learn(second, layout, draw.uniform, Resident(window), plan, done, again))
    assert second.weight.item() != kept
    again.put(second)
    assert second.weight.item() == kept


class Averaging(Scoring):
    """A model whose weights rise by one a step, and that is scored by their average."""

    averaging = 10

    def score(self, codes: Codes) -> torch.Tensor:
        self.told.append(-self.weight.item())
        return super().score(codes)


def test_what_is_scored_and_kept_is_the_average_also_of_a_training_that_resumes(
    fitted: Fitted,
) -> None:
    layout, plan, window = fitted["categories"][0].layout, Plan(1_000, 10, 4, 0), numbered(1_000)
    straight, best, state = Averaging(), Best(), b""
    for epoch in learn(straight, layout, draw.uniform, Resident(window), plan, 0, best):
        if epoch.number == 2:
            state = capture(straight, 2, best)
    last = straight.weight.item()
    # Of 400 steps the weight lags by about a tenth; without the average it would not lag at all.
    assert last - 50 < best.weights["weight"].item() < last - 25
    resumed, again = Averaging(), Best()
    done = restore(resumed, state, "here", again)
    list(learn(resumed, layout, draw.uniform, Resident(window), plan, done, again))
    assert torch.equal(again.weights["weight"], best.weights["weight"])
    assert resumed.weight.item() == last, "training goes on from the weights, not the average"


def test_without_rows_to_score_the_average_is_kept(fitted: Fitted) -> None:
    layout, model, best = fitted["categories"][0].layout, Averaging(), Best()
    list(learn(model, layout, draw.uniform, Resident(numbered(19)), Plan(19, 1, 9, 0), 0, best))
    assert not best.weights
    last = model.weight.item()
    best.put(model)
    assert model.weight.item() < last


def test_schedules_are_told_the_share_that_is_over_also_when_resumed(fitted: Fitted) -> None:
    layout, plan = fitted["categories"][0].layout, Plan(30, 10, 2, 0)

    def told(done: int) -> list[float]:
        model, shares = Counting(), list[float]()
        model.at = shares.append  # type: ignore[method-assign]
        list(learn(model, layout, draw.uniform, Resident(numbered(30)), plan, done))
        return shares

    assert told(0) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert told(1) == told(0)[3:]


# -- probes and patience ------------------------------------------------------------------------


def test_a_training_ends_when_none_better_came_for_as_long_as_is_waited(fitted: Fitted) -> None:
    layout, window = fitted["categories"][0].layout, numbered(100)
    plan = Plan(100, 10, 9, 0, patience=2)
    model, best = Scoring(3.0, 1.0, 2.0, 1.5), Best()
    epochs = list(learn(model, layout, draw.uniform, Resident(window), plan, 0, best))
    assert [(epoch.number, epoch.last) for epoch in epochs] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
    ]
    assert (best.epoch, best.score) == (2, 1)
    assert ended(plan, best, 4)
    assert not ended(plan, best, 3)
    state = capture(model, 4, best)
    second, again = Scoring(), Best()
    done = restore(second, state, "here", again)
    assert not list(learn(second, layout, draw.uniform, Resident(window), plan, done, again))


class Sampling(Counting):
    """Draws rows it is told to, one after the other of `told`."""

    def __init__(self, *told: Codes) -> None:
        super().__init__()
        self.told = list(told)

    def sample(self, rows: int, generator: Generator, given: Any = None) -> Codes:
        return self.told.pop(0).take(slice(0, rows))


def rows_of(layout: Layout, rows: int, seed: int, index: int | None = None) -> Codes:
    """Indices drawn evenly, or all the same."""
    g = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(span.size, (rows,), generator=g) for span in layout.choices]
    indices = torch.stack(drawn, 1).to(layout.index_dtype)
    if index is not None:
        indices[:] = index
    return Codes(indices, torch.zeros(rows, len(layout.scalars)))


def test_a_family_without_a_score_keeps_the_weights_that_a_probe_likes_best(
    fitted: Fitted,
) -> None:
    codec = fitted["categories"][0]
    layout = codec.layout
    window = rows_of(layout, 8_000, 0)
    worse, good = rows_of(layout, 2_000, 1, index=0), rows_of(layout, 2_000, 2)
    model, best = Sampling(worse, good, worse), Best()
    plan = Plan(8_000, 4_000, 3, 0)
    epochs = list(learn(model, layout, draw.uniform, Resident(window), plan, 0, best, codec))
    assert best.epoch == 2
    assert best.score == pytest.approx(1 - epochs[1].losses["fidelity"])
    assert [bool(epoch.alarm) for epoch in epochs] == [False, False, True]
    assert "mode collapse: of the categories" in epochs[2].alarm


def test_a_family_that_does_not_choose_trains_on_all_and_keeps_the_last(fitted: Fitted) -> None:
    codec = fitted["categories"][0]
    window, seen = rows_of(codec.layout, 8_000, 0), list[int]()

    def remember(rows: Codes, *rest: Any) -> Iterator[Batch]:
        seen.append(rows.rows)
        yield from draw.uniform(rows, *rest)

    model, best = Sampling(rows_of(codec.layout, 2_000, 2)), Best()
    model.chooses = False
    plan = Plan(8_000, 4_000, 1, 0)
    (epoch,) = learn(model, codec.layout, remember, Resident(window), plan, 0, best, codec)
    assert seen == [8_000]
    assert not best.weights
    assert 0 < epoch.losses["fidelity"] <= 1


def test_probes_are_spread_over_a_training_and_the_last_epoch_has_one() -> None:
    plan = Plan(1_000, 100, 300, 0)
    probed = [epoch for epoch in range(1, 301) if plan.probes(epoch)]
    assert probed == list(range(15, 301, 15))
    assert [epoch for epoch in range(1, 8) if Plan(1_000, 100, 7, 0).probes(epoch)] == [
        *range(1, 8)
    ]
    assert Plan(1_000, 100, 47, 0).probes(47)


def test_a_family_without_a_score_trains_on_all_where_a_probe_would_say_nothing(
    fitted: Fitted,
) -> None:
    codec = fitted["categories"][0]
    layout = codec.layout
    seen: list[int] = []

    def remember(window: Codes, *rest: Any) -> Iterator[Batch]:
        seen.append(window.rows)
        yield from draw.uniform(window, *rest)

    for rows in (3_999, 4_000):
        model = Sampling(rows_of(layout, 200, 1))
        window = rows_of(layout, rows, 0)
        plan = Plan(rows, 1_000, 1, 0)
        list(learn(model, layout, remember, Resident(window), plan, 0, None, codec))
    assert seen == [3_999, 3_800]
