"""A real object store on this machine, for the tests beside this file.

`infra/objectstore` runs it; where it cannot, tests that need it are skipped with the reason, which
in CI is a failure.
"""

import functools
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysynth.client import client
from raysynth.storage import Place

SCRIPT = Path(__file__).parents[2] / "infra" / "objectstore"


@dataclass(frozen=True)
class Store:
    """The object store in `folder`."""

    folder: Path

    def __call__(self, *words: str) -> str:
        """What `infra/objectstore` says to `words`."""
        command = [SCRIPT, *words, "--folder", self.folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")
        return done.stdout

    @functools.lru_cache  # noqa: B019 (of a frozen value that lasts as long as the session)
    def environment(self, user: str = "owner") -> dict[str, str]:
        """What reaches it."""
        lines = self("env", "--user", user).splitlines()
        return dict(shlex.split(line)[1].split("=", 1) for line in lines)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.s3)


@pytest.fixture(scope="session")
def started() -> Iterator[Store]:
    """The object store of the session."""
    folder = Path(tempfile.mkdtemp(prefix="rs-store-", dir=_with_attributes()))
    store = Store(folder)
    try:
        store("start")
        yield store
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no object store can be had here: {error}")
    finally:
        subprocess.run([SCRIPT, "stop", "--delete", "--folder", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _with_attributes() -> str:
    """A folder for temporary files on a filesystem that Swift can use, where there is one."""
    for place in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        with tempfile.NamedTemporaryFile(dir=place) as file:
            try:
                os.setxattr(file.name, "user.raysynth", b"")
            except OSError:
                continue
        return place
    return tempfile.gettempdir()


@pytest.fixture
def store(started: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The object store, running, with its owner's credentials in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, text in started.environment().items():
        monkeypatch.setenv(name, text)
    yield started
    started("start")


@pytest.fixture
def bucket(store: Store) -> Place:
    """A bucket of its own for each test."""
    name = f"test-{secrets.token_hex(6)}"
    client().create_bucket(Bucket=name)
    return Place.of(f"s3://{name}")
