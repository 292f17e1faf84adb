"""Train in this process and in memory, without Ray: small trainings, many at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import torch

from raysynth import shards
from raysynth.config import TrainConfig
from raysynth.guess import settle
from raysynth.hashing import Ids
from raysynth.layout import Codes
from raysynth.learn import Best, Epoch, Resident, learn
from raysynth.models import TableModel
from raysynth.relate import Found, without
from raysynth.run import build, drawing_of, fit, plan_of, related
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.summary import Summary, summarise
from raysynth.table import TableCodec

Batch: TypeAlias = tuple[pa.Table, Ids]


def train(
    config: TrainConfig, table: pa.Table, schema: Schema | None = None, by_heart: bool = False
) -> Sampler:
    """A sampler of what `config` makes of `table`, whatever table it names; nothing is kept.

    `schema` says what columns are; without, it is guessed, and free text invented. `by_heart` holds
    no row out and keeps the last weights: a generator that has seen too much, to try attacks on.
    Raises `TableError`, `ConfigError`.
    """
    ids = np.arange(table.num_rows, dtype=np.uint64)
    summary = summarise(table, ids, schema or Schema.infer(table.schema))
    if schema is None:
        settled = settle(summary, config.columns, least=config.least, placeholder=True)
        summary = replace(summary, schema=settled)
    found = related(config, summary)
    codec, codes = encode(config, summary, found, lambda: [(table, ids)])
    learner = Learner(config, codec, codes, by_heart)
    for _ in learner.epochs():
        pass
    return learner.sampler()


def encode(
    config: TrainConfig,
    summary: Summary,
    found: Found,
    batches: Callable[[], Iterable[Batch]],
    codec: TableCodec | None = None,
) -> tuple[TableCodec, Codes]:
    """A table's codec, and its codes; `batches` gives the table, whenever asked.

    Rows come in the order that `shards` has them in, whatever the table's is: the last of them are
    held out (`learn`), and are to be as any. A relation that some row breaks is left out, and the
    table encoded anew. `codec` is what was fitted on all that already, if it was.
    """
    codec = codec or fit(config, summary, found.relations)
    parts, keys, broken = [], [], np.zeros(len(codec.relations), np.int64)
    for table, ids in batches():
        codes, rows = codec.verify(table, ids, config.seed)
        parts.append(codes)
        keys.append(shards.keys(ids, config.seed))
        broken += rows
    if broken.any():
        rest = without(found, broken, summary.rows)
        codec = fit(config, summary, rest.relations)
        parts = [codec.encode(table, ids, config.seed) for table, ids in batches()]
    return codec, Codes.concat(parts).take(torch.from_numpy(np.argsort(np.concatenate(keys))))


@dataclass
class Learner:
    """A training on codes in memory; `best` are the weights that it keeps.

    On a GPU where settings ask for one and this process has one.
    """

    config: TrainConfig
    codec: TableCodec
    codes: Codes
    by_heart: bool = False

    def __post_init__(self) -> None:
        self.plan = plan_of(self.config, self.codes.rows)
        device = "cuda" if self.config.gpu and torch.cuda.is_available() else "cpu"
        self.model: TableModel = build(self.config, self.codec, device)
        self.model.chooses = self.model.chooses and not self.by_heart
        self.best = Best()

    def epochs(self) -> Iterator[Epoch]:
        """Train, an epoch at a time; the model has its best weights when all are over."""
        probed = None if self.by_heart or self.model.scores else self.codec
        device = next(self.model.parameters()).device
        draw, codes = drawing_of(self.config), Resident(self.codes.to(device))
        yield from learn(
            self.model, self.codec.layout, draw, codes, self.plan, 0, self.best, probed
        )
        if not self.by_heart:
            self.best.put(self.model)

    def sampler(self) -> Sampler:
        """Ready to draw from, with the weights as they are."""
        return Sampler(self.model.eval(), self.codec, next(self.model.parameters()).device)
