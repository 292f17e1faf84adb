"""Where the workers of a training write how far it is, and the driver that it should stop."""

import time
from typing import Any

import ray

from raysynth.checkpoint import Reached


@ray.remote(num_cpus=0)
class Board:
    """Beside the driver's process: what it is told outlives any worker."""

    def __init__(self) -> None:
        self.news: dict[str, Any] = {
            "attempts": [],
            "epoch": 0,
            "share": 0.0,
            "losses": {},
            "alarms": [],
            "failed": "",
            "over": False,
            "seconds": {},
            "steps": 0,
        }
        self.stopping = False
        self._kept_at = 0.0

    def begin(self, reached: Reached, share: float, workers: int) -> None:
        """So many workers begin, after `reached`, the epoch under way being over by `share`.

        Where they are not the first, what was done since the last checkpoint is lost.
        """
        now = time.monotonic()
        lost = now - self._kept_at if self.news["attempts"] else 0.0
        attempt = {"reached": reached, "share": share, "workers": workers, "lost_s": lost}
        self.news["attempts"].append(attempt)
        self.news |= {"epoch": reached[0], "share": share}
        self._kept_at = now

    def post(self, **news: Any) -> bool:
        """Take news; True asks to stop."""
        self.news |= news
        return self.stopping

    def kept(self, age_s: float) -> None:
        """A checkpoint is whole that has what was done until `age_s` seconds ago."""
        self._kept_at = time.monotonic() - age_s

    def read(self) -> dict[str, Any]:
        """The latest news."""
        return self.news

    def stop(self) -> None:
        """Ask to stop."""
        self.stopping = True

    def go_on(self) -> None:
        """Ask to stop no more."""
        self.stopping = False
