"""Who watches a job: on a cluster its rows are counted where Prometheus asks for them.

Ray is imported only where it is in use already, or a cluster is at hand: a small sample on a laptop
does not wait for it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from raysynth.errors import ConfigError
from raysynth.progress import Phase, Show, Silent


def watched(show: Show | None, run: str) -> Show:
    """`show` or silence, its rows counted as those of `run` where there is a cluster to ask.

    One whose rows are counted already, as those of the job that this is a part of, stays.
    """
    show = show or Silent()
    return show if isinstance(show, _Watched) else _Watched(show, run)


class _Watched:
    """A `Show` that connects to the cluster at hand when the first phase opens.

    Not before, so that what was asked wrongly is told without a cluster. A job that does not itself
    need the cluster goes on where none answers, and says so.
    """

    def __init__(self, show: Show, run: str) -> None:
        self._show, self._run, self._found = show, run, False

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator[Phase]:
        """A phase whose rows are counted."""
        if not self._found:
            self._found, self._show = True, self._counted()
        with self._show.phase(name, rows, unit) as phase:
            yield phase

    def say(self, line: str) -> None:
        """One line for the user."""
        self._show.say(line)

    def _counted(self) -> Show:
        at_hand = bool(os.environ.get("RAY_ADDRESS"))
        if not at_hand and not ("ray" in sys.modules and sys.modules["ray"].is_initialized()):
            return self._show
        from raysynth.stages import cluster, meters

        try:
            cluster.connect(0)
        except ConfigError as error:
            self._show.say(f"rows are not counted for Prometheus: {error}")
            return self._show
        return meters.Metered(self._show, self._run)
