"""Where a training's time goes, on a clock whose hands the test moves; how long gradients are."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from raysynth import clock, draw
from raysynth.clock import COMPUTE, DATA, Clock, shares
from raysynth.gradients import watched
from raysynth.learn import Plan, Resident, learn
from tests.conftest import Fitted, make_model


class Hands:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock, "time", hands)
    return hands


def test_every_moment_is_counted_once_as_the_innermost_part(hands: Hands) -> None:
    told = Clock()
    hands.now += 1  # in no part: nobody's
    with told.of("step"):
        hands.now += 2
        with told.of("inner"):
            hands.now += 4
        hands.now += 8
    hands.now += 16
    assert told.seconds == {"step": 10, "inner": 4}


def test_what_it_takes_to_have_items_is_counted_and_not_what_is_done_with_them(
    hands: Hands,
) -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            hands.now += 1
            yield number
        hands.now += 1

    told = Clock()
    with told.of("all"):
        for _ in told.over("items", slow()):
            hands.now += 10
    assert told.seconds == {"all": 30, "items": 4}


def test_a_part_that_fails_is_over(hands: Hands) -> None:
    told = Clock()

    def fail() -> None:
        with told.of("step"):
            hands.now += 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    hands.now += 1
    assert told.seconds == {"step": 1}


def test_shares_are_told_from_the_largest_on_without_the_smallest() -> None:
    assert shares({"a": 1.0, "b": 8.995, "c": 0.005}) == "b 90%, a 10%"
    assert shares({}) == ""


def test_a_training_tells_where_its_time_goes_and_how_many_steps_it_took(fitted: Fitted) -> None:
    codec, codes = fitted["mixed"]
    told, plan = Clock(), Plan(codes.rows, 100, epochs=2, seed=0)
    model = make_model("ctgan", codec)
    epochs = learn(
        model, codec.layout, draw.by_category, Resident(codes), plan, table=codec, clock=told
    )
    norms = [epoch.norms for epoch in epochs]
    assert told.steps == 2 * plan.steps
    assert set(told.seconds) == {DATA, COMPUTE}, "too few rows to probe with"
    assert [set(one) for one in norms] == [{"generator", "critic"}] * 2
    assert all(length > 0 for one in norms for length in one.values())
    for optimizer in model.optimizers:
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks


def test_lengths_are_those_of_the_gradients_a_network_steps_by() -> None:
    torch.manual_seed(0)
    both = nn.ModuleDict({"first": nn.Linear(3, 2), "second": nn.Linear(2, 1)})
    optimizers = tuple(torch.optim.SGD(one.parameters(), lr=0.1) for one in both.values())
    for place, network in enumerate(both.values()):
        for weight in network.parameters():
            weight.grad = torch.full_like(weight, place + 1)
    with watched(both, optimizers) as watch:
        for optimizer in optimizers:
            optimizer.step()
        assert watch.lengths() == {}, "none was due"
        watch.due = True
        for optimizer in optimizers:
            optimizer.step()
    expected = {"first": 8**0.5, "second": (4 * 3) ** 0.5}
    assert watch.lengths() == pytest.approx(expected)


def test_one_optimizer_for_all_is_that_of_the_model() -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    with watched(network, (optimizer,)) as watch:
        watch.due = True
        optimizer.step()
    assert watch.lengths() == pytest.approx({"model": 8**0.5})
