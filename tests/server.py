"""A real server for the tests of `raysynth serve`, and what asks it."""

import hashlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysynth.remote import MEDIA, Client
from raysynth.serving.server import Serving
from raysynth.serving.tokens import Token, add

CSV, LINES = MEDIA[".csv"], MEDIA[".ndjson"]


@dataclass
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        told: dict[str, Any] = json.loads(self.body)
        assert told["status"] == self.status
        assert set(told) >= {"type", "title", "detail"}
        assert "Traceback" not in told["detail"]
        return told


@dataclass
class Served:
    """A server, its secrets, and where it keeps things."""

    port: int
    runs: Path
    state: Path
    serving: Serving
    secrets: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        who: str | None = "all",
        **headers: str,
    ) -> Said:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if who is not None:
            sent["authorization"] = f"Bearer {self.secrets.get(who, who)}"
        if body is not None:
            sent.setdefault("content-type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        with closing(line):
            line.request(method, path, body, sent)
            answer = line.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Said(answer.status, told, answer.read())

    def sample(
        self, body: Any, accept: str = CSV, who: str | None = "all", name: str = "small"
    ) -> Said:
        return self.ask("POST", f"/v1/models/{name}/sample", body, who, accept=accept)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines()]

    def ended(self, request: str) -> dict[str, Any]:
        """What the log says of how this request ended, once it has."""
        lines = ("ended", request)
        (end,) = until(
            lambda: [one for one in self.log() if (one["event"], one.get("request")) == lines]
        )
        found: dict[str, Any] = end
        return found

    def client(self, who: str = "all", **options: Any) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", self.secrets[who], **options)


@contextmanager
def serving(
    home: Path, tokens: dict[str, dict[str, Any]], replicas: int = 2, **options: Any
) -> Iterator[Served]:
    """A server of the runs in `home`/runs, for `tokens`, on a port of its own."""
    from raysynth.stages import serve

    port = free()
    file = home / "tokens.json"
    asked = Serving(str(home / "runs"), str(home / "state"), str(file), **options)
    found = Served(port, home / "runs", home / "state", asked)
    for name, facts in tokens.items():
        found.secrets[name] = add(file, Token(name, "", **facts))
    serve.start(asked, serve.Listening(port=port, replicas=replicas))
    yield found
    serve.stop()


@contextmanager
def asking(served: Served, clients: int) -> Iterator[tuple[list[Said], list[Exception]]]:
    """Clients that ask for rows over and over: what they are told, and answers that were cut."""
    told: list[Said] = []
    cut: list[Exception] = []  # the end of a connection tells of it
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                told.append(served.sample({"rows": 100}))
            except http.client.IncompleteRead as error:
                cut.append(error)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield told, cut
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def judge(run: Path, verdict: str) -> None:
    """Put a gate's verdict into a manifest."""
    facts = json.loads((run / "manifest.json").read_text())
    del facts["digest"]
    reason = {"level": verdict, "name": "linkability", "said": "Somebody was found."}
    facts["gate"] = {"verdict": verdict, "reasons": [reason], "untried": ["Most things."]}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (run / "manifest.json").write_text(json.dumps({**facts, "digest": digest}))


def free() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
    return found


def end(home: str) -> None:
    """Kill every process that has this folder in its environment.

    'ray stop' ends all on the machine, and some of Ray's change what they are called.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if home.encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


class reading:  # noqa: N801 (it reads as a statement)
    """A request whose answer has begun and is not read on."""

    def __init__(self, served: Served, body: dict[str, Any], who: str, accept: str = LINES) -> None:
        self.line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        sent = {"authorization": f"Bearer {served.secrets[who]}", "accept": accept}
        sent["content-type"] = "application/json"
        self.line.request("POST", "/v1/models/small/sample", json.dumps(body), sent)
        self.answer = self.line.getresponse()
        assert self.answer.peek(1)

    def __enter__(self) -> str:
        number = self.answer.headers["x-raysynth-request"] or ""
        assert number or self.answer.status == 429
        return number

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self.line.close()
