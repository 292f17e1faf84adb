"""Several threads of ours, of which each has one of torch's."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def pool(name: str, threads: int) -> ThreadPoolExecutor:
    """So many threads, named so. Threads that begin later elsewhere have one of torch's, too."""
    return ThreadPoolExecutor(threads, name, torch.set_num_threads, (1,))


def abreast(do: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What `do` makes of every item, in order; by so many threads, in which torch has one.

    As many results as there are threads, and one, are made before they are asked for. Who stops
    asking waits for those that are being made. By one thread it is the caller's own, as it is.
    """
    if threads <= 1:
        yield from map(do, items)
        return
    own, made = torch.get_num_threads(), deque[Future[R]]()
    workers = pool("abreast", threads)
    try:
        for item in items:
            made.append(workers.submit(do, item))
            if len(made) > threads:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        workers.shutdown(cancel_futures=True)
        torch.set_num_threads(own)  # what threads that begin later have
