"""How fast each side is: encoding, training, sampling; and how near to what the machine can do.

Every measurement is a fresh process, and the sides take turns: limit, ours, peer, ours, peer, ...
All of it is done `repeats` times with one thread and with two.

A share of the limit is a rate of dense operations over the machine's own rate of float32 matrix
products, the best measured in the run with as many threads. It is given for the operations a side
really does, and for those the peer does for the same step or row, so that work that is skipped
counts as done. Of a step also without the part of the peer's operations whose result it throws away
(`peer_ctgan.operations`), which nobody should be praised for. Operations are counted by torch's
flop counter, once.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Better, Compared, speed_table
from benchmarks.measure import Result
from benchmarks.sides import Side

THREADS = (1, 2)
EPOCHS = 4  # the first warms up
_LABELS = (
    "% of limit: dense operations a second, as a share of the machine's float32 matrix products:\n"
    "  done: those a side really does;\n"
    "  peer's count: those the peer does for the same step or row, so skipped work counts;\n"
    "  peer's needed: the same without what the peer computes in a step and throws away."
)
TASKS = ("encode", "train", "sample")

# Name, unit, which way is better, and where to find it in one side's results of one repeat.
Reading = tuple[str, str, Better, Callable[[Result], float]]
READINGS: tuple[Reading, ...] = (
    ("fit of the encoding", "s", "lower", lambda r: r["encode"]["fit"]["wall_s"]),
    ("fit of the encoding", "CPU s", "lower", lambda r: r["encode"]["fit"]["cpu_s"]),
    ("encoding", "s", "lower", lambda r: r["encode"]["encode"]["wall_s"]),
    ("encoding", "CPU s", "lower", lambda r: r["encode"]["encode"]["cpu_s"]),
    ("codes", "bytes a row", "lower", lambda r: r["encode"]["row_bytes"]),
    ("training", "rows/s", "higher", lambda r: r["train"]["rows_per_s"]),
    ("training", "CPU ms a step", "lower", lambda r: 1e3 * r["train"]["step_cpu_s"]),
    ("peak memory of training", "MiB", "lower", lambda r: r["train"]["peak_mib"]),
    ("sampling 100,000 rows", "rows/s", "higher", lambda r: r["sample"]["rows_per_s"]),
    ("sampling the first 1,000 rows", "ms", "lower", lambda r: 1e3 * r["sample"]["first_s"]),
    ("sampling 1,000 rows", "ms", "lower", lambda r: 1e3 * r["sample"]["small_s"]),
    ("dense operations", "GFLOP a step", "lower", lambda r: r["operations"]["step"] / 1e9),
    ("dense operations", "MFLOP a sampled row", "lower", lambda r: r["operations"]["row"] / 1e6),
    ("training, done", "% of limit", "higher", lambda r: _step_share(r, r["operations"]["step"])),
    ("training, peer's count", "% of limit", "higher", lambda r: _step_share(r, r["peer"]["step"])),
    (
        "training, peer's needed",
        "% of limit",
        "higher",
        lambda r: _step_share(r, r["peer"]["step_needed"]),
    ),
    ("sampling, done", "% of limit", "higher", lambda r: _row_share(r, r["operations"]["row"])),
    ("sampling, peer's count", "% of limit", "higher", lambda r: _row_share(r, r["peer"]["row"])),
)


def measure(
    ours: Side, peer: Side, limits: Side, table: Path, repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Every measurement as it came: operations, and one entry a process."""
    sides = (ours, peer)
    say("counting operations")
    operations = {side.name: _run(side, "operations", THREADS[-1], table, 1) for side in sides}
    runs = []
    for repeat in range(repeats):
        for threads in THREADS:
            about = {"repeat": repeat, "threads": threads}
            say(f"repeat {repeat + 1} of {repeats}, {threads} thread(s)")
            runs.append({**about, "side": "limits", "products": limits.run("products", threads)})
            with tempfile.TemporaryDirectory() as folder:
                found: dict[str, Result] = {side.name: {} for side in sides}
                for task in TASKS:
                    for side in sides:
                        found[side.name][task] = _run(side, task, threads, table, EPOCHS, folder)
            runs += [{**about, "side": name, **results} for name, results in found.items()]
    return {"operations": operations, "runs": runs}


def figures(measured: dict[str, Any]) -> list[Compared]:
    """What `measure` measured, figure by figure, for each number of threads."""
    return [
        Compared(
            name,
            unit,
            better,
            threads,
            tuple(map(read, _results(measured, "ours", threads))),
            tuple(map(read, _results(measured, "peer", threads))),
        )
        for threads in THREADS
        for name, unit, better, read in READINGS
    ]


def to_json(measured: dict[str, Any]) -> dict[str, Any]:
    """A JSON value: limits and figures beside every measurement."""
    limits = {threads: limit(measured["runs"], threads) for threads in THREADS}
    shown = [figure.to_json() for figure in figures(measured)]
    return {"limit_gflop_per_s": limits, "figures": shown, **measured}


def shown(measured: dict[str, Any]) -> list[Any]:
    """What the terminal shows: a table, and a line a limit."""
    repeats = 1 + max(run["repeat"] for run in measured["runs"])
    title = f"speed: median of {repeats} (least..most)"
    limits = [
        f"limit with {threads} thread(s): {limit(measured['runs'], threads):,.0f} GFLOP/s"
        for threads in THREADS
    ]
    return [speed_table(figures(measured), title), _LABELS, *limits]


def limit(runs: Sequence[dict[str, Any]], threads: int) -> float:
    """GFLOP/s of matrix products with so many threads: the best of the run."""
    mine = (run for run in runs if run["side"] == "limits" and run["threads"] == threads)
    return max(float(run["products"]["gflop_per_s"]) for run in mine)


def _results(measured: dict[str, Any], side: str, threads: int) -> list[Result]:
    """One side's results, a repeat each, with all that a reading needs."""
    shared = {
        "limit": limit(measured["runs"], threads),
        "operations": measured["operations"][side],
        "peer": measured["operations"]["peer"],
    }
    return [
        {**run, **shared}
        for run in measured["runs"]
        if run["side"] == side and run["threads"] == threads
    ]


def _run(
    side: Side, task: str, threads: int, table: Path, epochs: int, folder: str | None = None
) -> Result:
    settings: dict[str, Any] = {"table": str(table), "epochs": epochs, "seed": 0}
    if folder is not None:
        return side.run(task, threads, **settings, folder=folder)
    with tempfile.TemporaryDirectory() as own:
        return side.run(task, threads, **settings, folder=own)


def _step_share(result: Result, operations: float) -> float:
    return 100 * operations / float(result["train"]["step_s"]) / 1e9 / float(result["limit"])


def _row_share(result: Result, operations: float) -> float:
    return 100 * operations * float(result["sample"]["rows_per_s"]) / 1e9 / float(result["limit"])
