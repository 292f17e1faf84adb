"""How bytes go in and out over ASGI: bodies that end in time, answers no faster than they are read.

Ray Serve hands what a replica sends to a proxy through unbounded queues, so a replica would draw a
hundred million rows into memory while its client reads the first. `Paced` runs in the proxy: it
waits for each part of an answer to be written out and says so back through `receive`, the one way
from a proxy to a replica. `Stream` sends `WINDOW` bytes ahead of that and no more. Where there is
no such proxy (uvicorn alone), sending waits by itself.

A refusal costs a proxy and a replica some milliseconds, of which clients that ask again at once can
take all there are. So `Paced` keeps every 429 back for about `PAUSE`, and when a replica was full
it lets in no more samples for `FULL_FOR` than were being answered then, and refuses the rest.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from starlette.responses import Response

from raysynth.serving.formats import Chunk
from raysynth.serving.problems import FULL, MEDIA, Problem

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WINDOW = 8 * 2**20  # bytes sent ahead of what has been written out
TOLD = WINDOW // 4  # bytes written out between two words of it, each a call from proxy to replica
PAUSE, FULL_FOR = 1.0, 2.0  # seconds
STALL = 120.0  # seconds without a byte read, after which a client is taken to be gone
PACED = b"x-raysynth-paced"
SENT = "raysynth.sent"
# By these headers a client could tell Serve's proxy not to notice that it is gone.
_PROXY_ONLY = (PACED, b"x-request-disconnect-disabled", b"x-request-timeout-seconds")


class Answering(Protocol):
    """An answer being made: `next` gives its chunks, then None; `end` is always called, once.

    Once `over`, the chunk that came is the last.
    """

    headers: Mapping[str, str]
    over: bool

    async def next(self) -> Chunk | None:
        """The next chunk."""
        ...

    def sent(self, chunk: Chunk) -> None:
        """Told of every chunk that has been sent."""
        ...

    def end(self, how: str) -> None:
        """Told how it ended: whole, gone (the client), or failed."""
        ...


class Paced:
    """Middleware of Serve's proxy; see above."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._inside = 0  # samples being answered
        self._room, self._until = 0, 0.0  # how many may be, and until when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and say through `receive` how much of its answer is out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sample = scope["path"].endswith("/sample")
        if sample and self._inside >= self._room and time.monotonic() < self._until:
            await asyncio.sleep(_pause())
            await refuse(_busy(), send)
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() not in _PROXY_ONLY]
        pace = _Pace(receive, send, self._full if sample else None)
        self._inside += sample
        try:
            headers.append((PACED, b"1"))
            await self.app({**scope, "headers": headers}, pace.receive, pace.send)
            if not pace.begun:  # the proxy gave up without a word
                await pace.lost()
        finally:
            self._inside -= sample and not pace.full
            pace.end()

    def _full(self) -> None:
        """A replica had no room for a sample, which is answered by that."""
        self._inside -= 1
        self._room, self._until = max(1, self._inside), time.monotonic() + FULL_FOR


class _Pace:
    def __init__(self, receive: Receive, send: Send, full: Callable[[], None] | None) -> None:
        self._receive, self._send, self._told_full = receive, send, full
        self.begun = self.full = False  # whether an answer has; whether it was that all is full
        self._refused = False  # whether the proxy's own words are kept back
        self._whole = False  # whether all of the request's body has been received
        self._more: asyncio.Future[Message] | None = None
        self._news, self._sent, self._said = asyncio.Event(), 0, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if message["status"] == 429:
                if self._told_full and any(name == FULL.encode() for name, _ in message["headers"]):
                    self.full = True
                    self._told_full()
                await asyncio.sleep(_pause())
            if self._of_lost(message):
                self._refused = True
                await self.lost()
            elif _of_proxy(message, 429):
                self._refused = True
                await refuse(_busy(), self._send)
        if self._refused:
            return
        await self._send(message)  # returns when the socket has taken it, or nearly
        if body := message.get("body"):
            self._sent += len(body)
            if self._sent >= self._said + TOLD:
                self._news.set()

    async def receive(self) -> Message:
        if not self._whole:
            message = await self._receive()
            self._whole = not message.get("more_body", False)
            return message
        if self._more is None:
            self._more = asyncio.ensure_future(self._receive())
        news = asyncio.ensure_future(self._news.wait())
        try:
            both: set[asyncio.Future[Any]] = {self._more, news}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._more.done():
            return self._more.result()
        self._news.clear()
        self._said = self._sent
        return {"type": SENT, "bytes": self._said}

    def _of_lost(self, start: Message) -> bool:
        """Whether a replica went: the proxy fails, or asks another, which lacks the body it had."""
        return _of_proxy(start, 500) or (start["status"] == 408 and self._whole)

    async def lost(self) -> None:
        """Say that the replica which was to answer is gone."""
        await refuse(ended(), self._send)

    def end(self) -> None:
        if self._more is not None:
            self._more.cancel()


def _of_proxy(start: Message, status: int) -> bool:
    """Whether the proxy itself says `status`: what a replica says has a type."""
    types = {value for name, value in start["headers"] if name.lower() == b"content-type"}
    return start["status"] == status and MEDIA.encode() not in types


def _pause() -> float:
    """Seconds, of which no two are alike: else who was refused at once would ask again at once."""
    return random.uniform(0.5, 1.5) * PAUSE


def ended() -> Problem:
    """What is told where the replica that was to answer is gone.

    RFC 9110, 15.6.4: such a state is temporary, and a client may ask again.
    """
    said = "what was to answer has ended; another is there, or will be"
    return Problem("ended", said, retry_after=1)


def _busy() -> Problem:
    return Problem("busy", "as many requests as can be are waiting", retry_after=2)


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with a problem document."""
    body = problem.body
    headers = [(k.encode(), v.encode()) for k, v in problem.headers.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Stream(Response):
    """A response that begins an answer, sends it chunk by chunk, and ends it whatever comes.

    `begin` may raise a `Problem`, before anything has been sent.
    """

    def __init__(self, begin: Callable[[], Awaitable[Answering]]) -> None:
        super().__init__()  # whose headers are those of an empty body, and not sent
        self._begin = begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = await self._begin()
        paced = any(name == PACED for name, _ in scope["headers"])
        window, how = _Window(receive, paced), "failed"
        try:
            chunk = await answer.next()  # what is wrong with a request shows here at the latest
            headers = [(k.encode(), v.encode()) for k, v in answer.headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            more = True
            while chunk is not None:
                await window.room(len(chunk.data))
                more = not answer.over
                await send({"type": "http.response.body", "body": chunk.data, "more_body": more})
                answer.sent(chunk)
                chunk = await answer.next() if more else None
            if more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            how = "whole"
        except (_Gone, asyncio.CancelledError) as error:
            how = "gone"
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            window.close()
            answer.end(how)


class _Gone(Exception):  # noqa: N818 (nothing went wrong here)
    """The client is no longer there."""


class _Window:
    """How many bytes may be sent now."""

    def __init__(self, receive: Receive, paced: bool) -> None:
        self._paced, self._sent, self._out, self._gone = paced, 0, 0, False
        self._news = asyncio.Event()
        self._listening = asyncio.ensure_future(self._listen(receive))

    async def room(self, size: int) -> None:
        """Wait until `size` more bytes may be sent. Raises `_Gone`."""
        while self._paced and not self._gone and self._sent > self._out + WINDOW:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), STALL)
            except TimeoutError:
                self._gone = True
        if self._gone:
            raise _Gone
        self._sent += size

    async def _listen(self, receive: Receive) -> None:
        while not self._gone:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._gone = True
            elif message["type"] == SENT:
                self._out = message["bytes"]
            self._news.set()

    def close(self) -> None:
        self._listening.cancel()
