"""What every measuring process shares: clocks, peak memory, the way in and out.

A measurement is a fresh process, in either environment:

    python -m benchmarks.ours TASK SETTINGS RESULT

with a task's name, its settings as JSON, and the file that takes its result, as JSON. This file
needs nothing but the standard library and, where a task has threads, torch.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

MISSING = "?"  # what a null in a text column is to the peer, which takes no nulls
BATCH = 500
SAMPLE = 100_000
SMALL, SMALL_REPEATS = 1_000, 20
MARKS, MARK_ROWS = 20, 2_000

Settings = dict[str, Any]
Result = dict[str, Any]
Task = Callable[[Settings], Result]


def main(tasks: Mapping[str, Task]) -> None:
    """Run the task that the command line names and write its result."""
    name, settings, result = sys.argv[1:]
    values: Settings = json.loads(settings)
    if "threads" in values:
        import torch

        torch.set_num_threads(values["threads"])
    Path(result).write_text(json.dumps(tasks[name](values)))


def write(out: Path, found: Result) -> None:
    """Whole or not at all: a benchmark of days may be stopped at any time."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    part.write_text(json.dumps(found, indent=1))
    part.replace(out)


def cpu_s() -> float:
    """CPU seconds, user and system, of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextmanager
def clock(settle: Callable[[], object] = lambda: None) -> Iterator[dict[str, float]]:
    """Fills the dictionary it gives with `wall_s` and `cpu_s` of its block.

    `settle` ends child processes once the wall clock is read, so that their CPU time counts.
    """
    spent: dict[str, float] = {}
    wall, cpu = time.perf_counter(), cpu_s()
    yield spent
    spent["wall_s"] = time.perf_counter() - wall
    settle()
    spent["cpu_s"] = cpu_s() - cpu


class Ticks:
    """The times at which epochs begin, and the last one ends; the first epoch warms up."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """An epoch begins here, or the last one ended."""
        self.marks.append((time.perf_counter(), cpu_s()))

    def result(self, steps: int, batch: int = BATCH) -> Result:
        """Rows a second over all epochs but the first, of `steps` steps each."""
        (wall, cpu), (wall_end, cpu_end) = self.marks[1], self.marks[-1]
        timed = steps * (len(self.marks) - 2)
        walls = [mark[0] for mark in self.marks]
        return {
            "rows_per_s": timed * batch / (wall_end - wall),
            "step_s": (wall_end - wall) / timed,
            "step_cpu_s": (cpu_end - cpu) / timed,
            "steps_timed": timed,
            "epoch_s": [b - a for a, b in pairwise(walls)],
        }


def sampling(draw: Callable[[int], object]) -> Result:
    """How long `draw` takes for `SMALL` rows at first, for `SAMPLE`, and for `SMALL`: a median.

    The first ones may import libraries and make what is kept, which is no rate of sampling.
    """
    with clock() as first:
        draw(SMALL)
    with clock() as large:
        draw(SAMPLE)
    times = []
    for _ in range(SMALL_REPEATS):
        with clock() as small:
            draw(SMALL)
        times.append(small["wall_s"])
    found = {"first_s": first["wall_s"], "small_s": median(times)}
    return {**found, "large": large, "rows_per_s": SAMPLE / large["wall_s"]}


def flops(run: Callable[[], object]) -> float:
    """Floating-point operations of all dense matrix products of `run`, backward passes included.

    Without oneDNN, to which a whole LSTM is one operation that the counter does not know.
    """
    from torch.backends import mkldnn
    from torch.utils.flop_counter import FlopCounterMode

    with warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore", UserWarning)  # of Intel's GPUs, which nobody asked for
        with mkldnn.flags(enabled=False):
            run()
    return float(counter.get_total_flops())


class Course:
    """A training as it goes: seconds since the first moment, but for those of what is drawn of it.

    What is drawn to be judged lies in `folder`, a file a mark.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.marks: list[Result] = []
        self._begun, self._paused = time.perf_counter(), 0.0
        self._encoded = 0.0

    def encoded(self) -> None:
        """The table is encoded, and training begins."""
        self._encoded = time.perf_counter() - self._begun

    def result(self) -> Result:
        """Seconds that encoding took, and every mark."""
        return {"encode_s": self._encoded, "marks": self.marks}

    def mark(self, epoch: int, draw: Callable[[Path], object]) -> None:
        """Note the seconds at the end of an epoch, and have `draw` write rows to a file."""
        now = time.perf_counter()
        file = self.folder / f"epoch-{epoch:06d}.parquet"
        draw(file)
        spent = now - self._begun - self._paused
        self.marks.append({"epoch": epoch, "seconds": spent, "file": str(file)})
        self._paused += time.perf_counter() - now


def marked(epoch: int, epochs: int) -> bool:
    """Whether rows are drawn after this epoch, from 1: about `MARKS` times, and after the last."""
    return epoch % max(1, epochs // MARKS) == 0 or epoch == epochs


def peak_mib() -> float:
    """The most memory this process held at once.

    Linux keeps it as VmHWM; getrusage would give the parent's peak where that is higher, since a
    process started by vfork inherits it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def versions(settings: Settings) -> Result:
    """Versions of the packages that `settings` names; None for one that is not installed."""
    found: Result = {"python": sys.version.split()[0]}
    for name in settings["packages"]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def needed(settings: Settings) -> Result:
    """What an installed package says that it requires."""
    return {"needed": requires(settings["package"]) or []}


if __name__ == "__main__":
    main({"versions": versions, "needed": needed})
