"""Checkpoints: the newest that is whole is taken up, and two are kept."""

from pathlib import Path

import pytest

from raysynth import checkpoint
from raysynth.checkpoint import Checkpoint
from raysynth.errors import RunError, StorageError
from raysynth.storage import Place


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
    assert sorted(path.name for path in folder.local.iterdir()) == ["00000009", "00000010"]
    assert checkpoint.newest(folder) == _of(10)
    assert checkpoint.load(folder, 9) == _of(9)


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.LOSSES, checkpoint.INDEX])
@pytest.mark.parametrize("fault", ["torn", "altered", "gone", "empty"])
def test_where_the_last_is_not_whole_the_one_before_it_is_taken_up(
    folder: Place, name: str, fault: str
) -> None:
    path = folder.local / "00000010" / name
    data = path.read_bytes()
    path.unlink()
    left = {"torn": data[:-1], "altered": data[:5] + b"\xff" + data[6:], "empty": b""}
    if fault in left:
        path.write_bytes(left[fault])
    assert checkpoint.newest(folder) == _of(9)
    with pytest.raises(RunError, match="00000010: the checkpoint is torn or altered"):
        checkpoint.load(folder, 10)


def test_where_none_is_whole_none_is_taken_up(folder: Place) -> None:
    for path in folder.local.glob(f"*/{checkpoint.STATE}"):
        path.write_bytes(b"")
    assert checkpoint.newest(folder) is None


def test_what_cannot_be_reached_is_not_taken_for_absent(folder: Place) -> None:
    path = folder.local / "00000010" / checkpoint.STATE
    path.unlink()
    path.mkdir()  # reading it fails, and not because nothing is there
    with pytest.raises(StorageError, match="cannot be read"):
        checkpoint.newest(folder)


def test_an_epoch_saved_again_replaces_what_an_attempt_left_of_it(folder: Place) -> None:
    (folder.local / "00000011").mkdir()
    (folder.local / "00000011" / checkpoint.STATE).write_bytes(b"half of it")
    assert checkpoint.newest(folder) == _of(10)
    checkpoint.save(folder, _of(11))
    assert checkpoint.newest(folder) == _of(11)
