"""The `work` folder inside a run folder: what a training needs to resume, and nobody else may see.

It holds the settings the training began with, which table, a copy of it where it was no Parquet,
its codecs and codes, and checkpoints. A training can resume from when its codes are whole; a folder
that comes to less is removed.

One training at a time has it. On this machine the system sees to that, by a lock that ends with the
process. A bucket has no locks: there a small object says which process has the run and since when,
written anew every `FRESH_S` seconds, and another that is fresh is refused. This holds off a command
that was started twice by mistake, no more: two that begin within the same second or so may both see
nothing, clocks that differ by minutes make the living look dead, and a process that is held up for
`STALE_S` is taken for dead. Processes of one machine are told apart by whether they live.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from raysynth.config import TrainConfig
from raysynth.errors import AbsentError, RunError, StorageError
from raysynth.processes import lives
from raysynth.run import MANIFEST, WORK, settings_of
from raysynth.stages.data import has_codes
from raysynth.stages.staging import Table, fingerprint, stage
from raysynth.storage import Place, reason, write_bytes

SETTINGS, SOURCE, CLAIM = "settings.json", "source.json", "claim.json"
FRESH_S, STALE_S, ASK_AGAIN_S = 30.0, 180.0, 0.2


@contextmanager
def claimed(config: TrainConfig) -> Iterator[Place]:
    """The work folder, for this process alone; gone again where it comes to nothing."""
    place = config.place
    with held(place):
        work = _claim(config)
        try:
            yield work
        finally:
            with suppress(StorageError):  # where that cannot be told, all stays as it is
                if not (has_codes(work) or (work / MANIFEST).exists()):
                    _clear(work)  # nothing to resume from: nothing private stays


def held(place: Place) -> Any:
    """The folder, for this process alone. Raises `RunError` where another has it."""
    return _held_in_bucket(place) if place.bucket else _held_on_disk(place)


@contextmanager
def _held_on_disk(place: Place) -> Iterator[None]:
    path = place.local.absolute()
    there = path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {reason(error)}") from None
    try:
        _lock(folder, place)
        yield
    finally:
        if not there:
            with suppress(OSError):
                path.rmdir()  # where nothing was put into it
        os.close(folder)


def _lock(folder: int, place: Place) -> None:
    """Hold the run folder as long as it is open. The system lets go of it if this process dies."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{place}: another process is at work on it; wait for it to end, or choose another "
            "--name"
        ) from None
    except OSError:
        return  # a filesystem without locks


@contextmanager
def _held_in_bucket(place: Place) -> Iterator[None]:
    at = place / WORK / CLAIM
    me = {"host": socket.gethostname(), "pid": os.getpid(), "mark": secrets.token_hex(8)}
    _refuse_others(place, at, me)
    over = threading.Event()

    def say() -> None:
        write_bytes(at, json.dumps({**me, "time": time.time()}).encode())

    def go_on_saying() -> None:
        while not over.wait(FRESH_S):
            with suppress(StorageError):  # next time, perhaps
                say()

    if not (place / MANIFEST).exists():  # else there is nothing to claim, as is told next
        say()
        _refuse_others(place, at, me)
    voice = threading.Thread(target=go_on_saying, name="raysynth-claim", daemon=True)
    voice.start()
    try:
        yield
    finally:
        over.set()
        voice.join(timeout=5)
        with suppress(StorageError):
            at.remove()


def _refuse_others(place: Place, at: Place, me: dict[str, Any]) -> None:
    """Raise `RunError` where a living process other than this has claimed the run."""
    try:
        claim = json.loads(_said(at))
        mine, host = claim["mark"] == me["mark"], str(claim["host"])
        pid, age = int(claim["pid"]), time.time() - float(claim["time"])
    except (AbsentError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StorageError) and not isinstance(error, AbsentError):
            raise
        return
    alive = lives(pid) if host == me["host"] else age < STALE_S
    if not mine and alive:
        raise RunError(
            f"{place}: another process is at work on it (process {pid} on {host}, "
            f"{max(age, 0):.0f} seconds ago); wait for it to end, or choose another "
            f"--name. If it is dead, repeat the command {STALE_S:.0f} seconds after its last sign "
            "of life"
        )


def _said(at: Place) -> bytes:
    """What the object holds. Swift answers 404 in the moment one object takes another's place."""
    try:
        return at.read_bytes()
    except AbsentError:
        time.sleep(ASK_AGAIN_S)
        return at.read_bytes()


def _claim(config: TrainConfig) -> Place:
    """The work folder, made for this configuration or left by an interrupted training of it."""
    place, mine = config.place, config.meaning
    if (place / MANIFEST).exists():
        raise RunError(
            f"{place}: already holds a run; choose another --name, or delete the folder to train "
            "anew"
        )
    work = place / WORK
    over, begun = (work / MANIFEST).exists(), (work / SETTINGS).exists()
    if over or (begun and has_codes(work)):
        theirs = settings_of(place).meaning if over else _settings(work)
        apart = sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key))
        if apart:
            raise RunError(
                f"{place}: holds an unfinished training with other settings "
                f"({', '.join(apart)}); repeat its own settings to resume it, choose another "
                "--name, or delete the folder"
            )
    elif begun:
        _clear(work)  # stopped before there was anything to resume
    elif any(file != work / CLAIM for file, _ in place.files()):
        raise RunError(f"{place}: is not empty and holds no run; choose another --name")
    write_bytes(work / SETTINGS, json.dumps(mine).encode())
    if not work.bucket:
        work.local.chmod(0o700)  # encoded rows are as private as the table
    return work


def _clear(work: Place) -> None:
    work.remove(but=work / CLAIM if work.bucket else None)


def _settings(work: Place) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((work / SETTINGS).read_bytes())
    return settings


def staged(config: TrainConfig, source: Table, work: Place) -> Place:
    """`stage`, once: a resumed training reads the copy its first attempt made."""
    note, mine = work / SOURCE, fingerprint(source)
    if note.exists():
        path, theirs = json.loads(note.read_bytes())
        if mine != theirs:
            raise RunError(
                f"{config.place}: holds an unfinished training of another table, or this table has "
                "changed since; choose another --name, or delete the folder"
            )
        return Place.of(path)
    path = stage(config, source, work)
    write_bytes(note, json.dumps([path.text, mine]).encode())
    return path
