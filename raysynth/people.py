"""Invented people: pools of names, streets, cities and words, from Faker once they are asked for.

First and last names are Faker's lists with their public frequencies; streets and cities are drawn
from it with a seed. A pool owes nothing to any table. That a sampled first name is also somebody's
in the table is as likely as that name is among the public: two strangers called John.

The same seed gives the same names under the same version of Faker only: its lists change.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FORMS = (
    *("first_name", "last_name", "name", "email", "phone", "street", "city", "postcode"),
    *("ssn", "card", "ipv4", "ipv6"),
)
DRAWN = 2_000  # streets and cities of a pool
LOCALE, WORDS = "en_US", "la"


class Pool(NamedTuple):
    """Values and where the share of each ends, (N,), the last at 1."""

    values: pa.Array
    ends: Floats

    def choose(self, uniform: Floats) -> pa.Array:
        """The value that each number in [0, 1) falls to, (B,)."""
        places = np.searchsorted(self.ends, uniform, "right")
        return self.values.take(pa.array(np.minimum(places, len(self.values) - 1)))


@cache
def pool(name: str) -> Pool:
    """The pool of "first_name", "last_name", "street_name", "city" or "word"."""
    if name in ("first_name", "last_name"):
        return _weighted(getattr(_provider(LOCALE, f"{name}s"), f"{name}s"))
    if name == "word":
        return _weighted(_provider(WORDS, "word_list").word_list)
    faker = _faker(LOCALE)
    faker.seed_instance(0)
    make = getattr(faker, name)
    return _weighted([make() for _ in range(DRAWN)])


def _faker(locale: str) -> Any:
    from faker import Faker  # takes half a second to import, and few tables need it

    return Faker(locale, use_weighting=False)


def _provider(locale: str, attribute: str) -> Any:
    providers = _faker(locale).factories[0].get_providers()
    return next(provider for provider in providers if hasattr(provider, attribute))


def _weighted(values: Any) -> Pool:
    weights = np.array(list(values.values()) if isinstance(values, dict) else [1.0] * len(values))
    ends = np.cumsum(weights) / weights.sum()
    return Pool(pa.array(list(values), pa.string()), ends)
