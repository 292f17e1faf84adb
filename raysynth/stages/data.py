"""Ray Data: stream a table through summary and encoding, and write its codes shuffled.

Both passes read the same units (`source`), so a row's id, and with it every random choice, is the
same whatever the number of workers, the order they finish in, and retries.

**Summary.** A task summarises its units batch by batch and gives one summary; the driver merges
them, many at once. Of a batch only rows that can be in the table's sample are kept: those whose
hash is below a bound that a little more than `SAMPLE` rows of the table stay under. So all tasks
together send little more than one sample, however many they are.

**Relations** (`relate`) are found on the summary and counted against every row as it is encoded.
Where rows break some, the table is encoded again without those.

**Shuffle.** The order of the codes is that of a one-to-one hash of the row id (`shuffle`): a task
encodes its units and spills the codes by ranges of the hash; one task a range sorts its rows and
writes them, a piece of the published codes. Of a large table tasks between them gather ranges of
ranges and spill those anew. A task that is repeated writes its own files anew.

**Memory.** A row of codes takes `K x index + 4 S` bytes: K the modes and categories of a row, an
index of 1, 2 or 4 bytes for at most 256, 32,768 or more of them, S the scalars. A worker holds,
beside what Python and its libraries take (about 400 MiB):

    summary   one batch, and its task's summary: 65,536 rows of the table at most
    encode    one batch, its codes, and the codes of a spilled file, 64 MiB, three times
    group     the codes of a spilled file, 32 MiB, three times
    shuffle   the codes of a bucket, 32 MiB, three times

A batch is at most 131,072 rows and about 64 MiB of the table's columns, decoded. None of it grows
with the number of rows.

Longer than other files: both passes over a table, which share how it is read and counted.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from raysynth import codecs, outline, shards
from raysynth.config import TrainConfig
from raysynth.errors import AbsentError, RunError, StorageError, TableError
from raysynth.guess import check, settle
from raysynth.hashing import Ids, mix
from raysynth.progress import Show
from raysynth.relate import without
from raysynth.run import fit, related
from raysynth.schema import Schema
from raysynth.selection import Selection
from raysynth.source import Source
from raysynth.stages import shuffle
from raysynth.stages.sort import Sorting, counted, news
from raysynth.stages.staging import chosen, left_out
from raysynth.storage import Place, write_bytes
from raysynth.summary import SAMPLE, Summary, merge, summarise
from raysynth.table import TableCodec, check_rows
from raysynth.units import Unit

CODES, CODECS, SPILLED, GROUPED = "codes", "table.json", "spilled", "grouped"
TASKS, MERGED = 256, 64
MARGIN = 8.0  # standard deviations by which the rows below a bound exceed the sample

Batch: TypeAlias = tuple[pa.Table, Ids]


def examine(config: TrainConfig, path: Place) -> "Examined":
    """The columns to model, and what is read of the table, from the files' footers alone.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    source = Source.of(path)
    if source.rows == 0:
        raise TableError(f"{config.table}: the table is empty; expected rows")
    schema = Schema.infer(source.schema, left_out(config, source.schema), config.categories)
    chosen(config).condition(source.schema)
    check(config.columns, schema, config.subject)
    for column in config.columns.values():
        if column.codec is not None:
            codecs.get(column.codec)
    check_rows(source.rows, config.minimum_rows)
    return schema, Part(source, chosen(config), schema.names)


def has_codes(work: Place) -> bool:
    """Whether the table's codes are whole in `work`: from there on a training can resume."""
    return (work / CODES / shards.INDEX).exists()


def encode(
    config: TrainConfig, source: Place, work: Place, show: Show, examined: "Examined | None" = None
) -> tuple[TableCodec, int]:
    """Summarise the table, fit its codecs, write its codes into `work`; gives codecs and rows.

    `examined` is what `examine` found, where it was asked before. What is already there from an
    interrupted call is used as it is. Raises `TableError`.
    """
    if has_codes(work):
        table = _codecs(work)
        return table, shards.Share(work / CODES, table.layout, 0, 1, 1).total
    part, summary = settled(config, examined or examine(config, source), show)
    found = related(config, summary)
    table = fit(config, summary, found.relations)
    coded = dict(zip(table.reduced.names, table.names, strict=True))
    names = [coded.get(name, "-") for name in summary.schema.names]
    for line in (*outline.lines(summary, names), *outline.relations(found.relations)):
        show.say(line)
    write_bytes(work / CODECS, json.dumps(table.to_json()).encode())
    spilled, broken = _spill(part, table, config, work, summary.rows, show)
    if broken.any():
        found = without(found, broken, summary.rows)
        left = [relation for relation in table.relations if relation not in found.relations]
        for line in ("relations left out, which some rows break:", *outline.relations(left)[1:]):
            show.say(line)
        (work / SPILLED).remove()
        table = fit(config, summary, found.relations)
        write_bytes(work / CODECS, json.dumps(table.to_json()).encode())
        spilled, broken = _spill(part, table, config, work, summary.rows, show)
        assert not broken.any(), "a relation was seen to hold, and some rows break it"
    sorting = Sorting(config.name, summary.rows, table.layout.row_bytes, show)
    sorting.publish(spilled, work / SPILLED, work / GROUPED, work / CODES)
    return table, summary.rows


def settled(
    config: TrainConfig, examined: "Examined", show: Show, placeholder: bool = False
) -> tuple["Part", Summary]:
    """What is read of the table, and its summary with the kind of every column settled.

    `placeholder` lets free text pass, as does that setting. Raises `TableError`, `ConfigError`.
    """
    schema, part = examined
    summary = replace(summarised(part, schema, show), subject=config.subject)
    if not summary.rows:
        raise TableError(
            f"{config.table}: no row is left of {part.source.rows:,} by --where and --fraction; "
            "choose more of them"
        )
    check_rows(summary.rows, config.minimum_rows)
    placeholder = placeholder or config.text == "placeholder"
    final = settle(summary, config.columns, least=config.least, placeholder=placeholder)
    return part, replace(summary, schema=final)


@dataclass(frozen=True)
class Part:
    """What is read of a table in both passes: `columns` of the rows of a selection."""

    source: Source
    selection: Selection
    columns: tuple[str, ...]

    @property
    def rows(self) -> float:
        """The rows there will be, as well as is known before they are read."""
        return self.source.rows * self.selection.fraction

    def over(self, do: Callable[[Iterator[Batch]], Iterator[pa.Table]]) -> ray.data.Dataset:
        """Have `do` turn the batches of a task's units into rows of a dataset."""
        keys, selection, columns = self.source.keys, self.selection, self.columns
        arrow = self.source.schema

        def task(block: pa.Table) -> Iterator[pa.Table]:
            source = Source(arrow, keys, ())
            where = selection.condition(arrow)
            units = map(Unit.from_json, block.column("unit").to_pylist())
            read = (source.batches(unit, columns, selection, where, encoded=True) for unit in units)
            yield from do(chain.from_iterable(read))

        items = [{"unit": unit.to_json()} for unit in self.source.units]
        data = ray.data.from_items(items, override_num_blocks=min(len(items), TASKS))
        return data.map_batches(task, batch_format="pyarrow", batch_size=None)


Examined: TypeAlias = tuple[Schema, Part]


def _codecs(work: Place) -> TableCodec:
    try:
        return TableCodec.from_json(json.loads((work / CODECS).read_bytes()))
    except StorageError as error:
        if not isinstance(error, AbsentError):
            raise
    except (ValueError, KeyError):
        pass
    raise RunError(
        f"{work}: what an interrupted training left is damaged; delete this folder and repeat the "
        "command to start anew"
    )


def summarised(part: Part, schema: Schema, show: Show, margin: float = MARGIN) -> Summary:
    """The summary of all that is read of a table, in one pass."""
    expected = SAMPLE + margin * SAMPLE**0.5
    known = part.selection.where is None and expected < part.rows
    bound = np.uint64(expected / part.rows * 2**64) if known else None

    def task(batches: Iterator[Batch]) -> Iterator[pa.Table]:
        parts = (_summary(table, ids, schema, bound) for table, ids in batches)
        yield pa.table({"summary": [folded(parts).to_bytes()]})

    def shown() -> Iterator[Summary]:
        done = 0
        for row in part.over(task).iter_rows():
            summary = Summary.from_bytes(row["summary"])
            done += summary.rows
            phase.at(done, f"{len(schema.columns)} columns")
            yield summary

    with show.phase("summarise", round(part.rows)) as phase:
        summary = folded(shown())
    if len(summary.hashes) < min(SAMPLE, summary.rows):
        # Fewer rows than were to be expected lie below the bound: their hashes are no accident.
        return summarised(part, schema, show, margin=np.inf)
    return summary


def _summary(table: pa.Table, ids: Ids, schema: Schema, bound: np.uint64 | None) -> Summary:
    """A batch's summary with no more of its rows than have a hash below `bound`."""
    size = SAMPLE if bound is None else min(SAMPLE, int((mix(ids, 0) < bound).sum()))
    return replace(summarise(table, ids, schema, size), size=SAMPLE)


def folded(summaries: Iterable[Summary]) -> Summary:
    """All of at least one summary, merged as they come, as many together as rows of one sample."""
    held: list[Summary] = []
    for summary in summaries:
        held.append(summary)
        if sum(len(part.hashes) for part in held) > 4 * SAMPLE or len(held) > MERGED:
            held = [merge(held)]
    return merge(held)


def _spill(
    part: Part, table: TableCodec, config: TrainConfig, work: Place, rows: int, show: Show
) -> tuple[list[str], NDArray[np.int64]]:
    """Spill the codes of all rows: files' names, and how many rows break each relation, (R,)."""
    text, seed = json.dumps(table.to_json()), config.seed
    spilled = work / SPILLED
    cut = shuffle.Cut.of(rows, table.layout.row_bytes)

    def spill(batches: Iterator[Batch]) -> Iterator[pa.Table]:
        codec = _of_json(text)
        broken = np.zeros(len(codec.relations), np.int64)

        def packed() -> Iterator[tuple[Ids, pa.Table]]:
            for table, ids in batches:
                codes, rows = codec.verify(table, ids, seed)
                broken[:] += rows
                yield ids, shards.pack(codes, shards.keys(ids, seed))

        for name, count in shuffle.spill(packed(), spilled, cut):
            yield news(name, count)
        yield news("", 0, broken)

    with show.phase("encode", rows) as phase:
        told = counted(part.over(spill), phase, table.layout.row_bytes, (config.name, "encode"))
    total = np.zeros(len(table.relations), np.int64)
    for one in told:
        total += np.array(one["broken"] or total * 0, np.int64)
    return [one["name"] for one in told if one["rows"]], total


@lru_cache(maxsize=1)
def _of_json(text: str) -> TableCodec:
    """The codecs, once a worker process and not once a task."""
    return TableCodec.from_json(json.loads(text))
