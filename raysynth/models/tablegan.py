"""table-GAN: rows as small pictures, drawn by convolutional networks.

Source: Park, Mohammadi, Gorde, Jajodia, Park and Kim, "Data Synthesis based on Generative
Adversarial Networks", PVLDB 11(10), 2018 (arXiv 1806.03384), its losses by others' account; the
authors' code of January 2019 ("reference" below); for the networks, DCGAN: Radford, Metz and
Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016.

A column's scalar is a cell in [-1, 1], and so is its choice: index i of n is 2 i / (n - 1) - 1,
rounded when a row is decoded, never in training. The cells of all columns, in the table's order,
fill a square row by row, and zeros the rest. A generator draws such squares, a discriminator tells
them from real ones, and where `target` names a column, a classifier learns it from all others. The
generator is to deceive the first, to agree with the last, and to have the mean and the standard
deviation of the discriminator's features as real rows do.

**Privacy.** `mean_delta` and `deviation_delta` are gaps of mean and deviation that are left
unpunished: 0 is low privacy (nearest to the data), 0.1 mid and 0.2 high in the reference's presets.
No guarantee comes with any.

**Departures**
- Paper and reference differ, and `losses` chooses. "paper": the norm of the difference of means,
  and of standard deviations, each above its delta. "reference": sums over features of absolute
  differences of means, and of variances, each difference less its delta, so a delta weighs there as
  F of them. Its generator takes two steps a batch (`generator_steps`).
- Neither says how a gradient passes a moving average. In "reference" it is what that code does:
  the batch alone carries it, by its weight in the average, 0.01. In "paper" the average says how
  wide the gap is and which way, and the batch carries the gradient as if it were the average: by
  its weight alone the loss would be a hundredth of what it seems.
- The averages of both are bias corrected. The reference's start at 0 and hide every gap at first.
- Squares that are drawn have zeros beyond their cells too: what no row holds is no telling sign.
- The reference shows all networks the label, which leaves the classifier (commented out there)
  nothing to learn, and repeats the columns in the square. As in the paper, neither is done here:
  the classifier sees 0 in all cells of its column.
- The target may be any column: the classifier's output is its cells, the loss their mean absolute
  difference, for two classes twice the paper's. Without `target` there is no classifier: a table
  does not say which column is its label.
- Batch norm is in eval mode when sampling, and rows are not moved to the nearest real values, as
  the reference moves them: that copies real values into the output.
- A square has the smallest side of 4, 8, 16, 32, ... that holds all cells, and the networks lead it
  down to 1 x 1, so that every cell meets every other. The reference's side is 8.
- A batch of one row becomes two: batch norm and deviations need them (`batch_rows`).

**Improved** (`preset = "improved"`, or one by one). What it changes:
- `square`: a cell for every index, one-hot, instead of one for every choice, in whose order indices
  that have none would lie between each other; drawn by Gumbel noise at `temperature`, so a sample's
  are those that the discriminator saw;
- `numbers`, `points`: numbers as normal scores beside points, whose scalars go to 0 where an index
  says all, as in real rows;
- `loss`, `penalty`: the relativistic loss, with the discriminator's squared slope at real and drawn
  rows (see `adversary`; by double backward here), and no batch norm in what reads squares;
- `rate`, `betas`, `anneal`, `average`: no momentum, a rate that falls to 0, and samples of an
  exponential average of the generator's weights;
- `channels`, `batch`: narrower, since the squares are larger, and more rows.

**Pitfall.** A convolution takes neighbouring cells to belong together, so results depend on the
order of columns; put those together that do. Min-max codes and ordered categories make this a
family to compare with more than one to use.

Longer than other files: a family is one file, and this one has three networks and four losses.

Shapes: B rows, N cells of a row, S side of the square, F features, Z noise width.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from raysynth import draw
from raysynth.adversary import Average as Weights
from raysynth.adversary import outscored, steepness
from raysynth.draw import Batch, Draw
from raysynth.errors import ConfigError, nearest
from raysynth.layout import Bounds, Codes, Layout
from raysynth.models import Encoding, TableModel, Trial
from raysynth.networks import harden, soften
from raysynth.precision import whole
from raysynth.presets import Presets

SLOPE = 0.2
SMALLEST = 4  # side of a square
WIDEST = 8  # times `channels`: those of the smallest maps of a large square
FLAT = 1e-12  # a variance that counts as none, beside which the root has a slope

Width = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(Presets):
    """Settings of table-GAN. Values are the reference code's, unless noted."""

    improved: ClassVar[Mapping[str, Any]] = {
        "square": "one-hot",
        "numbers": "normal",
        "loss": "relativistic",
        "channels": 24,
        "batch": 128,
        "rate": 1e-3,
        "betas": (0.0, 0.99),
        "anneal": True,
        "average": 0.998,
    }

    preset: Literal["paper", "improved"] = "paper"
    batch: Width = 64
    noise: Width = 100
    channels: Width = 64  # at half the side; twice as many at each half of it
    rate: Annotated[float, Field(gt=0)] = 2e-4
    losses: Literal["paper", "reference"] = "paper"
    generator_steps: Width = 1  # the paper's; 2 in the reference
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99  # of the moving averages; the paper's too
    mean_delta: Weight = 0.0
    deviation_delta: Weight = 0.0
    information: Weight = 1.0
    target: str | None = None  # the column that the classifier learns; the paper's label
    classification: Weight = 1.0  # the paper's; 0.5 where the reference names it
    square: Literal["ordered", "one-hot"] = "ordered"  # cells of a choice
    temperature: Annotated[float, Field(gt=0)] = 0.2  # of Gumbel noise on one-hot cells
    numbers: Literal["minmax", "normal"] = "minmax"
    points: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of rows, of normal scores
    loss: Literal["entropy", "relativistic"] = "entropy"
    penalty: Weight = 4.0  # weight of the discriminator's slope
    betas: tuple[Share, Share] = (0.5, 0.999)  # Adam's
    anneal: bool = False  # whether the rates fall to 0 along a cosine
    average: Share = 0.0  # what an update keeps of the average


def encoding(config: Config) -> Encoding:
    """Numbers by their range, as in the paper, or normal scores; for categories see `cells`."""
    return Encoding(config.numbers, "onehot", {"share": config.points, "local": False})


def drawing(config: Config) -> Draw:
    """Rows alike."""
    return draw.uniform


def start(rows: int) -> dict[str, Any]:
    """The improved settings."""
    return {
        "mean_delta": 0.0,
        "deviation_delta": 0.0,
        "information": 1.0,
        "channels": 24,
        "numbers": "normal",
        "rate": 1e-3,
        "penalty": 4.0,
        "batch": 128,
    }


def space(trial: Trial) -> dict[str, Any]:
    """Codes, width, rates, and the privacy deltas, about the improved settings."""
    return {
        "preset": "improved",
        "mean_delta": trial.suggest_float("mean_delta", 0.0, 0.5),
        "deviation_delta": trial.suggest_float("deviation_delta", 0.0, 0.5),
        "information": trial.suggest_float("information", 0.1, 10.0, log=True),
        "channels": trial.suggest_categorical("channels", [16, 24, 32]),
        "numbers": trial.suggest_categorical("numbers", ["normal", "minmax"]),
        "rate": trial.suggest_float("rate", 2e-4, 3e-3, log=True),
        "penalty": trial.suggest_float("penalty", 1.0, 20.0, log=True),
        "batch": trial.suggest_categorical("batch", [64, 128]),
    }


def batch_rows(batch: int, config: Config) -> int:
    """Any number of rows makes a batch; batch norm needs two."""
    return max(2, batch)


def epochs(rows: int, config: Config) -> int:
    """The reference's instructions, whatever the rows."""
    return 100


def side_of(cells: int) -> int:
    """The smallest of 4, 8, 16, 32, ... whose square holds so many cells."""
    side = SMALLEST
    while side * side < cells:
        side *= 2
    return side


def _channels(side: int, channels: int) -> list[int]:
    """Channels of the maps from half the side down to 1 x 1."""
    return [channels * min(WIDEST, 2**level) for level in range(side.bit_length() - 1)]


class Generator(nn.Sequential):
    """Noise (B, Z, 1, 1) to squares (B, 1, S, S), doubling the side by fractional strides."""

    def __init__(self, side: int, config: Config) -> None:
        widths = _channels(side, config.channels)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.noise, widths[0], 1, bias=False)]
        for width, out in zip(widths, (*widths[1:], 1), strict=True):
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.ConvTranspose2d(width, out, 4, 2, 1, bias=out == 1))
        super().__init__(*layers, *([nn.Tanh()] if config.square == "ordered" else []))
        self.apply(_start)


class Reader(nn.Module):
    """Squares to features and, from these, outputs: the discriminator, and the classifier.

    Batch norm takes its statistics from the batch always; a reader has no eval mode.
    """

    def __init__(self, side: int, outputs: int, config: Config) -> None:
        super().__init__()
        widths = _channels(side, config.channels)
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        plain = config.loss == "relativistic"  # a slope is a row's own only without its batch
        for width, out in pairwise(widths):
            layers.append(nn.Conv2d(width, out, 4, 2, 1, bias=plain))
            layers += [] if plain else [nn.BatchNorm2d(out, track_running_stats=False)]
            layers.append(nn.LeakyReLU(SLOPE))
        self.side, self.width = side, widths[-1]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.top = nn.Linear(self.width, outputs)
        if not plain:
            self.apply(_start)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and outputs (B, outputs) of rows as cells (B, N)."""
        square = functional.pad(cells, (0, self.side**2 - cells.shape[1]))
        features = self.layers(square.view(-1, 1, self.side, self.side))
        return whole(features), whole(self.top(features))


class Average(nn.Module):
    """An exponentially weighted moving average whose weights sum to 1 from the first batch on."""

    running_mean: Tensor
    weight: Tensor

    def __init__(self, shape: tuple[int, ...], momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        # Workers' own averages are averaged by this name, as batch norm's are (`parallel`).
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, now: Tensor) -> Tensor:
        """Take a batch's statistics and give the average, through which `now` has its share."""
        total = self.momentum * self.running_mean + (1 - self.momentum) * now
        self.running_mean.copy_(total.detach())
        self.weight.mul_(self.momentum).add_(1 - self.momentum)
        return total / self.weight


class Model(TableModel):
    """Generator, discriminator and, with a target, classifier, each with its optimizer."""

    choices: Tensor
    scalars: Tensor
    steps: Tensor
    target: Tensor
    shown: Tensor
    deltas: Tensor

    def __init__(
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Config
    ) -> None:
        super().__init__()
        self.layout, self.config = layout, config
        self.hot, self.relativistic = config.square == "one-hot", config.loss == "relativistic"
        # Of every cell, the span it is of.
        self.spans = [s for s in layout.spans for _ in range(s.size if self.hot else 1)]
        named = None if config.target is None else _varied(layout, shares, config.target)
        target = [place for place, span in enumerate(self.spans) if span.column == named]
        side = side_of(len(self.spans))
        self.generator = Generator(side, config)
        self.discriminator = Reader(side, 1, config)
        self.averages = Average((2, 2, self.discriminator.width), config.momentum)
        self.classifier = Reader(side, len(target), config) if target else None
        self.weights = Weights(self.generator, config.average) if config.average else None
        self.anneals = config.anneal
        self._register_places(target)

    def _register_places(self, target: list[int]) -> None:
        """Buffers that say where in a row's cells things lie, and of the deltas."""
        spans, config = self.spans, self.config
        scalars = [place for place, span in enumerate(spans) if span.kind == "scalar"]
        choices = [place for place, span in enumerate(spans) if span.kind != "scalar"]
        for name, places in (("scalars", scalars), ("choices", choices), ("target", target)):
            self.register_buffer(name, torch.tensor(places, dtype=torch.long), persistent=False)
        shown = torch.ones(len(spans)).index_fill(0, self.target, 0.0)
        deltas = torch.tensor([config.mean_delta, config.deviation_delta])
        self.register_buffer("shown", shown, persistent=False)
        self.register_buffer("deltas", deltas, persistent=False)
        # Saved, so that weights of a square as large that holds other cells are refused.
        steps = torch.tensor([span.size - 1.0 for span in self.layout.choices])
        self.register_buffer("steps", steps)

    # -- cells ------------------------------------------------------------------------------

    def cells(self, codes: Codes) -> Tensor:
        """Rows as cells (B, N) in [-1, 1]: one-hot, or one a span; a choice of one index is 0."""
        if self.hot:
            return self.layout.expand(codes)
        cells = codes.scalars.new_empty(codes.rows, len(self.layout.spans))
        cells[:, self.scalars] = codes.scalars
        cells[:, self.choices] = codes.indices * (2 / self.steps.clamp(min=1)) - self.steps.clamp(
            max=1
        )
        return cells

    def codes(self, cells: Tensor) -> Codes:
        """The codes nearest to ordered cells (B, N); a scalar is 0 where it says nothing."""
        steps = self.steps
        indices = ((cells[:, self.choices] + 1) / 2 * steps).round()
        indices = indices.clamp(torch.zeros_like(steps), steps).to(self.layout.index_dtype)
        codes = Codes(indices, cells[:, self.scalars].clamp(-1, 1))
        for column in self.layout.columns:
            if column.scalar is not None:
                codes.scalars[:, column.scalar.slot] *= column.says(column.index(codes))
        return codes

    # -- training ---------------------------------------------------------------------------

    def _optimizers(self) -> tuple[Optimizer, ...]:
        networks = (self.generator, self.discriminator, self.classifier)
        return tuple(
            Adam(network.parameters(), lr=self.config.rate, betas=self.config.betas, fused=True)
            for network in networks
            if network is not None
        )

    def step(self, batches: Iterator[Batch], generator: torch.Generator) -> dict[str, Tensor]:
        """Update the discriminator, the classifier and the generator on one batch."""
        self.train()
        maker, discriminator, *rest = self.optimizers
        real = self.cells(next(batches).codes)
        losses = self.discriminator_losses(real, generator)
        _descend(discriminator, torch.stack(list(losses.values())).sum())
        if self.classifier is not None:
            losses["classifier"] = self.disagreement(self.classifier, real)
            _descend(rest[0], losses["classifier"])
        readers = [self.discriminator] + ([] if self.classifier is None else [self.classifier])
        for reader in readers:
            reader.requires_grad_(False)
        for _ in range(self.config.generator_steps):
            made = self.generator_losses(real, generator)
            _descend(maker, torch.stack(list(made.values())).sum())
            if self.weights is not None:
                self.weights.move(self.generator)
        for reader in readers:
            reader.requires_grad_(True)
        return {name: loss.detach() for name, loss in (losses | made).items()}

    def discriminator_losses(self, real: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross entropy of real (1) and drawn (0) rows, of which the last carry no gradient.

        Or the relativistic loss, and the weighted penalty of the slope.
        """
        with torch.no_grad():
            drawn = self._drawn(len(real), generator)
        if not self.relativistic:
            _, found = self.discriminator(real)
            _, missed = self.discriminator(drawn)
            loss = functional.softplus(-found).mean() + functional.softplus(missed).mean()
            return {"discriminator": loss}
        rows = torch.cat([real, drawn]).requires_grad_()
        _, scores = self.discriminator(rows)
        (slopes,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
        penalty = self.config.penalty * steepness(slopes)
        return {"discriminator": outscored(*scores.chunk(2)), "penalty": penalty}

    def generator_losses(self, real: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The discriminator's verdict, the information and the classification loss, weighted."""
        drawn = self._drawn(len(real), generator)
        with torch.no_grad():
            wanted, rivals = self.discriminator(real)
        features, score = self.discriminator(drawn)
        loss = outscored(score, rivals if self.relativistic else torch.zeros_like(rivals))
        losses = {"generator": loss}
        losses["information"] = self.config.information * self.information(wanted, features)
        if self.classifier is not None:
            missed = self.disagreement(self.classifier, drawn)
            losses["classification"] = self.config.classification * missed
        return losses

    def information(self, real: Tensor, drawn: Tensor) -> Tensor:
        """Gaps of the averages of features (B, F) above the deltas; moves the averages."""
        paper = self.config.losses == "paper"
        now = torch.stack([_moments(real.detach(), root=paper), _moments(drawn, root=paper)])
        average = self.averages(now)
        if paper:
            average = average.detach() + now - now.detach()
        gaps = average[1] - average[0]
        if paper:
            return functional.relu(gaps.norm(dim=1) - self.deltas).sum()
        return functional.relu((gaps.abs() - self.deltas[:, None]).sum(dim=1)).sum()

    def disagreement(self, classifier: Reader, cells: Tensor) -> Tensor:
        """Mean absolute difference of the target's cells and what the others say of them."""
        return (cells[:, self.target] - self.told(classifier, cells)).abs().mean()

    def told(self, classifier: Reader, cells: Tensor) -> Tensor:
        """The target's cells as told by all others of rows (B, N)."""
        _, outputs = classifier(cells * self.shown)
        told: Tensor = outputs.tanh()
        return told

    def _drawn(self, rows: int, generator: torch.Generator) -> Tensor:
        """Cells (B, N) of new rows, unrounded."""
        cells = self._cut(whole(self.generator(self._noise(rows, generator))))
        if not self.hot:
            return cells
        return soften(cells, self.layout, self.config.temperature, generator, hush=True)

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        shape = (rows, self.config.noise, 1, 1)
        return torch.rand(shape, device=generator.device, generator=generator) * 2 - 1

    def _cut(self, squares: Tensor) -> Tensor:
        """What lies in the cells (B, N) of squares (B, 1, S, S)."""
        return squares.flatten(1)[:, : len(self.spans)]

    # -- sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self, rows: int, generator: torch.Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Rows of fresh noise; what is given is left to rejection."""
        self.eval()
        noise = self._noise(rows, generator)
        if self.weights is None:
            cells = self._cut(self.generator(noise))
        else:
            cells = self._cut(self.weights.run(self.generator, noise))
        return harden(cells, self.layout, generator) if self.hot else self.codes(cells)


def _varied(layout: Layout, shares: Mapping[str, tuple[float, ...]], target: str) -> str:
    """The target. Raises `ConfigError` where it is absent or has one value."""
    columns = {column.name: column for column in layout.columns}
    varied = [
        name
        for name, column in columns.items()
        if column.scalar is not None or max(shares[name]) < 1
    ]
    if target not in varied:
        fault = "has one value or is not modelled" if target in shares else "is not in the table"
        raise ConfigError(
            f"target: expected a column to learn from the others, but '{target}' {fault}; "
            f"{nearest(target, varied)}"
        )
    return target


def _moments(features: Tensor, root: bool) -> Tensor:
    """Means and standard deviations, or without `root` variances, of (B, F): (2, F)."""
    variance = features.var(dim=0, correction=0)
    # The root of no variance has no finite slope, and a cell that saturates has none.
    return torch.stack([features.mean(dim=0), (variance + FLAT).sqrt() if root else variance])


def _descend(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _start(layer: nn.Module) -> None:
    """Draw a layer's weights as DCGAN does."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
