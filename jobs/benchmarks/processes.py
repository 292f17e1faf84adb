"""What the processes below this one use: CPU seconds and peak memory, out of Linux's /proc.

Ray's workers are children of its raylet, which is a child of ours. They come and go, so a thread
looks at all of them a few times a second and keeps the last that was seen of each.
"""

import os
import threading
from pathlib import Path
from typing import Any, Self

INTERVAL_S = 0.1
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Watch:
    """CPU seconds of this process and all below it, and the peak memory of the largest worker."""

    def __init__(self) -> None:
        self._cpu: dict[int, float] = {}
        self._peaks: dict[int, float] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        self._look()
        return sum(self._cpu.values())

    def forget_peaks(self) -> None:
        """Peaks count from here."""
        with self._lock:
            for pid in self._peaks:
                try:
                    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel's own peak, too
                except OSError:
                    continue
            self._peaks.clear()

    def peak_mib(self) -> float:
        """The most memory any one worker of Ray's held."""
        self._look()
        return max(self._peaks.values(), default=0.0)

    def _look_on(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        with self._lock:
            for pid in _below(os.getpid()):
                seen = _seen(pid)
                if seen is not None:
                    self._cpu[pid], worker, peak = seen
                    if worker:
                        self._peaks[pid] = max(peak, self._peaks.get(pid, 0.0))


def _seen(pid: int) -> tuple[float, bool, float] | None:
    """CPU seconds, whether it is a worker of Ray's, and peak MiB; None for one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    facts: dict[str, Any] = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    peak = int(facts.get("VmHWM", "0 kB").split()[0]) / 1024
    return (int(stat[11]) + int(stat[12])) * _TICK_S, words.startswith(b"ray::"), peak


def _below(root: int) -> set[int]:
    """The process `root` and all that descend from it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found
