"""How fast this machine multiplies float32 matrices: the limit that speeds are held against.

Measured in the same run as what is held against it, with as many threads, in turn with it, so a
machine that others use slows both.
"""

import time

import torch

from benchmarks.measure import Result, Settings, main

SIZES = (512, 1024, 2048)
SECONDS = 0.7


def products(_: Settings) -> Result:
    """GFLOP/s of square products, by size; the best of them is the limit.

    Of every size the fastest product within `SECONDS` counts: noise only ever slows.
    """
    found = {size: 2 * size**3 / _fastest_s(size) / 1e9 for size in SIZES}
    return {"gflop_per_s": max(found.values()), "by_size": found}


def _fastest_s(size: int) -> float:
    a, b = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    torch.mm(a, b, out=out)
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main({"products": products})
