"""A Ray cluster to work on: the one at hand, or one started on this machine."""

import logging
import os
import secrets
from pathlib import Path

import ray
from ray.data import DataContext


def connect(workers: int) -> bool:
    """Be connected to Ray with room for `workers` workers; True where the cluster is our own.

    Uses the connection there is, then the cluster that RAY_ADDRESS names, else starts one on this
    machine that listens on loopback, has no dashboard, and ends with the process. Ray says as much
    as its logger "ray" is set to: errors, where nobody has set it.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if ray.is_initialized():
        return False
    log = logging.getLogger("ray")
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)
    said = {"logging_level": log.level, "log_to_driver": log.isEnabledFor(logging.INFO)}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**said)
        return False
    _ensure_token()
    ray.init(
        address="local",
        # Workers may outnumber cores; one more slot keeps reading from waiting for training.
        num_cpus=max(os.cpu_count() or 1, workers + 1),
        include_dashboard=False,
        **said,
    )
    return True


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
