"""Checkpoints of a training, in its work folder: from the newest that is whole, it goes on.

    <epochs>.<steps>/state.safetensors   weights, optimizers, what is over
    <epochs>.<steps>/losses.jsonl        mean losses of every epoch so far
    <epochs>.<steps>/index.json          sizes and hashes of the two above, written last

Two are kept. What is torn or altered does not verify, and the one before it serves. Ray Train could
keep them, but takes an S3 filesystem with its keys in clear into what it pickles, without its
retries, and mixes what a dead attempt uploaded with what its successor does.

They are written while training goes on (`Writer`), and read back before they count as kept.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raysynth.errors import AbsentError, RunError, StorageError
from raysynth.storage import Place, write_bytes

STATE, LOSSES, INDEX = "state.safetensors", "losses.jsonl", "index.json"
KEPT = 2
_NAME = re.compile(r"(\d{8})\.(\d{10})")


@dataclass(frozen=True)
class Checkpoint:
    """A place in a training: `learn.capture`'s state, and the losses so far, one JSON a line.

    It comes after `epoch` epochs and `steps` steps of the next.
    """

    epoch: int
    state: bytes
    losses: str
    steps: int = 0

    @property
    def place(self) -> "Reached":
        """How far training is there."""
        return self.epoch, self.steps


# How far a training is: epochs that are over, and steps of the next.
Reached = tuple[int, int]


def save(folder: Place, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint in `folder`, see that it is whole there, and drop all but the last two.

    Raises `StorageError` where it cannot be written; those before it are then as they were.
    """
    at = folder / _name(checkpoint.place)
    files = {STATE: checkpoint.state, LOSSES: checkpoint.losses.encode()}
    for name, data in files.items():
        write_bytes(at / name, data)
    index = {name: entry(data) for name, data in files.items()}
    write_bytes(at / INDEX, json.dumps(index).encode())
    try:
        load(folder, checkpoint.place)
    except RunError:
        raise StorageError(f"{at}: what was written is not what is read back") from None
    with suppress(StorageError):  # what is left over harms nobody and goes the next time
        for place in _places(folder)[KEPT:]:
            (folder / _name(place)).remove()


def newest(folder: Place) -> Checkpoint | None:
    """The last checkpoint that verifies, or None. Raises `StorageError` where `folder` is away."""
    for place in _places(folder):
        with suppress(RunError):
            return load(folder, place)
    return None


def load(folder: Place, place: Reached) -> Checkpoint:
    """The checkpoint of a place. Raises `RunError` where it is not whole, `StorageError`."""
    at = folder / _name(place)
    try:
        index = json.loads((at / INDEX).read_bytes())
        files = {name: (at / name).read_bytes() for name in (STATE, LOSSES)}
        whole = index == {name: entry(data) for name, data in files.items()}
    except (AbsentError, json.JSONDecodeError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise RunError(f"{at}: the checkpoint is torn or altered; repeat the command") from None
    epoch, steps = place
    return Checkpoint(epoch, files[STATE], files[LOSSES].decode(), steps)


class Writer:
    """Keeps checkpoints in `folder` on a thread of its own, one at a time.

    `kept` is called on that thread after each that is whole there.
    """

    def __init__(self, folder: Place, kept: Callable[[], None] = lambda: None) -> None:
        self._folder, self._kept = folder, kept
        self._thread: threading.Thread | None = None
        self._error: StorageError | None = None

    def put(self, checkpoint: Checkpoint) -> None:
        """Keep one, once that before it is. Raises `StorageError` of what could not be kept."""
        self.finish()
        self._thread = threading.Thread(
            target=self._save, args=(checkpoint,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last one is kept. Raises `StorageError` where it could not be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _save(self, checkpoint: Checkpoint) -> None:
        try:
            save(self._folder, checkpoint)
            self._kept()
        except StorageError as error:
            self._error = error


def _name(place: Reached) -> str:
    epoch, steps = place
    return f"{epoch:08d}.{steps:010d}"


def _places(folder: Place) -> list[Reached]:
    """Places that left anything, the last first."""
    if not folder.exists():
        return []
    names = {file.text.split("/")[-2] for file, _ in folder.files()}
    found = [_NAME.fullmatch(name) for name in names]
    return sorted(((int(name[1]), int(name[2])) for name in found if name), reverse=True)


def entry(data: bytes) -> dict[str, Any]:
    """What an index or a manifest says of a file, by which it is told from any other."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
