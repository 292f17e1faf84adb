"""Ctrl-C and SIGTERM as a wish that is noted, where raising `KeyboardInterrupt` is in the way.

Python raises it wherever the main thread happens to be: between two steps of what is being started,
or in a destructor or a callback out of C, where it is printed and dropped, and what waits goes on
waiting.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether it was asked to stop; true or false as a condition."""

    def __init__(self) -> None:
        self.times = 0

    def __bool__(self) -> bool:
        return self.times > 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note it; asked again, raise `KeyboardInterrupt`, as without us."""
        self.times += 1
        if self.times > 1:
            signal.default_int_handler(number, frame)


@contextmanager
def noted() -> Iterator[Asked]:
    """Note what would have raised `KeyboardInterrupt`, until the end of the block.

    What is waited for in the block must be looked at often: a plain flag is all that a handler can
    set safely. A handler of somebody else's stays, and off the main thread nothing is noted: there
    Python delivers no signal.
    """
    asked, before = Asked(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                before[number] = signal.signal(number, asked.note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
