"""The gate: may this table leave the house?

Each attack, and two figures of fidelity, is held against two bars (`config.GateConfig`):

- **fail** where the whole confidence interval lies above the upper bar: the attack works;
- **warn** where the figure lies above the lower bar, or the interval reaches above the upper one,
  so that failing cannot be ruled out (too few rows, say), or the attack could not be made;
- **pass** otherwise.

Of an attack that was picked as the worst of several only the interval's lower end counts: of many
that learn nothing, one always seems to.

The verdict is the worst of them. It is about what was tried and says what was not: it is no proof,
and no word of a law. An attack with the model in hand concerns those who hold the run, not the
table, and warns at most.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from raysynth.config import GateConfig
from raysynth.figures import Figure
from raysynth.risks import Risk

T = TypeVar("T")
Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Reason:
    """One bar, whether what `name` measured stays below it, and a sentence that says so."""

    level: Level
    name: str
    said: str


@dataclass(frozen=True)
class Verdict:
    """The worst level of all reasons, the reasons (worst first), and what was not tried."""

    verdict: Level
    reasons: tuple[Reason, ...]
    untried: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self) | {"reasons": [asdict(reason) for reason in self.reasons]}


class _Kind(NamedTuple):
    """What attacks of a kind are held to: the bars' name, and what an attacker would do."""

    bars: str
    does: str


# By the beginning of an attack's name; the longest that fits counts.
_KINDS = {
    "membership": _Kind("membership", "telling who was in the training table"),
    "singling_out": _Kind("risk", "singling a person out"),
    "linkability": _Kind("risk", "linking two records of one person"),
    "inference": _Kind("risk", "guessing what is not known of a person"),
    "inference_worst": _Kind("risk", "guessing the column that gives most away"),
    "rare_values": _Kind("rare", "finding a value that few have"),
    "rare_combinations": _Kind("near", "finding a combination that one person has"),
    "exact_copies": _Kind("copies", "finding somebody's whole row"),
    "near_copies": _Kind("near", "finding a row close to somebody's"),
    "canary": _Kind("copies", "finding a row that was planted to be found"),
}
MODEL, WORST = "membership_model", "_worst"


def decide(
    risks: Sequence[Risk], figures: Iterable[Figure], config: GateConfig, untried: Iterable[str]
) -> Verdict:
    """Hold what was measured to its bars.

    Without any risk the verdict is "warn" at best: privacy was not looked at.
    """
    reasons = [reason for risk in risks for reason in _risk(risk, config)]
    reasons += [reason for one in figures for reason in _figure(one, config)]
    if not risks:
        said = "No attack was made, since the rows trained on were not at hand."
        reasons.append(Reason("warn", "attacks", said))
    reasons.sort(key=lambda reason: -LEVELS.index(reason.level))
    worst = reasons[0].level if reasons else "pass"
    return Verdict(worst, tuple(reasons), tuple(untried))


def kind_of(name: str) -> _Kind:
    """What attacks of that name are held to. `KeyError` for one that no bar is set for."""
    found = longest(_KINDS, name)
    if found is None:
        raise KeyError(name)
    return found


def longest(starts: Mapping[str, T], name: str) -> T | None:
    """What stands under the longest beginning of `name`; None under none."""
    fitting = [start for start in starts if name.startswith(start)]
    return starts[max(fitting, key=len)] if fitting else None


def bars_of(name: str, config: GateConfig) -> tuple[float, float]:
    """The bars of an attack of that name: to warn, and to fail. `KeyError` as `kind_of`."""
    warn, fail = getattr(config, kind_of(name).bars)
    return warn, fail


def _risk(risk: Risk, config: GateConfig) -> list[Reason]:
    kind = kind_of(risk.name)
    if risk.skipped is not None:
        said = f"{_said(kind.does)} could not be tried ({risk.skipped}), so it is not ruled out."
        return [Reason("warn", risk.name, said)]
    reasons = [_held(risk.name, kind, risk.unit, (risk.low, risk.value, risk.high), config, risk)]
    rates = [risk.details.get(f"tpr_at_1pct{end}") for end in ("_low", "", "_high")]
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates):
        low, value, high = known
        does = _Kind("membership_rate", f"{kind.does} where it is surest")
        unit = "true positives at 1 % false ones"
        reasons.append(_held(f"{risk.name}_rate", does, unit, (low, value, high), config))
    return reasons


def _held(
    name: str,
    kind: _Kind,
    unit: str,
    interval: tuple[float, float, float],
    config: GateConfig,
    risk: Risk | None = None,
) -> Reason:
    low, value, high = interval
    warn, fail = getattr(config, kind.bars)
    chance = "" if risk is None else f"; without the table {risk.chance:.3g}"
    told = f"{unit} {value:.3f} ({low:.3f} to {high:.3f}{chance})"
    if name.endswith(WORST):  # it was picked for its value, of which only the lower end is sure
        told = f"{unit} at least {low:.3f} ({value:.3f} measured, as the worst of several)"
        value = high = low
    level: Level = "fail" if low > fail else "warn" if value > warn or high > fail else "pass"
    if level == "fail":
        said = f"{_said(kind.does)} works: {told}, above the bar of {fail:g}."
    elif level == "pass":
        said = f"{_said(kind.does)} gained little: {told}, under the bars {warn:g} and {fail:g}."
    elif value > warn:
        said = f"{_said(kind.does)} gains something: {told}, above the lower bar of {warn:g}."
    else:
        said = f"{_said(kind.does)} cannot be ruled out: {told} reaches above the bar of {fail:g}."
    if name.startswith(MODEL):
        level = "warn" if level == "fail" else level
        said += " It takes the trained model: keep the run where the table is."
    return Reason(level, name, said)


def _figure(figure: Figure, config: GateConfig) -> list[Reason]:
    if figure.name == "detection":
        measured, bars = figure.synthetic, config.detection
        does = "Boosted trees tell its rows from real ones"
        told = f"AUC {measured:.3f}, where 0.5 is chance"
    elif figure.name == "utility" and figure.ceiling is not None:
        measured, bars = figure.ceiling - figure.synthetic, config.lost
        does = "A model that learned from it loses against one that learned from real rows"
        told = f"{max(measured, 0.0):.3f} of {figure.unit}"
    else:
        return []
    level: Level = "fail" if measured > bars[1] else "warn" if measured > bars[0] else "pass"
    above = {"pass": f"below the bar of {bars[0]:g}", "warn": f"above the bar of {bars[0]:g}"}
    said = f"{does}: {told}, {above.get(level, f'above the bar of {bars[1]:g}')}."
    return [Reason(level, figure.name, said)]


def _said(does: str) -> str:
    return does[0].upper() + does[1:]
