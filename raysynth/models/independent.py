"""Independent columns: each drawn by its own shares, whatever the others hold.

A baseline of Xu et al., NeurIPS 2019, and the floor of a report: what does better than this has
learned something about rows. A choice (category, point) is drawn by its share, a scalar by a
histogram of `CELLS` cells for each choice, evenly within a cell.

Counting is a training here: the loss is linear in the shares, its gradient is a batch's counts, and
steps of length one add them up, on any number of workers.

Shapes: B rows, C cells of all columns.
"""

from collections.abc import Iterator, Mapping
from math import log
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from raysynth import draw
from raysynth.draw import Batch, Draw
from raysynth.layout import Bounds, Codes, ColumnSpans, Layout
from raysynth.models import Encoding, TableModel, Trial

CELLS = 64  # of a scalar's range [-1, 1]
START = 1e-6  # what a cell weighs before it is counted, beside 1 for every step


class Config(BaseModel):
    """There is nothing to choose but how many rows are counted at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: Annotated[int, Field(gt=0)] = 1_000


def encoding(config: Config) -> Encoding:
    """Normal scores beside points, which a histogram follows closely."""
    return Encoding("normal", "onehot")


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """Nothing."""
    return {}


def space(trial: Trial) -> dict[str, Any]:
    """Nothing."""
    return {}


def batch_rows(batch: int, config: Config) -> int:
    """Any number of rows makes a batch."""
    return batch


def epochs(rows: int, config: Config) -> int:
    """Each row is drawn ten times on average, so the draws add little to the shares' own error."""
    return 10


class Model(TableModel):
    """The counts: a weight (C,) a column, choice by choice and in each cell by cell."""

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.counts = nn.ParameterList()
        for column in layout.columns:
            known = shares.get(column.name) or (1.0,) * column.size
            start = torch.tensor(known, dtype=torch.float32).clamp_min(START) * START
            self.counts.append(start.repeat_interleave(_cells(column)) / _cells(column))

    def _optimizers(self) -> tuple[Optimizer, ...]:
        return (SGD(self.parameters(), lr=1.0),)

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, Tensor]:
        """Add a batch's shares to the counts."""
        self.train()
        codes = next(batches).codes
        (optimizer,) = self.optimizers
        optimizer.zero_grad(set_to_none=True)
        bits = codes.scalars.new_zeros(())
        for column, counts in zip(self.layout.columns, self.counts, strict=True):
            cells = self._cell(column, codes)
            # Not counted by `bincount`, which asks a GPU for the largest cell there is.
            ones = torch.ones_like(cells)
            counted = cells.new_zeros(len(counts)).scatter_add_(0, cells, ones) / codes.rows
            counts.grad = -counted.to(counts.dtype)
            shares = counts.detach() / counts.detach().sum()
            bits -= (counted * shares.log()).sum() / log(2)
        optimizer.step()
        return {"bits": bits}

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows, every column on its own; a single value given is held."""
        self.eval()
        layout, device = self.layout, self.counts[0].device
        indices = torch.zeros(rows, len(layout.choices), dtype=layout.index_dtype, device=device)
        codes = Codes(indices, torch.zeros(rows, len(layout.scalars), device=device))
        for column, counts in zip(layout.columns, self.counts, strict=True):
            uniform = torch.rand(2, rows, device=device, generator=generator)
            reached = counts.double().cumsum(0)
            cell = torch.searchsorted(reached, uniform[0].double() * reached[-1], right=True)
            cell = cell.clamp_max(len(counts) - 1)
            index = cell // _cells(column)
            if column.choice is not None:
                asked = (given or {}).get(column.name)
                held = None if asked is None else asked.only
                index = index if held is None else torch.full_like(index, held)
                codes.indices[:, column.choice.slot] = index.to(codes.indices.dtype)
            if column.scalar is not None:
                place = (cell % CELLS + uniform[1]) * (2 / CELLS) - 1
                codes.scalars[:, column.scalar.slot] = place * column.says(index)
        return codes

    def _cell(self, column: ColumnSpans, codes: Codes) -> Tensor:
        """The cell (B,) of each row, among those of all the column's choices."""
        index = column.index(codes)
        if column.scalar is None:
            return index
        place = (codes.scalars[:, column.scalar.slot] + 1) * (CELLS / 2)
        return index * CELLS + place.long().clamp(0, CELLS - 1)


def _cells(column: ColumnSpans) -> int:
    """Cells of one choice."""
    return 1 if column.scalar is None else CELLS
