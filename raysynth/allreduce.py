"""All-reduce among the workers of one machine, through memory that they share.

Gloo sums over loopback TCP, where a sum costs wake-ups and copies: of two workers here, a median of
2.8 ms for 100,000 float32 and of 7.3 ms for 2.24 million, of which these take 0.04 and 0.8 ms.
Each worker writes its numbers, adds up a part of everybody's, and reads the other parts: a number
is written and read twice, whatever the number of workers, and is the same on each, bit by bit.

Workers wait for one another by counters in the same memory. That what one writes before its counter
others read after it, is a promise of x86 processors: on others there is none of this, nor of GPUs,
which NCCL serves. Who waits spins for `SPIN_S`, yielding its core, and then looks again and again.
"""

import mmap
import os
import platform
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from raysynth.processes import lives

MEMORY = Path("/dev/shm")  # files that are never written to a disk
ORDERED = platform.machine() in ("x86_64", "AMD64")
SPIN_S, SLEEP_S, LOOK_S = 2e-3, 1e-4, 1.0
_LINE = 8  # int64 in a line of the cache: two workers' counters share none


class Shared:
    """Memory of `workers` workers for sums of up to `room` bytes, as worker `rank` sees it.

    Raises `OSError` where there is no such file.
    """

    def __init__(self, path: str, rank: int, workers: int, room: int) -> None:
        self._rank, self._workers = rank, workers
        self._room = _pages(room)
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _size(workers, room))
        header = torch.frombuffer(self._memory, dtype=torch.int64, count=2 * workers * _LINE)
        self._turns, self._pids = header.view(2, workers, _LINE)[:, :, 0].numpy()
        self._turn = 0
        self._pids[rank] = os.getpid()

    @classmethod
    def offer(cls, workers: int, room: int) -> str:
        """A file for so many, to be deleted once all have opened it; none where that cannot be."""
        path = MEMORY / f"raysynth-{secrets.token_hex(16)}"
        if not ORDERED:
            return ""
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError:
            return ""
        try:
            # All of it at once: what is missing later would end the process.
            os.posix_fallocate(file, 0, _size(workers, room))
        except OSError:
            path.unlink()
            return ""
        finally:
            os.close(file)
        return str(path)

    @property
    def reachable(self) -> bool:
        """Whether all workers, who opened it, are processes that this one can see."""
        return all(map(lives, self._pids.tolist()))

    def mean(self, pieces: Sequence[Tensor], flat: Tensor) -> None:
        """Have `flat` (n,) be the mean of every worker's `pieces`, one after the other.

        Raises `RuntimeError` where a worker is gone.
        """
        count, rank = flat.numel(), self._rank
        parts = [self._part(place, flat.dtype, count) for place in range(self._workers)]
        total = self._part(self._workers, flat.dtype, count)
        mine = slice(count * rank // self._workers, count * (rank + 1) // self._workers)
        torch.cat([piece.reshape(-1) for piece in pieces], out=parts[rank])
        self._meet()
        here = total[mine].copy_(parts[0][mine])
        for part in parts[1:]:
            here += part[mine]
        here /= self._workers
        self._meet()
        flat.copy_(total)

    def _part(self, place: int, dtype: torch.dtype, count: int) -> Tensor:
        """A worker's numbers (n,), or the sum of all, which comes last."""
        start = _head(self._workers) + place * self._room
        return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=start)

    def _meet(self) -> None:
        """Wait until every worker has come here as often."""
        self._turn += 1
        self._turns[self._rank] = self._turn
        for place in range(self._workers):
            if self._turns[place] < self._turn:
                self._wait(place)

    def _wait(self, place: int) -> None:
        begun = looked = time.perf_counter()
        while self._turns[place] < self._turn:
            now = time.perf_counter()
            if now - begun < SPIN_S:
                os.sched_yield()
                continue
            time.sleep(SLEEP_S)
            if now - looked > LOOK_S:
                looked = now
                if not lives(int(self._pids[place])) and self._turns[place] < self._turn:
                    raise RuntimeError(f"worker {place} is gone")


def _head(workers: int) -> int:
    """Bytes of counters and process numbers."""
    return _pages(2 * workers * _LINE * 8)


def _size(workers: int, room: int) -> int:
    return _head(workers) + (workers + 1) * _pages(room)


def _pages(count: int) -> int:
    """So many bytes and those to the end of their last page."""
    return -(-count // mmap.PAGESIZE) * mmap.PAGESIZE
