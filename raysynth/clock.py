"""Where a training's time goes: seconds by part, every moment counted once.

A part inside another is counted as the inner one alone: gradients are averaged in the middle of a
step. On a GPU, which works on while the host goes ahead, a part has the seconds that the host spent
in it; what it waits for the device is where it asks for a loss, which is counted as computing. A
step that is played (`capture`) is computing as a whole, gradients averaged in it as well.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

DATA, COMPUTE, COMMUNICATE, PROBE, CHECKPOINT = "data", "compute", "communicate", "probe", "keep"


class Clock:
    """Adds up `seconds` by part, and `steps`; another thread may read them meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._open: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what happens meanwhile as `part`."""
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def over(self, part: str, items: Iterable[T]) -> Iterator[T]:
        """The items, what it takes to have each counted as `part`."""
        iterator = iter(items)
        while True:
            with self.of(part):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @property
    def idle_s(self) -> float:
        """Seconds since a part last began or ended."""
        return time.perf_counter() - self._since

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            part = self._open[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


def shares(seconds: dict[str, float]) -> str:
    """Seconds by part as a line for people: the largest first, those under a hundredth left out."""
    total = sum(seconds.values())
    told = sorted(seconds.items(), key=lambda one: -one[1])
    parts = [f"{part} {spent / total:.0%}" for part, spent in told if spent >= 0.01 * total > 0]
    return ", ".join(parts)
