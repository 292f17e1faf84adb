"""What stands before an application: whole bodies only, so many at once, no stack in an answer."""

import asyncio
import contextlib
import logging
import re
import time
import traceback
from collections.abc import Callable

from raysynth.serving.flow import App, Message, Receive, Scope, Send, refuse
from raysynth.serving.problems import Problem

BODY = 64 * 2**10  # bytes of a request's body at most
IN_TIME = 10.0  # seconds a body may take to arrive
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

log = logging.getLogger(__name__)


class Guard:
    """The outermost layer: whole bodies only, no header missing, no stack in an answer or a log."""

    def __init__(self, app: App, loopback_only: bool = False) -> None:
        self.app, self.loopback_only = app, loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when its body is there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def headed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": _headed(message.get("headers", []))}
            await send(message)

        try:
            if self.loopback_only:
                _check_host(scope)
            await self.app(scope, await _whole(scope, receive), headed)
        except Problem as problem:
            if not begun:
                await refuse(problem, headed)
        except Exception as error:  # noqa: BLE001 (whatever it says may hold a value)
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
            log.error("a request failed: %s at %s", type(error).__name__, place)
            if not begun:
                said = f"what failed is in the server's log ({type(error).__name__})"
                await refuse(Problem("fault", said), headed)


async def _whole(scope: Scope, receive: Receive) -> Receive:
    """A `receive` that has the whole body first. Raises `Problem` for one too large or slow."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    body, end = bytearray(), time.monotonic() + IN_TIME
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
        except TimeoutError:
            raise slow() from None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY:
            raise Problem("large", f"a request's body may have {BODY:,} bytes")
    first = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def slow() -> Problem:
    """What is told of a request that did not come in time."""
    return Problem("slow", f"a request's body is to arrive within {IN_TIME:.0f} s")


def _check_host(scope: Scope) -> None:
    """Without tokens, answer to names of this machine only, so that no web page can ask.

    A page whose own name is made to resolve to 127.0.0.1 (DNS rebinding) still sends that name.
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if not hosts or re.sub(r":\d*$", "", hosts[0]) not in _LOOPBACK:
        known = ", ".join(_LOOPBACK)
        raise Problem("host", f"a server without tokens answers as {known} only")


def _headed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    have = {name.lower() for name, _ in headers}
    more = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
    return [*headers, *(pair for pair in more if pair[0] not in have)]


class Slots:
    """Who may draw now: so many at once, so many of one token, and a short line before them.

    Of one event loop.
    """

    def __init__(
        self,
        at_once: int,
        line: int,
        patience: float,
        told: Callable[[int, int], None] = lambda drawing, waiting: None,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self.line, self.patience, self._told = line, patience, told
        self._drawing = self._waiting = 0
        self._mine: dict[str, int] = {}

    async def enter(self, who: str, most: int) -> None:
        """Take a slot for `who`, who may have `most`. Raises a `Problem` where there is none."""
        if self._mine.get(who, 0) >= most:
            said = f"the token may have {most} requests at once; wait for one to end"
            raise Problem("busy", said, retry_after=1)
        said = "as many requests as can be are being answered"
        busy = Problem("busy", said, retry_after=2, full=True)
        if self._free.locked() and self._waiting >= self.line:
            raise busy
        self._mine[who] = self._mine.get(who, 0) + 1
        self._count(0, 1)
        try:
            async with asyncio.timeout(self.patience):
                await self._free.acquire()
            self._count(1, 0)
        except TimeoutError:
            self._leave(who)
            raise busy from None
        except asyncio.CancelledError:
            self._leave(who)
            raise
        finally:
            self._count(0, -1)

    def leave(self, who: str) -> None:
        """Give the slot back."""
        self._free.release()
        self._count(-1, 0)
        self._leave(who)

    def _count(self, drawing: int, waiting: int) -> None:
        self._drawing += drawing
        self._waiting += waiting
        self._told(self._drawing, self._waiting)

    def _leave(self, who: str) -> None:
        self._mine[who] -= 1
        if not self._mine[who]:
            with contextlib.suppress(KeyError):
                del self._mine[who]
