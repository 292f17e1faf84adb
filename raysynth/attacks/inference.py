"""Inference: is a cell of a training row told better than that of a row the model never saw?

After Giomi, Boenisch, Wehmeyer & Tasnadi, "A unified framework for quantifying privacy risk in
synthetic data" (PoPETs 2023, arXiv 2211.10459), as Anonymeter has it: of a row all columns but one
are known. The guess for that one, the secret, is its value in the synthetic row that is nearest by
the others (Gower's distance). A category is guessed where it is equal, a number where it is within
`NEAR` of the guess's own size. The risk is what is guessed of training rows beyond what is guessed
of held ones, of whom a right guess tells only how columns hang together.

Every column is a secret in turn, `SECRETS` of them at most, drawn by chance; the worst is reported:
the one whose interval begins highest. The interval holds for all of them at once (Bonferroni), so
that the worst of many that tell nothing is not taken for a leak.

Departures:

- Anonymeter divides by the guess with its sign, so that every negative guess is right; here by its
  size. A time has no natural zero: it is guessed within `NEAR` of all its column spans.
- Of synthetic rows that are as near, one is taken by chance.
- A random guess is the cell of any synthetic row; Anonymeter (1.1.0) gives the guess for a row to
  the synthetic row of the same number, which is its copy where copies kept their order.
- No correction for the control's size: `Tables` holds as many held rows as training rows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raysynth.attacks import Tables
from raysynth.frames import Floats, Integers, codes, floats
from raysynth.gower import cells, nearest_without
from raysynth.risks import Attempts, Risk, skipped
from raysynth.schema import Column, Schema

FEWEST = 100  # rows of each table: under this the interval of no success at all ends above 0.03
SECRETS = 8
NEAR = 0.05

NOTE = (
    "How much more often a cell of a training row is guessed from the rest of the row than one of "
    "a row the model never saw, as a share of the cells not guessed there: 0 is not at all."
)


def attack(
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    attempts: int = 1000,
    secrets: Sequence[str] | None = None,
) -> list[Risk]:
    """The risk "inference" of the worst secret, of at most `attempts` rows of either kind.

    `secrets` are names of columns (default: `SECRETS` of those that vary, drawn by chance).
    """
    rows = min(tables.train.num_rows, tables.held.num_rows)
    if min(tables.synthetic.num_rows, rows) < FEWEST:
        return [skipped("inference", "risk", NOTE, f"needs {FEWEST} rows of each table")]
    asked = _vary(tables, schema) if secrets is None else list(secrets)
    if not asked or len(schema.columns) < 2:
        return [skipped("inference", "risk", NOTE, "needs 2 columns, of which one varies")]
    if secrets is None:
        drawn = generator.permutation(len(asked))[:SECRETS]
        asked = [asked[place] for place in sorted(drawn)]
    found = dict(zip(asked, _attempts(tables, schema, asked, attempts, generator), strict=True))

    def badness(name: str) -> tuple[float, bool, float]:
        value, low, _ = found[name].residual(len(found))
        return low, not found[name].weak, value

    worst = max(found, key=badness)
    note = f"{NOTE} Of {len(found)} columns tried the worst is '{worst}', given here."
    return [found[worst].risk("inference", note, len(found))]


def _vary(tables: Tables, schema: Schema) -> list[str]:
    """The columns of which real rows hold two values or more: of others there is no secret."""
    real = [tables.train, tables.held]
    return [name for name in schema.names if codes(real, name)[1] > 1]


def _attempts(
    tables: Tables,
    schema: Schema,
    secrets: Sequence[str],
    attempts: int,
    generator: np.random.Generator,
) -> list[Attempts]:
    """What became of the attempts at each secret, all on the same rows."""
    # An order by chance, since of several rows as near the first is found.
    made = tables.synthetic.take(generator.permutation(tables.synthetic.num_rows))
    tried = min(attempts, tables.train.num_rows, tables.held.num_rows)
    train, held = (
        table.take(generator.permutation(table.num_rows)[:tried])
        for table in (tables.train, tables.held)
    )
    places = [schema.names.index(name) for name in secrets]
    main, control = (
        nearest_without(queries, references, places)
        for references, queries in (cells([made, side], schema) for side in (train, held))
    )
    dice = generator.integers(made.num_rows, size=main.shape)
    sides = ((train, main), (held, control), (train, dice))
    found = []
    for place, name in enumerate(secrets):
        counts = (_hits(made, table, schema[name], guess[place]) for table, guess in sides)
        found.append(Attempts(tried, *counts))
    return found


def _hits(made: pa.Table, rows: pa.Table, column: Column, found: Integers) -> int:
    """How many cells of `rows` are told by those of the synthetic rows `found`, one for each."""
    if not column.measured:
        (codes_made, codes_rows), _ = codes([made, rows], column.name)
        return int((codes_made[found] == codes_rows).sum())
    values, truth = floats(made, column.name), floats(rows, column.name)
    guess = values[found]
    with np.errstate(over="ignore"):  # two that lie an infinity apart are not near
        near = np.abs(guess - truth) <= NEAR * _size(values, guess, column)
    return int((near | (np.isnan(guess) & np.isnan(truth))).sum())


def _size(values: Floats, guess: Floats, column: Column) -> Floats:
    """What a guess may be off by, before `NEAR`, (B,)."""
    if column.kind != "time":
        return np.abs(guess)
    present = values[~np.isnan(values)]
    return np.full(len(guess), np.ptp(present) if len(present) else 0.0)
