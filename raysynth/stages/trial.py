"""One trial of a search, in a process of Ray Tune: codes, training, what is measured, a run.

A trial of one worker trains where it is, with its codes in memory; one of several trains on Ray
Train, which is not told of by looks and so never ended early. Either way the codes are made by the
first trial that asks for such ones.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import ray
import torch
from ray import tune as ray_tune
from safetensors.torch import load, save

from raysynth.config import TrainConfig
from raysynth.guess import settle
from raysynth.layout import Codes
from raysynth.local import Batch, Learner, encode
from raysynth.progress import Silent
from raysynth.relate import Found
from raysynth.run import encoding_of, related, save_run
from raysynth.sampler import Sampler
from raysynth.schema import select
from raysynth.search import Parts, SearchConfig, measured, run
from raysynth.selection import WHOLE
from raysynth.source import Source
from raysynth.stages import data
from raysynth.stages.claim import claimed
from raysynth.stages.train import learned
from raysynth.storage import Place, write_bytes
from raysynth.summary import Summary
from raysynth.table import TableCodec

T = TypeVar("T")


def trial(asked: dict[str, Any], shared: dict[str, Any], desk: Any, cpus: int) -> dict[str, Any]:
    """Train one suggestion, each worker on `cpus` cores, measure it, and save its run."""
    torch.set_num_threads(cpus)
    base, search = shared["base"], shared["search"]
    told = {key: asked[key] for key in ("family", "model", "modes", "least")}
    told["least"] = told["least"] or base.least
    config = TrainConfig.model_validate(
        base.model_dump() | told | {"name": f"{asked['number']:04d}"}
    )
    summary, found = _settled(config, shared)
    schema = summary.schema.modelled
    sides = {name: select(side, schema) for name, side in shared["tables"].items()}
    parts = Parts(**sides, schema=schema)
    if config.workers > 1:
        figures = _together(config, search, parts, shared, desk, cpus)
    else:
        figures = _alone(config, search, parts, (summary, found), shared, desk)
    return {**figures, "share": 100, "fidelity": 1.0}


def _settled(config: TrainConfig, shared: dict[str, Any]) -> tuple[Summary, Found]:
    """The table's summary and relations, found anew where `least` is another."""
    summary, found = shared["summary"], shared["found"]
    if config.least != shared["base"].least:
        inferred = replace(summary, schema=shared["inferred"])
        placeholder = config.text == "placeholder"
        schema = settle(inferred, config.columns, least=config.least, placeholder=placeholder)
        summary = replace(summary, schema=schema)
        found = related(config, summary)
    return summary, found


def _alone(
    config: TrainConfig,
    search: SearchConfig,
    parts: Parts,
    table: tuple[Summary, Found],
    shared: dict[str, Any],
    desk: Any,
) -> dict[str, float]:
    """Train in this process."""
    place = _codes_at(config, shared)
    codec, codes = _made_once(
        place.name,
        desk,
        place / "codes.safetensors",
        lambda: _encode(config, *table, shared["train"], place),
        lambda: _load(place),
    )
    learner = Learner(config, codec, codes)

    def looked(share: float, fidelity: float, spent: float) -> None:
        ray_tune.report({"share": round(100 * share), "fidelity": fidelity, "cost": spent})

    figures = run(learner, parts, search, looked)
    save_run(config, codec, learner.model, "", codes.rows, learner.best.epoch or None)
    return figures


def _together(
    config: TrainConfig,
    search: SearchConfig,
    parts: Parts,
    shared: dict[str, Any],
    desk: Any,
    cpus: int,
) -> dict[str, float]:
    """Train on Ray Train, with as many workers as the settings ask for."""
    place, table, silent = _codes_at(config, shared), Place.of(shared["train"]), Silent()

    def made() -> tuple[TableCodec, int]:
        return data.encode(config, table, place, silent)  # what is there is used as it is

    at = place / data.CODES
    codec, rows = _made_once(place.name, desk, at, made, made)
    begun = time.monotonic()
    with claimed(config) as work:
        run_ = learned(config, codec, rows, at, work, cpus, silent)
    return measured(Sampler.open(run_), parts, search, time.monotonic() - begun)


def _codes_at(config: TrainConfig, shared: dict[str, Any]) -> Place:
    """Where codes that are made with these settings are."""
    encoding = encoding_of(config)
    key = [encoding.kinds, dict(encoding.options), config.modes, config.least]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return Place.of(shared["work"]) / "codes" / name


def _made_once(
    name: str, desk: Any, there: Place, make: Callable[[], T], load: Callable[[], T]
) -> T:
    """What `make` gives to the first who asks for it, and `load` to the others."""
    while not ray.get(desk.made.remote(name)):
        if not ray.get(desk.mine.remote(name)):
            ray.get(desk.wait.remote())
            continue
        try:
            return make()
        finally:
            ray.get(desk.over.remote(name, there.exists()))
    return load()


def _encode(
    config: TrainConfig, summary: Summary, found: Found, table: str, place: Place
) -> tuple[TableCodec, Codes]:
    def batches() -> Iterator[Batch]:
        return _batches(table, summary.schema.names)

    codec, codes = encode(config, summary, found, batches)
    write_bytes(place / "table.json", json.dumps(codec.to_json()).encode())
    write_bytes(place / "codes.safetensors", save(codes._asdict()))
    return codec, codes


def _load(place: Place) -> tuple[TableCodec, Codes]:
    codec = TableCodec.from_json(json.loads((place / "table.json").read_bytes()))
    return codec, Codes(**load((place / "codes.safetensors").read_bytes()))


@ray.remote(num_cpus=0)
class Desk:
    """Who makes which codes."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.done: set[str] = set()

    def made(self, name: str) -> bool:
        """Whether those codes are there."""
        return name in self.done

    def mine(self, name: str) -> bool:
        """Whether the one who asks is to make them."""
        if name in self.busy:
            return False
        self.busy.add(name)
        return True

    def over(self, name: str, there: bool) -> None:
        """They were made, or could not be."""
        self.busy.discard(name)
        if there:
            self.done.add(name)

    def wait(self) -> None:
        """A little while."""
        time.sleep(0.1)


def _batches(path: str, names: Iterable[str]) -> Iterator[Batch]:
    source = Source.of(path)
    for unit in source.units:
        yield from source.batches(unit, list(names), WHOLE, None)
