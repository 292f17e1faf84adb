"""CTGAN, a conditional generator of rows.

Source: Xu, Skoularidou, Cuesta-Infante and Veeramachaneni, "Modeling Tabular Data using Conditional
GAN", NeurIPS 2019 (arXiv 1907.00503).

A conditional generator and a critic that sees rows in packs, trained with the Wasserstein loss and
gradient penalty; every category gets its turn through training-by-sampling, and the true marginals
come back when sampling.

**Departures**
- From the paper: the probability of a category is ln(1 + count), not ln(count), so that a category
  of one row is drawn at all (as in the reference code). The cross entropy of the condition is taken
  on the logits before Gumbel noise (as in the reference): the loss the condition needs, without
  noise.
- From the reference code (ctgan 0.12.1), where it departs from the paper: the penalty
  interpolates rows only, under the condition both sides share; real rows are paired with the very
  condition of their fake; sampling draws conditions from the true marginals and puts the 1 in the
  asked column; batch norm is in eval mode when sampling; the critic's update leaves the generator
  out of the backward pass.
- A batch is cut to a whole number of packs; one smaller than a pack becomes a pack (`batch_rows`).
- The penalty's gradient is written out instead of taken by double backward: the critic is
  piecewise linear, so the two are equal (a test compares them) and this one costs half.

**Improved** (`preset = "improved"`, the default; `preset = "paper"` is the paper's; or one by one).
What it changes:
- `numbers`, `points`: numbers as normal scores beside points, which need not be placed among modes;
- `conditional`, `pack`, `dropout`: no condition, training-by-sampling, packs or dropout;
- `loss`, `penalty`: the relativistic loss, with the critic's slope punished at real and drawn rows
  (see `adversary`), instead of Wasserstein's;
- `generator_rate`, `critic_rate`, `betas`, `anneal`: ten times the rates, without momentum, falling
  to 0. With the Wasserstein loss rates as high gave worse rows;
- `hush`: where a number's index says all, its scalar goes to 0 before the critic sees it, as it is
  in real rows, which the generator else has to learn for every point and null;
- `average`: samples are of an exponential average of the generator's weights.

Shape, trend and detection of both for as many epochs, one training of seed 0 each, relations kept:
Adult, 30 epochs, 0.986, 0.968 and 0.708 (paper 0.939, 0.885 and 0.926); 30,000 rows of Covertype,
15 epochs, 0.993, 0.984 and 0.995 (0.961, 0.936 and 1.000); 19,500 of News, 8 epochs, 0.962, 0.966
and 1.000 (0.858, 0.940 and 1.000); 11,743 of reviews, 0.957, 0.908 and 0.752 in 60 epochs (0.872,
0.785 and 0.973 in 40). On Adult, 1,800 steps, detection was 0.83 (after 2,160) with the
Wasserstein loss at the paper's rates, 0.75 with the relativistic loss at 1e-3 without momentum,
0.74 with a penalty of 4, 0.70 with `hush` at 2e-3.

Longer than other files: a family is one file, and this one has two networks with their losses.

Shapes: B rows, P packs, W dense width, C categories of all category spans, Z noise width.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from raysynth import draw
from raysynth.adversary import Average, Critic, outscored, spread, steepness
from raysynth.draw import Batch, Draw
from raysynth.layout import Bounds, Codes, Layout
from raysynth.models import Encoding, TableModel, Trial, passes
from raysynth.networks import harden, soften
from raysynth.precision import exact, whole
from raysynth.presets import Presets

SEEN = 5_000_000  # rows of an improved training

Width = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(Presets):
    """Settings of CTGAN. Values are the paper's (section 4.4 and supplement), unless noted."""

    improved: ClassVar[Mapping[str, Any]] = {
        "numbers": "normal",
        "hush": True,
        "conditional": False,
        "loss": "relativistic",
        "penalty": 4.0,
        "generator_rate": 2e-3,
        "critic_rate": 2e-3,
        "betas": (0.0, 0.99),
        "anneal": True,
        "pack": 1,
        "dropout": 0.0,
        "average": 0.998,
    }

    batch: Width = 500
    noise: Width = 128  # reference code; the paper does not say
    generator: tuple[Width, ...] = (256, 256)
    critic: tuple[Width, ...] = (256, 256)
    generator_rate: Positive = 2e-4
    critic_rate: Positive = 2e-4
    generator_decay: Annotated[float, Field(ge=0)] = 1e-6
    critic_decay: Annotated[float, Field(ge=0)] = 0.0  # 1e-6 in the reference since 0.4.2
    pack: Width = 10
    critic_steps: Width = 1
    loss: Literal["wasserstein", "relativistic"] = "wasserstein"
    penalty: Annotated[float, Field(ge=0)] = 10.0  # weight of the critic's slope, see `loss`
    betas: tuple[Share, Share] = (0.5, 0.9)  # Adam's
    anneal: bool = False  # whether the rates fall to 0 along a cosine
    temperature: Positive = 0.2
    dropout: Share = 0.5
    numbers: Literal["modes", "normal"] = "modes"
    points: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of rows, of normal scores
    hush: bool = False  # whether a scalar goes to 0 where its index says all, as in real rows
    conditional: bool = True
    average: Share = 0.0  # what an update keeps of the average


def encoding(config: Config) -> Encoding:
    """Modes with an offset, as in the paper, or normal scores."""
    return Encoding(config.numbers, "onehot", {"share": config.points, "local": False})


def drawing(config: Config) -> Draw:
    """Every category in its turn, where there is a condition."""
    return draw.by_category if config.conditional else draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The improved settings."""
    return {
        "width": 256,
        "rate": 2e-3,
        "numbers": "normal",
        "batch": 500,
        "pack": 1,
        "critic_steps": 1,
        "loss": "relativistic",
        "penalty": 4.0,
        "dropout": 0.0,
        "conditional": False,
    }


def space(trial: Trial) -> dict[str, Any]:
    """Codes, widths, loss, critic and rates, about the improved settings and the paper's."""
    width = trial.suggest_categorical("width", [128, 256, 512])
    rate = trial.suggest_float("rate", 2e-4, 4e-3, log=True)
    return {
        "generator": (width, width),
        "critic": (width, width),
        "generator_rate": rate,
        "critic_rate": rate,
        "numbers": trial.suggest_categorical("numbers", ["normal", "modes"]),
        "batch": trial.suggest_categorical("batch", [250, 500]),
        "pack": trial.suggest_categorical("pack", [1, 5, 10]),
        "critic_steps": trial.suggest_int("critic_steps", 1, 3),
        "loss": trial.suggest_categorical("loss", ["relativistic", "wasserstein"]),
        "penalty": trial.suggest_float("penalty", 1.0, 20.0, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "conditional": trial.suggest_categorical("conditional", [False, True]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Rows a batch really holds: `batch` cut to whole packs, at least one; batch norm needs two."""
    return max(2, max(1, batch // config.pack) * config.pack)


def epochs(rows: int, config: Config) -> int:
    """The paper's, whatever the rows; improved, as many as come to `SEEN` rows, within reason."""
    return 300 if config.preset == "paper" else passes(SEEN, rows, 2, 600)


class Generator(nn.Module):
    """Noise and a condition to logits, by residual layers.

    The condition is one-hot, so what it adds to each layer is looked up, not multiplied: the same
    sum as a fully connected layer over [noise, condition], a fifth fewer operations on Adult. A
    layer's sources (the noise, and every layer before) are not concatenated either, but their
    products added: so no gradient of the noise is worked out. Logits lie as `networks.soften` takes
    them, span by span.
    """

    def __init__(self, given_width: int, out_width: int, config: Config) -> None:
        super().__init__()
        widths = (*config.generator, out_width)
        self.widths = list(widths)
        width, layers = config.noise, []
        for out in widths:
            layers.append(nn.Linear(width, out))
            width += out
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(out) for out in config.generator)
        self.given = nn.Embedding(given_width, sum(widths)) if given_width else None
        bounds = [(layer.in_features + given_width) ** -0.5 for layer in layers]
        for layer, bound in zip(layers, bounds, strict=True):
            spread(layer, bound)
        if self.given is not None:
            parts = torch.split(self.given.weight, self.widths, dim=1)
            for part, bound in zip(parts, bounds, strict=True):
                nn.init.uniform_(part, -bound, bound)

    def forward(self, noise: Tensor, given: Tensor | None) -> Tensor:
        """Logits (B, W) from noise (B, Z) and conditions (B,)."""
        added = torch.cat([cast("Tensor", layer.bias) for layer in self.layers])[None]
        if self.given is not None:
            added = functional.embedding(cast("Tensor", given), self.given.weight + added)
        extras = torch.split(added, self.widths, dim=1)
        sources = [noise]
        for layer, norm, extra in zip(self.layers, self.norms, extras, strict=False):
            before = extra
            for source, weight in _parts(layer, sources):
                before = torch.addmm(before, source, weight.t())
            sources.insert(0, torch.relu(norm(before)))
        logits = extras[-1].t()
        with exact(logits):
            for source, weight in _parts(self.layers[-1], sources):
                logits = torch.addmm(logits, weight, whole(source).t())
        return logits.t()


def _parts(layer: nn.Module, sources: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of a layer's sources (B, n) with its share of the weights (out, n)."""
    sizes = [source.shape[1] for source in sources]
    return zip(sources, torch.split(cast("Tensor", layer.weight), sizes, dim=1), strict=True)


class Model(TableModel):
    """Generator and critic, each with its optimizer."""

    marginals: Tensor
    offsets: Tensor
    column: Tensor
    starts: Tensor
    sizes: Tensor

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.chooses = config.preset != "paper"  # which trains on all rows, for so many epochs
        self.given = layout.categories if config.conditional else ()
        sizes = [span.size for span in self.given]
        self.given_width = sum(sizes)
        self.generator = Generator(self.given_width, layout.width, config)
        self.critic = Critic(
            layout.width, config.critic, config.pack, self.given_width, config.dropout
        )
        self._register_categories(shares, sizes)
        self.average = Average(self.generator, config.average) if config.average else None
        self.anneals = config.anneal
        self.takes = config.critic_steps + 1

    def _register_categories(
        self, shares: Mapping[str, tuple[float, ...]], sizes: list[int]
    ) -> None:
        """Buffers that turn a flat condition into its column and back; rebuilt, so not saved."""
        spans = self.given
        padded = torch.zeros(len(spans), max(sizes, default=0), dtype=torch.float64)
        for row, span in zip(padded, spans, strict=True):
            row[: span.size] = torch.tensor(shares[span.column], dtype=torch.float64)
        column = torch.arange(len(spans)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
        offsets = torch.tensor([0, *sizes]).cumsum(0)[:-1][: len(spans)]
        for name, value in (
            ("marginals", padded),
            ("offsets", offsets),
            ("column", column),
            ("starts", torch.tensor([span.start for span in spans], dtype=torch.long)),
            ("sizes", torch.tensor(sizes, dtype=torch.long)),
        ):
            self.register_buffer(name, value, persistent=False)

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        config = self.config
        return (
            _adam(self.critic, config.critic_rate, config.critic_decay, config.betas),
            _adam(self.generator, config.generator_rate, config.generator_decay, config.betas),
        )

    def step(self, batches: Iterator[Batch], generator: torch.Generator) -> dict[str, Tensor]:
        """`critic_steps` updates of the critic, then one of the generator (Algorithm 1)."""
        self.train()
        critic, maker = self.optimizers
        for _ in range(self.config.critic_steps):
            losses = self.critic_losses(next(batches), generator)
            critic.zero_grad(set_to_none=True)
            (losses["critic"] + losses["penalty"]).backward()  # type: ignore[no-untyped-call]
            critic.step()
        self.critic.requires_grad_(False)
        losses |= self.generator_losses(next(batches), generator)
        maker.zero_grad(set_to_none=True)
        (losses["generator"] + losses["condition"]).backward()  # type: ignore[no-untyped-call]
        maker.step()
        if self.average is not None:
            self.average.move(self.generator)
        self.critic.requires_grad_(True)
        return {name: loss.detach() for name, loss in losses.items()}

    def critic_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's loss, and the weighted penalty of its slope."""
        asked = self.critic.asked(batch.given)
        both = None if asked is None else torch.cat([asked, asked])
        with torch.no_grad():
            fake = self._pack(self._soft(self._logits(batch, generator), generator))
        real = self._pack(self.layout.expand(batch.codes))
        if self.config.loss == "relativistic":
            scores, slopes = self.critic(torch.cat([fake, real]), both, generator)
            fake_scores, real_scores = scores.view(2, -1)
            loss = outscored(real_scores, fake_scores)
            penalty = steepness(self.critic.gradient(slopes))
        else:
            entered = self.critic.entered(torch.cat([fake, real]), both)
            entered_fake, entered_real = whole(entered.detach()).chunk(2)
            slopes = self._between(entered_fake, entered_real, generator)
            scores, _ = self.critic.scored(entered, generator)
            fake_score, real_score = scores.view(2, -1).mean(dim=1)
            loss = fake_score - real_score
            penalty = (self.critic.gradient(slopes).norm(dim=1) - 1).square().mean()
        return {"critic": loss, "penalty": self.config.penalty * penalty}

    @torch.no_grad()
    def _between(self, fake: Tensor, real: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The critic's slopes somewhere between packs that entered it (P, width), a blend a pack.

        Packs that share a condition may be blended once they went through the first layer: it is
        linear, and this saves a product as large as the layer.
        """
        blend = torch.rand(len(real), 1, device=real.device, generator=generator)
        slopes: list[Tensor] = self.critic.scored(torch.lerp(real, fake, blend), generator)[1]
        return slopes

    def generator_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's verdict, and cross entropy of the asked category under the logits."""
        logits = self._logits(batch, generator)
        asked = self.critic.asked(batch.given)
        scores, _ = self.critic(self._pack(self._soft(logits, generator)), asked, generator)
        missed = logits.new_zeros(()) if batch.given is None else self._missed(logits, batch.given)
        if self.config.loss == "wasserstein":
            return {"generator": -scores.mean(), "condition": missed}
        real = self._pack(self.layout.expand(batch.codes))
        rivals, _ = self.critic(real, asked, generator)
        return {"generator": outscored(scores, rivals), "condition": missed}

    def _missed(self, logits: Tensor, given: Tensor) -> Tensor:
        """Cross entropy (a mean over B) of the asked category within its column's logits."""
        column = self.column[given]
        places = torch.arange(int(self.marginals.shape[1]), device=logits.device)[:, None]
        inside = places < self.sizes[column]
        places = torch.where(inside, self.starts[column] + places, 0)
        block = logits.t().gather(0, places).masked_fill(~inside, -torch.inf)
        return functional.cross_entropy(block.t(), given - self.offsets[column])

    def _pack(self, rows: Tensor) -> Tensor:
        return rows.reshape(len(rows) // self.config.pack, -1)

    def _soft(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        config = self.config
        return soften(logits, self.layout, config.temperature, generator, config.hush)

    def _logits(self, batch: Batch, generator: torch.Generator) -> Tensor:
        logits: Tensor = self.generator(self._noise(batch.codes.rows, generator), batch.given)
        return whole(logits)

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        return torch.randn(rows, self.config.noise, device=generator.device, generator=generator)

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: torch.Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows under conditions from the true marginals, or under the rarest of `given`.

        The condition has room for one category: P(row) = sum over k of P(row | D = k) P(D = k).
        """
        self.eval()
        condition = self.conditions(rows, generator, given)
        arguments = (self._noise(rows, generator), condition)
        if self.average is None:
            logits = self.generator(*arguments)
        else:
            logits = self.average.run(self.generator, *arguments)
        return harden(logits, self.layout, generator)

    def conditions(
        self, rows: int, generator: torch.Generator, given: Mapping[str, Bounds] | None = None
    ) -> Tensor | None:
        """Conditions (B,): a column uniformly, then a category by its share of the real table."""
        if not self.given:
            return None
        asked = []
        for column, span in enumerate(self.given):
            bounds = (given or {}).get(span.column)
            if bounds is not None and bounds.only is not None:
                asked.append((column, bounds.only))
        if asked:
            column, index = min(asked, key=lambda pair: float(self.marginals[pair]))
            return (self.offsets[column] + index).expand(rows)
        columns = torch.randint(
            len(self.offsets), (rows,), device=generator.device, generator=generator
        )
        uniform = torch.rand(
            rows, 1, dtype=torch.float64, device=generator.device, generator=generator
        )
        chosen = torch.searchsorted(self.marginals.cumsum(1)[columns], uniform, right=True)[:, 0]
        return self.offsets[columns] + torch.minimum(chosen, self.sizes[columns] - 1)


def _adam(network: nn.Module, rate: float, decay: float, betas: tuple[float, float]) -> Adam:
    return Adam(network.parameters(), lr=rate, weight_decay=decay, betas=betas, fused=True)
