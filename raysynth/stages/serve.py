"""Ray Serve: runs behind HTTP, in replicas, by the application that `web` builds.

A replica opens the runs it is asked for and keeps a few. Which replica answers makes no difference
to what comes: a row depends on the seed and its number alone. `application` is what a Serve config
names (`raysynth.stages.serve:application`); `start` serves from this machine.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from http import HTTPStatus
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.middleware import Middleware

from raysynth.errors import ConfigError
from raysynth.gate import LEVELS, Level
from raysynth.serving.answers import Counted, Meters
from raysynth.serving.flow import Paced, ended
from raysynth.serving.guard import IN_TIME, slow
from raysynth.serving.problems import Problem
from raysynth.serving.server import Serving
from raysynth.serving.tokens import read
from raysynth.serving.web import build
from raysynth.stages import bulk, cluster, ingress
from raysynth.stages.bulk import Actors

NAME = "raysynth"
# Requests a replica may hold, and that may wait for one at a proxy. More than ever come: Serve's
# router waits up to a second before it asks a replica again that had no room, so that one which is
# full for a moment stands idle. What draws is limited by `Serving`, and refused by `flow.Paced`.
HELD, QUEUED = 4_096, 256
DRAIN_S = 60.0
TOLD_S = 0.5  # between two values of a gauge that each request changes


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and with how many replicas. `certificate` and `key` are PEM files."""

    host: str = "127.0.0.1"
    port: int = 8100
    replicas: int = 1
    certificate: str | None = None
    key: str | None = None

    @property
    def url(self) -> str:
        """How to reach it."""
        scheme = "http" if self.certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/"


class Replica:
    """A process that answers."""

    def __init__(self, serving: dict[str, Any]) -> None:
        for several in ("allow_failed", "jobs_to"):
            serving[several] = tuple(serving.get(several, ()))
        self.serving = Serving(**serving)
        _listen_on_own_address()

    def __serve_build_asgi_app__(self) -> Any:
        """The application, built in the replica: nothing of it travels."""
        return build(self.serving, _meters(), Actors(), warm=True)


def _listen_on_own_address() -> None:
    """Have this replica wait for its proxies on its node's address, and not on all of the machine.

    Serve has no setting for that. Where it does not do so any more, nothing is changed.
    """
    from ray.serve._private import replica

    listen = getattr(replica, "add_port_to_grpc_server", None)
    if listen is None:
        return
    own = ray.util.get_node_ip_address()

    def narrow(server: Any, address: str) -> int:
        port: int = listen(server, address.replace("[::]", f"[{own}]" if ":" in own else own))
        return port

    replica.add_port_to_grpc_server = narrow


def application(options: dict[str, Any]) -> Any:
    """The Serve application; `options` are those of `Serving`, and `replicas` or `autoscaling`.

    Raises `ConfigError` for an option there is not, and without `tokens`: where the proxies of a
    cluster listen is not known here.
    """
    known = {one.name for one in fields(Serving)} | {"replicas", "autoscaling"}
    if unknown := sorted(set(options) - known):
        have = ", ".join(sorted(known))
        raise ConfigError(f"{', '.join(unknown)}: no such option; there are {have}")
    if missing := [name for name in ("runs", "state", "tokens") if not options.get(name)]:
        raise ConfigError(f"{', '.join(missing)}: needed to serve on a cluster")
    return _bound(options)


def _bound(options: dict[str, Any]) -> Any:
    options = dict(options)
    scaling = {"num_replicas": int(options.pop("replicas", 1))}
    if autoscaling := options.pop("autoscaling", None):
        scaling = {"autoscaling_config": autoscaling}
    serving = Serving(**options)
    actor: dict[str, Any] = {"num_cpus": serving.threads}
    if ray.is_initialized() and (pinned := cluster.pool("serve")):
        actor["label_selector"] = pinned
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        max_ongoing_requests=HELD,
        max_queued_requests=QUEUED,
        backpressure_config={"status_code": 429, "retry_after_s": 2},
        graceful_shutdown_timeout_s=DRAIN_S,
        ray_actor_options=actor,
        **scaling,
    )
    return deployment.bind(asdict(serving))


def check(serving: Serving, listening: Listening) -> None:
    """Refuse, by `ConfigError`, what would leave a server open to others, or to nobody."""
    if serving.tokens is None and not _loopback(listening.host):
        raise ConfigError(
            f"--no-auth: {listening.host} can be reached from elsewhere; serve on 127.0.0.1, or "
            "with tokens"
        )
    if serving.tokens is not None and not read(serving.tokens):
        raise ConfigError(
            f"{serving.tokens}: holds no token yet; make one with 'raysynth token add NAME', or "
            "serve this machine alone with --no-auth"
        )
    if (listening.certificate is None) != (listening.key is None):
        raise ConfigError("--certificate and --key go together")
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((listening.host, listening.port))
        except OSError as error:
            at = f"{listening.host}:{listening.port}"
            raise ConfigError(f"{at}: cannot be listened on: {error.strerror}") from None


def start(serving: Serving, listening: Listening) -> None:
    """Serve until `stop`, on the cluster at hand or one of our own. Returns when it can answer.

    Raises `ConfigError`, see `check`.
    """
    check(serving, listening)
    if cluster.alone():
        ingress.prepare()
    jobs = serving.jobs_at_once * (1 + serving.job_workers) if serving.jobs_to else 0
    cluster.connect(listening.replicas * serving.threads + jobs)
    serve.start(proxy_location="HeadOnly", http_options=_http_options(listening))
    serve.run(
        _bound({**asdict(serving), "replicas": listening.replicas}),
        name=NAME,
        route_prefix="/",
    )


def _http_options(listening: Listening) -> dict[str, Any]:
    pair: dict[str, str] = {}
    if listening.certificate is not None:
        files = {"ssl_certfile": listening.certificate, "ssl_keyfile": listening.key}
        pair = {name: str(Path(file or "").absolute()) for name, file in files.items()}
    pages = {408: _page(slow()), **dict.fromkeys((502, 503, 504), _page(ended()))}
    return ingress.options(listening.host, listening.port, pair, pages, IN_TIME)


def _page(problem: Problem) -> bytes:
    """The whole HTTP answer that a problem is."""
    body = problem.body
    headers = {**problem.headers, "content-length": str(len(body))}
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def stop(state: str | None = None) -> None:
    """Answer nothing new, let what is being answered end, and stop.

    `state` is where a server whose cluster goes with it keeps its jobs: they are cancelled.
    """
    serve.shutdown()
    if state is not None:
        bulk.end_all(state)


def pacing() -> list[Middleware]:
    """What Serve's proxies run around every request; see `flow.Paced`."""
    return [Middleware(Paced)]


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _meters() -> Meters:
    """Serve's metrics, which Ray gives to Prometheus."""
    from ray.serve import metrics

    tags = ("model", "format", "how")
    rows = metrics.Counter("raysynth_rows_sent", "Rows sent.", tags)
    sizes = metrics.Counter("raysynth_bytes_sent", "Bytes sent.", tags)
    bounds = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
    seconds = metrics.Histogram("raysynth_seconds", "Seconds of an answer.", bounds, tags)

    def count(one: Counted) -> None:
        tagged = {"model": one.model, "format": one.form, "how": one.how}
        rows.inc(one.rows, tagged) if one.rows else None
        sizes.inc(one.bytes, tagged) if one.bytes else None
        seconds.observe(one.seconds, tagged)

    refusals = metrics.Counter("raysynth_refused", "Requests refused.", ("why",))
    loads = metrics.Counter("raysynth_model_loads", "Runs opened.", ("model",))
    verdicts = metrics.Gauge("raysynth_model_gate", "0 pass, 1 warn, 2 fail.", ("model",))
    judged = metrics.Gauge("raysynth_model_figure", "Of its report.", ("model", "figure"))
    drawing = metrics.Gauge("raysynth_drawing", "Answers being drawn.")
    waiting = metrics.Gauge("raysynth_waiting", "Requests waiting for a place.")

    def opened(name: str, verdict: Level | None, figures: Mapping[str, float]) -> None:
        loads.inc(1, {"model": name})
        if verdict is not None:  # one that was never judged has none
            verdicts.set(LEVELS.index(verdict), {"model": name})
        for figure, value in figures.items():
            judged.set(value, {"model": name, "figure": figure})

    def refused(kind: str) -> None:
        refusals.inc(1, {"why": kind})

    latest = {drawing: 0, waiting: 0}
    pending = list[asyncio.TimerHandle]()

    def tell() -> None:
        pending.clear()
        for gauge, count in latest.items():
            gauge.set(count)

    def lines(draw: int, wait: int) -> None:
        latest.update({drawing: draw, waiting: wait})
        if not pending:  # each request changes both four times: telling each took a twentieth of it
            pending.append(asyncio.get_running_loop().call_later(TOLD_S, tell))

    return Meters(count, refused, opened, lines)
