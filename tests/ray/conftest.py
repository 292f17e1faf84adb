"""What every test on Ray shares: its environment, one local cluster, small tables, the command.

The environment is set before anything imports Ray, which reads it once: a token of its own, no
usage report, a short temporary folder (socket names end at 107 bytes), quick polls. Files run in
name order; `test_command.py` starts clusters of its own and comes before the shared one is up.
"""

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HOME = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
TOKEN = HOME / "token"
TOKEN.write_text(secrets.token_hex(32))
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": str(TOKEN),
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TMPDIR": str(HOME),
    "RAY_memory_usage_threshold": "0.98",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
os.environ.pop("RAY_ADDRESS", None)
# What a shell starts in the background ignores Ctrl-C, and so would what tests start.
with contextlib.suppress(ValueError):  # not on the main thread
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ray: starts a Ray cluster on this machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ray)
            item.add_marker(pytest.mark.timeout(600))
            # Ray deprecates settings of its own while it sets them, and pydantic its old names.
            for where in (r"ray\..*", r"pydantic\..*"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{where}"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One local cluster with room for two workers, for all tests that do not start their own."""
    from raysynth.stages import ingress  # noqa: I001 (sets what Ray reads when it is imported)
    import ray

    ingress.prepare()
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Settings of a training that takes no time, in a folder of its own."""
    return {
        "storage": str(tmp_path / "runs"),
        "epochs": 1,
        "cpus": 1,
        "model": {"batch": 100, "hidden": 32},
    }


@pytest.fixture(scope="session")
def home() -> Path:
    """Ray's temporary folder: every process of ours has it in its environment."""
    return HOME


@pytest.fixture(scope="session")
def start() -> Callable[..., contextlib.AbstractContextManager["subprocess.Popen[str]"]]:
    """Start `raysynth` with `words` in the folder `cwd`."""
    return _start


@contextlib.contextmanager
def _start(*words: object, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    # In a process group of its own, as a terminal starts it.
    process = subprocess.Popen(
        [sys.executable, "-m", "raysynth", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()  # closes what it wrote to
