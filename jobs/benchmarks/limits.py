"""How fast this machine multiplies float32 matrices and moves memory: the limits of speeds.

Measured in the same run as what is held against it, with as many threads, in turn with it, so a
machine that others use slows both.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measure import Result, Settings, main

SIZES, SIZES_OF_GPU = (512, 1024, 2048), (2048, 4096, 8192)
COPIED = 2**28  # bytes, more than caches hold
SECONDS = 0.7


def products(settings: Settings) -> Result:
    """GFLOP/s of square products, by size; the best of them is the limit.

    Of every size the fastest product within `SECONDS` counts: noise only ever slows. On a GPU, in
    full float32, as trainings are, and not in TF32.
    """
    device = torch.device(settings.get("device", "cpu"))
    found = {}
    for size in SIZES if device.type == "cpu" else SIZES_OF_GPU:
        a, b, out = (torch.rand(size, size, device=device) for _ in range(3))
        spent = _fastest_s(partial(torch.mm, a, b, out=out), device)
        found[size] = 2 * size**3 / spent / 1e9
    return {"gflop_per_s": max(found.values()), "by_size": found}


def bandwidth(settings: Settings) -> Result:
    """GB/s of memory, read and written both counted: the fastest copy of `COPIED` bytes."""
    device = torch.device(settings.get("device", "cpu"))
    source, goal = (torch.ones(COPIED // 4, device=device) for _ in range(2))
    return {"gb_per_s": 2 * COPIED / _fastest_s(partial(goal.copy_, source), device) / 1e9}


def _fastest_s(do: Callable[[], object], device: torch.device) -> float:
    times: list[float] = []

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    do()
    settle()
    end = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        do()
        settle()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main({"products": products, "bandwidth": bandwidth})
