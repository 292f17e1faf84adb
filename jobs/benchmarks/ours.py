"""Our side: the core without Ray, one task a process. Nothing but the named block is timed."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.measure import (
    MARK_ROWS,
    SAMPLE,
    Course,
    Result,
    Settings,
    Ticks,
    clock,
    flops,
    main,
    marked,
    peak_mib,
    sampling,
)
from raysynth import codecs
from raysynth.config import TrainConfig
from raysynth.guess import settle
from raysynth.layout import Codes
from raysynth.learn import Best, Plan, Resident, learn
from raysynth.local import encode as encode_all
from raysynth.run import build, drawing_of, encoding_of, fit, plan_of, related, save_run
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.summary import summarise
from raysynth.table import TableCodec

PEERS = "ctgan"  # the family that is held against the peer


def encode(settings: Settings) -> Result:
    """Seconds for fitting the encoding (schema, summary, codecs) and for encoding every row."""
    _, codes, spent = encoded(settings)
    return {**spent, "row_bytes": codes.row_bytes}


def train(settings: Settings) -> Result:
    """Rows a second of the training loop, between the epochs that `learn` gives, and peak memory.

    Leaves a run in the folder `folder`.
    """
    start = peak_mib()
    ticks = Ticks()
    plan = _train(settings, ticks)
    return {**ticks.result(plan.steps, plan.batch), "peak_mib": peak_mib(), "start_mib": start}


def sample(settings: Settings) -> Result:
    """Rows a second from an open run to a decoded Arrow table."""
    sampler = Sampler.open(_path(settings), "cpu")
    return sampling(sampler.sample)


def operations(settings: Settings) -> Result:
    """Dense operations of a training step, over an epoch, and of a sampled row.

    What is looked up instead of multiplied (conditions, one-hot inputs) counts for nothing.
    """
    torch.set_num_threads(1)  # the counter sees what its own thread does
    codec, codes, _ = encoded(settings)
    plan, model = plan_of(config_of(settings), codes.rows), build(config_of(settings), codec)
    draw = drawing_of(config_of(settings))
    epochs = learn(model, codec.layout, draw, Resident(codes), plan)
    step = flops(lambda: list(epochs)) / (plan.steps * plan.epochs)
    run = save_run(config_of(settings), codec, model, "", codes.rows)
    sampler = Sampler.open(run, "cpu")
    return {
        "step": step,
        "step_needed": step,
        "row": flops(lambda: sampler.sample(SAMPLE)) / SAMPLE,
    }


def approach(settings: Settings) -> Result:
    """A training to its end, and rows of the weights that it would keep, drawn as it goes."""
    course, config = Course(settings["folder"]), config_of(settings)
    codec, codes, _ = encoded(settings)
    course.encoded()
    plan, model, best = plan_of(config, codes.rows), build(config, codec), Best()

    def draw(file: Path) -> None:
        own = {name: weight.clone() for name, weight in model.state_dict().items()}
        best.put(model)
        generator = torch.Generator()
        generator.manual_seed(settings["seed"])
        ids = np.arange(MARK_ROWS, dtype=np.uint64)
        pq.write_table(codec.decode(model.sample(MARK_ROWS, generator), ids, 0), file)
        model.load_state_dict(own)

    windows, how = Resident(codes), drawing_of(config)
    for epoch in learn(model, codec.layout, how, windows, plan, 0, best, codec):
        if marked(epoch.number, plan.epochs) or epoch.last:
            course.mark(epoch.number, draw)
    return course.result()


def identity(settings: Settings) -> Result:
    """What decides a synthetic table beside table, seed and epochs: the source, and torch."""
    for name in encoding_of(config_of(settings)).kinds.values():
        codecs.get(name)
    digest = hashlib.sha256(torch.__version__.encode())
    files = {m.__file__ or "" for name, m in sys.modules.items() if name.startswith("raysynth.")}
    for file in sorted(files - {""}):
        digest.update(Path(file).read_bytes())
    return {"identity": digest.hexdigest()}


def synthesise(settings: Settings) -> Result:
    """Train, then write a synthetic table of `rows` rows to `out`."""
    with clock() as training:
        _train(settings, Ticks())
    with clock() as drawing:
        table = Sampler.open(_path(settings), "cpu").sample(settings["rows"], settings["seed"])
    pq.write_table(table, settings["out"])
    return {"train": training, "sample": drawing, "peak_mib": peak_mib()}


def config_of(settings: Settings) -> TrainConfig:
    """The training that the settings ask for; the paper's CTGAN where they name no family."""
    facts = {name: settings[name] for name in ("table", "epochs", "seed")}
    # The peer's own method is what it is held against.
    alone = {"family": PEERS, "model": {"preset": "paper"}, "relations": False}
    asked = {"model": {}} if "family" in settings else alone
    asked |= {name: settings[name] for name in ("family", "model", "relations") if name in settings}
    return TrainConfig(**facts, **asked, storage=settings["folder"], name="ours")


def _path(settings: Settings) -> Path:
    return config_of(settings).path


def encoded(settings: Settings) -> tuple[TableCodec, Codes, dict[str, dict[str, float]]]:
    """Codec and codes of the table, of its first `rows` where told, and what each took.

    As training has them: under the relations that are found, in an order of chance.
    """
    config, table = config_of(settings), pq.read_table(settings["table"])
    table = table.slice(0, settings.get("rows"))
    ids = np.arange(table.num_rows, dtype=np.uint64)
    with clock() as fitting:
        summary = summarise(table, ids, Schema.infer(table.schema))
        settled = settle(summary, least=config.least, placeholder=True)
        summary = replace(summary, schema=settled)
        found = related(config, summary)
        fitted = fit(config, summary, found.relations)
    with clock() as encoding:
        codec, codes = encode_all(config, summary, found, lambda: [(table, ids)], fitted)
    return codec, codes, {"fit": fitting, "encode": encoding}


def _train(settings: Settings, ticks: Ticks) -> Plan:
    codec, codes, _ = encoded(settings)
    plan, model = plan_of(config_of(settings), codes.rows), build(config_of(settings), codec)
    lines, best, draw = [], Best(), drawing_of(config_of(settings))
    ticks.mark()
    for epoch in learn(model, codec.layout, draw, Resident(codes), plan, 0, best, codec):
        ticks.mark()
        facts = {"epoch": epoch.number, "rows": epoch.rows, **epoch.losses}
        lines.append(json.dumps(facts) + "\n")
    best.put(model)
    kept = best.epoch or len(lines)
    save_run(config_of(settings), codec, model, "".join(lines), codes.rows, kept)
    return plan


if __name__ == "__main__":
    tasks = (encode, train, sample, operations, synthesise, identity, approach)
    main({task.__name__: task for task in tasks})
