"""What a store answers that the real one on this machine cannot be brought to answer.

A server of a few lines gives the answers that Amazon's documentation gives for credentials that
have expired, a full store, a bucket elsewhere, and a server that is busy for a while.
"""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raysynth.errors import StorageError
from raysynth.storage import Place, write_bytes

SECRET = "secret-918273645"
BODY = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>for you: {code}</Message></Error>"
ANSWERS = {
    "ExpiredToken": (400, "the credentials have expired; renew them and repeat the command"),
    "InvalidAccessKeyId": (403, "access denied: no such key; check AWS_ACCESS_KEY_ID"),
    "IllegalLocationConstraintException": (400, "the bucket is in another region; set AWS_REGION"),
    "QuotaExceeded": (403, "the store is full; free some space and repeat the command"),
    "InsufficientStorage": (507, "the store is full; free some space and repeat the command"),
    "ServiceUnavailable": (503, "does not serve it now (503); repeat the command later"),
    "OddAndNew": (418, "refuses it (418, OddAndNew)"),
}
ACTS = {
    "info": lambda place: place.info(),
    "files": lambda place: place.files(),
    "open": lambda place: place.open(),
    "read": lambda place: place.read_bytes(),
    "write": lambda place: write_bytes(place, b""),
    "remove": lambda place: place.remove(),
}


class Server(ThreadingHTTPServer):
    """Answers every request the same: a status and the code of an error, or what was put."""

    daemon_threads = True
    status, code = 200, ""
    busy = 0  # requests to answer that it is busy


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, code = self.server.status, self.server.code
        if self.server.busy > 0:
            self.server.busy -= 1
            status, code = 503, "SlowDown"
        body = BODY.format(code=code).encode() if code else b"here" * (self.command != "PUT")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 08:00:00 GMT")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_DELETE = _answer  # noqa: N815 (the names http.server asks for)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, text in {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "RAYSYNTH_RETRY_S": "0",
        }.items():
            monkeypatch.setenv(name, text)
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("act", "code"),
    [
        *((act, "ExpiredToken") for act in ACTS),
        *((act, code) for act in ("open", "write") for code in ANSWERS if code != "ExpiredToken"),
    ],
)
def test_what_a_store_refuses_is_told_with_what_to_do(server: Server, act: str, code: str) -> None:
    server.code, (server.status, said) = code, ANSWERS[code]
    with pytest.raises(StorageError, match=r"^s3://bucket/k: cannot be ") as error:
        ACTS[act](Place.of("s3://bucket/k"))
    assert said in str(error.value)
    assert "for you" not in str(error.value), "a server's own words are not passed on"
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("act", ["read", "write", "open"])
def test_a_busy_store_is_asked_again(
    server: Server, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSYNTH_RETRY_S", "100")
    server.busy = 9
    do: Callable[[Place], object] = ACTS[act]
    do(Place.of("s3://bucket/k"))
    assert server.busy == 0
