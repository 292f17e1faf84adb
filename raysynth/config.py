"""Settings as frozen values, from TOML and overrides; an unknown key names the nearest one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from raysynth.errors import ConfigError, nearest
from raysynth.precision import Precision
from raysynth.storage import Place

Model = TypeVar("Model", bound=BaseModel)
Count = Annotated[int, Field(ge=1)]


class ColumnConfig(BaseModel):
    """What the user says of one column; the rest is guessed (`guess`).

    `personal` is the form of personal data in it ("email").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str | None = None
    codec: str | None = None
    personal: str | None = None


class RelationConfig(BaseModel):
    """A relation that columns have, as the user says; see `relations`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    columns: tuple[str, ...]


def _in_order(bars: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= bars[0] <= bars[1]:
        raise ValueError("expected two bars from 0 up, [to warn above, to fail above], in order")
    return bars


Bars = Annotated[tuple[float, float], AfterValidator(_in_order)]


class GateConfig(BaseModel):
    """What a synthetic table may show and still pass: bars above which to warn, and to fail.

    Of attacks: `membership` is the AUC with which rows trained on are told from others (chance
    0.5), `membership_rate` the true-positive rate at 1 % false positives (chance 0.01), `risk` what
    singling out, linking and inferring achieve beyond what they achieve on people who are not in
    the table, `copies` and `rare` the share of synthetic rows that copy a training row, or hold a
    value of few, beyond the same share of fresh real rows, and `near` the share of those nearer to
    a training row than 99 % of fresh rows are, beyond that 1 %, and of those that repeat a
    combination of quasi-identifiers which one training row has, beyond fresh rows. Of fidelity:
    `detection` is the AUC of the boosted detector, `lost` the utility lost against real rows; an
    upper bar that no figure reaches makes them warn at most. The bars of attacks are ours: 0.05 and
    0.10 of AUC, of risk, and so on; no law or standard gives any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    membership: Bars = (0.55, 0.60)
    membership_rate: Bars = (0.03, 0.05)
    risk: Bars = (0.05, 0.10)
    copies: Bars = (0.001, 0.01)
    near: Bars = (0.02, 0.05)
    rare: Bars = (0.005, 0.02)
    detection: Bars = (0.80, 1.0)
    lost: Bars = (0.05, 1.0)


_INNER: dict[str, type[BaseModel]] = {
    "columns": ColumnConfig,
    "relations": RelationConfig,
    "gate": GateConfig,
}


class TrainConfig(BaseModel):
    """One training: a table and how to make a run of it.

    `select`, `where` and `fraction` choose columns and rows of the table (`selection`, `where`).
    `model` holds the family's own settings (its `Config`). `least` is the number of rows that must
    share a value, or lie at each end of a number's range, for it to be written down at all: rows of
    different subjects, where `subject` names the column that says whose a row is. `columns` says
    what a column is where the guess is wrong; `text` what becomes of free text. `relations` are to
    hold beside those that are found, or False for none at all; columns `without_relations` are in
    none that is found. `cpus` are those of one worker; by default a laptop's cores are divided
    among the workers. `precision` is that of products while training (`precision`). Where nodes are
    lost, as few as `min_workers` go on until there are more. A checkpoint is kept every
    `checkpoint_s` seconds; a worker in which nothing happens for `stall_s` is hung (longer than a
    store may be away: `client.PATIENCE_S`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    storage: str = "runs"
    family: str = "autoregressive"
    epochs: Count | None = None  # what the family asks for
    patience: Count | None = None  # epochs without better weights after which to stop
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    drop: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    where: str | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    categories: tuple[str, ...] = ()
    columns: dict[str, ColumnConfig] = {}
    relations: Literal[False] | tuple[RelationConfig, ...] = ()
    without_relations: tuple[str, ...] = ()
    subject: str | None = None
    text: Literal["refuse", "placeholder"] = "refuse"
    least: Count = 10
    minimum_rows: Count = 100
    modes: Annotated[int, Field(ge=1, le=100)] | None = None  # as many as the family asks for
    workers: Count = 1
    min_workers: Count | None = None
    cpus: Count | None = None
    gpu: bool = False
    precision: Precision = "float32"
    window_mib: Count = 1024
    checkpoint_s: Annotated[float, Field(gt=0)] = 10.0
    stall_s: Annotated[float, Field(gt=0)] = 300.0
    model: dict[str, Any] = {}
    gate: GateConfig = GateConfig()

    @field_validator("relations", mode="before")
    @classmethod
    def _on(cls, value: Any) -> Any:
        return () if value is True else value

    @field_validator("min_workers")
    @classmethod
    def _fewest(cls, value: int | None, given: ValidationInfo) -> int | None:
        if value is not None and value > given.data.get("workers", value):
            raise ValueError("expected at most as many as workers")
        return value

    @property
    def place(self) -> Place:
        """The run folder."""
        return Place.of(self.storage) / self.name

    @property
    def path(self) -> Path:
        """The run folder on this machine. Raises `StorageError` where it is in a bucket."""
        return self.place.local

    @property
    def meaning(self) -> dict[str, Any]:
        """What decides the result: all but where and how it is computed, and how it is judged."""
        apart = {"storage", "workers", "min_workers", "cpus", "gpu", "window_mib", "gate"}
        apart |= {"checkpoint_s", "stall_s"}
        return self.model_dump(mode="json", exclude=apart)

    def to_toml(self) -> str:
        """The settings as TOML that `load` reads back."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def load(cls, path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Self:
        """Settings of a TOML file, each replaced by its override where one is given.

        Raises `ConfigError` for a file that is absent or no TOML, and for what `parse` refuses.
        """
        values = {} if path is None else read_toml(path)
        overrides = dict(overrides or {})
        models = [values.get("model", {}), overrides.pop("model", {})]
        if not all(isinstance(model, Mapping) for model in models):
            raise ConfigError("model: expected a table of the family's own settings")
        values = {**values, **overrides, "model": {**models[0], **models[1]}}
        values.setdefault("name", default_name(values))
        return parse(cls, values)


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises `ConfigError` where it is absent or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable TOML file: {error}") from None


def default_name(values: Mapping[str, Any]) -> str:
    """A run's name where the user gives none: the table's file name and the family."""
    stem = Path(str(values.get("table", "table"))).stem
    letters = "".join(c if c.isalnum() and c.isascii() else "-" for c in stem).strip("-")
    return f"{letters or 'table'}-{values.get('family', 'autoregressive')}"


def parse(model: type[Model], values: Mapping[str, Any]) -> Model:
    """`values` as a `model`. Raises one `ConfigError` that names every setting to mend."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = []
        for fault in error.errors(include_url=False):
            if "literal[False]" in fault["loc"]:
                continue  # the other thing that relations may be is what was meant
            key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part)) or "settings"
            if fault["type"] == "extra_forbidden":
                inside = key.partition(".")[0] if "." in key else ""
                fields = _INNER.get(inside, model)
                close = nearest(str(fault["loc"][-1]), fields.model_fields)
                problems.append(f"no setting is called '{key}'; {close}")
            else:
                came = fault["input"]
                got = f", got {came!r}" if isinstance(came, int | float | str) else ""
                problems.append(f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}{got}")
        raise ConfigError("; ".join(problems)) from None
