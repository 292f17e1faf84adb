"""Judge a synthetic table: every figure beside a ceiling and a floor, so that it can be read.

- **synthetic**: the synthetic table against `real`, rows the model never saw where there are any;
- **ceiling**: the training rows against `real`: what a perfect generator would score;
- **floor**: every column of the training rows (of `real`, where there are none) shuffled on its
  own, against `real`: what a generator scores that knows each column and no relation.

All three are compared on the same number of rows: that of the smallest table, `ROWS` at most, drawn
with a seed; the nearest neighbours of `ASKED` of them are looked for among all. Copies alone are
counted over all rows, since a share does not grow with the rows that are looked up. The same
tables, seed and library versions give the same report on any number of cores.

The synthetic figure has a 95 % interval: by Wilson of a share (where ties count half, which vary
less, it is if anything too wide), by DeLong of an AUC, and by drawing the rows of both tables again
of all that `raysynth.resample` can measure anew. It is about chance in the rows that were compared;
another training of the same model may well lie outside.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from raysynth.census import Census
from raysynth.errors import TableError
from raysynth.fidelity import Compared
from raysynth.figures import Figure, Learner, Score, figure
from raysynth.frames import permuted, subsample
from raysynth.gate import Verdict
from raysynth.metrics import copies, dcr, detection, utility
from raysynth.risks import Interval, Risk, share
from raysynth.schema import Schema, select

# 2: alpha-precision, beta-recall, logistic detection, DCR share; 3: intervals, more of fidelity
VERSION = 3
ROWS = 20_000
ASKED = 4_000  # a share of so many has a standard error of 0.008 at most
FEWEST = 10  # rows: under this three folds and a shape say nothing

T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """What `judge` found, and what else was found of the same tables.

    `risks` are what attacks achieved, `verdict` what the gate says; `judge` leaves both out. No
    cell value is in it; column names are.
    """

    figures: tuple[Figure, ...]
    columns: dict[str, Score]
    pairs: dict[tuple[str, str], Score]
    rows: dict[str, int | None]
    target: str
    seed: int
    version: int = VERSION
    groups: dict[str, Score] = field(default_factory=dict)
    learners: tuple[Learner, ...] = ()
    risks: tuple[Risk, ...] = ()
    verdict: Verdict | None = None

    @property
    def worst_column(self) -> str:
        """The column whose synthetic shape is the lowest; the first of several."""
        return min(self.columns, key=lambda name: self.columns[name].synthetic)

    @property
    def worst_pair(self) -> tuple[str, str] | None:
        """The pair whose synthetic trend is the lowest; None for a table of one column."""
        return min(self.pairs, key=lambda names: self.pairs[names].synthetic, default=None)

    @property
    def worst_group(self) -> str | None:
        """The column that makes the group of the lowest shape; None where none makes groups."""
        return min(self.groups, key=lambda name: self.groups[name].synthetic, default=None)

    def to_json(self) -> dict[str, Any]:
        """A JSON value: each score with synthetic, ceiling, floor, low, high."""
        worst = self.worst_pair
        return {
            "version": self.version,
            "seed": self.seed,
            "target": self.target,
            "rows": dict(self.rows),
            "figures": [asdict(one) for one in self.figures],
            "columns": [{"column": name, **asdict(s)} for name, s in self.columns.items()],
            "pairs": [{"columns": list(names), **asdict(s)} for names, s in self.pairs.items()],
            "groups": [{"column": name, **asdict(s)} for name, s in self.groups.items()],
            "worst_column": self.worst_column,
            "worst_pair": None if worst is None else list(worst),
            "worst_group": self.worst_group,
            "learners": [asdict(learner) for learner in self.learners],
            "risks": [asdict(risk) for risk in self.risks],
            "gate": None if self.verdict is None else self.verdict.to_json(),
        }


@dataclass(frozen=True)
class _Tables:
    """The three tables to hold against `real`."""

    real: pa.Table
    synthetic: pa.Table
    ceiling: pa.Table | None
    floor: pa.Table

    def cut(self, rows: int, seed: int) -> "_Tables":
        """The same tables, `rows` rows of each."""

        def drawn(table: pa.Table, place: int) -> pa.Table:
            return subsample(table, rows, np.random.default_rng([seed, place]))

        ceiling = None if self.ceiling is None else drawn(self.ceiling, 2)
        return _Tables(drawn(self.real, 0), drawn(self.synthetic, 1), ceiling, drawn(self.floor, 3))

    def three(self, measure: Callable[[pa.Table], T]) -> tuple[T, T | None, T]:
        """What `measure` says of each: synthetic, ceiling, floor."""
        ceiling = None if self.ceiling is None else measure(self.ceiling)
        return measure(self.synthetic), ceiling, measure(self.floor)


def judge(
    synthetic: pa.Table,
    real: pa.Table,
    train: pa.Table | None,
    schema: Schema,
    target: str | None = None,
    seed: int = 0,
    census: Census | None = None,
) -> Report:
    """Hold a synthetic table against `real` rows; the module says what is compared with what.

    `real` should be rows the model was not trained on, `train` those it was. Without `train` there
    is no ceiling, and copies are looked for in `real`. `target` is the column of the utility
    figures (default: `utility.default_target`). Where `train` is but a sample, `census` has counted
    all training rows, for `synthetic` and `real`: copies are of all of them. A table of one column
    has no trend and nothing to learn from, so those figures are left out. Only columns that are
    modelled are compared: what is invented for the others is like nobody's by intent.

    Raises `TableError` for columns that are missing or of another type, an unknown target, and
    fewer than `FEWEST` rows in a table.
    """
    schema = schema.modelled
    target = schema[utility.default_target(schema) if target is None else target].name
    synthetic, real = select(synthetic, schema), select(real, schema)
    train = None if train is None else select(train, schema)
    counts = count_rows(synthetic=synthetic, real=real, train=train)
    source = real if train is None else train
    whole = _Tables(real, synthetic, train, permuted(source, np.random.default_rng([seed, 4])))
    rows = min(ROWS, *(count for count in counts.values() if count is not None))
    drawn = whole.cut(rows, seed)
    found = Compared(
        *(drawn.real, drawn.synthetic, drawn.ceiling, drawn.floor, schema, seed, ASKED)
    ).fidelity()
    figures = list(found.figures)
    figures += [figure("detection", _detected(drawn, schema, seed, "trees"))]
    figures += [figure("detection_logistic", _detected(drawn, schema, seed, "logistic"))]
    useful, learners = _useful(drawn, schema, target, seed) if found.pairs else ([], ())
    figures += useful
    if drawn.ceiling is not None:
        figures += [figure("dcr_share", _nearer(drawn, drawn.ceiling, schema, seed))]
    figures += [figure("copies", _copied(whole, source, schema, census))]
    counts |= {"compared": rows} | ({} if census is None else {"train": census.seen})
    return Report(
        *(tuple(figures), found.columns, found.pairs, counts, target, seed),
        groups=found.groups,
        learners=learners,
    )


def count_rows(**tables: pa.Table | None) -> dict[str, int | None]:
    """Rows of each table by its name. Raises `TableError` for fewer than `FEWEST`."""
    for name, table in tables.items():
        if table is not None and table.num_rows < FEWEST:
            raise TableError(
                f"a report needs at least {FEWEST} rows of each table, but the {name} table has "
                f"{table.num_rows}; give it more"
            )
    return {name: None if table is None else table.num_rows for name, table in tables.items()}


def _detected(
    tables: _Tables, schema: Schema, seed: int, classifier: detection.Classifier
) -> Score:
    # The same folds for all three, so that they differ by the tables alone.
    synthetic, ceiling, floor = tables.three(
        lambda table: detection.interval(
            tables.real, table, schema, np.random.default_rng([seed, 5]), ROWS, classifier
        )
    )
    return _score(synthetic, None if ceiling is None else ceiling.value, floor.value)


def _useful(
    tables: _Tables, schema: Schema, target: str, seed: int
) -> tuple[list[Figure], tuple[Learner, ...]]:
    three = tables.synthetic, tables.ceiling, tables.floor
    return utility.compared(*three, tables.real, schema, target, seed)


def _nearer(tables: _Tables, train: pa.Table, schema: Schema, seed: int) -> Score:
    """The ceiling is of one half of `real`, held against training rows and the other half."""

    def measure(rows: pa.Table, held: pa.Table) -> float:
        return dcr.share(rows, train, held, schema, np.random.default_rng([seed, 8]), ASKED)

    order = np.random.default_rng([seed, 9]).permutation(tables.real.num_rows)
    fresh, held = (tables.real.take(half) for half in np.array_split(order, 2))
    found = measure(tables.synthetic, tables.real)
    asked = min(ASKED, tables.synthetic.num_rows)
    floor = measure(tables.floor, tables.real)
    return _score(share(found * asked, asked), measure(fresh, held), floor)


def _copied(tables: _Tables, source: pa.Table, schema: Schema, census: Census | None) -> Score:
    """Unlike elsewhere the ceiling is of `real`: rows nobody could have copied from training."""
    rows = tables.synthetic.num_rows
    if census is None:
        found = copies.share(tables.synthetic, source, schema)
        ceiling = None if tables.ceiling is None else copies.share(tables.real, source, schema)
    else:
        found, ceiling = (float((census.rows.side(place) > 0).mean()) for place in (0, 1))
    return _score(share(found * rows, rows), ceiling, copies.share(tables.floor, source, schema))


def _score(synthetic: Interval, ceiling: float | None, floor: float) -> Score:
    return Score(synthetic.value, ceiling, floor, synthetic.low, synthetic.high)
