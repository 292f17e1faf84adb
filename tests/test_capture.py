"""What makes a step one that a GPU can record and play again, and how it is played.

Here a stand-in plays: it takes the step again, from the rows and rates where a recording has them.
What only a GPU can tell is in `cuda_capture.py`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raysynth import capture, draw, learn
from raysynth.capture import WARM, Losses, Steps, Work
from raysynth.draw import Batch
from raysynth.gradients import Watch, watched
from raysynth.models import TableModel
from tests.conftest import SETTINGS
from tests.training import KINDS, Fitted, Make, Seeded, batches, settings, trained

META = torch.device("meta")  # shapes without numbers: who asks for one is refused
ANSWERS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2", "aten::bincount")


class Far(Generator):
    """A generator that says it is on the device."""

    device = META  # type: ignore[assignment]


class Calls(TorchFunctionMode):
    """Calls that bring numbers of the host to the device, for which it would wait."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        index = args[1] if function in (Tensor.__getitem__, Tensor.__setitem__) else ()
        parts = index if isinstance(index, tuple) else (index,)
        if function is torch.tensor or any(isinstance(part, list) for part in parts):
            self.found.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Operations that answer the host, or take or give what lies on another device than `here`."""

    def __init__(self, here: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.here, self.found = here, list[str]()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, made)) if isinstance(one, Tensor)]
        masked = function.name().startswith("aten::index") and any(
            one.dtype == torch.bool for one in tree_leaves(args[1:2]) if isinstance(one, Tensor)
        )
        away = any(one.device.type != self.here for one in tensors)
        if masked or away or function.name() in ANSWERS:
            self.found.append(function.name())
        return made


@contextmanager
def asked(here: str) -> Iterator[list[str]]:
    """What is asked of the host, meanwhile, by name."""
    calls, operations, found = Calls(), Operations(here), list[str]()
    with calls, operations:
        yield found
    found += calls.found + operations.found


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused optimizers take weights without numbers, as they take those of a GPU."""
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)


def on_meta(batch: Batch) -> Batch:
    return Batch(batch.codes.to(META), None if batch.given is None else batch.given.to(META))


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SETTINGS)
def test_a_step_asks_the_device_for_no_number_and_brings_it_none(
    family: str, kind: str, fitted: Fitted, make: Make
) -> None:
    """Nor does any shape depend on what rows hold: there is nothing that they hold."""
    codec, codes = fitted[kind]
    model = make(family, codec).to(META)
    drawn = batches(family, model, codes, 100, 0)
    rows = [on_meta(next(drawn)) for _ in range(model.takes)]
    codec.layout.starts(META)  # before the first step
    groups = [group for optimizer in model.optimizers for group in optimizer.param_groups]
    assert all(group["fused"] for group in groups if "capturable" in group)
    with asked("meta") as found:
        losses = model.step(iter(rows), Far())
    assert found == []
    assert {loss.device for loss in losses.values()} == {META}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [draw.uniform, draw.by_category])
def test_a_draw_asks_the_device_for_no_number_but_at_the_start_of_a_window(
    how: draw.Draw, kind: str, fitted: Fitted, seeded: Seeded
) -> None:
    codec, codes = fitted[kind]
    drawn = how(codes, codec.layout, 50, seeded(0))
    next(drawn)
    with asked("cpu") as found:
        next(drawn)
    assert found == []


def test_what_is_asked_is_seen() -> None:
    rows, places = torch.zeros(3), torch.zeros(3, dtype=torch.long)
    for ask in (
        rows[0].item,
        lambda: bool(rows.any()),
        lambda: rows[[0, 1]],
        lambda: rows.index_fill_(0, torch.tensor([1]), 2.0),
        places.bincount,
        lambda: rows.to("meta"),
        lambda: rows[rows > 0],
    ):
        with asked("cpu") as found:
            ask()
        assert found, ask


@pytest.mark.parametrize("family", SETTINGS)
def test_a_step_takes_as_many_batches_as_it_says(
    family: str, fitted: Fitted, make: Make, seeded: Seeded
) -> None:
    codec, codes = fitted["mixed"]
    more = {"critic_steps": 2} if family.startswith("ctgan") else {}
    model = make(family, codec, **more)
    drawn = batches(family, model, codes, 50, 0)
    rows = iter([next(drawn) for _ in range(model.takes + 1)])
    model.step(rows, seeded(1))
    assert len(list(rows)) == 1


# -- playing ------------------------------------------------------------------------------------


class StandIn:
    """Takes steps as a stream does, and gives as a recording what takes another."""

    def __init__(self, fault: str = "") -> None:
        self.fault, self.recorded = fault, 0

    def take(self, work: Work) -> Losses:
        return work()

    def record(self, work: Work, generator: Generator) -> tuple[Losses, Callable[[], None]]:
        if self.fault:
            raise RuntimeError(self.fault)
        self.recorded += 1
        losses: Losses = {}
        return losses, lambda: losses.update(work())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What records from now on."""
    one = StandIn()
    monkeypatch.setattr(capture, "recorder", lambda _: one)
    return one


def exact(family: str) -> dict[str, Any]:
    """Rates that float32 has exactly, as a recording reads them."""
    return settings(family, rate=2**-9, generator_rate=2**-9, critic_rate=2**-9, anneal=False)


def stepped(model: TableModel, rows: Iterator[Batch], seed: int, steps: int) -> list[Losses]:
    taken = Steps(model, Watch())
    taken.generator.manual_seed(seed)
    return [dict(taken(rows)) for _ in range(steps)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SETTINGS)
def test_played_steps_are_those_that_are_taken(
    family: str, kind: str, fitted: Fitted, make: Make, seeded: Seeded, stand_in: StandIn
) -> None:
    codec, codes = fitted[kind]
    plain, played = (make(family, codec, **exact(family)) for _ in range(2))
    rows, generator = batches(family, plain, codes, 60, 0), seeded(1)
    losses = [plain.step(rows, generator) for _ in range(WARM + 3)]
    found = stepped(played, batches(family, played, codes, 60, 0), 1, WARM + 3)
    assert stand_in.recorded == 1
    # The optimizers of rnn and tvae are not fused here, and round a rate that is a tensor.
    off = 1e-5 if family[:4] in ("rnn", "tvae") else 0.0
    for mine, theirs in zip(found, losses, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=off, atol=off)
    torch.testing.assert_close(played.state_dict(), plain.state_dict(), rtol=off, atol=off)


@pytest.mark.parametrize("family", ["ctgan-improved", "autoregressive", "independent"])
def test_a_training_that_plays_resumes_bit_for_bit_and_keeps_what_any_keeps(
    family: str, fitted: Fitted, make: Make, stand_in: StandIn
) -> None:
    codec, codes = fitted["mixed"]
    unbroken = trained(make(family, codec), codes, 4)
    state = learn.capture(trained(make(family, codec), codes, 4, until=2), 2)
    other = make(family, codec, seed=7)
    trained(other, codes, 4, learn.restore(other, state, "here"))
    assert stand_in.recorded == 3
    for name, weights in unbroken.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name


@pytest.mark.parametrize("played", [True, False])
def test_what_one_that_plays_kept_one_that_does_not_goes_on_from_and_the_other_way(
    played: bool, fitted: Fitted, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, codes = fitted["mixed"]

    def half(done: int, state: bytes | None, plays: bool) -> bytes:
        monkeypatch.setattr(capture, "recorder", lambda _: StandIn() if plays else None)
        model = make("tgan", codec, **exact("tgan"))
        if state is not None:
            learn.restore(model, state, "here")
        return learn.capture(trained(model, codes, 4, done, until=done + 2), done + 2)

    ends = [
        half(2, half(0, None, plays), goes)
        for plays, goes in ((played, not played), (False, False))
    ]
    models = [make("tgan", codec), make("tgan", codec, seed=7)]
    for model, end in zip(models, ends, strict=True):
        learn.restore(model, end, "here")
    assert learn.load(ends[0]).keys() == learn.load(ends[1]).keys()
    for name, weights in models[0].state_dict().items():
        assert torch.equal(weights, models[1].state_dict()[name]), name


class Tripping:
    """A model's step that gives a loss that is not finite once, when called so often."""

    def __init__(self, model: TableModel, step: int) -> None:
        self.step, self.left = model.step, step

    def __call__(self, *told: Any) -> Losses:
        self.left -= 1
        losses: Losses = self.step(*told)
        return {n: loss * torch.inf for n, loss in losses.items()} if self.left == 0 else losses


def test_an_epoch_taken_back_is_recorded_anew_and_goes_at_half_the_rate(
    fitted: Fitted, make: Make, stand_in: StandIn
) -> None:
    codec, codes = fitted["mixed"]
    model = make("tgan", codec, **exact("tgan"))
    model.step = Tripping(model, 2 * 5 + WARM)  # type: ignore[method-assign]
    trained(model, codes, 4)
    assert stand_in.recorded == 2
    rates = [group["lr"] for one in model.optimizers for group in one.param_groups]
    assert [float(rate) for rate in rates] == [2**-10, 2**-10]


def test_where_steps_cannot_be_recorded_each_is_taken(
    fitted: Fitted, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codec, codes = fitted["mixed"]
    plain = trained(make("tgan", codec, **exact("tgan")), codes, 3)
    monkeypatch.setattr(capture, "recorder", lambda _: StandIn("operation not permitted"))
    # A logger of its own: what others in this process do to the usual one is not asked here.
    told = logging.getLogger("tests.capture")
    monkeypatch.setattr(told, "handlers", [caplog.handler])
    monkeypatch.setattr(capture, "log", told)
    other = trained(make("tgan", codec, **exact("tgan")), codes, 3)
    assert "steps cannot be recorded, and each is taken: operation not permitted" in caplog.text
    for name, weights in plain.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name


def test_other_shapes_and_rates_that_are_no_tensors_are_recorded_anew(
    fitted: Fitted, make: Make, stand_in: StandIn
) -> None:
    codec, codes = fitted["mixed"]
    model = make("independent", codec)
    steps = Steps(model, Watch())
    steps.generator.manual_seed(0)

    def some(rows: int) -> int:
        for _ in range(WARM + 2):
            steps(batches("independent", model, codes, rows, 0))
        return stand_in.recorded

    assert [some(50), some(50), some(60)] == [1, 1, 2]
    model.pace = 0.5
    model.at(0.0)
    assert some(60) == 3


def test_lengths_of_gradients_are_recorded_whichever_step_is_last(
    fitted: Fitted, make: Make, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, codes = fitted["mixed"]
    model = make("ctgan", codec)
    with watched(model, model.optimizers) as watch:
        steps, due = Steps(model, watch), list[bool]()
        monkeypatch.setattr(stand_in, "record", lambda *_: due.append(watch.due) or ({}, dict))
        steps.generator.manual_seed(0)
        for _ in range(WARM + 1):
            watch.due = False
            steps(batches("ctgan", model, codes, 60, 0))
    assert due == [True]


def test_averages_that_were_played_are_seen_when_rows_are_drawn(
    fitted: Fitted, make: Make, seeded: Seeded, stand_in: StandIn
) -> None:
    """What is played changes weights unseen, as is done here by way of `data`."""
    codec, codes = fitted["mixed"]
    model = make("ctgan-improved", codec)
    steps = Steps(model, Watch())
    steps.generator.manual_seed(0)
    for _ in range(WARM + 1):
        steps(batches("ctgan-improved", model, codes, 60, 0))
    before = model.sample(50, seeded(1))
    for buffer in model.average.buffers():
        buffer.data.mul_(-2.0)
    assert torch.equal(model.sample(50, seeded(1)).scalars, before.scalars)
    steps.settle()
    assert not torch.equal(model.sample(50, seeded(1)).scalars, before.scalars)


def test_a_rate_on_the_device_follows_the_schedule(
    fitted: Fitted, make: Make, stand_in: StandIn
) -> None:
    codec, _ = fitted["mixed"]
    for family in ("autoregressive", "rnn", "ctgan-improved", "tvae"):
        plain, played = make(family, codec), make(family, codec)
        Steps(played, Watch())
        for share in (0.0, 0.3, 0.9):
            rates = []
            for model in (plain, played):
                model.at(share)
                rates.append([g["lr"] for one in model.optimizers for g in one.param_groups])
            assert all(isinstance(rate, Tensor) for rate in rates[1])
            assert [float(rate) for rate in rates[1]] == pytest.approx(rates[0], rel=1e-6)
