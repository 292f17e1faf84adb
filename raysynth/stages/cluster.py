"""A Ray cluster to work on: the one at hand, or one started on this machine."""

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.data import DataContext

from raysynth.errors import ConfigError, RaysynthError
from raysynth.stages import SAYS

PATIENCE_S = 30  # what a head takes to come back
POOL = "raysynth/pool"  # label of a node: head, data, train or serve
_NOBODY = (
    "RAY_ADDRESS: no Ray cluster answers there; expected the head's HOST:6379 from inside its "
    "network, or 'raysynth submit' with the dashboard's address"
)
_MANY: bool = ray_constants.ENABLE_RAY_CLUSTER  # whether Ray by itself joins machines here


def alone() -> bool:
    """Whether `connect` is going to start a cluster of our own."""
    return not (ray.is_initialized() or os.environ.get("RAY_ADDRESS"))


def connect(workers: int) -> bool:
    """Be connected to Ray with room for `workers` workers; True where the cluster is our own.

    Uses the connection there is, then the cluster that RAY_ADDRESS names, else starts one on this
    machine that listens on loopback, has no dashboard, and ends with the process. What Ray may say
    is `SAYS`, unless the connection is not ours.
    """
    connected = ray.is_initialized()
    if not connected:
        _set_loggers()
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # so that `own_errors` finds ours
    if connected:
        return False
    said = {"logging_level": SAYS, "log_to_driver": SAYS <= logging.INFO}
    _connected.append(True)
    if os.environ.get("RAYSYNTH_LOGS") == "json":
        said["logging_config"] = ray.LoggingConfig(encoding="JSON", log_level="INFO")
    with _sigterm_kept():
        if os.environ.get("RAY_ADDRESS"):
            # What Ray itself would have to be told before: the page that shows trainings.
            os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
            _join(**said)
            if pinned := pool("data"):
                context.execution_options.label_selector = pinned
            return False
        _ensure_token()
        _keep_to_loopback(True)
        # Workers may outnumber cores; one more slot keeps reading from waiting for training.
        _start(num_cpus=max(os.cpu_count() or 1, workers + 1), **said)
    return True


def _join(**options: Any) -> None:
    """Connect to the cluster that RAY_ADDRESS names. Raises `ConfigError`."""
    _await(os.environ["RAY_ADDRESS"])
    try:
        ray.init(**options)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if not said.startswith("Version mismatch"):
            raise
        raise ConfigError(
            f"RAY_ADDRESS: {said} Expected the cluster's Ray and Python, to the minor release: use "
            "its image, or 'raysynth submit', for which Python may be another"
        ) from None
    except (ConnectionError, ValueError):  # the latter of what is no address
        raise ConfigError(_NOBODY) from None


def _await(address: str) -> None:
    """Return once `address`, a HOST:PORT, takes connections, or is of another form.

    Ray itself would try for more than five minutes. Raises `ConfigError` after `PATIENCE_S`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError):
            if time.monotonic() > until:
                raise ConfigError(_NOBODY) from None
            time.sleep(0.5)
        else:
            return


def pool(stage: str) -> dict[str, str]:
    """The label of nodes that a stage is for; none where the cluster's nodes have no `POOL`.

    Stages are `data`, `train` and `serve`; the last may use nodes of `data`. A node that is still
    to come counts as well: the autoscaler starts one of that label.
    """
    if not any(node["Alive"] and POOL in node.get("Labels", {}) for node in ray.nodes()):
        return {}
    return {POOL: "in(serve,data)" if stage == "serve" else stage}


def _start(**options: Any) -> None:
    """Start Ray here, twice where it takes too long: it gives up after 30 s on a busy machine."""
    for again in (True, False):
        try:
            ray.init(address="local", include_dashboard=False, **options)
        except Exception as error:
            if not again or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return


def disconnect() -> None:
    """Leave Ray, and end a cluster of our own, before anything else it says can appear.

    A connection that was there before `connect` stays.
    """
    if _connected:
        _connected.clear()
        ray.shutdown()
        _keep_to_loopback(False)


def _keep_to_loopback(only: bool) -> None:
    """Have what Ray starts from here listen on 127.0.0.1 alone, and not on all of the machine.

    So it does by itself on macOS and Windows, where this variable undoes it: it is read once, when
    Ray is imported, and by each process that Ray starts.
    """
    many = _MANY and not only
    ray_constants.ENABLE_RAY_CLUSTER = many
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "1" if many else "0"


def _set_loggers() -> None:
    logging.getLogger("ray").setLevel(SAYS)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(SAYS)


@contextmanager
def own_errors() -> Iterator[None]:
    """What one of our functions said on a worker, out of all that Ray wraps it in."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (raised again, by its own name where it has one)
        raise own(error) from None


def own(error: Exception) -> Exception:
    """The error of ours inside what Ray raised, or that itself."""
    found = [error]
    for outer in found:
        if isinstance(outer, RaysynthError) and not isinstance(outer, ray.exceptions.RayError):
            # Ray may have added lines of its own to what we said in one.
            return type(outer)(str(outer).partition("\n")[0])
        if type(outer) is ArithmeticError:  # learning diverged: a setting of the user's
            return ConfigError(str(outer))
        inner = [getattr(outer, "cause", None), outer.__cause__]
        inner += getattr(outer, "worker_failures", {}).values()
        found += [one for one in inner if isinstance(one, Exception) and one not in found]
    return error


_connected: list[bool] = []


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray ends the process on SIGTERM from its start on; a handler set before it is put back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    mine = before not in (None, signal.SIG_DFL)
    if mine and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _ensure_token() -> None:
    """A token only this user can read. Ray would write one that all users of the machine can."""
    if os.environ["RAY_AUTH_MODE"] != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if path.is_file():
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def cpus_per_worker(wanted: int | None, workers: int, own: bool) -> int:
    """CPU cores each training worker gets: what was asked, else a fair share of our own machine."""
    if wanted is not None:
        return wanted
    return max(1, (os.cpu_count() or 1) // workers) if own else 1
