"""Train in this process and in memory, without Ray: small trainings, many at a time."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from raysynth import models
from raysynth.config import TrainConfig, parse
from raysynth.guess import settle
from raysynth.learn import Best, Plan, Resident, learn
from raysynth.relate import without
from raysynth.run import build, drawing_of, fit, related
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.summary import summarise


def train(
    config: TrainConfig, table: pa.Table, schema: Schema | None = None, by_heart: bool = False
) -> Sampler:
    """A sampler of what `config` makes of `table`, whatever table it names; nothing is kept.

    `schema` says what columns are; without, it is guessed, and free text invented. `by_heart` holds
    no row out and keeps the last weights: a generator that has seen too much, to try attacks on.
    Raises `TableError`, `ConfigError`.
    """
    family = models.get(config.family)
    own = parse(family.Config, config.model)
    ids = np.arange(table.num_rows, dtype=np.uint64)
    summary = summarise(table, ids, schema or Schema.infer(table.schema))
    if schema is None:
        settled = settle(summary, config.columns, least=config.least, placeholder=True)
        summary = replace(summary, schema=settled)
    found = related(config, summary)
    codec = fit(config, summary, found.relations)
    codes, broken = codec.verify(table, ids, config.seed)
    if broken.any():
        codec = fit(config, summary, without(found, broken, codes.rows).relations)
        codes = codec.encode(table, ids, config.seed)
    epochs = config.epochs or family.epochs(codes.rows, own)
    plan = Plan(codes.rows, family.batch_rows(own.batch, own), epochs, config.seed)
    model, best = build(config, codec), Best()
    model.chooses = model.chooses and not by_heart
    probed = None if by_heart or model.scores else codec
    for _ in learn(model, codec.layout, drawing_of(config), Resident(codes), plan, 0, best, probed):
        pass
    if not by_heart:
        best.put(model)
    return Sampler(model.eval(), codec, next(model.parameters()).device)
