"""The `work` folder inside a run folder: what a training needs to resume, and nobody else may see.

It holds the settings the training began with, which table, a copy of it where it was no Parquet,
its codecs and codes, and Ray Train's checkpoints. A training can resume from when its codes are
whole; a folder that comes to less is removed.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raysynth.config import TrainConfig
from raysynth.errors import RunError, StorageError
from raysynth.run import MANIFEST, WORK
from raysynth.stages.data import has_codes
from raysynth.stages.staging import Table, fingerprint, stage
from raysynth.storage import reason, write_bytes

SETTINGS, SOURCE = "settings.json", "source.json"


@contextmanager
def claimed(config: TrainConfig) -> Iterator[Path]:
    """The work folder, for this process alone; gone again where it comes to nothing."""
    path = config.path.absolute()
    there = path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"{config.path}: cannot be written: {reason(error)}") from None
    try:
        _lock(folder, config)
        work = _claim(config)
        try:
            yield work
        finally:
            if not has_codes(work):  # nothing to resume from: nothing private stays
                shutil.rmtree(work, ignore_errors=True)
    finally:
        if not there:
            with suppress(OSError):
                path.rmdir()  # where nothing was put into it
        os.close(folder)


def _lock(folder: int, config: TrainConfig) -> None:
    """Hold the run folder as long as it is open. The system lets go of it if this process dies."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{config.path}: another process is training it; wait for it to end, or choose another "
            "--name"
        ) from None
    except OSError:
        return  # a filesystem without locks


def _claim(config: TrainConfig) -> Path:
    """The work folder, made for this configuration or left by an interrupted training of it."""
    path = config.path.absolute()
    if (path / MANIFEST).exists():
        raise RunError(
            f"{config.path}: already holds a run; choose another --name, or delete the folder to "
            "train anew"
        )
    work, mine = path / WORK, config.meaning
    if (work / SETTINGS).is_file() and has_codes(work):
        theirs = json.loads((work / SETTINGS).read_text())
        apart = sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key))
        if apart:
            raise RunError(
                f"{config.path}: holds an unfinished training with other settings "
                f"({', '.join(apart)}); repeat its own settings to resume it, choose another "
                "--name, or delete the folder"
            )
    elif (work / SETTINGS).is_file():
        shutil.rmtree(work, ignore_errors=True)  # stopped before there was anything to resume
    elif any(path.iterdir()):
        raise RunError(f"{config.path}: is not empty and holds no run; choose another --name")
    write_bytes(work / SETTINGS, json.dumps(mine).encode())
    work.chmod(0o700)  # encoded rows are as private as the table
    return work


def staged(config: TrainConfig, source: Table, work: Path) -> Path:
    """`stage`, once: a resumed training reads the copy its first attempt made."""
    note, mine = work / SOURCE, fingerprint(source)
    if note.is_file():
        path, theirs = json.loads(note.read_text())
        if mine != theirs:
            raise RunError(
                f"{config.path}: holds an unfinished training of another table, or this table has "
                "changed since; choose another --name, or delete the folder"
            )
        return Path(path)
    path = stage(config, source, work)
    write_bytes(note, json.dumps([str(path.absolute()), mine]).encode())
    return path
