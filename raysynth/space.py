"""What a search suggests: a family, its settings, and how many modes, within the user's limits.

Parameters are named `family.setting`, and `modes` (Gaussian modes of a number, where a family codes
by them). Limits narrow them, by those names or by the setting's alone, for every family that has
it: a value fixes one, a list of values leaves those, `{low = ..., high = ...}` narrows a number.

`least`, the rows that must share a value for it to be written down, is searched only where a limit
names it: no search gives up privacy that it was not told to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysynth import models
from raysynth.config import parse
from raysynth.errors import ConfigError, nearest
from raysynth.models import Trial

Limits = Mapping[str, Any]
MODES, USUAL = (3, 15), 10  # of a variational mixture's 10 in CTGAN, about
LEAST = (2, 1_000)  # rows


@dataclass(frozen=True)
class Suggested:
    """A family, its own settings, a number of modes (None: the family's), `least` (None: as is)."""

    family: str
    model: dict[str, Any]
    modes: int | None
    least: int | None


def suggest(trial: Trial, families: Sequence[str], limits: Limits) -> Suggested:
    """What to try next. Raises `ConfigError` for limits that leave nothing."""
    family = families[0]
    if len(families) > 1:
        family = trial.suggest_categorical("family", list(families))
    module, narrowed = models.get(family), _Narrowed(trial, f"{family}.", limits)
    model = module.space(narrowed)
    encoding = module.encoding(parse(module.Config, model))
    modes = least = None
    if encoding.number == "modes":
        modes = _Narrowed(trial, "", limits).suggest_int("modes", *MODES)
    if "least" in limits:
        least = _Narrowed(trial, "", limits).suggest_int("least", *LEAST)
    return Suggested(family, model, modes, least)


def starts(families: Sequence[str], rows: int) -> list[dict[str, Any]]:
    """Where to begin: the parameters of each family's best known settings, for so many rows."""
    return [
        {"family": family, "modes": USUAL}
        | {f"{family}.{name}": value for name, value in models.get(family).start(rows).items()}
        for family in families
    ]


def allowed(
    families: Sequence[str], limits: Limits, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """What of a former trial's `parameters` could be suggested within these limits."""
    former = _Noted(parameters)
    suggest(former, families, limits)
    return former.taken


def check(families: Sequence[str], limits: Limits) -> None:
    """Raise `ConfigError` for no family, an unknown one, or limits that name or leave nothing."""
    if not families:
        raise ConfigError("tune: expected one family or more")
    known = {"modes", "least"}
    for family in families:
        names = _Noted()
        models.get(family).space(names)
        known |= {f"{family}.{name}" for name in names.seen} | set(names.seen)
        models.get(family).space(_Narrowed(_Noted(), f"{family}.", limits))
    _Narrowed(_Noted(), "", limits).suggest_int("modes", *MODES)
    _Narrowed(_Noted(), "", limits).suggest_int("least", *LEAST)
    for name in limits:
        if name not in known:
            raise ConfigError(f"space: no parameter is called '{name}'; {nearest(name, known)}")


@dataclass
class _Noted:
    """A trial that suggests what a former one `had`, where that may be, else the first of all.

    It notes what it was asked for, and what of the former's it gave.
    """

    had: Mapping[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    taken: dict[str, Any] = field(default_factory=dict)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        had = self.had.get(name)
        return float(self._give(name, isinstance(had, int | float) and low <= had <= high, low))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        had = self.had.get(name)
        return int(self._give(name, isinstance(had, int) and low <= had <= high, low))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        fits = name in self.had and self.had[name] in choices
        return self._give(name, fits, choices[0])

    def _give(self, name: str, fits: bool, first: Any) -> Any:
        self.seen.append(name)
        if not fits:
            return first
        self.taken[name] = self.had[name]
        return self.had[name]


@dataclass(frozen=True)
class _Narrowed:
    """A trial whose parameters have a prefix and the user's limits."""

    trial: Trial
    prefix: str
    limits: Limits

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        found = self._between(name, low, high)
        if not isinstance(found, tuple):
            return float(found)
        return self.trial.suggest_float(self.prefix + name, *found, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        found = self._between(name, low, high)
        if not isinstance(found, tuple):
            return int(found)
        return self.trial.suggest_int(self.prefix + name, *map(int, found), log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        limit = self._limit(name)
        if limit is None:
            return self.trial.suggest_categorical(self.prefix + name, list(choices))
        if isinstance(limit, Mapping):
            raise ConfigError(f"space.{name}: expected a value or a list of values of {choices}")
        left = [limit] if not isinstance(limit, list) else limit
        if not left or any(one not in choices for one in left):
            raise ConfigError(f"space.{name}: expected some of {list(choices)}")
        return (
            left[0] if len(left) == 1 else self.trial.suggest_categorical(self.prefix + name, left)
        )

    def _limit(self, name: str) -> Any:
        return self.limits.get(self.prefix + name, self.limits.get(name))

    def _between(self, name: str, low: float, high: float) -> Any:
        """A value that is fixed, or both ends."""
        limit = self._limit(name)
        if limit is None:
            return low, high
        if isinstance(limit, Mapping):
            ends = limit.get("low", low), limit.get("high", high)
            if set(limit) - {"low", "high"} or not low <= ends[0] <= ends[1] <= high:
                raise ConfigError(
                    f"space.{name}: expected low and high, in order, from {low} to {high}"
                )
            return ends
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise ConfigError(f"space.{name}: expected a number, or {{low = ..., high = ...}}")
        return limit
