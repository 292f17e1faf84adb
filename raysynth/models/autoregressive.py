"""An autoregressive network: each column given those before it, by maximum likelihood.

Source: the chain rule of probability, with a network a column as in Bengio and Bengio, "Modeling
High-Dimensional Discrete Data with Multi-Layer Neural Networks", NIPS 1999; what a column sees is a
running sum over the columns before it, as in NADE (Larochelle and Murray, AISTATS 2011), so weights
grow with the number of columns and not with its square. The founding notes asked whether a
recurrent network trained on the real data would be enough; this is the same likelihood without the
recurrence, so all columns train at once.

A column's index (category, mode, point) is a softmax, smooth along the scale that points lie on;
its scalar, a mixture of `mixtures` normal distributions that may depend on the index. What it adds
to the sum that later columns see is looked up by its index, and a linear map of its scalar with
sines and cosines of it; with those of a point's place, too, Adult was told better (AUC 0.545
against 0.535). Two hidden layers a column, the second residual.

**Any columns first.** In training, a share of the rows (`natural`) keeps the table's order; in each
of the others a set of columns, drawn at random, comes first and all others after it, each part in
the table's order. So what is asked of a sample, on any set of columns, is put first and held, and
all else is drawn given it: no row is rejected.

**How wide.** Few rows are told better by narrow networks, which cannot know them by heart. Bits a
held-out row, 128 and 256 wide, one training each: Adult 21.06 and 21.12, reviews 17.73 and 17.78,
News 49.1 and 51.3, of 11,700 to 32,600 rows; Covertype 26.4 and 25.8, of 290,000 (detection 0.566
and 0.548). There 512 have 25.5, but are told at 0.568, and take three times as long. Members are
told less well of narrow ones: half of customers, 9,077 rows, by 0.543 where 256 have 0.559.

**Small** (`preset = "small"`): half as wide. On Adult (`fidelity`, three seeds) it trains in 29 s
on one thread and not in 49, and comes nearly as near: detection 0.537 (0.533 to 0.539; usual 0.532,
0.529 to 0.535), utility 0.916 (0.917; real rows 0.924), trend 0.977 (0.978; 0.982), DCR share 0.505
(0.509). Of other tables nothing was measured.

Longer than other files: a family is one file, and this one has a training that takes all columns at
once and a sampling that takes one after the other.

Shapes: B rows, D columns, H width of the sum and of the hidden layers, M components, S scalars.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from raysynth import draw
from raysynth.draw import Batch, Draw
from raysynth.errors import GivenError
from raysynth.gradients import step_cut
from raysynth.layout import Bounds, Codes, ColumnSpans, Layout
from raysynth.models import Encoding, TableModel, Trial, passes, set_rate
from raysynth.networks import FEATURES, drawn, log_density, waves
from raysynth.normals import log_mass, scalar, scalar_within
from raysynth.precision import exact, whole
from raysynth.schema import quoted

SEEN, OF, MORE = 400_000, 32_000, 0.75
DROPPED, MOST_DROPPED = 16_000, 0.5
SCORED = 2**22  # hidden units at once
WEIGHTS = 2**24
NARROWEST, WIDEST = 128, 256
RATE = 2e-3  # of the widest
NEVER = 1e-9  # a chance under this is none
POOL = 4  # candidates a row, of the columns held, where several ranges are asked for

Width = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Settings, found by hand on Adult's training rows; no paper has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["usual", "small"] = "usual"  # small: half as wide
    batch: Width = 256
    hidden: Width | None = None  # of the sum and of both layers; by the table's rows
    mixtures: Width = 10
    dropout: Share | None = None  # `MOST_DROPPED`, or `DROPPED` by the table's rows where less
    rate: Annotated[float, Field(gt=0)] | None = None  # `RATE`, higher where narrower
    decay: Annotated[float, Field(ge=0)] = 1e-2
    clip: Annotated[float, Field(gt=0)] = 5.0
    warm: Annotated[float, Field(gt=0, lt=1)] = 0.1  # share of the training in which the rate rises
    natural: Annotated[float, Field(ge=0, le=1)] = 0.5


def encoding(config: Config) -> Encoding:
    """Normal scores, beside points that many rows hold."""
    return Encoding("normal", "onehot")


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The settings found by hand."""
    return {
        "hidden": _width(1, rows),
        "mixtures": 10,
        "dropout": min(MOST_DROPPED, DROPPED / max(1, rows)),
        "rate": _rate(_width(1, rows)),
        "decay": 1e-2,
        "batch": 256,
    }


def space(trial: Trial) -> dict[str, Any]:
    """Width, mixture, and how it is trained."""
    return {
        "hidden": trial.suggest_categorical("hidden", [64, 128, 256]),
        "mixtures": trial.suggest_int("mixtures", 4, 16),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "rate": trial.suggest_float("rate", 5e-4, 5e-3, log=True),
        "decay": trial.suggest_float("decay", 1e-4, 1e-1, log=True),
        "batch": trial.suggest_categorical("batch", [128, 256, 512]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Any number of rows makes a batch."""
    return batch


def epochs(rows: int, config: Config) -> int:
    """As many as come to `SEEN` rows; of a table of more than `OF`, to more, by the power `MORE`.

    Few rows are soon known by heart; in many there is more to learn: Covertype, 290,000 rows, has
    25.8 bits a held-out row after 4 passes and 24.5 after 8 (detection 0.548 and 0.543, one
    training each).
    """
    return passes(round(SEEN * max(1.0, rows / OF) ** MORE), rows, 2, 100)


class Blocks(nn.Module):
    """A linear layer a column, side by side in one batched product."""

    def __init__(self, columns: int, width: int, out: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(columns, width, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(columns, 1, out))

    def forward(self, rows: Tensor) -> Tensor:
        """(D, B, width) to (D, B, out)."""
        return torch.baddbmm(self.bias, rows, self.weight)

    def one(self, place: int, rows: Tensor) -> Tensor:
        """One column's layer: (B, width) to (B, out)."""
        return torch.addmm(self.bias[place], rows, self.weight[place])


def _width(columns: int, rows: int | None) -> int:
    """The power of two next to the root of half the rows, so that weights grow as rows do.

    From `NARROWEST` to `WIDEST`, but never so many that both layers pass `WEIGHTS`.
    """
    width = WIDEST if rows is None else 2 ** round(math.log2(max(1, rows / 2)) / 2)
    width = min(max(width, NARROWEST), WIDEST)
    while width > 32 and 2 * columns * width * width > WEIGHTS:
        width //= 2
    return width


def _rate(width: int) -> float:
    """The rate of learning of a network so wide."""
    return RATE * math.sqrt(WIDEST / width)


class Model(TableModel):
    """All columns' networks, and their optimizer."""

    scores = fills = True
    averaging = 30
    starts: Tensor
    numbered: Tensor
    lying: Tensor

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.dropout = MOST_DROPPED if config.dropout is None else config.dropout
        self.columns = layout.columns
        count, sizes = len(self.columns), sum(column.size for column in self.columns)
        usual = _width(count, layout.rows) // (2 if config.preset == "small" else 1)
        self.width = width = config.hidden or usual
        self.rate = config.rate or _rate(width)
        # In the order of the scalars' slots, which is that of the columns.
        numbers = [place for place, column in enumerate(self.columns) if column.scalar]
        self.numbers = numbers
        for name, places in (
            ("starts", [column.first for column in self.columns]),
            ("numbered", self.numbers),
        ):
            self.register_buffer(name, torch.tensor(places, dtype=torch.long), persistent=False)
        lies = torch.tensor([place for column in self.columns for place in column.places])
        self.register_buffer("lying", waves(lies), persistent=False)
        self.looked_up = nn.Embedding(sizes, width)
        self.waves = Blocks(max(1, len(numbers)), FEATURES, width)
        self.first, self.second = Blocks(count, width, width), Blocks(count, width, width)
        nn.init.uniform_(self.first.bias, -1, 1)
        nn.init.normal_(self.looked_up.weight, std=0.5)
        self.heads, self.biases = nn.ParameterList(), nn.ParameterList()
        for column in self.columns:
            head = torch.empty(width, column.size).uniform_(-1, 1) * width**-0.5
            share = torch.tensor(shares.get(column.choice.column, ()) if column.choice else (1.0,))
            self.heads.append(head)
            self.biases.append(share.clamp_min(1e-6).log())
        out = 3 * config.mixtures
        self.mixture = Blocks(max(1, len(numbers)), width, out)
        self.shift = nn.Embedding(sizes, out)  # what an index adds to its column's mixture
        nn.init.normal_(self.shift.weight, std=0.01)
        spread = torch.linspace(-0.4, 0.4, config.mixtures)
        start = torch.cat([torch.zeros_like(spread), spread, torch.full_like(spread, -2.0)])
        self.mixture.bias.data.add_(start)
        self.mixture.weight.data.mul_(0.1)
        # Of points that lie side by side much the same is to be said: a part that all share.
        self.pointed = [i for i, c in enumerate(self.columns) if c.choice and c.choice.places]
        self.along = nn.ParameterList(torch.zeros(width, FEATURES) for _ in self.pointed)

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        decay, betas = self.config.decay, (0.9, 0.99)
        return (
            AdamW(self.parameters(), lr=self.rate, weight_decay=decay, betas=betas, fused=True),
        )

    def trains_on(self, rows: int) -> None:
        """Dropout is for tables that would be known by heart; it blurs what could be exact."""
        if self.config.dropout is None:
            self.dropout = min(MOST_DROPPED, DROPPED / max(1, rows))

    def at(self, share: float) -> None:
        """The rate rises while `warm` lasts and then falls to 0 along a cosine."""
        warm = self.config.warm
        if share < warm:
            scale = 0.04 + 0.96 * share / warm
        else:
            scale = 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))
        for group in self.optimizers[0].param_groups:
            set_rate(group, self.rate * scale * self.pace)

    def step(self, batches: Iterator[Batch], generator: torch.Generator) -> dict[str, Tensor]:
        """One step up the likelihood of a batch."""
        self.train()
        codes = next(batches).codes
        bits = self.bits(codes, self.ahead(codes.rows, generator), generator).sum(0).mean()
        (optimizer,) = self.optimizers
        optimizer.zero_grad(set_to_none=True)
        bits.backward()  # type: ignore[no-untyped-call]
        step_cut(optimizer, lambda weights: nn.utils.clip_grad_norm_(weights, self.config.clip))
        return {"bits": bits.detach()}

    def ahead(self, rows: int, generator: torch.Generator) -> Tensor:
        """Which columns of each row come first, (D, B): none, or each by a drawn chance."""
        device, count = generator.device, len(self.columns)
        drawn = torch.rand(2, rows, device=device, generator=generator)
        chance = drawn[1].masked_fill(drawn[0] < self.config.natural, 0.0)
        return torch.rand(count, rows, device=device, generator=generator) < chance

    @torch.inference_mode()
    def row_bits(self, codes: Codes) -> Tensor:
        """Bits that each row takes in the table's order, (B,)."""
        self.eval()
        rows = max(1, SCORED // (len(self.columns) * self.width))
        return torch.cat([self.bits(piece).sum(0) for piece in codes.pieces(rows)])

    def bits(
        self,
        codes: Codes,
        ahead: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Bits that each column takes given those before it, (D, B).

        Those that are `ahead` (D, B) come first. With `generator`, under dropout. Scalars are
        measured as densities, so less than no bits are possible.
        """
        index = torch.stack([column.index(codes) for column in self.columns])
        hidden = self._hidden(self._before(self._added(codes, index), ahead), generator)
        # Unbound, not indexed: the backward pass of an index fills a tensor of all for each.
        heads = [self._head(place) for place in range(len(index))]
        missed = [
            functional.cross_entropy(whole(torch.addmm(bias, mine, head)), asked, reduction="none")
            for mine, head, bias, asked in zip(
                hidden.unbind(0), heads, self.biases, index, strict=True
            )
        ]
        if self.numbers:
            densities = self._density(codes, index[self.numbered], hidden[self.numbered])
            for place, density in zip(self.numbers, densities.unbind(0), strict=True):
                missed[place] = missed[place] + density
        return torch.stack(missed) / math.log(2)

    def _added(self, codes: Codes, index: Tensor) -> Tensor:
        """What each column adds to the sum that later ones see, (D, B, H)."""
        added: Tensor = self.looked_up(index + self.starts[:, None])
        if not self.numbers:
            return added
        return added.index_add_(0, self.numbered, whole(self.waves(waves(codes.scalars.t()))))

    def _head(self, place: int) -> Tensor:
        """A column's last layer, (H, n): of an index its own, and along the scale of its points."""
        column, head = self.columns[place], cast("Tensor", self.heads[place])
        if column.choice is None or place not in self.pointed:
            return head
        first = column.size - column.choice.bare
        last = first + len(column.choice.places)
        lies = self.lying[column.first + first : column.first + last]
        shared = torch.mm(self.along[self.pointed.index(place)], lies.t())
        added: Tensor = head + functional.pad(shared, (first, column.size - last))
        return added

    def _before(self, added: Tensor, ahead: Tensor | None) -> Tensor:
        """The sum over the columns before each, (D, B, H); none of it rounds what is not there."""
        if ahead is None:
            ahead = torch.zeros(added.shape[:2], dtype=torch.bool, device=added.device)
        before: Tensor = Before.apply(added, ahead)  # type: ignore[no-untyped-call]
        return before

    def _hidden(self, before: Tensor, generator: torch.Generator | None) -> Tensor:
        """Both hidden layers of all columns, (D, B, H)."""
        hidden = self._drop(functional.gelu(self.first(before)), generator)
        return hidden + self._drop(functional.gelu(self.second(hidden)), generator)

    def _drop(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """Dropout. A row drops the same units of all columns, whose weights have no part in common.

        So each column is trained as if its units were drawn for it alone, for one draw a row.
        """
        keep = 1 - self.dropout
        if generator is None or keep == 1:
            return hidden
        kept = torch.rand(hidden.shape[1:], device=hidden.device, generator=generator) < keep
        return hidden * (kept / keep)

    def _density(self, codes: Codes, index: Tensor, hidden: Tensor) -> Tensor:
        """Minus the log density (S, B) of scalars that say something; `hidden` is (S, B, H)."""
        numbers = [self.columns[place] for place in self.numbers]
        starts = self.starts[self.numbered, None]
        with exact(hidden):
            parameters = self.mixture(whole(hidden)) + self.shift(index + starts)
        says = [column.says(mine) for column, mine in zip(numbers, index, strict=True)]
        return -log_density(codes.scalars.t(), parameters) * torch.stack(says)

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: torch.Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows, the columns of `given` first and held, so that every row has what is asked.

        With one range at most, rows come exactly as likely as the model says they are among those
        that have what is asked. A second range makes some values of the first likelier than others:
        `POOL` times as many of the columns held are drawn, and as many of those kept as were asked
        for, each as often as what is asked of it is likely. Raises `GivenError` for what is never.
        """
        self.eval()
        given = given or {}
        held = [
            (given[column.name], place)
            for place, column in enumerate(self.columns)
            if column.name in given
        ]
        held.sort(key=lambda pair: pair[0].only is None)
        ranges = sum(bounds.only is None for bounds, _ in held)
        found = self._start(rows * (POOL if ranges > 1 else 1))
        chance = torch.zeros(len(found.before), device=found.before.device)
        for bounds, place in held:
            chance += self._draw(place, found, generator, bounds)
        if held and float(chance.logsumexp(0)) - math.log(len(chance)) < math.log(NEVER):
            raise GivenError(
                f"given: not one row in {1 / NEVER:,.0f} has all that is asked of "
                f"{quoted(sorted(given))} at once; ask for less"
            )
        if len(chance) > rows:
            found = found.take(_resampled(chance, rows, generator))
        for place, column in enumerate(self.columns):
            if column.name not in given:
                self._draw(place, found, generator)
        return found.codes

    @torch.inference_mode()
    def fill(
        self,
        codes: Codes,
        known: Tensor,
        generator: torch.Generator,
        allowed: Mapping[str, Bounds] | None = None,
    ) -> Codes:
        """Draw each column of the rows (B) that is not `known` (B, D) there, given all that are."""
        self.eval()
        index = torch.stack([column.index(codes) for column in self.columns])
        before = (self._added(codes, index) * known.t()[:, :, None]).sum(0)
        whole = Drawn(Codes(codes.indices.clone(), codes.scalars.clone()), before)
        for place, column in enumerate(self.columns):
            (rows,) = (~known[:, place]).nonzero(as_tuple=True)
            if len(rows):
                some = whole.take(rows)
                self._draw(place, some, generator, (allowed or {}).get(column.name))
                whole.put(rows, some)
        return whole.codes

    def _start(self, rows: int) -> "Drawn":
        device, layout = self.looked_up.weight.device, self.layout
        indices = torch.zeros(rows, len(layout.choices), dtype=layout.index_dtype, device=device)
        scalars = torch.zeros(rows, len(layout.scalars), device=device)
        return Drawn(Codes(indices, scalars), torch.zeros(rows, self.width, device=device))

    def _draw(
        self,
        place: int,
        rows: "Drawn",
        generator: torch.Generator,
        bounds: Bounds | None = None,
    ) -> Tensor:
        """Draw one column, within `bounds`; the log chance (B,) of those, 0 without any."""
        column, codes, before = self.columns[place], rows.codes, rows.before
        hidden = functional.gelu(self.first.one(place, before))
        hidden += functional.gelu(self.second.one(place, hidden))
        logits = torch.addmm(self.biases[place], hidden, self._head(place))
        if column.pooled is not None:
            logits[:, column.pooled] = -torch.inf
        chance = torch.zeros(len(hidden), device=hidden.device)
        turn = None if column.scalar is None else self.numbers.index(place)
        mixed = None if turn is None else self.mixture.one(turn, hidden)
        if bounds is not None:
            inside = self._inside(column, mixed, bounds.to(hidden.device), logits)
            chance = inside.logsumexp(1) - logits.logsumexp(1)
            logits = inside
        index = drawn(logits, generator)
        before += self.looked_up(index + column.first)
        if column.choice is not None:
            codes.indices[:, column.choice.slot] = index.to(codes.indices.dtype)
        if column.scalar is not None and turn is not None and mixed is not None:
            mixed = mixed + self.shift(index + column.first)
            value = scalar(mixed, generator)
            if bounds is not None:
                lows, highs = (ends[index] for ends in bounds.to(hidden.device))
                cut = (lows > -1) | (highs < 1)
                value[cut] = scalar_within(mixed[cut], lows[cut], highs[cut], generator)
            value = value.clamp(-1, 1) * column.says(index)
            codes.scalars[:, column.scalar.slot] = value
            before += self.waves.one(turn, waves(value))
        return chance

    def _inside(
        self, column: ColumnSpans, mixed: Tensor | None, bounds: Bounds, logits: Tensor
    ) -> Tensor:
        """`logits` (B, n) of the indices, each with the chance that its scalar is within bounds."""
        inside = torch.full_like(logits, -torch.inf)
        for index in bounds.allowed.tolist():
            inside[:, index] = logits[:, index]
            low, high = bounds.lows[index], bounds.highs[index]
            if mixed is not None and (low > -1 or high < 1):
                mine = mixed + self.shift.weight[index + column.first]
                inside[:, index] += log_mass(mine, low, high).logsumexp(1)
        # Where all of it is too unlikely to tell, some index must be drawn all the same.
        lost = inside.isneginf().all(1, keepdim=True)
        return torch.where(lost & (bounds.lows <= bounds.highs), 0.0, inside)


class Drawn(NamedTuple):
    """Rows of which some columns are drawn: `codes` (B), and the sum `before` (B, H) of those."""

    codes: Codes
    before: Tensor

    def take(self, rows: Tensor) -> "Drawn":
        """The rows at these positions."""
        return Drawn(self.codes.take(rows), self.before[rows])

    def put(self, rows: Tensor, some: "Drawn") -> None:
        """Have the rows at these positions be `some`."""
        self.codes.indices[rows], self.codes.scalars[rows] = some.codes
        self.before[rows] = some.before


class Before(torch.autograd.Function):
    """The sum over the columns before each, (D, B, H), where those `ahead` (D, B) come first.

    What a column adds is seen by those after it, so the gradient is the same sum, backwards.
    """

    @staticmethod
    def forward(context: Any, added: Tensor, ahead: Tensor) -> Tensor:
        """See the class."""
        context.save_for_backward(ahead)
        return _sums(added, ahead, range(len(added)))

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None]:
        """See the class."""
        (ahead,) = context.saved_tensors
        return _sums(slope, ~ahead, range(len(slope) - 1, -1, -1)), None


def _sums(added: Tensor, ahead: Tensor, order: range) -> Tensor:
    """Of each place in `order`, the sum over those before it: of (D, B, H), those `ahead` first.

    A column at a time, so that both sums stay in the processor's cache; cumulative sums of both
    would go through all of it several times.
    """
    marks = ahead[:, :, None]
    before = torch.empty_like(added)
    first = torch.zeros_like(added[0])
    rest = first.clone()
    for place in order:
        rest.addcmul_(added[place], marks[place])
    for place in order:
        torch.where(marks[place], first, rest, out=before[place])
        mine = added[place] * marks[place]
        first += mine
        rest += added[place] - mine
    return before


def _resampled(chance: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Positions (rows,) drawn by the log weights `chance` (N,), in systematic resampling."""
    reached = (chance - chance.max()).double().exp().cumsum(0)
    steps = torch.arange(rows, device=chance.device, dtype=torch.float64)
    uniform = torch.rand(1, device=chance.device, generator=generator)
    found = torch.searchsorted(reached, (steps + uniform) * (reached[-1] / rows), right=True)
    return found.clamp_max(len(chance) - 1)
