"""A recurrent network over the columns: each given those before it, by maximum likelihood.

The founding notes ask whether "a straight RNN trained on the real data is good enough", without a
GAN around it; this is that network. Sources: the chain rule of probability; Hochreiter and
Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; for the mixtures, Graves,
"Generating Sequences With Recurrent Neural Networks", 2013 (arXiv 1308.0850). No paper has it for
tables.

An LSTM reads a row column by column in the table's order. What it holds before a column is turned,
by a linear layer of the column's own, into a softmax over the column's index (category, mode,
point) and a mixture of `mixtures` normal distributions of its scalar, which the index then shifts.
In training the LSTM is shown the real columns (teacher forcing), so a whole row is one call of it;
in sampling, those that it drew, one call a column for all rows at once.

**Departures**
- From Graves: the scalars of one row are of different columns, so there is a layer a column and not
  one for all; the mixture depends on the index that was drawn just before it; dropout.
- There is one order, the table's: an answer to what is given would need the given columns first.
  Holding them when their turn comes would leave the columns before them as if nothing were asked.
  So rows are drawn whatever is given, and `Sampler` rejects those that miss it: what is kept is
  distributed as it should be, and costs as many draws as what is given is rare.

Shapes: B rows, D columns, H width, M components, S scalars.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from raysynth import draw
from raysynth.draw import Batch, Draw
from raysynth.gradients import step_cut
from raysynth.layout import Bounds, Codes, Layout
from raysynth.models import Encoding, TableModel, Trial, passes, set_rate
from raysynth.networks import FEATURES, drawn, log_density, waves
from raysynth.normals import scalar
from raysynth.precision import exact, whole

SEEN = 400_000
SCORED = 2**22  # hidden units at once

Width = Annotated[int, Field(gt=0)]


class Config(BaseModel):
    """Settings, found by hand on Adult's training rows; no paper has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: Width = 256
    hidden: Width = 128
    mixtures: Width = 10
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    rate: Annotated[float, Field(gt=0)] = 3e-3
    decay: Annotated[float, Field(ge=0)] = 1e-2
    clip: Annotated[float, Field(gt=0)] = 5.0


def encoding(config: Config) -> Encoding:
    """Normal scores, beside points that many rows hold."""
    return Encoding("normal", "onehot")


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The settings found by hand."""
    return {"hidden": 128, "mixtures": 10, "dropout": 0.2, "rate": 3e-3, "batch": 256}


def space(trial: Trial) -> dict[str, Any]:
    """Width, mixture, and how it is trained."""
    return {
        "hidden": trial.suggest_categorical("hidden", [64, 128, 256]),
        "mixtures": trial.suggest_int("mixtures", 4, 16),
        "dropout": trial.suggest_float("dropout", 0.0, 0.4),
        "rate": trial.suggest_float("rate", 5e-4, 8e-3, log=True),
        "batch": trial.suggest_categorical("batch", [128, 256, 512]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Any number of rows makes a batch."""
    return batch


def epochs(rows: int, config: Config) -> int:
    """As many as come to `SEEN` rows, within reason: few rows are soon known by heart."""
    return passes(SEEN, rows, 2, 100)


class Model(TableModel):
    """The recurrence with what goes in and comes out at each column, and its optimizer."""

    scores = True
    averaging = 30
    starts: Tensor
    numbered: Tensor

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.columns = layout.columns
        width, parts = config.hidden, 3 * config.mixtures
        # In the order of the scalars' slots, which is that of the columns.
        self.numbers = [place for place, column in enumerate(self.columns) if column.scalar]
        for name, places in (
            ("starts", [column.first for column in self.columns]),
            ("numbered", self.numbers),
        ):
            self.register_buffer(name, torch.tensor(places, dtype=torch.long), persistent=False)
        self.begin = nn.Parameter(torch.zeros(width))
        indices = sum(column.size for column in self.columns)
        self.looked_up = nn.Embedding(indices, width)
        waved = torch.empty(len(self.numbers), FEATURES, width)
        self.waved = nn.Parameter(waved.uniform_(-1, 1) * FEATURES**-0.5)
        self.recurrence = nn.LSTM(width, width)
        self.heads = nn.ModuleList()
        for column in self.columns:
            head = nn.Linear(width, column.size + (parts if column.scalar else 0))
            if column.choice is not None and column.name in shares:
                share = torch.tensor(shares[column.name])
                head.bias.data[: column.size] = share.clamp_min(1e-6).log()
            if column.scalar is not None:
                spread = torch.linspace(-0.4, 0.4, config.mixtures)
                start = torch.cat([torch.zeros_like(spread), spread, torch.full_like(spread, -2)])
                head.bias.data[column.size :] = start
            self.heads.append(head)
        self.shift = nn.Embedding(indices, parts)  # what an index adds to its column's mixture
        nn.init.normal_(self.shift.weight, std=0.01)

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        rate, decay = self.config.rate, self.config.decay
        fused = self.begin.device.type != "cpu" or None
        return (AdamW(self.parameters(), lr=rate, weight_decay=decay, fused=fused),)

    def at(self, share: float) -> None:
        """The rate falls to 0 along a cosine."""
        for group in self.optimizers[0].param_groups:
            rate = self.config.rate * self.pace * 0.5 * (1 + math.cos(math.pi * share))
            set_rate(group, rate)

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, Tensor]:
        """One step up the likelihood of a batch."""
        self.train()
        bits = self.bits(next(batches).codes, generator).sum(0).mean()
        (optimizer,) = self.optimizers
        optimizer.zero_grad(set_to_none=True)
        bits.backward()  # type: ignore[no-untyped-call]
        step_cut(optimizer, lambda weights: nn.utils.clip_grad_norm_(weights, self.config.clip))
        return {"bits": bits.detach()}

    @torch.inference_mode()
    def row_bits(self, codes: Codes) -> Tensor:
        """Bits that each row takes, (B,)."""
        self.eval()
        rows = max(1, SCORED // (len(self.columns) * self.config.hidden))
        return torch.cat([self.bits(piece).sum(0) for piece in codes.pieces(rows)])

    def bits(self, codes: Codes, generator: Generator | None = None) -> Tensor:
        """Bits that each column takes given those before it, (D, B).

        With `generator`, under dropout. Scalars are measured as densities, so less than no bits are
        possible.
        """
        index = torch.stack([column.index(codes) for column in self.columns])
        scalars = codes.scalars.t()
        seen = self.looked_up(index + self.starts[:, None])
        seen = seen.index_add(0, self.numbered, whole(torch.bmm(waves(scalars), self.waved)))
        before = torch.cat([self.begin.expand(1, codes.rows, -1), seen[:-1]])
        hidden, _ = self.recurrence(self._drop(before, generator))
        missed, mixed = list[Tensor](), list[Tensor]()
        for column, head, mine, asked in zip(
            self.columns, self.heads, self._drop(hidden, generator), index, strict=True
        ):
            with exact(mine):
                logits, parameters = head(whole(mine)).tensor_split([column.size], dim=1)
            missed.append(functional.cross_entropy(logits, asked, reduction="none"))
            if column.scalar is not None:
                mixed.append(parameters)
        bits = torch.stack(missed)
        if mixed:
            chosen = index[self.numbered] + self.starts[self.numbered, None]
            densities = log_density(scalars, torch.stack(mixed) + self.shift(chosen))
            says = [self.columns[at].says(index[at]) for at in self.numbers]
            bits = bits.index_add(0, self.numbered, -densities * torch.stack(says))
        return bits / math.log(2)

    def _drop(self, hidden: Tensor, generator: Generator | None) -> Tensor:
        keep = 1 - self.config.dropout
        if generator is None or keep == 1:
            return hidden
        kept = torch.rand(hidden.shape, device=hidden.device, generator=generator) < keep
        return hidden * kept / keep

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows, column after column, whatever is `given`."""
        self.eval()
        device, layout = self.begin.device, self.layout
        indices = torch.zeros(rows, len(layout.choices), dtype=layout.index_dtype, device=device)
        codes = Codes(indices, torch.zeros(rows, len(layout.scalars), device=device))
        seen, state = self.begin.expand(rows, -1), None
        for place, (column, head) in enumerate(zip(self.columns, self.heads, strict=True)):
            hidden, state = self.recurrence(seen[None], state)
            logits, parameters = head(hidden[0]).tensor_split([column.size], dim=1)
            if column.pooled is not None:
                logits[:, column.pooled] = -torch.inf
            index = drawn(logits, generator)
            seen = self.looked_up(index + column.first)
            if column.choice is not None:
                codes.indices[:, column.choice.slot] = index.to(codes.indices.dtype)
            if column.scalar is not None:
                value = scalar(parameters + self.shift(index + column.first), generator)
                value = value.clamp(-1, 1) * column.says(index)
                codes.scalars[:, column.scalar.slot] = value
                seen = seen + waves(value) @ self.waved[self.numbers.index(place)]
        return codes
