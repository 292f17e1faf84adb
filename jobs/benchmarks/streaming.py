"""Reading and encoding on Ray; as much reading and writing by pyarrow alone. One task a process.

A measurement is a fresh process, as in `measure.py`; Ray is started before its clock.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Result, Settings, clock, main, peak_mib
from benchmarks.processes import Watch
from raysynth import run, shards
from raysynth.config import TrainConfig
from raysynth.hashing import mix
from raysynth.schema import Schema
from raysynth.storage import Place
from raysynth.summary import summarise
from raysynth.table import TableCodec

BATCH = 2**17
DISTINCT = 1_000  # columns of more values than this are jittered: the others' values stay theirs
GROUP = 2**20  # rows of a row group, which is what pyarrow writes if not told otherwise


def tile(settings: Settings) -> Result:
    """Write the table as often as it takes for `rows` rows, numbers of many values jittered."""
    table, rows = pq.read_table(settings["table"]), settings["rows"]
    many = {
        name
        for name, kind in zip(table.schema.names, table.schema.types, strict=True)
        if (pa.types.is_integer(kind) or pa.types.is_floating(kind))
        and len(table.column(name).unique()) > DISTINCT
    }
    chance, out = np.random.default_rng(0), Path(settings["out"])
    waiting, held = table.slice(0, 0), 0
    with pq.ParquetWriter(out, table.schema, compression="zstd") as writer:
        while held < rows:
            part = _jittered(table, many, chance).slice(0, rows - held)
            waiting, held = pa.concat_tables([waiting, part]), held + part.num_rows
            while waiting.num_rows >= (GROUP if held < rows else 1):
                writer.write_table(waiting.slice(0, GROUP), row_group_size=GROUP)
                waiting = waiting.slice(GROUP)
    return {"rows": pq.read_metadata(out).num_rows, "bytes": out.stat().st_size}


def _jittered(table: pa.Table, many: set[str], chance: np.random.Generator) -> pa.Table:
    for place, field in enumerate(table.schema):
        if field.name in many:
            column = table.column(place)
            values = column.to_numpy()
            scale = float(np.nanstd(values)) / 100
            moved = values + scale * chance.standard_normal(len(values))
            if pa.types.is_integer(field.type):
                moved = np.clip(np.rint(moved), np.nanmin(values), np.nanmax(values))
            mask = column.is_null().to_numpy()
            table = table.set_column(place, field, pa.array(moved, mask=mask).cast(field.type))
    return table


def baseline(settings: Settings) -> Result:
    """Read the table in batches and write as many bytes of codes, all by pyarrow.

    The codes written are those of the first batch, once more for every batch.
    """
    path = settings["table"]
    table = next(_batches(path))
    ids = np.arange(table.num_rows, dtype=np.uint64)
    schema = Schema.infer(table.schema)
    codec = run.fit(TrainConfig(table=path, name="scale"), summarise(table, ids, schema))
    codes = shards.pack(codec.encode(table, ids, 0), mix(ids, 0)).select([shards.ROW])
    with clock() as spent:
        writer = pq.ParquetWriter(settings["out"], codes.schema, compression="zstd")
        with writer:
            for batch in _batches(path):
                writer.write_table(codes.slice(0, batch.num_rows))
    return {**spent, "peak_mib": peak_mib(), "row_bytes": codec.layout.row_bytes}


def _batches(path: str) -> Iterator[pa.Table]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH):
        yield pa.Table.from_batches([batch])


class Stages:
    """A `progress.Show` that keeps what each phase took, and the time between two as the fit."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.spent: dict[str, dict[str, float]] = {}

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        self.watch.forget_peaks()
        cpu = self.watch.cpu_s()
        with clock() as spent:
            yield
        spent["cpu_s"] = self.watch.cpu_s() - cpu
        self.spent[name] = {**spent, "peak_mib": self.watch.peak_mib()}

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["Stages"]:
        """Keep what it takes."""
        with self._clock(name):
            yield self

    def begin(self, rows: int) -> None:
        """Nothing."""

    def at(self, rows: int, note: str = "") -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


def encode(settings: Settings) -> Result:
    """Every stage of `stages.data.encode`: seconds, CPU seconds, peak memory of a worker."""
    from raysynth.stages import cluster, data

    work = Path(settings["folder"])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    config = TrainConfig(table=settings["table"], name="scale", categories=settings["categories"])
    cluster.connect(settings["workers"])
    _warm(settings["workers"])
    fitting: dict[str, float] = {}
    fit = TableCodec.fit

    def timed(*words: Any, **options: Any) -> TableCodec:
        begun = time.perf_counter(), time.process_time()
        codec = fit(*words, **options)
        fitting["wall_s"] = time.perf_counter() - begun[0]
        fitting["cpu_s"] = time.process_time() - begun[1]
        return codec

    with Watch() as watch, clock() as whole:
        stages = Stages(watch)
        TableCodec.fit = timed  # type: ignore[method-assign]
        codec, rows = data.encode(config, Place.of(config.table), Place.of(work), stages)
    pieces = [path.stat().st_size for path in (work / data.CODES).glob("*.parquet")]
    shutil.rmtree(work)
    cluster.disconnect()
    return {
        "whole": whole,
        "stages": {**stages.spent, "fit": {**fitting, "peak_mib": peak_mib()}},
        "rows": rows,
        "row_bytes": codec.layout.row_bytes,
        "pieces": len(pieces),
        "bytes": sum(pieces),
    }


def _warm(workers: int) -> None:
    """Have a pass of Ray Data start all workers and import what they need: it is not measured.

    A cluster of our own has a slot more than workers; Ray's first pass starts its own actors.
    """
    import ray

    def ready(block: pa.Table) -> pa.Table:
        import raysynth.stages.data  # noqa: F401

        time.sleep(1)
        return block

    tasks = 3 * (workers + 1)
    data = ray.data.from_items([{"task": task} for task in range(tasks)], override_num_blocks=tasks)
    list(data.map_batches(ready, batch_format="pyarrow", batch_size=None).iter_rows())


def train(settings: Settings) -> Result:
    """One epoch of a whole training on the table, and the peak memory of its largest worker."""
    from raysynth.stages import cluster
    from raysynth.stages.train import train as stage

    shutil.rmtree(settings["folder"], ignore_errors=True)
    config = TrainConfig(
        table=settings["table"],
        name="extreme",
        storage=settings["folder"],
        epochs=1,
    )
    with Watch() as watch, clock() as spent:
        stages = Stages(watch)
        run = stage(config, show=stages)
    cluster.disconnect()
    return {**spent, "rows": run.rows, "stages": stages.spent, "width": run.table.layout.width}


def extremes(settings: Settings) -> Result:
    """Write a table of 1,000 columns and one with a column of 300,000 categories."""
    chance, folder = np.random.default_rng(0), Path(settings["folder"])
    wide = {
        f"c{number}": np.round(chance.lognormal(3, 1, 20_000), 2)
        if number % 2
        else pa.array(chance.integers(0, 12, 20_000)).cast(pa.string())
        for number in range(1_000)
    }
    pq.write_table(pa.table(wide), folder / "wide.parquet", compression="zstd")
    rows, distinct = 1_000_000, 300_000
    drawn = np.concatenate([np.arange(distinct), chance.zipf(1.3, rows - distinct) % distinct])
    chance.shuffle(drawn)
    many = {
        "code": pa.array(drawn).cast(pa.string()),
        "amount": np.round(chance.lognormal(3, 1, rows) + drawn % 7, 2),
        "kind": pa.array(drawn % 5).cast(pa.string()),
    }
    pq.write_table(pa.table(many), folder / "categories.parquet", compression="zstd")
    return {"columns": len(wide), "categories": len(np.unique(drawn))}


if __name__ == "__main__":
    main(
        {
            "tile": tile,
            "baseline": baseline,
            "encode": encode,
            "extremes": extremes,
            "train": train,
        }
    )
