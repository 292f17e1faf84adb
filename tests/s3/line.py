"""The line to an object store, on which a test sees what is asked and acts before the answer."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Watch:
    """What to do, once, when a request begins with `request` for the `turn`th time.

    The server has the first half of what the client sent, and gets the rest afterwards if it lives
    and nothing was raised.
    """

    request: str
    act: Callable[[], None]
    turn: int = 1
    seen: bool = False


@dataclass
class Line:
    """Passes on what comes in at `port` to the server at `upstream`, both on loopback.

    Where the server is away a connection is closed as it came; `refused` counts them, and
    `when_refused` is called with the number each time.
    """

    upstream: int
    watches: list[Watch] = field(default_factory=list)
    refused: int = 0
    when_refused: Callable[[int], None] = lambda number: None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._door.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream))
        except OSError:
            client.close()
            with self._lock:
                self.refused += 1
                number = self.refused
            self.when_refused(number)
            return
        with client, server:
            back = threading.Thread(target=_pass_on, args=(server, client, None), daemon=True)
            back.start()
            _pass_on(client, server, self._look)
            back.join()

    def _look(self, data: bytes) -> list[Callable[[], None]]:
        """What to do in the middle of passing on what a client sent."""
        with self._lock:
            acts = []
            for watch in self.watches:
                if not watch.seen and data.startswith(watch.request.encode()):
                    watch.turn -= 1
                    watch.seen = watch.turn == 0
                    acts += [watch.act] * watch.seen
        return acts


def interruption(
    line: Line, store: Callable[..., str], request: str, turn: int = 1, refusals: int = 3
) -> Watch:
    """Stop the store in the middle of a request; start it when it was found away so many times."""

    def stop() -> None:
        store("stop")
        line.refused, line.when_refused = 0, start

    def start(number: int) -> None:
        if number == refusals:
            store("start")

    return Watch(request, stop, turn)


def _pass_on(
    source: socket.socket,
    target: socket.socket,
    look: Callable[[bytes], list[Callable[[], None]]] | None,
) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            if look is not None and (acts := look(data)):
                target.sendall(data[: len(data) // 2])
                data = data[len(data) // 2 :]
                for act in acts:
                    act()
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
