"""raysynth turns a private table into a synthetic one, on Ray.

import raysynth
run = raysynth.train("customers.parquet")
table = run.sample(1_000, given={"country": "France"})
report = run.evaluate("held_out.parquet")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysynth.api import Run, evaluate, open, train
    from raysynth.remote import Client

__all__ = ["Client", "Run", "evaluate", "open", "train"]


def __getattr__(name: str) -> Any:
    # Only when asked for: the core must import where there is no Ray, and quickly.
    if name == "Client":
        from raysynth.remote import Client

        return Client
    if name in __all__:
        from raysynth import api

        return getattr(api, name)
    raise AttributeError(f"module 'raysynth' has no attribute '{name}'")
