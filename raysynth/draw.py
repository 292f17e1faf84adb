"""Endless batches of real rows, drawn from a window of codes on its device, without the host."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from raysynth.layout import Codes, Layout


class Batch(NamedTuple):
    """B rows of codes and, for families that ask, what each row was drawn for.

    `given` (B,) int64 numbers a category among all categories of all category spans in order: the
    place of the one 1 in CTGAN's condition vector. None where the table has no category.
    """

    codes: Codes
    given: Tensor | None


# A way to draw: (window, layout, rows a batch, generator) to endless batches.
Draw = Callable[[Codes, Layout, int, Generator], Iterator[Batch]]


def uniform(window: Codes, layout: Layout, rows: int, generator: Generator) -> Iterator[Batch]:
    """Rows drawn uniformly with replacement, so a window smaller than a batch will do."""
    while True:
        yield Batch(window.take(_places(rows, window.rows, generator)), None)


def by_category(window: Codes, layout: Layout, rows: int, generator: Generator) -> Iterator[Batch]:
    """Training-by-sampling: every category gets its turn, however rare.

    A category column is drawn uniformly, a category of it with probability proportional to
    ln(1 + its rows in the window), and a row uniformly among that category's rows. Source: Xu et
    al., NeurIPS 2019, section 4.3. Without a category column, rows are drawn uniformly.
    """
    if not layout.categories:
        yield from uniform(window, layout, rows, generator)
    index = _CategoryIndex(window, layout)
    while True:
        given, places = index.draw(rows, generator)
        yield Batch(window.take(places), given)


class _CategoryIndex:
    """Rows of the window by category: `order` (columns, N) lists them category by category."""

    def __init__(self, window: Codes, layout: Layout) -> None:
        sizes = [span.size for span in layout.categories]
        device = window.indices.device
        self.order = torch.empty(len(sizes), window.rows, dtype=torch.int64, device=device)
        self.counts = torch.empty(len(sizes), max(sizes), dtype=torch.int64, device=device)
        # A column at a time: beside the order itself this needs memory for one column only.
        for place, span in enumerate(layout.categories):
            indices = window.indices[:, span.slot].contiguous()
            self.order[place] = indices.argsort(stable=True)
            self.counts[place] = indices.bincount(minlength=max(sizes))
        self.starts = self.counts.cumsum(1) - self.counts
        weights = self.counts.double().log1p().cumsum(1)
        self.cumulative = weights / weights[:, -1:]  # ends in exactly 1, so no draw lies past it
        self.offsets = torch.tensor([0, *sizes[:-1]], device=device).cumsum(0)

    def draw(self, rows: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Conditions (B,) and the rows (B,) drawn for them."""
        column = _places(rows, len(self.offsets), generator)
        uniform = torch.rand(
            2, rows, dtype=torch.float64, device=generator.device, generator=generator
        )
        category = torch.searchsorted(self.cumulative[column], uniform[0, :, None], right=True)
        category = category[:, 0]
        within = (uniform[1] * self.counts[column, category]).long()
        places = self.order[column, self.starts[column, category] + within]
        return self.offsets[column] + category, places


def _places(rows: int, below: int, generator: Generator) -> Tensor:
    return torch.randint(below, (rows,), device=generator.device, generator=generator)
