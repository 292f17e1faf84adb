"""Means over processes through memory they share: exact, the same on each, whoever comes late."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from raysynth import allreduce
from raysynth.allreduce import Shared

WORKERS, ROOM, ROUNDS = 3, 8_000, 300

pytestmark = pytest.mark.skipif(
    not (allreduce.ORDERED and allreduce.MEMORY.is_dir()), reason="no shared memory here"
)


def pieces_of(rank: int, turn: int) -> list[torch.Tensor]:
    """What a worker brings to a turn: as many numbers as the others, in two pieces."""
    chance = np.random.default_rng(turn)
    count, kind = int(chance.integers(1, 1_000)), (torch.float32, torch.float64)[turn % 2]
    values = torch.from_numpy(np.random.default_rng((turn, rank)).normal(size=count)).to(kind)
    cut = count // 3
    return [values[:cut], values[cut:].reshape(1, -1)]


def averaging(rank: int, path: str, out: str) -> None:
    """Take part in all turns, coming late to some."""
    torch.set_num_threads(1)
    shared, late = Shared(path, rank, WORKERS, ROOM), np.random.default_rng(rank)
    found = []
    for turn in range(ROUNDS):
        if late.random() < 0.1:
            time.sleep(late.choice([1e-4, 1e-3, 5e-3]))  # within the time that others spin, and not
        pieces = pieces_of(rank, turn)
        flat = torch.empty(sum(piece.numel() for piece in pieces), dtype=pieces[0].dtype)
        shared.mean(pieces, flat)
        found.append(flat)
    torch.save((shared.reachable, found), Path(out, f"{rank}.pt"))
    os._exit(0)


def test_every_worker_has_the_mean_of_all_to_the_last_bit(tmp_path: Path) -> None:
    path = Shared.offer(WORKERS, ROOM)
    multiprocessing.spawn(averaging, (path, str(tmp_path)), nprocs=WORKERS)
    Path(path).unlink()
    told = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]
    assert all(reachable for reachable, _ in told)
    for turn, found in enumerate(zip(*(one for _, one in told), strict=True)):
        brought = [
            torch.cat([piece.reshape(-1) for piece in pieces_of(rank, turn)])
            for rank in range(WORKERS)
        ]
        expected = (brought[0] + brought[1] + brought[2]) / WORKERS
        assert all(torch.equal(mine, expected) for mine in found), turn


def test_who_waits_for_a_worker_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allreduce, "LOOK_S", 0.05)
    path = Shared.offer(2, ROOM)
    shared = Shared(path, 0, 2, ROOM)
    assert not shared.reachable, "nobody else came yet"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        Shared(path, 1, 2, ROOM)._pids[1] = pool._pool[0].pid
        assert shared.reachable
    Path(path).unlink()
    with pytest.raises(RuntimeError, match="worker 1 is gone"):
        shared.mean([torch.ones(3)], torch.empty(3))


def test_no_memory_is_offered_where_there_is_no_room_or_no_promise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(allreduce, "MEMORY", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert Shared.offer(2, ROOM) == ""
    with monkeypatch.context() as patch:
        patch.setattr(allreduce, "MEMORY", tmp_path / "nowhere")
        assert Shared.offer(2, ROOM) == ""
    with monkeypatch.context() as patch:
        patch.setattr(allreduce, "ORDERED", False)
        assert Shared.offer(2, ROOM) == ""
    assert not list(tmp_path.iterdir())
    path = Path(Shared.offer(2, ROOM))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="mmap length"):
        Shared(str(path), 0, 2, 100 * ROOM)
