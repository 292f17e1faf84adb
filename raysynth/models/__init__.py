"""Generators of codes: one file a family.

The file name is the registry: `names()` lists the modules of this folder and `get(name)` opens one.
A new family is one new file that holds what `Family` asks for; the contract suite in
`tests/test_models.py` runs over it unasked. A model is written for one device and never sees a
table: data parallelism is applied from outside (`raysynth.parallel`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, cast

from pydantic import BaseModel
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from raysynth.draw import Batch, Draw
from raysynth.errors import ConfigError, nearest
from raysynth.layout import Bounds, Codes, Layout


class TableModel(nn.Module, ABC):
    """A generator of codes with all it needs to train."""

    pace = 1.0  # of the settings' learning rates: lowered by training that diverged
    chooses = True  # whether its best weights are kept; else its last, trained on all rows
    scores = False  # whether `score` and `row_bits` tell anything
    fills = False  # whether `fill` does
    averaging = 0  # weights are averaged over about the last one in so many steps; 0: they are not
    anneals = False  # whether rates fall to 0 along a cosine
    takes = 1  # batches of a step

    @cached_property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Of each network, made when training first asks.

        A first optimizer makes PyTorch load its compiler, which takes over a second; who only
        samples does not wait for it.
        """
        return self._optimizers()

    @abstractmethod
    def _optimizers(self) -> tuple[Optimizer, ...]:
        """Each network's, new, in the order that `step` takes them."""

    def score(self, codes: Codes) -> Tensor:
        """How unlike the model's own rows these held-out ones (B) are: a number, lower is better.

        Only families that say `scores` are asked.
        """
        return self.row_bits(codes).mean()

    def row_bits(self, codes: Codes) -> Tensor:
        """Bits that each row takes, (B,): minus the logarithm of its likelihood, in eval mode.

        Only families that say `scores` are asked. Scalars are measured as densities, so less than
        no bits are possible.
        """
        raise NotImplementedError

    def trains_on(self, rows: int) -> None:
        """Told before training, or more of it, how many rows the table has."""

    def at(self, share: float) -> None:
        """Told before each step what share of the training is over, in [0, 1), for schedules.

        A training that resumes is told the same as one that was never stopped. Rates are to be
        those of the settings times `pace`.
        """
        scale = self.pace * (0.5 * (1 + math.cos(math.pi * share)) if self.anneals else 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                set_rate(group, group.setdefault("rate", group["lr"]) * scale)

    @abstractmethod
    def step(self, batches: Iterator[Batch], generator: Generator) -> dict[str, Tensor]:
        """Update every network once and give the losses by name, detached.

        `batches` never ends; a family takes as many as it says in `takes`. `generator` gives all
        noise. Nothing asks the device for a number, and no shape depends on what rows hold: on a
        GPU the step is recorded once and played again (`capture`).
        """

    @abstractmethod
    def sample(
        self, rows: int, generator: Generator, given: Mapping[str, Bounds] | None = None
    ) -> Codes:
        """Draw `rows` rows in eval mode.

        `given` says by column what is asked. A family that cannot honour all of it comes as near
        as it can; `Sampler` rejects the rows that miss.
        """

    def fill(
        self,
        codes: Codes,
        known: Tensor,
        generator: Generator,
        allowed: Mapping[str, Bounds] | None = None,
    ) -> Codes:
        """Draw, in rows (B), every column that is not `known` (B, D of `Layout.columns`) there.

        `allowed` says what may be drawn, of the columns it has. Only families that say `fills` are
        asked.
        """
        raise NotImplementedError


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Have an optimizer's group learn at this rate; a recorded step reads it on the device."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


class Encoding(NamedTuple):
    """The codecs that a family asks for, and what they are fitted with, if the user says naught."""

    number: str
    category: str
    options: Mapping[str, Any] = {}

    @property
    def kinds(self) -> dict[str, str]:
        """The codec of each kind."""
        return {"number": self.number, "category": self.category}


class Trial(Protocol):
    """What suggests settings: an Optuna trial, or what stands between one and a family."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from `low` to `high`, both included."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices: None, booleans, numbers or texts."""
        ...


class Family(Protocol):
    """What the file of a family says about itself."""

    class Config(BaseModel):
        """The family's own settings: the paper's defaults, each with its source."""

        batch: int

    def encoding(self, config: Any) -> Encoding:
        """The codecs that these settings of the family ask for."""
        ...

    def drawing(self, config: Any) -> Draw:
        """How batches are drawn for these settings."""
        ...

    def Model(  # noqa: N802 (a class in each family)
        self, layout: Layout, shares: Mapping[str, tuple[float, ...]], config: Any
    ) -> TableModel:
        """A fresh model; weights come from torch's generator as it stands."""
        ...

    def space(self, trial: Trial) -> dict[str, Any]:
        """Settings of its own that a search suggests, define-by-run; others are the default."""
        ...

    def start(self, rows: int) -> dict[str, Any]:
        """What of `space` a search begins with on so many rows: the best settings known."""
        ...

    def batch_rows(self, batch: int, config: Any) -> int:
        """The rows a batch really holds when `batch` are asked for."""
        ...

    def epochs(self, rows: int, config: Any) -> int:
        """Passes over a table of so many rows, where nobody says how many."""
        ...


def passes(seen: int, rows: int, least: int, most: int) -> int:
    """Passes over a table of so many rows that come to `seen` rows, of `least` to `most`."""
    return max(least, min(most, round(seen / max(1, rows))))


def names() -> tuple[str, ...]:
    """Names of every family, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def get(name: str) -> Family:
    """The family called `name`; `ConfigError` naming the nearest where there is none."""
    if name not in names():
        raise ConfigError(f"no family is called '{name}'; {nearest(name, names())}")
    return cast(Family, import_module(f"{__name__}.{name}"))
