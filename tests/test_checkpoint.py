"""Checkpoints: the newest that is whole is taken up, and two are kept."""

import threading
from pathlib import Path
from typing import Any

import pytest

from raysynth import checkpoint
from raysynth.checkpoint import Checkpoint, Writer
from raysynth.errors import RunError, StorageError
from raysynth.storage import Place, write_bytes

NINE, TEN, ELEVEN = (f"{epoch:08d}.{0:010d}" for epoch in (9, 10, 11))


def _of(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, f"state of {epoch}".encode() * 100, f'{{"epoch": {epoch}}}\n')


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    """Checkpoints of the epochs 1, 2, 9 and 10."""
    folder = Place.of(tmp_path / "checkpoints")
    assert checkpoint.newest(folder) is None
    for epoch in (1, 2, 9, 10):
        checkpoint.save(folder, _of(epoch))
    return folder


def test_the_last_two_are_kept_and_the_last_is_taken_up(folder: Place) -> None:
    assert sorted(path.name for path in folder.local.iterdir()) == [NINE, TEN]
    assert checkpoint.newest(folder) == _of(10)
    assert checkpoint.load(folder, (9, 0)) == _of(9)


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.LOSSES, checkpoint.INDEX])
@pytest.mark.parametrize("fault", ["torn", "altered", "gone", "empty"])
def test_where_the_last_is_not_whole_the_one_before_it_is_taken_up(
    folder: Place, name: str, fault: str
) -> None:
    path = folder.local / TEN / name
    data = path.read_bytes()
    path.unlink()
    left = {"torn": data[:-1], "altered": data[:5] + b"\xff" + data[6:], "empty": b""}
    if fault in left:
        path.write_bytes(left[fault])
    assert checkpoint.newest(folder) == _of(9)
    with pytest.raises(RunError, match=f"{TEN}: the checkpoint is torn or altered"):
        checkpoint.load(folder, (10, 0))


def test_where_none_is_whole_none_is_taken_up(folder: Place) -> None:
    for path in folder.local.glob(f"*/{checkpoint.STATE}"):
        path.write_bytes(b"")
    assert checkpoint.newest(folder) is None


def test_what_cannot_be_reached_is_not_taken_for_absent(folder: Place) -> None:
    path = folder.local / TEN / checkpoint.STATE
    path.unlink()
    path.mkdir()  # reading it fails, and not because nothing is there
    with pytest.raises(StorageError, match="cannot be read"):
        checkpoint.newest(folder)


def test_an_epoch_saved_again_replaces_what_an_attempt_left_of_it(folder: Place) -> None:
    (folder.local / ELEVEN).mkdir()
    (folder.local / ELEVEN / checkpoint.STATE).write_bytes(b"half of it")
    assert checkpoint.newest(folder) == _of(10)
    checkpoint.save(folder, _of(11))
    assert checkpoint.newest(folder) == _of(11)


def test_a_place_inside_an_epoch_comes_after_its_beginning(folder: Place) -> None:
    inside = Checkpoint(10, b"state", "", steps=2_000)
    checkpoint.save(folder, inside)
    assert checkpoint.newest(folder) == inside
    checkpoint.save(folder, _of(11))
    assert checkpoint.newest(folder) == _of(11)


def test_what_is_not_read_back_as_it_was_written_is_not_kept(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(place: Place, data: bytes) -> None:
        write_bytes(place, data[:-1] if place.name == checkpoint.STATE else data)

    monkeypatch.setattr(checkpoint, "write_bytes", torn)
    with pytest.raises(StorageError, match=f"{ELEVEN}: what was written is not what is read back"):
        checkpoint.save(folder, _of(11))
    assert checkpoint.newest(folder) == _of(10)


def test_a_writer_lets_training_go_on_and_keeps_one_after_the_other(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, kept = threading.Event(), []

    def slow(*words: Any) -> None:
        assert go_on.wait(10)
        save(*words)

    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", slow)
    writer = Writer(folder, lambda: kept.append(checkpoint.newest(folder)))
    writer.put(_of(11))
    assert kept == []  # the last is still being written
    assert checkpoint.newest(folder) == _of(10)
    go_on.set()
    writer.put(_of(12))
    writer.finish()
    assert kept == [_of(11), _of(12)]


def test_what_a_writer_could_not_keep_is_told_by_whatever_is_asked_next(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = Writer(Place.of(tmp_path / "file"))
    writer.put(_of(1))
    with pytest.raises(StorageError):
        writer.put(_of(2))
    writer.put(_of(3))
    with pytest.raises(StorageError):
        writer.finish()
    writer.finish()
