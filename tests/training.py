"""What tests of families share: batches of them, short trainings, equal codes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from raysynth import models
from raysynth.draw import Batch
from raysynth.layout import Codes
from raysynth.learn import Epoch, Plan, Resident, learn
from raysynth.models import TableModel
from raysynth.table import TableCodec

Fitted = dict[str, tuple[TableCodec, Codes]]
Make = Callable[..., TableModel]
Seeded = Callable[[int], Generator]

KINDS = ("mixed", "numbers", "categories")


def settings(family: str, **wanted: Any) -> dict[str, Any]:
    """Those of `wanted` that the family has."""
    known = models.get(family.partition("-")[0]).Config.model_fields
    return {name: value for name, value in wanted.items() if name in known}


def batches(family: str, model: TableModel, codes: Codes, rows: int, seed: int) -> Iterator[Batch]:
    module = models.get(family.partition("-")[0])
    rows = module.batch_rows(rows, model.config)
    return module.drawing(model.config)(
        codes, model.layout, rows, torch.Generator().manual_seed(seed)
    )


def learned(
    model: TableModel, codes: Codes, plan: Plan, done: int = 0, **more: Any
) -> Iterator[Epoch]:
    """The epochs of a training on `codes`, drawn as the family draws; `more` is for `learn`."""
    draw = models.get(type(model).__module__.rpartition(".")[2]).drawing(model.config)
    return learn(model, model.layout, draw, Resident(codes), plan, done, **more)


def trained(
    model: TableModel,
    codes: Codes,
    epochs: int,
    done: int = 0,
    until: int | None = None,
    **more: Any,
) -> TableModel:
    """`model` after `epochs` epochs on `codes`, or after `until` of them; `more` is for `learn`."""
    plan = Plan(codes.rows, batch=200, epochs=epochs, seed=3)
    for epoch in learned(model, codes, plan, done, **more):
        if epoch.number == until:
            break
    return model


def equal(left: Codes, right: Codes) -> bool:
    return torch.equal(left.indices, right.indices) and torch.equal(left.scalars, right.scalars)


def assert_dense(dense: Tensor, layout: Any) -> None:
    """Softmax blocks that sum to 1, scalars inside (-1, 1)."""
    assert dense.shape[1] == layout.width
    for span in layout.spans:
        block = dense[:, span.slice]
        if span.kind == "scalar":
            assert (block.abs() < 1).all()
            continue
        assert (block >= 0).all()
        assert torch.allclose(block.sum(1), torch.ones(len(block)), atol=1e-5)
