"""What makes a step one that a GPU can record and play again."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raysynth import draw
from raysynth.draw import Batch
from tests.conftest import SETTINGS
from tests.training import KINDS, Fitted, Make, Seeded, batches

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
