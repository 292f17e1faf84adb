"""One thread for libraries that start their own.

Sums that several threads share are rounded in another order on another machine, and what they
decide may be decided otherwise: so whatever is told to a user is computed on one.
"""

import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController


def single() -> AbstractContextManager[Any]:
    """A block in which BLAS and OpenMP have one thread, of this process."""
    one: AbstractContextManager[Any] = _pools(len(sys.modules)).limit(limits=1)
    return one


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:
    # To look through the libraries that are loaded takes 3 ms, as long as many a prediction; what
    # was found holds until more modules are, which may bring another library.
    return ThreadpoolController()
