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
from raysynth.learn import Epoch, Plan, Resident, learn
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

    def in_order(self, seed: int) -> Iterator[tuple[int, Codes]]:
        self.orders.append(seed)
        for number in np.random.default_rng(seed).permutation(self.count):
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
        self.optimizers = (torch.optim.SGD(self.parameters(), lr=0.1),)
        self.steps, self.loss = 0, loss

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, torch.Tensor]:
        next(batches)
        self.steps += 1
        return {"loss": torch.tensor(self.loss * self.steps)}

    def sample(self, rows: int, generator: Generator, given: Any = None) -> Codes:
        raise NotImplementedError


@pytest.fixture
def trace(fitted: Fitted) -> Callable[[int], Trace]:
    return lambda windows: Trace(fitted["mixed"][1], windows)


def run(model: TableModel, trace: Trace, layout: Layout, plan: Plan, done: int = 0) -> list[Epoch]:
    return list(learn(model, layout, trace.draw, trace, plan, done))


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


def test_a_loss_that_is_not_finite_ends_the_training(
    fitted: Fitted, trace: Callable[[int], Trace]
) -> None:
    with pytest.raises(ArithmeticError, match=r"epoch 1: a loss is no longer finite \(loss\)"):
        run(Counting(float("nan")), trace(1), fitted["mixed"][0].layout, Plan(100, 10, 3, 0))


def test_codes_in_memory_are_one_window(fitted: Fitted) -> None:
    codes = fitted["mixed"][1]
    assert len(Resident(codes)) == 1
    assert [(number, window is codes) for number, window in Resident(codes).in_order(3)] == [
        (0, True)
    ]
