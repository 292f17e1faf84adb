"""Recorded steps on a GPU. Runs only where there is one, and only when asked for by its name:

pytest -n 0 tests/cuda_capture.py
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator

from raysynth import capture, learn
from raysynth.capture import Losses, Steps
from raysynth.draw import Batch
from raysynth.gradients import watched
from raysynth.layout import Codes
from raysynth.learn import Epoch, Plan
from raysynth.models import TableModel
from tests.conftest import SETTINGS
from tests.test_capture import StandIn, Tripping
from tests.training import KINDS, Fitted, Make, batches, learned

HERE = torch.device("cuda")
STEPS = 20
# Sums on a GPU are in no order, and a step of an adversary makes more of the difference.
CLOSE = {"rtol": 1e-2, "atol": 1e-3}


def near(model: TableModel, other: TableModel) -> None:
    torch.testing.assert_close(model.state_dict(), other.state_dict(), **CLOSE)


def rows(family: str, model: TableModel, codes: Codes) -> Iterator[Batch]:
    for batch in batches(family, model, codes, 100, 0):
        yield Batch(batch.codes.to(HERE), None if batch.given is None else batch.given.to(HERE))


def taken(
    family: str, model: TableModel, codes: Codes, seed: int = 1
) -> tuple[list[Losses], dict[str, float]]:
    """Losses of some steps along a schedule, and the lengths of the last one's gradients."""
    drawn, found = rows(family, model, codes), []
    with watched(model, model.optimizers) as watch:
        steps = Steps(model, watch)
        steps.generator.manual_seed(seed)
        for number in range(STEPS):
            model.at(number / STEPS)
            watch.due = number == STEPS - 1
            found.append({name: loss.clone() for name, loss in steps(drawn).items()})
        return found, watch.lengths()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SETTINGS)
def test_steps_that_are_played_are_those_that_are_taken(
    family: str, kind: str, fitted: Fitted, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their losses, their weights, and how long their gradients are, along a schedule."""
    codec, codes = fitted[kind]
    played, plain = (make(family, codec).to(HERE) for _ in range(2))
    found, lengths = taken(family, played, codes)
    monkeypatch.setattr(capture, "recorder", lambda _: StandIn())
    losses, theirs = taken(family, plain, codes)
    torch.testing.assert_close(found, losses, **CLOSE)
    assert lengths == pytest.approx(theirs, rel=1e-2)
    near(played, plain)


def test_chances_of_what_is_played_are_those_of_the_seed_set_before(
    fitted: Fitted, make: Make
) -> None:
    codec, codes = fitted["mixed"]
    model = make("autoregressive", codec).to(HERE)
    model.pace = 0.0  # so that steps change nothing
    with watched(model, model.optimizers) as watch:
        steps, (batch,) = Steps(model, watch), [next(rows("autoregressive", model, codes))]
        model.at(0.5)

        def lost(seed: int) -> float:
            steps.generator.manual_seed(seed)
            for _ in range(2):
                told = steps(iter([batch]))
            return float(told["bits"])

        first = [lost(1) for _ in range(4)]
        assert first == pytest.approx([first[0]] * 4, rel=1e-5)
        assert lost(2) != pytest.approx(first[0], rel=1e-5)


def epochs(
    model: TableModel, codes: Codes, done: int = 0, until: int = 4, precision: Any = "float32"
) -> list[Epoch]:
    plan, found = Plan(codes.rows, 100, 4, seed=3, precision=precision), []
    for epoch in learned(model, codes.to(HERE), plan, done):
        found.append(epoch)
        if epoch.number == until:
            break
    return found


@pytest.mark.parametrize("family", SETTINGS)
def test_a_training_resumes_and_its_checkpoint_goes_on_on_a_cpu(
    family: str, fitted: Fitted, make: Make
) -> None:
    codec, codes = fitted["mixed"]
    unbroken, first, second = (make(family, codec).to(HERE) for _ in range(3))
    assert all(epoch.norms for epoch in epochs(unbroken, codes))
    epochs(first, codes, until=2)
    state = learn.capture(first, 2)
    epochs(second, codes, learn.restore(second, state, "here"))
    near(second, unbroken)
    cpu = make(family, codec)
    assert learn.restore(cpu, state, "here") == 2
    cpu.step(batches(family, cpu, codes, 100, 0), Generator().manual_seed(0))


def test_an_epoch_taken_back_is_recorded_anew(fitted: Fitted, make: Make) -> None:
    codec, codes = fitted["mixed"]
    model = make("tgan", codec).to(HERE)
    # Steps that are played are not counted: the third one that is taken, of the first epoch.
    model.step = Tripping(model, 3)  # type: ignore[method-assign]
    assert len(epochs(model, codes)) == 4
    assert model.pace == 0.5
    assert all(weights.isfinite().all() for weights in model.state_dict().values())


def test_what_cannot_be_recorded_is_taken(
    fitted: Fitted, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    codec, codes = fitted["mixed"]
    model = make("tgan", codec).to(HERE)
    step = model.step

    def asking(drawn: Iterator[Batch], generator: Generator) -> Losses:
        losses = step(drawn, generator)
        assert all(bool(loss.isfinite()) for loss in losses.values())
        return losses

    model.step = asking  # type: ignore[method-assign]
    assert len(epochs(model, codes)) == 4
    assert "steps cannot be recorded" in caplog.text


def test_an_average_that_was_played_is_drawn_from(fitted: Fitted, make: Make) -> None:
    codec, codes = fitted["mixed"]
    model, drawn = make("ctgan-improved", codec).to(HERE), []
    for until in (2, 4):
        epochs(model, codes, until - 2, until)
        drawn.append(model.sample(100, Generator(HERE).manual_seed(0)).scalars)
    fresh = make("ctgan-improved", codec).to(HERE)
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(*drawn)
    assert torch.equal(fresh.sample(100, Generator(HERE).manual_seed(0)).scalars, drawn[1])


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("family", SETTINGS)
def test_fewer_digits_come_near_and_are_of_steps_alone(
    family: str, precision: str, fitted: Fitted, make: Make
) -> None:
    codec, codes = fitted["mixed"]
    few, whole = (make(family, codec).to(HERE) for _ in range(2))
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    *_, last = epochs(few, codes, precision=precision)
    assert matmul.fp32_precision == before
    assert last.losses == pytest.approx(epochs(whole, codes)[-1].losses, rel=0.1, abs=0.1)
    assert {weights.dtype for weights in few.parameters()} == {torch.float32}
