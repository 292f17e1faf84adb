"""TVAE, a variational autoencoder of rows.

Source: Xu, Skoularidou, Cuesta-Infante and Veeramachaneni, "Modeling Tabular Data using Conditional
GAN", NeurIPS 2019 (arXiv 1907.00503), section 4.5; the method is of Kingma and Welling,
"Auto-Encoding Variational Bayes", ICLR 2014.

An encoder makes of a row a normal distribution over a latent code; a decoder makes of such a code
the distributions of a row: a softmax for every choice, and for every scalar a normal about a tanh.
How wide that normal is, is learned once a column, within `NARROWEST` and `WIDEST`. Both networks
are trained on the evidence lower bound. To sample, a code is drawn from the standard normal, and a
row from what the decoder makes of it. There is no condition: `Sampler` rejects rows that miss what
is given.

**Departures**
- From the paper: the reconstruction counts `factor` = 2 times, as in the reference code that gave
  the paper's figures; with 1 the loss is the bound itself.
- From the paper's codes: where the index says all (a point, null) the scalar is 0 by rule, so its
  density is not counted, and a sampled row's is set to 0. Counted, those zeros would pull the
  column's standard deviation to its floor.
- From the reference code (ctgan 0.12.1): a choice is drawn from its softmax. By argmax, which
  `draw` can ask for, a category that is nowhere the likeliest never comes (the paper's F1 on its
  credit table, of one rare class, is 0.10). And the argmax is of the logits, not of their tanh,
  which in float32 is 1 from about 9 on. The density keeps its constant, so losses are in nats.
- From older versions of it: modes are choices in the loss like categories (0.3.0 to 0.4.1 gave them
  normals); the decoder has widths of its own (before 0.5.1 it took the encoder's); and rows are
  drawn with replacement, so a table smaller than a batch trains too (up to 0.4.0 it did not).

**Improved** (`preset = "improved"`, or one by one). What it changes:
- `prior`: codes are drawn from a mixture of so many normals, learned with the rest, instead of the
  standard normal, which leaves gaps where no row's code lies (Tomczak and Welling, "VAE with a
  VampPrior", AISTATS 2018, where it is "MoG"). The divergence has no closed form then, and is
  estimated at the code that is drawn;
- `factor`: the reconstruction counts 4 times, so that codes say more of a row; what lies in their
  way to the prior, a learned one makes up for;
- `latent`, `encoder`, `decoder`: a narrower code, wider layers;
- `rate`, `anneal`, `average`: three times the rate, falling to 0, and samples of an exponential
  average of the weights.
`numbers = "normal"` has normal scores beside points instead of modes: detection on Adult was lower
with them (0.62 against 0.71 at 1,600 steps), on Covertype higher (0.989 against 0.979 at 1,200).

Shapes: B rows, W dense width, Z latent width, S scalars, M normals of the prior.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from raysynth import draw
from raysynth.adversary import Average
from raysynth.draw import Batch, Draw
from raysynth.layout import Bounds, Codes, Layout
from raysynth.models import Encoding, TableModel, Trial, passes
from raysynth.networks import drawn, harden
from raysynth.precision import exact, whole
from raysynth.presets import Presets

START, NARROWEST, WIDEST = 0.1, 0.01, 1.0  # standard deviations of scalars; reference code
SEEN = 5_000_000  # rows of an improved training

Width = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


class Config(Presets):
    """Settings of TVAE. Values are the paper's (section 4.5 and supplement), unless noted."""

    improved: ClassVar[Mapping[str, Any]] = {
        "prior": 64,
        "factor": 4.0,
        "latent": 32,
        "encoder": (256, 256),
        "decoder": (256, 256),
        "rate": 3e-3,
        "anneal": True,
        "average": 0.998,
    }

    preset: Literal["paper", "improved"] = "paper"
    batch: Width = 500
    latent: Width = 128
    encoder: tuple[Width, ...] = (128, 128)
    decoder: tuple[Width, ...] = (128, 128)
    rate: Positive = 1e-3
    decay: Annotated[float, Field(ge=0)] = 1e-5  # reference code
    factor: Positive = 2.0  # reference code
    draw: Literal["softmax", "argmax"] = "softmax"
    numbers: Literal["modes", "normal"] = "modes"
    points: Annotated[float, Field(gt=0, lt=1)] = 0.005  # share of rows, of normal scores
    prior: Annotated[int, Field(ge=0)] = 0  # normals that codes are drawn from; 0 is the standard
    anneal: bool = False  # whether the rate falls to 0 along a cosine
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # what an update keeps of the average


def encoding(config: Config) -> Encoding:
    """Modes with an offset, as in the paper, or normal scores."""
    return Encoding(config.numbers, "onehot", {"share": config.points, "local": False})


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The improved settings."""
    return {
        "width": 256,
        "latent": 32,
        "numbers": "modes",
        "prior": 64,
        "factor": 4.0,
        "rate": 3e-3,
        "batch": 500,
    }


def space(trial: Trial) -> dict[str, Any]:
    """Codes, widths, prior and rates, about the improved settings."""
    width = trial.suggest_categorical("width", [128, 256])
    return {
        "preset": "improved",
        "encoder": (width, width),
        "decoder": (width, width),
        "latent": trial.suggest_categorical("latent", [16, 32, 64, 128]),
        "numbers": trial.suggest_categorical("numbers", ["normal", "modes"]),
        "prior": trial.suggest_categorical("prior", [0, 32, 64]),
        "factor": trial.suggest_float("factor", 1.0, 8.0, log=True),
        "rate": trial.suggest_float("rate", 5e-4, 5e-3, log=True),
        "batch": trial.suggest_categorical("batch", [250, 500]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Any number of rows makes a batch."""
    return batch


def epochs(rows: int, config: Config) -> int:
    """The paper's, whatever the rows; improved, as many as come to `SEEN` rows, within reason."""
    return 300 if config.preset == "paper" else passes(SEEN, rows, 2, 600)


class Prior(nn.Module):
    """A mixture of M normals over codes, each of learned weight, mean and standard deviations."""

    def __init__(self, normals: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(normals))
        self.means = nn.Parameter(torch.randn(normals, width))
        self.log_stds = nn.Parameter(torch.zeros(normals, width))

    def log_density(self, latent: Tensor) -> Tensor:
        """Of codes (B, Z), (B,), without the constant, which the encoder's lacks too."""
        narrow = torch.exp(-2 * self.log_stds)
        # The square written out: a matrix (B, M) instead of all differences (B, M, Z).
        squares = latent.square() @ narrow.t() - 2 * latent @ (self.means * narrow).t()
        squares = squares + (self.means.square() * narrow).sum(1)
        logs = self.weights.log_softmax(0) - self.log_stds.sum(1) - 0.5 * squares
        return logs.logsumexp(1)

    def forward(self, rows: int, generator: Generator) -> Tensor:
        """Codes (B, Z), drawn."""
        chosen = drawn(self.weights.expand(rows, -1), generator)
        shape = (rows, self.means.shape[1])
        noise = torch.randn(shape, device=generator.device, generator=generator)
        return self.means[chosen] + self.log_stds[chosen].exp() * noise


class Model(TableModel):
    """Encoder, decoder, prior and the scalars' standard deviations, in one optimizer."""

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.encoder = _layers(layout.width, config.encoder, 2 * config.latent)
        self.decoder = _layers(config.latent, config.decoder, layout.width)
        self.stds = nn.Parameter(torch.full((len(layout.scalars),), START))
        self.prior = Prior(config.prior, config.latent) if config.prior else None
        self.averages = nn.ModuleList(
            Average(network, config.average) for network in self._makers() if config.average
        )
        self.anneals = config.anneal

    def _makers(self) -> list[nn.Module]:
        """The networks that make a sample."""
        return [self.decoder] if self.prior is None else [self.decoder, self.prior]

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        rate, decay = self.config.rate, self.config.decay
        fused = self.stds.device.type != "cpu" or None
        return (Adam(self.parameters(), lr=rate, weight_decay=decay, fused=fused),)

    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, Tensor]:
        """One step up the bound on the likelihood of a batch."""
        self.train()
        losses = self.losses(next(batches).codes, generator)
        (optimizer,) = self.optimizers
        optimizer.zero_grad(set_to_none=True)
        total = self.config.factor * losses["reconstruction"] + losses["divergence"]
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            self.stds.clamp_(NARROWEST, WIDEST)
        for average, network in zip(self.averages, self._makers(), strict=False):
            cast("Average", average).move(network)
        return {name: loss.detach() for name, loss in losses.items()}

    def losses(self, codes: Codes, generator: Generator) -> dict[str, Tensor]:
        """Nats a row: missed by the decoder at one code of each row, and from the prior."""
        means, log_variances = whole(self.encoder(self.layout.expand(codes))).chunk(2, dim=1)
        noise = torch.randn(means.shape, device=means.device, generator=generator)
        latent = means + (0.5 * log_variances).exp() * noise
        if self.prior is None:
            apart = 0.5 * (means.square() + log_variances.exp() - log_variances - 1).sum(1)
        else:
            mine = -0.5 * (noise.square() + log_variances).sum(1)
            with exact(latent):  # squares written out cancel
                apart = mine - self.prior.log_density(latent)
        hidden = self.decoder[:-1](latent)
        with exact(hidden):
            missed = self.missed(self.decoder[-1](whole(hidden)), codes)
        return {"reconstruction": missed.mean(), "divergence": apart.mean()}

    def missed(self, logits: Tensor, codes: Codes) -> Tensor:
        """Minus the log likelihood (B,) of rows under the decoder's output (B, W)."""
        # Split, not sliced: the backward pass of a slice fills a matrix of all spans for each.
        blocks = torch.split(logits, [span.size for span in self.layout.spans], dim=1)
        spans = zip(self.layout.spans, blocks, strict=True)
        missed = [
            functional.cross_entropy(block, codes.indices[:, span.slot].long(), reduction="none")
            for span, block in spans
            if span.kind != "scalar"
        ]
        scaled = (codes.scalars - self._centres(logits)) / self.stds
        densities = -0.5 * scaled.square() - self.stds.log() - 0.5 * math.log(2 * math.pi)
        return sum(missed, -(densities * self._says(codes)).sum(1))

    def _centres(self, logits: Tensor) -> Tensor:
        """The means (B, S) of the scalars."""
        return logits[:, self.layout.starts(logits.device)[1]].tanh()

    def _says(self, codes: Codes) -> Tensor:
        """Whether each scalar (B, S) says something beside its column's index."""
        says = torch.ones_like(codes.scalars)
        for column in self.layout.columns:
            if column.scalar is not None:
                says[:, column.scalar.slot] = column.says(column.index(codes))
        return says

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows of codes drawn from the prior, whatever is `given`."""
        self.eval()
        made = [
            partial(cast("Average", average).run, network)
            for average, network in zip(self.averages, self._makers(), strict=False)
        ] or self._makers()
        shape = (rows, self.config.latent)
        if self.prior is None:
            latent = torch.randn(shape, device=self.stds.device, generator=generator)
        else:
            latent = made[1](rows, generator)
        return self.drawn(made[0](latent), generator)

    def drawn(self, logits: Tensor, generator: Generator) -> Codes:
        """Rows drawn as the decoder's output (B, W) and the `draw` setting say."""
        codes = harden(logits, self.layout, generator)
        if self.config.draw == "argmax":
            for span in self.layout.choices:
                codes.indices[:, span.slot] = logits[:, span.slice].argmax(1)
        noise = torch.randn(codes.scalars.shape, device=logits.device, generator=generator)
        scalars = (codes.scalars + self.stds * noise).clamp(-1, 1)
        return Codes(codes.indices, scalars * self._says(codes))


def _layers(width: int, hidden: tuple[int, ...], out: int) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    widths = (width, *hidden, out)
    layers = list[nn.Module]()
    for inward, outward in pairwise(widths):
        layers += [nn.Linear(inward, outward), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
