"""Inference: is a cell of a training row told better than that of a row the model never saw?

After Giomi, Boenisch, Wehmeyer & Tasnadi, "A unified framework for quantifying privacy risk in
synthetic data" (PoPETs 2023, arXiv 2211.10459), as Anonymeter has it: of a row all columns but one
are known. The guess for that one, the secret, is its value in the synthetic row that is nearest by
the others (Gower's distance). A category is guessed where it is equal, a number where it is within
`NEAR` of the guess's own size. The risk is what is guessed of training rows beyond what is guessed
of held ones, of whom a right guess tells only how columns hang together.

Every column is a secret in turn, `SECRETS` of them at most, drawn by chance. Two risks come of it:

- **inference**: of a cell drawn by chance from those columns, the attempts at all being pooled;
- **inference_worst**: of the column whose interval begins highest. The interval holds for all of
  them at once (Bonferroni), so that the worst of many that tell nothing is not taken for a leak;
  the value, being the worst of many, is above what it would be on other rows.

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
from numpy.typing import NDArray

from raysynth.attacks import Tables
from raysynth.frames import Floats, Integers, codes, floats
from raysynth.gower import cells, nearest_without
from raysynth.risks import Attempts, Risk, clustered, residual, skipped
from raysynth.schema import Column, Schema

FEWEST = 100  # rows of each table: under this the interval of no success at all ends above 0.03
ATTEMPTS = 2000
SECRETS = 8
NEAR = 0.05

NOTE = (
    "How much more often a cell of a training row is guessed from the rest of the row than one of "
    "a row the model never saw, as a share of the cells not guessed there: 0 is not at all."
)
Hits = NDArray[np.bool_]  # (secrets, B)


def attack(
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    attempts: int = ATTEMPTS,
    secrets: Sequence[str] | None = None,
) -> list[Risk]:
    """The risks "inference" and "inference_worst", of at most `attempts` rows of either kind.

    Of one secret alone there is the first. `secrets` are names of columns (default: `SECRETS` of
    those that vary, drawn by chance).
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
    main, control, dice = _hits(tables, schema, asked, attempts, generator)
    pooled = Attempts(
        main.shape[1], *(float(hits.mean(axis=0).sum()) for hits in (main, control, dice))
    )
    ends = residual(clustered(main), clustered(control))
    risks = [pooled.risk("inference", f"{NOTE} Of {len(asked)} columns, pooled.", ends)]
    if len(asked) > 1:
        risks.append(_worst(asked, main, control, dice))
    return risks


def _worst(names: Sequence[str], *hits: Hits) -> Risk:
    tried, several = hits[0].shape[1], len(names)
    found = {
        name: Attempts(tried, *(float(side[place].sum()) for side in hits))
        for place, name in enumerate(names)
    }

    def badness(name: str) -> tuple[float, bool, float]:
        value, low, _ = found[name].residual(several)
        return low, not found[name].weak, value

    name = max(found, key=badness)
    note = f"{NOTE} Of {several} columns tried the worst is '{name}', given here."
    return found[name].risk("inference_worst", note, found[name].residual(several))


def _vary(tables: Tables, schema: Schema) -> list[str]:
    """The columns of which real rows hold two values or more: of others there is no secret."""
    real = [tables.train, tables.held]
    return [name for name in schema.names if codes(real, name)[1] > 1]


def _hits(
    tables: Tables,
    schema: Schema,
    secrets: Sequence[str],
    attempts: int,
    generator: np.random.Generator,
) -> tuple[Hits, Hits, Hits]:
    """Whether each guess at each secret is right: of training rows, held ones, and by dice."""
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

    def right(rows: pa.Table, guesses: Integers) -> Hits:
        each = zip(secrets, guesses, strict=True)
        return np.stack([_right(made, rows, schema[name], guess) for name, guess in each])

    return right(train, main), right(held, control), right(train, dice)


def _right(made: pa.Table, rows: pa.Table, column: Column, found: Integers) -> NDArray[np.bool_]:
    """Which cells of `rows` are told by those of the synthetic rows `found`, one for each."""
    if not column.measured:
        (codes_made, codes_rows), _ = codes([made, rows], column.name)
        return np.equal(codes_made[found], codes_rows)
    values, truth = floats(made, column.name), floats(rows, column.name)
    guess = values[found]
    with np.errstate(over="ignore"):  # two that lie an infinity apart are not near
        near = np.abs(guess - truth) <= NEAR * _size(values, guess, column)
    both: NDArray[np.bool_] = near | (np.isnan(guess) & np.isnan(truth))
    return both


def _size(values: Floats, guess: Floats, column: Column) -> Floats:
    """What a guess may be off by, before `NEAR`, (B,)."""
    if column.kind != "time":
        return np.abs(guess)
    present = values[~np.isnan(values)]
    return np.full(len(guess), np.ptp(present) if len(present) else 0.0)
