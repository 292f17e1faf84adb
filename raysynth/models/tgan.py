"""TGAN, a recurrent generator that writes a row column by column.

Source: Xu and Veeramachaneni, "Synthesizing Tabular Data using Generative Adversarial Networks",
2018 (arXiv 1811.11264).

An LSTM with learned attention writes one span a step: of a number its value and then its cluster,
of a category the category. A discriminator tells whole rows from real ones, by how they differ from
their batch too, and the generator also brings its shares of clusters and categories near the
batch's. Real one-hots are blurred by noise, afresh at each step, so that not being exact does not
give the generator away.

**Departures**
- From the paper, as in the reference code: a layer's diversity is of its own output, before batch
  norm, and the last layer reads no further one; what follows a cluster is fed a linear map of it.
- From the reference code: smoothing is of the label, as was meant (`labels="reference"` keeps the
  code's loss, where a misplaced bracket leaves 0.7 times the plain one and a random number without
  gradient). L2 is the optimizer's, so added after clipping, and on biases too. Layers start as
  torch's do, but the discriminator's first and the biases of the LSTM; attention starts even.
- Our codes hold one cluster, not the posterior of all: it is drawn from that posterior, so a
  batch's mean is the same, and it is blurred like a category, being as exact.
- Nulls and spikes, which TGAN has not, are indices of a cluster's span. An offset of 1 is at least
  2 standard deviations away, and farther where values would be cut (see `codecs.modes`).
- A sample is drawn from the softmax, not its largest, which would lose rare categories
  (`choose="argmax"` is the paper's). A generator that has learned blurred one-hots gives blurred
  ones, so what blur alone may give, `blur` times the largest cell, is taken off every cell first;
  and a category that is drawn is what later steps are fed.

**Improved** (`preset = "improved"`, or one by one). What it changes:
- `numbers`, `points`: numbers as normal scores beside points, and `hush`: a scalar goes to 0 where
  its index says all, as in real rows;
- `temperature`: choices are softened by Gumbel noise, so that they are nearly one-hot as those of
  real rows are without `blur`, and later steps are fed what was drawn, with its gradient;
- `loss`, `penalty`: a plain critic with the relativistic loss (see `adversary`) instead of a
  discriminator beside its batch; no divergence of shares (`share`), which a critic sees for itself;
- `rate`, `betas`, `anneal`, `average`: twice the rate, without momentum, falling to 0, and
  samples of an exponential average of the generator's weights;
- `hidden`, `features`: smaller, since a step of the paper's sizes takes half a second of a core.

Attention has a weight for every two steps and costs time by their square, a `BLOCK`th of it; memory
grows with the steps alone (see `Past`).

Longer than other files: a family is one file, and this one has two networks with their losses.

Shapes: B rows, W dense width, Z noise width, T steps, H width of the state, F of the features, M
indices of a span, R kernels.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from raysynth import draw
from raysynth.adversary import Average, Critic, outscored, steepness
from raysynth.draw import Batch, Draw
from raysynth.gradients import step_cut
from raysynth.layout import Bounds, Codes, Layout, Span
from raysynth.models import Encoding, TableModel, Trial, passes
from raysynth.networks import gumbel, hush_scalars, pick
from raysynth.precision import exact, whole
from raysynth.presets import Presets

SLOPE = 0.2
LEAST = 1e-4  # added to a share before its logarithm
BLOCK = 8  # states weighed together
SAMPLED = 2**24  # numbers of all states at once
SEEN = 2_000_000

# (span, block (B, M)) to the index (B,) that later steps are fed.
Choose = Callable[[Span, Tensor], Tensor]
# Logits (B, M) to the same with noise.
Blur = Callable[[Tensor], Tensor]
Width = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(Presets):
    """Settings of TGAN. Values are those of the paper's research code."""

    improved: ClassVar[Mapping[str, Any]] = {
        "numbers": "normal",
        "hush": True,
        "temperature": 0.2,
        "loss": "relativistic",
        "hidden": 128,
        "features": 64,
        "discriminator": (256, 256),
        "dropout": 0.0,
        "blur": 0.0,
        "share": 0.0,
        "rate": 2e-3,
        "betas": (0.0, 0.99),
        "decay": 0.0,
        "anneal": True,
        "average": 0.998,
    }

    preset: Literal["paper", "improved"] = "paper"
    batch: Width = 200
    noise: Width = 100
    hidden: Width = 400
    features: Width = 100
    discriminator: tuple[Width, ...] = (200, 200)
    kernels: Width = 10
    kernel_width: Width = 10
    dropout: Share = 0.5  # on 10,000 rows of Adult 0.1 learned sooner, and more
    rate: Positive = 1e-3
    decay: Annotated[float, Field(ge=0)] = 1e-5
    clip: Positive = 5.0  # of each gradient by itself
    blur: Share = 0.2  # most noise on a cell of a real one-hot; gamma
    smoothing: Share = 0.3  # most that a real row's label lacks of 1
    labels: Literal["smoothed", "reference"] = "smoothed"
    divergence: Literal["sum", "mean"] = "sum"  # over spans; the paper's sum weighs by their number
    choose: Literal["softmax", "argmax"] = "softmax"
    numbers: Literal["modes", "normal"] = "modes"
    points: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of rows, of normal scores
    hush: bool = False  # whether a scalar goes to 0 where its index says all, as in real rows
    temperature: Annotated[float, Field(ge=0)] = 0.0  # of Gumbel noise; 0 is without
    loss: Literal["entropy", "relativistic"] = "entropy"
    penalty: Annotated[float, Field(ge=0)] = 4.0  # weight of the critic's slope
    share: Annotated[float, Field(ge=0)] = 1.0  # weight of the divergence of shares
    betas: tuple[Share, Share] = (0.5, 0.999)  # Adam's
    anneal: bool = False  # whether the rate falls to 0 along a cosine
    average: Share = 0.0  # what an update keeps of the average


def encoding(config: Config) -> Encoding:
    """Normal scores, or the paper's: five modes, none pruned, offsets of 2 standard deviations."""
    if config.numbers == "normal":
        return Encoding("normal", "onehot", {"share": config.points, "local": False})
    return Encoding("modes", "onehot", {"modes": 5, "prune": False, "widths": 2.0})


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The improved settings."""
    return {
        "hidden": 128,
        "features": 64,
        "numbers": "normal",
        "rate": 2e-3,
        "penalty": 4.0,
        "share": 0.0,
        "batch": 200,
    }


def space(trial: Trial) -> dict[str, Any]:
    """Codes, widths, penalty and rates, about the improved settings."""
    return {
        "preset": "improved",
        "hidden": trial.suggest_categorical("hidden", [64, 128, 256]),
        "features": trial.suggest_categorical("features", [32, 64, 100]),
        "numbers": trial.suggest_categorical("numbers", ["normal", "modes"]),
        "rate": trial.suggest_float("rate", 5e-4, 4e-3, log=True),
        "penalty": trial.suggest_float("penalty", 1.0, 20.0, log=True),
        "share": trial.suggest_float("share", 0.0, 1.0),
        "batch": trial.suggest_categorical("batch", [128, 200, 500]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Rows a batch really holds: batch norm needs two."""
    return max(2, batch)


def epochs(rows: int, config: Config) -> int:
    """As many as come to `SEEN` rows, 10,000 steps of the default batch, within reason.

    The reference code calls 1,000 or 10,000 steps an epoch, whatever the rows, and takes 5 to 100
    of those. One of 10,000 already is an hour and a half of one CPU core on Adult.
    """
    return passes(SEEN, rows, 1, 300)


class Past:
    """The states so far, weighed for the steps to come.

    A whole block of states is weighed for all later steps in one product, so memory for the
    backward pass grows with T and not with its square, as it would a step at a time.
    """

    def __init__(self, weights: Tensor, zero: Tensor) -> None:
        """`weights` (T, T): row t weighs the states before step t. `zero` (B, H) is all zeros."""
        self.weights, self.steps = weights, 0
        self.near: list[Tensor] = []
        self._turn(zero.expand(len(weights), *zero.shape))

    def _turn(self, contexts: Tensor) -> None:
        # Split, not sliced: the backward pass of a slice fills a tensor of all for each.
        now = min(BLOCK, len(contexts))
        block, self.far = torch.split(contexts, [now, len(contexts) - now])
        self.now: tuple[Tensor, ...] = block.unbind()

    def context(self) -> Tensor:
        """What the next step sees of the states so far, (B, H)."""
        context = self.now[len(self.near)]
        if self.near:
            weights = self.weights[self.steps, self.steps - len(self.near) : self.steps]
            context = context + torch.tensordot(weights, torch.stack(self.near), 1)
        return context

    def add(self, state: Tensor) -> None:
        """Take the next state (B, H)."""
        self.near.append(state)
        self.steps += 1
        if len(self.near) == BLOCK and len(self.far):
            weights = self.weights[self.steps :, self.steps - BLOCK : self.steps]
            self._turn(self.far + torch.tensordot(weights, torch.stack(self.near), 1))
            self.near = []


class Step(nn.Module):
    """One step's own layers: from the state to a span's block, and to the next step's input."""

    def __init__(self, span: Span, config: Config, last: bool) -> None:
        super().__init__()
        self.span = span
        self.features = nn.Linear(config.hidden, config.features)
        self.output = nn.Linear(config.features, span.size)
        self.after: nn.Module | None = None
        if span.kind != "scalar" and not last:
            self.whole = span.kind == "mode" or bool(config.temperature)  # all of it is fed
            self.after = (nn.Linear if self.whole else nn.Embedding)(span.size, config.features)
        self.drawn = bool(config.temperature)

    def forward(
        self, state: Tensor, choose: Choose | None, noisy: Blur | None
    ) -> tuple[Tensor, Tensor]:
        """The block (B, M), and what the next step is fed (B, F), of a state (B, H)."""
        features = self.features(state).tanh()
        with exact(features):
            block: Tensor = self.output(whole(features))
        if self.span.kind == "scalar":
            return block.tanh(), features
        block = (block if noisy is None else noisy(block)).softmax(1)
        index = block.argmax(1) if choose is None else choose(self.span, block)
        if self.drawn and choose is not None:
            block = functional.one_hot(index, self.span.size).to(block.dtype)
        if self.after is None:
            return block, features
        return block, self.after(block if self.whole else index)


class Generator(nn.Module):
    """Noise to dense rows: an LSTM over spans, fed the noise and a context at every step."""

    def __init__(self, layout: Layout, config: Config) -> None:
        super().__init__()
        spans = [s for c in layout.columns for s in (c.scalar, c.choice) if s is not None]
        places = {span: place for place, span in enumerate(spans)}
        self.order = [places[span] for span in layout.spans]
        self.hidden = width = config.hidden
        self.hush = layout if config.hush else None
        self.steps = nn.ModuleList(Step(span, config, span is spans[-1]) for span in spans)
        # What the noise adds to the gates does not change between steps.
        self.noise = nn.Linear(config.noise, 4 * width)
        self.gates = nn.Parameter(torch.empty(config.features + 2 * width, 4 * width))
        self.start = nn.Parameter(torch.empty(1, config.features))
        self.attention = nn.Parameter(torch.zeros(len(spans) - 1, len(spans) - 1))
        for weight in (self.noise.weight, self.gates, self.start):
            nn.init.uniform_(weight, -(width**-0.5), width**-0.5)
        nn.init.zeros_(self.noise.bias)
        nn.init.ones_(self.noise.bias[:width])  # the forget gate's

    def weights(self) -> Tensor:
        """By step, how much it sees of each state before it: rows that sum to 1, the first to 0."""
        ahead = torch.ones_like(self.attention, dtype=torch.bool).triu(1)
        weights = self.attention.masked_fill(ahead, -torch.inf).softmax(1)
        return functional.pad(weights, (0, 1, 1, 0))

    def forward(
        self, noise: Tensor, choose: Choose | None = None, noisy: Blur | None = None
    ) -> Tensor:
        """Dense rows (B, W) from noise (B, Z)."""
        asked = self.noise(noise)
        fed = self.start.expand(len(noise), -1)
        state = cell = noise.new_zeros(len(noise), self.hidden)
        past, blocks = Past(self.weights(), cell), list[Tensor]()
        for step in self.steps:
            seen = torch.cat([fed, past.context(), state], dim=1)
            gates = torch.addmm(asked, seen, self.gates)
            shares, fresh = torch.split(gates, [3 * self.hidden, self.hidden], dim=1)
            forget, take, show = shares.sigmoid().chunk(3, dim=1)
            cell = forget * cell + take * fresh.tanh()
            state = show * cell.tanh()
            past.add(state)
            block, fed = step(state, choose, noisy)
            blocks.append(block)
        blocks = [blocks[place] for place in self.order]
        if self.hush is not None:
            hush_scalars(blocks, self.hush, 1)
        return torch.cat(blocks, dim=1)


class Discriminator(nn.Module):
    """Logits of rows being real, each seen beside its batch."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.kernels, self.keep = config.kernels, 1 - config.dropout
        self.layers, self.projections = nn.ModuleList(), nn.ModuleList()
        self.shifts = nn.ParameterList()
        for out in config.discriminator:
            # No biases: batch norm and differences would take them off again.
            self.layers.append(nn.Linear(width, out, bias=False))
            self.projections.append(nn.Linear(out, config.kernels * config.kernel_width, False))
            width = out + config.kernels
            self.shifts.append(torch.zeros(width))
        self.top = nn.Linear(width, 1)
        nn.init.trunc_normal_(cast("Tensor", self.layers[0].weight), std=0.1, a=-0.2, b=0.2)

    def forward(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Logits (B,) of rows (B, W), which are one batch: all real, or all not."""
        hidden = rows
        for layer, projection, shift in zip(
            self.layers, self.projections, self.shifts, strict=True
        ):
            plain = layer(hidden)
            beside = diversity(projection(plain).view(len(rows), self.kernels, -1))
            both = torch.cat([plain, beside], dim=1)
            hidden = functional.batch_norm(both, None, None, bias=shift, training=True)
            if self.keep < 1:
                drawn = torch.rand(hidden.shape, device=hidden.device, generator=generator)
                hidden = hidden * ((drawn < self.keep) / self.keep)
            hidden = functional.leaky_relu(hidden, SLOPE)
        logits: Tensor = self.top(hidden)
        return whole(logits[:, 0])


def diversity(projected: Tensor) -> Tensor:
    """How near each row is to its batch, itself included, by kernel: (B, R) of (B, R, width).

    The sum over rows of exp(-L1 distance): minibatch discrimination (Salimans et al., "Improved
    Techniques for Training GANs", 2016, section 3.2). Memory is B x B x R.
    """
    kernels = whole(projected).transpose(0, 1).contiguous()
    return torch.cdist(kernels, kernels, p=1).neg().exp().sum(2).t()


class Model(TableModel):
    """Generator and discriminator, each with its optimizer."""

    chosen: Tensor

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.generator = Generator(layout, config)
        self.relativistic = config.loss == "relativistic"
        self.discriminator: Discriminator | Critic = (
            Critic(layout.width, config.discriminator, dropout=config.dropout)
            if self.relativistic
            else Discriminator(layout.width, config)
        )
        self.average = Average(self.generator, config.average) if config.average else None
        self.anneals = config.anneal
        choices = [place for s in layout.choices for place in range(s.start, s.start + s.size)]
        self.register_buffer("chosen", torch.tensor(choices, dtype=torch.long), persistent=False)

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        config = self.config
        return tuple(
            Adam(
                network.parameters(),
                lr=config.rate,
                betas=config.betas,
                weight_decay=config.decay,
                fused=True,
            )
            for network in (self.generator, self.discriminator)
        )

    def step(self, batches: Iterator[Batch], generator: torch.Generator) -> dict[str, Tensor]:
        """An update of the generator, then one of the discriminator, on the same rows."""
        self.train()
        maker, judge = self.optimizers
        real = self.real(next(batches).codes, generator)
        fake = self.generator(self._noise(len(real), generator), None, self._noisy(generator))
        self.discriminator.requires_grad_(False)
        losses = self.generator_losses(real, fake, generator)
        self._update(maker, losses["generator"] + losses["divergence"])
        self.discriminator.requires_grad_(True)
        if self.relativistic:
            losses |= self.critic_losses(real, fake.detach(), generator)
            self._update(judge, losses["discriminator"] + losses["penalty"])
        else:
            losses["discriminator"] = self.discriminator_loss(real, fake.detach(), generator)
            self._update(judge, losses["discriminator"])
        if self.average is not None:
            self.average.move(self.generator)
        return {name: loss.detach() for name, loss in losses.items()}

    def _update(self, optimizer: Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        step_cut(optimizer, lambda weights: nn.utils.clip_grad_value_(weights, self.config.clip))

    def real(self, codes: Codes, generator: torch.Generator) -> Tensor:
        """Real dense rows (B, W): one-hots with noise up to `blur` in every cell, summing to 1."""
        rows = self.layout.expand(codes)
        shape = (len(rows), len(self.chosen))
        noise = torch.rand(shape, device=rows.device, generator=generator)
        rows[:, self.chosen] += self.config.blur * noise
        for span in self.layout.choices:
            block = rows[:, span.slice]
            block /= block.sum(1, keepdim=True)
        return rows

    def generator_losses(
        self, real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Cross entropy of being taken for real, and the divergence of shares from the batch's."""
        if self.relativistic:
            deceived = outscored(*self._scores(fake, real, generator)[0])
        else:
            deceived = functional.softplus(-self.discriminator(fake, generator)).mean()
        mine, theirs = (rows.mean(0)[self.chosen] for rows in (fake, real))
        divergence = (mine * ((mine + LEAST).log() - (theirs + LEAST).log())).sum()
        if self.config.divergence == "mean":
            divergence = divergence / max(1, len(self.layout.choices))
        return {"generator": deceived, "divergence": self.config.share * divergence}

    def _scores(
        self, one: Tensor, other: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """A critic's scores of rows and of as many others, (B,) each, and its slopes."""
        scores, slopes = self.discriminator(torch.cat([one, other]), None, generator)
        return tuple(scores.chunk(2)), slopes

    def critic_losses(
        self, real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The relativistic loss of a critic, and the weighted penalty of its slope."""
        scores, slopes = self._scores(real, fake, generator)
        penalty = steepness(cast("Critic", self.discriminator).gradient(slopes))
        return {"discriminator": outscored(*scores), "penalty": self.config.penalty * penalty}

    def discriminator_loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Cross entropy, half of it on real rows. Each batch passes alone, beside its own rows."""
        logits = self.discriminator(real, generator)
        lacks = torch.rand(logits.shape, device=logits.device, generator=generator)
        lacks = self.config.smoothing * lacks
        if self.config.labels == "smoothed":
            told = functional.binary_cross_entropy_with_logits(logits, 1 - lacks)
        else:
            told = ((1 - self.config.smoothing) * functional.softplus(-logits) + lacks).mean()
        return 0.5 * told + 0.5 * functional.softplus(self.discriminator(fake, generator)).mean()

    def _noisy(self, generator: torch.Generator) -> Blur | None:
        """Gumbel noise at the setting's temperature, if it has one."""
        temperature = self.config.temperature
        if not temperature:
            return None
        return lambda logits: (logits + gumbel(logits, generator)) / temperature

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        return torch.randn(rows, self.config.noise, device=generator.device, generator=generator)

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: torch.Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows whatever is `given`: columns before it could not follow it, if it were held."""
        self.eval()
        most = max(1, SAMPLED // (len(self.generator.steps) * self.config.hidden))
        pieces = [min(most, rows - at) for at in range(0, rows, most)]
        return Codes.concat([self._drawn(piece, generator) for piece in pieces])

    def _drawn(self, rows: int, generator: torch.Generator) -> Codes:
        layout, device = self.layout, generator.device
        indices = torch.empty(rows, len(layout.choices), dtype=layout.index_dtype, device=device)

        def choose(span: Span, block: Tensor) -> Tensor:
            uniform = torch.rand(rows, device=device, generator=generator)
            index = self.chosen_index(block, uniform)
            indices[:, span.slot] = index
            return index

        noise = self._noise(rows, generator)
        if self.average is None:
            dense = self.generator(noise, choose)
        else:
            dense = self.average.run(self.generator, noise, choose)
        codes = Codes(indices, dense[:, layout.starts(device)[1]])
        for column in layout.columns:
            if column.scalar is not None:
                codes.scalars[:, column.scalar.slot] *= column.says(column.index(codes))
        return codes

    def chosen_index(self, block: Tensor, uniform: Tensor) -> Tensor:
        """The index (B,) that `uniform` (B,) falls on in `block` (B, M), the blur taken off."""
        if self.config.choose == "argmax":
            return block.argmax(1)
        shares = block - self.config.blur * block.amax(1, keepdim=True)
        return pick(shares.clamp_min(0).log().t(), uniform)
