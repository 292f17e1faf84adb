"""One column at a time: of every type and shape, from real tables, summarised, with its chance."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysynth.hashing import Chance, mix
from raysynth.schema import Column, Kind, Schema, arrow_type
from raysynth.summary import ColumnSummary, summarise

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DECIMALS = ("decimal32(7, 2)", "decimal64(18, 4)", "decimal128(38, 10)", "decimal256(60, 0)")
NUMBERS = (*WHOLE, "halffloat", "float", "double", *DECIMALS)
TIMES = (
    *("date32[day]", "date64[ms]", "time32[s]", "time32[ms]", "time64[us]", "time64[ns]"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
    *("timestamp[s, tz=+02:00]", "timestamp[us, tz=Europe/Oslo]", "timestamp[ns, tz=UTC]"),
    *("duration[s]", "duration[ms]", "duration[us]", "duration[ns]"),
)
CATEGORIES = ("string", "large_string", "bool", "int16", "uint64")

DAY = 86_400

# Shapes that columns have: (generator, rows) to floats.
SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda g, n: g.normal(0, 30, n),
    "skewed": lambda g, n: g.lognormal(1, 1.5, n),
    "heavy": lambda g, n: 5 * g.standard_cauchy(n),
    "zeros": lambda g, n: np.where(g.random(n) < 0.7, 0, g.normal(60, 3, n)),
    "sentinel": lambda g, n: np.where(g.random(n) < 0.15, 999, g.normal(50, 12, n)),
    "few": lambda g, n: g.choice([1.0, 2.5, 40.0], n),
    "apart": lambda g, n: g.choice([-90.0, 0.0, 90.0], n) + g.normal(0, 0.5, n),
    "constant": lambda _, n: np.full(n, 7.25),
}


def numbers(text: str, shape: str, rows: int, seed: int) -> pa.Array:
    """Numbers or times of a type, without nulls."""
    kind, g = arrow_type(text), np.random.default_rng(seed)
    values = SHAPES[shape](g, rows)
    if pa.types.is_floating(kind):
        values = np.round(values, seed % 4) if seed % 3 == 0 else values
        values = np.clip(values, -6e4, 6e4) if kind == pa.float16() else values
        return pa.array(values.astype(kind.to_pandas_dtype()), kind)
    low, high = limits(kind)
    if pa.types.is_temporal(kind):
        tick = ticks_a_second(kind)
        step = int(max(1, [1, tick, 60 * tick, DAY * tick][3 if kind == pa.date64() else seed % 4]))
        if pa.types.is_time(kind):
            return from_ticks(np.abs(values).astype(np.int64) * 61 * max(1, tick) % high, kind)
        centre = 0 if pa.types.is_duration(kind) else int(g.integers(-20_000, 20_000)) * DAY * tick
        ticks = np.round(values).astype(np.int64) * step + int(centre) // step * step
        return midnights(ticks, kind) if step == DAY * tick else from_ticks(ticks, kind)
    if seed % 4 == 0:  # all of the type's range, as far as floats tell whole numbers apart
        values = values / np.abs(values).max() * min(high, 2**50)
    return from_ticks(np.clip(np.round(values), max(low, -(2**50)), min(high, 2**50)), kind)


def limits(kind: pa.DataType) -> tuple[int, int]:
    """The least and the largest number that Arrow keeps for a value of this type."""
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    if pa.types.is_time(kind):
        return 0, int(DAY * ticks_a_second(kind)) - 1
    width = f"{'u' if pa.types.is_unsigned_integer(kind) else ''}int{kind.bit_width}"
    return int(np.iinfo(width).min), int(np.iinfo(width).max)


def ticks_a_second(kind: pa.DataType) -> float:
    """How many units of a time type are a second."""
    if kind == pa.date32():
        return 1 / DAY
    return {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[getattr(kind, "unit", "ms")]


def midnights(ticks: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Days, which begin at midnight on the zone's own clock where the type has one."""
    if getattr(kind, "tz", None) is None:
        return from_ticks(ticks, kind)
    clock = from_ticks(ticks, pa.timestamp(kind.unit))
    return pc.assume_timezone(clock, kind.tz, ambiguous="earliest", nonexistent="latest")


def from_ticks(ticks: np.ndarray, kind: pa.DataType) -> pa.Array:
    """The values that Arrow keeps as these whole numbers."""
    if pa.types.is_decimal(kind):
        whole = pa.array(ticks.astype(np.int64)).cast(pa.decimal256(76, 0))
        made = [None if cell is None else cell.scaleb(-kind.scale) for cell in whole.to_pylist()]
        return pa.array(made, kind)
    stored = "int32" if kind.bit_width == 32 else "int64"
    stored = str(kind) if pa.types.is_integer(kind) else stored
    return pa.array(ticks.astype(stored)).cast(kind)


def as_floats(values: pa.Array) -> np.ndarray:
    """Values as float64, in the type's own unit; nulls are NaN."""
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    if pa.types.is_decimal(kind):
        cells = [None if cell is None else float(cell) for cell in values.to_pylist()]
        return np.array(cells, np.float64) * 10.0**kind.scale
    return np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))


def categories(text: str, rows: int, seed: int) -> list[Any]:
    """Categories of a type, without nulls, some of them rare."""
    g = np.random.default_rng(seed)
    size = 2 if text == "bool" else int(g.integers(1, 30))
    drawn = g.choice(size, rows, p=g.dirichlet(np.full(size, 0.5)))
    if text == "bool":
        return [bool(index) for index in drawn]
    if text in WHOLE:
        return [int(index) * 7 for index in drawn]
    return [f"välue {index}" for index in drawn]


def kind_of(kind: pa.DataType) -> Kind:
    """The kind that a column of this type is, where nobody says otherwise."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_temporal(kind):
        return "time"
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return "number" if number else "category"


def summarised(values: pa.Array, kind: Kind | None = None, holders: Any = None) -> ColumnSummary:
    """The summary of a table of this one column, "c"; `holders` (B,) says whose each row is."""
    column, ids = Column("c", kind or kind_of(values.type), values.type), np.arange(len(values))
    ids = ids.astype(np.uint64)
    found = summarise(pa.table({"c": values}), ids, Schema((column,)))["c"]
    if holders is None:
        return found
    whose = np.asarray(holders)[np.argsort(mix(ids, seed=0), kind="stable")]
    return replace(found, holders=whose, grouped=True)


def chance(rows: int, seed: int = 0) -> Chance:
    """The chance of rows 0, 1, ..."""
    return Chance(np.arange(rows, dtype=np.uint64), seed)


def real_tables() -> dict[str, Path]:
    """Adult, and what other real tables lie in $RAYSYNTH_DATA or beside the repository."""
    root = Path(__file__).parent.parent
    more = Path(os.environ.get("RAYSYNTH_DATA", root.parent / "shared" / "data"))
    found = [root / "jobs" / "data" / "adult_train.parquet"]
    found += [more / f"{name}.parquet" for name in ("covertype", "news", "customers", "intrusion")]
    return {path.stem: path for path in found if path.exists()}


def read(path: Path, rows: int = 5_000) -> pa.Table:
    """Rows of a real table, spread over all of it."""
    table = pq.read_table(path)
    return table.take(np.linspace(0, table.num_rows - 1, min(rows, table.num_rows)).astype(int))
