"""Jobs on a Ray cluster, over its Jobs API: submitted once, followed, listed, ended.

A job is a command of ours as it is typed here, run on the cluster beside the settings files that it
names. Its id is made of both: what is submitted twice is one job, which is followed while it runs
and once it has succeeded; one that failed or was stopped is submitted anew, as another attempt, and
a training then goes on by its name. Ray itself never runs a job twice; an id that was used before
it may still take for the job that ended under it.

Nothing is pickled between here and there, so this machine needs no more than the Ray release of the
cluster; its Python may be another, while one that connects by RAY_ADDRESS needs the same (`cluster`
says so). Whoever may see the dashboard may see a command's words.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_nodes

from raysynth.config import read_toml
from raysynth.errors import ConfigError, StorageError
from raysynth.stages import SAYS
from raysynth.stages.cluster import POOL

COMMANDS = ("train", "tune", "sample", "evaluate", "impute")
AHEAD = "raysynth-"  # of our jobs' ids
POLL_S, PATIENCE_S = 0.5, 60.0
MOST = 10_000  # nodes that are asked for labels
MEMORY = 2**30  # bytes that what drives a job may take
USERS = 2  # exit code of what is the user's to mend: tried again it would only fail again

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A job: its id, its command, its state, seconds it took so far, its exit code."""

    id: str
    command: str
    state: JobStatus
    begun: float  # seconds since 1970
    seconds: float
    code: int | None
    why: str


class Cluster:
    """The Jobs API of a cluster, where its dashboard answers.

    Raises `ConfigError` where nothing answers there, where the token is refused, or where the
    cluster runs another minor release of Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        for name in ("ray.dashboard", "ray._private.runtime_env"):
            for logger in (name, *_below(name)):
                logging.getLogger(logger).setLevel(SAYS)
        with _no_address(), self._told():
            self._client = JobSubmissionClient(address)
        theirs = str(self._client._server_ray_version)
        if _minor(theirs) != _minor(ray.__version__):
            raise ConfigError(
                f"{address}: the cluster runs Ray {theirs}, and this is {ray.__version__}; submit "
                f"from an environment with ray=={_minor(theirs)}.*"
            )

    def submit(self, words: Sequence[str], say: Say = lambda line: None) -> str:
        """Have the command `words` run, unless it runs or has succeeded; its job's id.

        Raises `ConfigError` for a command that is none of `COMMANDS`, or that names files which the
        cluster does not see.
        """
        files = _files(words)
        told = [files.get(word, (word, b""))[0] for word in words]
        digest = hashlib.sha256(repr(told).encode())
        for name, data in files.values():
            digest.update(repr((name, data)).encode())
        number, there = self._attempt(f"{AHEAD}{words[0]}-{digest.hexdigest()[:12]}", say)
        if there:
            return number
        with tempfile.TemporaryDirectory(prefix="raysynth-") as folder:
            for name, data in files.values():
                (Path(folder) / name).write_bytes(data)
            job = {
                "entrypoint": shlex.join(["python", "-m", "raysynth", *told]),
                "submission_id": number,
                "runtime_env": {
                    "env_vars": {"RAYSYNTH_JOB": number},
                    **({"working_dir": folder} if files else {}),
                },
                "metadata": {"raysynth": version("raysynth"), "command": words[0]},
                **self._where(),
            }
            with self._told():
                self._submit(job)
        return number

    def _attempt(self, base: str, say: Say) -> tuple[str, bool]:
        """The id of the last attempt at a job, which is there, or of the next where that failed."""
        ours = [one for one in self.jobs() if one.id == base or one.id.startswith(f"{base}-")]
        attempts = {int(one.id[len(base) + 1 :] or 1): one for one in ours}
        if not attempts:
            return base, False
        latest = max(attempts)
        last = attempts[latest]
        if last.state not in (JobStatus.FAILED, JobStatus.STOPPED):
            say(f"{last.id}: is there already, {last.state.lower()}")
            return last.id, True
        say(f"{last.id}: {last.state.lower()} before, and submitted anew")
        return f"{base}-{latest + 1}", False

    def _where(self) -> dict[str, Any]:
        """Where a command is to run: in the pool for data, where there are pools.

        On the head it would run otherwise, which is to do no work; and what drives a training is
        not to be on a node that may be taken away.
        """
        with self._told(), _no_address():
            nodes = list_nodes(address=self.address, limit=MOST, raise_on_missing_output=False)
        if not any(POOL in (node.labels or {}) for node in nodes):
            return {}
        # Memory bounds how many a node takes; a core each could leave none for what they wait for.
        return {"entrypoint_memory": MEMORY, "entrypoint_label_selector": {POOL: "data"}}

    def _submit(self, job: dict[str, Any]) -> None:
        """Hand it over; a cluster that has just started takes none for some seconds."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._client.submit_job(**job)
            except RuntimeError as error:
                if "No available agent" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def follow(self, number: str, out: Say) -> Job:
        """Hand on what the job prints, as it comes, until it is over; Ctrl-C leaves it running."""
        self.job(number)
        with self._told():
            asyncio.run(self._follow(number, out))
        return self._over(number)

    async def _follow(self, number: str, out: Say) -> None:
        async for text in self._client.tail_job_logs(number):
            out(text)

    def logs(self, number: str) -> str:
        """What the job has printed so far. Raises `ConfigError` for an id there is not."""
        self.job(number)
        with self._told():
            return str(self._client.get_job_logs(number))

    def job(self, number: str) -> Job:
        """A job by its id. Raises `ConfigError` where there is none."""
        found = self._find(number)
        if found is None:
            raise ConfigError(f"{number}: no such job; 'raysynth jobs' lists them")
        return found

    def jobs(self) -> list[Job]:
        """Our jobs, the latest first."""
        with self._told():
            found = map(_job, self._client.list_jobs())
        ours = [one for one in found if one.id.startswith(AHEAD)]
        return sorted(ours, key=lambda one: -one.begun)

    def cancel(self, number: str) -> Job:
        """Ask a job to end, with a checkpoint where it trains, and wait until it has."""
        self.job(number)
        with self._told():
            self._client.stop_job(number)
        return self._over(number)

    def _over(self, number: str) -> Job:
        """The job, once it is."""
        while not (job := self.job(number)).state.is_terminal():
            time.sleep(POLL_S)
        return job

    def _find(self, number: str) -> Job | None:
        return next((one for one in self.jobs() if one.id == number), None)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the client says, as an error of ours."""
        try:
            yield
        except AuthenticationError:
            raise ConfigError(
                f"{self.address}: the token is refused; set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN_PATH to a file with the cluster's own"
            ) from None
        except OSError:
            raise ConfigError(
                f"{self.address}: no dashboard of Ray answers; expected its address, or a tunnel "
                "to it: ssh -L 8265:127.0.0.1:8265 HEAD"
            ) from None
        except RuntimeError as error:
            raise StorageError(f"{self.address}: {str(error).splitlines()[0]}") from None


def _job(found: Any) -> Job:
    begun = (found.start_time or 0) / 1_000
    end = (found.end_time or 0) / 1_000 or time.time()
    status = JobStatus(found.status)
    why = "" if status == JobStatus.SUCCEEDED else str(found.message or "").partition("\n")[0]
    number = found.submission_id or found.job_id or ""
    seconds = max(0.0, end - begun) if begun else 0.0
    return Job(number, found.entrypoint, status, begun, seconds, found.driver_exit_code, why)


def _files(words: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Settings files among the words: what each is called on the cluster, and what is in it.

    Raises `ConfigError` for what a command would look for on the cluster and not find.
    """
    if not words or words[0] not in COMMANDS:
        raise ConfigError(f"submit: expected a command, one of {', '.join(COMMANDS)}")
    found: dict[str, tuple[str, bytes]] = {}
    storage = _option(words, "--storage")
    for word in words[1:]:
        path = Path(word)
        if path.suffix == ".toml" and path.is_file():
            found[word] = (f"{len(found)}-{path.name}", path.read_bytes())
            values = read_toml(path)
            _check_seen(str(values.get("table", "/")))
            storage = storage or values.get("storage")
        elif not word.startswith("-") and path.exists():
            _check_seen(word)
    if words[0] in ("train", "tune") and not _seen(storage or ""):
        raise ConfigError(
            "submit: say where runs are to lie once the job is over: --storage s3://bucket/key, or "
            "a folder that every node sees, by its whole path"
        )
    return found


def _option(words: Sequence[str], name: str) -> str | None:
    """The value of an option, given either way."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _seen(path: str) -> bool:
    return path.startswith("s3://") or Path(path).is_absolute()


def _check_seen(path: str) -> None:
    if not _seen(path):
        raise ConfigError(
            f"{path}: the cluster does not see this machine's files; expected s3://bucket/key, or "
            "a path that every node sees, whole"
        )


def _below(name: str) -> list[str]:
    """Loggers there are below one: some of Ray's have a level of their own."""
    return [one for one in logging.root.manager.loggerDict if one.startswith(f"{name}.")]


def _minor(release: str) -> str:
    return ".".join(release.split(".")[:2])


@contextlib.contextmanager
def _no_address() -> Iterator[None]:
    """Without the variables that the client takes over the address that it is given."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
