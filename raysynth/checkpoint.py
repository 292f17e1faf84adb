"""Checkpoints of a training, in its work folder: from the newest that is whole, it goes on.

    <epoch>/state.safetensors   weights, optimizers, epoch
    <epoch>/losses.jsonl        mean losses of every epoch so far
    <epoch>/index.json          sizes and hashes of the two above, written last

Two are kept. What is torn or altered does not verify, and the one before it serves. Ray Train could
keep them, but takes an S3 filesystem with its keys in clear into what it pickles, without its
retries, and mixes what a dead attempt uploaded with what its successor does.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raysynth.errors import AbsentError, RunError, StorageError
from raysynth.storage import Place, write_bytes

STATE, LOSSES, INDEX = "state.safetensors", "losses.jsonl", "index.json"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The end of an epoch: `learn.capture`'s state, and the losses so far, one JSON a line."""

    epoch: int
    state: bytes
    losses: str


def save(folder: Place, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint in `folder`, and drop all but the last two.

    Raises `StorageError` where it cannot be written; those before it are then as they were.
    """
    at = folder / f"{checkpoint.epoch:08d}"
    files = {STATE: checkpoint.state, LOSSES: checkpoint.losses.encode()}
    for name, data in files.items():
        write_bytes(at / name, data)
    index = {name: entry(data) for name, data in files.items()}
    write_bytes(at / INDEX, json.dumps(index).encode())
    with suppress(StorageError):  # what is left over harms nobody and goes the next time
        for epoch in _epochs(folder)[KEPT:]:
            (folder / f"{epoch:08d}").remove()


def newest(folder: Place) -> Checkpoint | None:
    """The last checkpoint that verifies, or None. Raises `StorageError` where `folder` is away."""
    for epoch in _epochs(folder):
        with suppress(RunError):
            return load(folder, epoch)
    return None


def load(folder: Place, epoch: int) -> Checkpoint:
    """The checkpoint of an epoch. Raises `RunError` where it is not whole, `StorageError`."""
    at = folder / f"{epoch:08d}"
    try:
        index = json.loads((at / INDEX).read_bytes())
        files = {name: (at / name).read_bytes() for name in (STATE, LOSSES)}
        whole = index == {name: entry(data) for name, data in files.items()}
    except (AbsentError, json.JSONDecodeError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise RunError(f"{at}: the checkpoint is torn or altered; repeat the command") from None
    return Checkpoint(epoch, files[STATE], files[LOSSES].decode())


def _epochs(folder: Place) -> list[int]:
    """Epochs that left anything, the last first."""
    if not folder.exists():
        return []
    names = {file.text.split("/")[-2] for file, _ in folder.files()}
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def entry(data: bytes) -> dict[str, Any]:
    """What an index or a manifest says of a file, by which it is told from any other."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
