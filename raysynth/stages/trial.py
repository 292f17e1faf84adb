"""One trial of a search, in a process of Ray Tune: codes, training, what is measured, a run."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray
import torch
from ray import tune as ray_tune
from safetensors.torch import load, save

from raysynth.config import TrainConfig
from raysynth.layout import Codes
from raysynth.local import Batch, Learner, encode
from raysynth.run import encoding_of, save_run
from raysynth.search import Parts, run
from raysynth.selection import WHOLE
from raysynth.source import Source
from raysynth.storage import Place, write_bytes
from raysynth.table import TableCodec


def trial(asked: dict[str, Any], shared: dict[str, Any], desk: Any, cpus: int) -> dict[str, Any]:
    """Train one suggestion, measure it, and save its run."""
    torch.set_num_threads(cpus)
    base, search, summary = shared["base"], shared["search"], shared["summary"]
    told = {"family": asked["family"], "model": asked["model"], "modes": asked["modes"]}
    config = TrainConfig.model_validate(
        base.model_dump() | told | {"name": f"{asked['number']:04d}"}
    )
    codec, codes = _codes(config, shared, desk)
    learner = Learner(config, codec, codes)
    tables, schema = shared["tables"], summary.schema.modelled
    ids = np.arange(tables["choice"].num_rows, dtype=np.uint64)
    parts = Parts(
        tables["train"].select(list(schema.names)),
        tables["choice"].select(list(schema.names)),
        schema,
        codec.encode(tables["choice"], ids, base.seed),
    )

    def looked(share: float, fidelity: float) -> None:
        ray_tune.report({"share": round(100 * share), "fidelity": fidelity})

    found = run(learner, parts, search, looked)
    save_run(config, codec, learner.model, "", codes.rows, learner.best.epoch or None)
    return {**found, "share": 100, "fidelity": 1.0}


def _codes(config: TrainConfig, shared: dict[str, Any], desk: Any) -> tuple[TableCodec, Codes]:
    """The training rows' codes, made by the first who asks for such ones."""
    key = [encoding_of(config).kinds, dict(encoding_of(config).options), config.modes]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    place = Place.of(shared["work"]) / "codes" / name
    summary, found = shared["summary"], shared["found"]

    def batches() -> Iterator[Batch]:
        return _batches(shared["train"], summary.schema.names)

    while not ray.get(desk.made.remote(name)):
        if not ray.get(desk.mine.remote(name)):
            ray.get(desk.wait.remote())
            continue
        try:
            codec, codes = encode(config, summary, found, batches)
            write_bytes(place / "table.json", json.dumps(codec.to_json()).encode())
            write_bytes(place / "codes.safetensors", save(codes._asdict()))
        finally:
            ray.get(desk.over.remote(name, (place / "codes.safetensors").exists()))
        return codec, codes
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
