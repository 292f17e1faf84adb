"""A training by worker processes through the core alone, without Ray: `parallel`, gloo or nccl.

The table is encoded once and its codes written as a cluster's stages write them; each worker reads
its share (`shards.Share`) and trains on one thread, or one GPU. What a step takes is told by part
(`raysynth.clock`), over all epochs but the first, and of the slowest worker. In `communicate` a
worker also waits for those that are behind; `all_reduce_s` is what the bare mean takes, of as many
numbers, where all begin at once.

A GPU works on while the host goes ahead: there the pace is told by a first training whose epochs
end when the device is done, and the parts by a second one, in which every part waits for it. Steps
are recorded and played there as in any training (`raysynth.capture`), so averaging is a part of
`compute`, and recording is over when the first epoch is, which is not timed.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.optim import Optimizer

from benchmarks import ours
from benchmarks.measure import Result, Settings, flops, main
from raysynth import parallel, shards
from raysynth.clock import COMMUNICATE, COMPUTE, DATA, Clock
from raysynth.learn import Plan, learn
from raysynth.models import TableModel
from raysynth.run import build, drawing_of
from raysynth.storage import Place
from raysynth.table import TableCodec

PARTS = (DATA, COMPUTE, COMMUNICATE)
REDUCED = 20  # times that the bare mean is taken
WINDOW = 2**30  # bytes
NUMBER = 4  # bytes of a float32
ADAM = 7  # float32s a weight: four read (with its gradient and two moments), three written


def train(settings: Settings) -> Result:
    """Rows a second of `workers` on steps of `batch` rows each, `steps` of them at least timed."""
    codec, codes, _ = ours.encoded(settings)
    workers = settings["workers"]
    epoch = max(1, codes.rows // (settings["batch"] * workers))
    told = {**settings, "epochs": 1 + -(-settings["steps"] // epoch), "count": codes.rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table.json").write_text(json.dumps(codec.to_json()))
        # Codes are in this order already.
        keys = np.sort(shards.keys(np.arange(codes.rows, dtype=np.uint64), settings["seed"]))
        place = Place.of(folder / "codes")
        shards.publish(place, [shards.write(shards.pack(codes, keys), place)])
        spawn(_work, (told, name), nprocs=workers)  # type: ignore[no-untyped-call]
        found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(workers)]
    paces, parts = ([one[which] for one in found] for which in ("pace", "parts"))
    slowest = max(one["step_s"] for one in paces)
    return {
        "rows_per_s": settings["batch"] * workers / slowest,
        "step_s": slowest,
        "steps_timed": paces[0]["steps"],
        "parts": {part: sum(one[part] for one in parts) / workers for part in PARTS},
        "all_reduce_s": found[0]["all_reduce_s"],
    }


def step(settings: Settings) -> Result:
    """What one step of `batch` rows takes of the machine, counted: operations, and bytes.

    `reduced_bytes`: gradients that the optimizers of a step average, float32. `weight_bytes`: what
    the optimizers read and write.
    """
    codec, codes, _ = ours.encoded(settings)
    config = ours.config_of(settings)
    model, generator = build(config, codec), torch.Generator()
    generator.manual_seed(settings["seed"])
    model.trains_on(codes.rows)
    model.at(0.5)
    batches = drawing_of(config)(codes, codec.layout, settings["batch"], generator)
    model.step(batches, generator)  # has optimizers make their state
    sizes = stepped(model)
    operations = flops(lambda: model.step(batches, generator))
    return {
        "operations": operations,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "reduced_bytes": NUMBER * sum(sizes),
        "weight_bytes": NUMBER * ADAM * sum(sizes),
    }


def stepped(model: TableModel, seen: Callable[[], bool] = lambda: True) -> list[int]:
    """How many numbers each step of an optimizer takes gradients of, from now on, as they come.

    Those only for which `seen` says so: a step that is played calls no one.
    """
    sizes: list[int] = []

    def seeing(optimizer: Optimizer) -> Callable[[Optimizer, Any, Any], None]:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        size = sum(weight.numel() for weight in weights)
        return lambda *_: sizes.append(size) if seen() else None

    for optimizer in model.optimizers:
        optimizer.register_step_pre_hook(seeing(optimizer))
    return sizes


class Settled(Clock):
    """A clock that waits for the GPU at each turn, so that a part has what it asked for."""

    def _turn(self) -> None:
        if not torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        super()._turn()


def _work(rank: int, settings: Settings, name: str) -> None:
    """One worker, in a process of its own: leaves what it measured in a file."""
    torch.set_num_threads(1)
    gpu, workers = settings.get("device", "cpu") == "cuda", settings["workers"]
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if workers > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        store = dist.FileStore(f"{name}/store", workers)  # type: ignore[attr-defined]
        dist.init_process_group(
            "nccl" if gpu else "gloo", store=store, rank=rank, world_size=workers
        )
    pace = _trained(settings, name, device, Clock())
    parts = _trained(settings, name, device, Settled()) if gpu else pace
    found = {"pace": pace, "parts": parts, "all_reduce_s": _reduced(parts["numbers"], device)}
    Path(name, f"{rank}.json").write_text(json.dumps(found))
    if workers > 1:
        dist.destroy_process_group()
    os._exit(0)  # the interpreter's own end may abort while gloo's threads still end


def _trained(settings: Settings, name: str, device: torch.device, clock: Clock) -> dict[str, Any]:
    """A training on this worker's share: seconds a step, in all and by part, and steps timed."""
    table = TableCodec.from_json(json.loads(Path(name, "table.json").read_text()))
    config = ours.config_of(settings)
    model = build(config, table, device)
    folder = Place.of(Path(name) / "codes")
    share = shards.Share(folder, table.layout, parallel.rank(), parallel.workers(), WINDOW)
    plan = Plan(settings["count"], settings["batch"], settings["epochs"], settings["seed"])
    windows, draw = share.windows(device), drawing_of(config)
    sizes = stepped(model, lambda: not clock.steps)  # in the first step
    epochs = learn(model, table.layout, draw, windows, plan, clock=clock)
    marks = [{part: clock.seconds.get(part, 0.0) for part in PARTS} for _ in epochs]
    steps = clock.steps * (len(marks) - 1) // len(marks)
    spent = {part: (marks[-1][part] - marks[0][part]) / steps for part in PARTS}
    return {**spent, "step_s": sum(spent.values()), "steps": steps, "numbers": sum(sizes)}


def _reduced(numbers: int, device: torch.device) -> float:
    """Seconds of the bare mean of so many float32 over the workers: the fastest of several."""
    if parallel.workers() == 1:
        return 0.0
    mine, flat, times = (
        [torch.ones(numbers, device=device)],
        torch.empty(numbers, device=device),
        [],
    )
    mean = parallel.averager([mine])
    for _ in range(REDUCED):
        dist.barrier()
        begun = time.perf_counter()
        mean(mine, flat)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main({"train": train, "step": step})
