"""Threads: one for libraries that start their own, or several of ours with one of those each.

Sums that several threads share are rounded in another order on another machine, and what they
decide may be decided otherwise: so whatever is told to a user is computed on one.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def abreast(do: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What `do` makes of every item, in order; by so many threads, in which torch has one.

    As many results as there are threads, and one, are made before they are asked for. Who stops
    asking waits for those that are being made. By one thread it is the caller's own, as it is.
    """
    if threads <= 1:
        yield from map(do, items)
        return
    own, made = torch.get_num_threads(), deque[Future[R]]()
    pool = ThreadPoolExecutor(threads, "abreast", torch.set_num_threads, (1,))
    try:
        for item in items:
            made.append(pool.submit(do, item))
            if len(made) > threads:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(own)  # what threads that begin later have


def single() -> AbstractContextManager[Any]:
    """A block in which BLAS and OpenMP have one thread, of this process."""
    one: AbstractContextManager[Any] = _pools(len(sys.modules)).limit(limits=1)
    return one


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:
    # To look through the libraries that are loaded takes 3 ms, as long as many a prediction; what
    # was found holds until more modules are, which may bring another library.
    return ThreadpoolController()
