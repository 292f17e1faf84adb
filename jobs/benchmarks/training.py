"""How fast families train, by batch and by workers, and how near to what the machine can do.

Every measurement is a fresh process. In each repeat the machine's limits come first, with as many
threads as there are workers, then every case in turn, so that a machine that others use slows all.

- **Weak scaling**: each worker takes the batch that is asked for, so more workers take more rows.
- **Strong scaling**: all workers together take it, as `raysynth train --workers` has it.

The **efficiency** is the rate over as many times that of one worker in the same repeat. A **share
of the limit** is the rate of dense operations, counted once by torch's flop counter, over that of
float32 matrix products; or the bytes that the optimizer moves of weights, gradients and moments
over the memory's bandwidth, both as if nothing else took time.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import spread

WORK = Path(".benchmark")
ADULT = (sides.JOBS / "data" / "adult_train.parquet", sides.JOBS / "data" / "adult_test.parquet")
FAMILIES = ("autoregressive", "ctgan", "tvae")
WORKERS = (1, 2, 4)
SCALINGS = WEAK, STRONG = ("weak", "strong")

Entry = dict[str, Any]
Say = Callable[[str], None]


class Case(NamedTuple):
    """One training: `rows` a step of each of its workers, of a `batch` that was asked for."""

    family: str
    batch: int
    workers: int
    scaling: str
    rows: int


def train(
    table: Annotated[Path, typer.Option(help="Training rows, a Parquet file.")] = ADULT[0],
    test: Annotated[Path, typer.Option(help="Rows that fidelity is to.")] = ADULT[1],
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family. Repeat.", show_default=", ".join(FAMILIES)),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Rows a step. Repeat.", min=2, show_default="the family's own"),
    ] = None,
    workers: Annotated[
        list[int] | None, typer.Option(help="Workers. Repeat.", min=1, show_default="1, 2, 4")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda: a worker a GPU, by NCCL.")] = "cpu",
    crowded: Annotated[
        bool, typer.Option("--crowded", help="More workers than cores, too: that says little.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps timed, at least.", min=1)] = 200,
    rows: Annotated[
        int | None, typer.Option(help="Rows to train on at most.", min=100, show_default="all")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Repeats of each measurement.", min=1)] = 3,
    time_to_fidelity: Annotated[
        bool,
        typer.Option("--time-to-fidelity", help="Instead: seconds until we are as good as others."),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes of each side, to fidelity.", min=1, show_default="its default"),
    ] = None,
    threads: Annotated[int, typer.Option(help="Of each side, to fidelity.", min=1)] = 2,
    env: Annotated[Path, typer.Option(help="Where others' environments lie, or are made.")] = WORK,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = WORK / "train.json",
) -> None:
    """Rows a second, shares of the limit and scaling, by family, batch and workers.

    Speeds and times to fidelity are kept apart in OUT: running one leaves the other's last result.
    """
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 200

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    ours = replace(sides.ours(), module="benchmarks.workers")
    facts = peers.read_with((sides.ours(),), {"train": str(table), "test": str(test)})
    console.print_json(data=facts)
    if os.getloadavg()[0] > peers.QUIET:
        say(f"others use this machine (load {os.getloadavg()[0]:.1f}): speeds will be off")
    base: dict[str, Any] = {"table": str(table.absolute()), "seed": 0, "rows": rows}
    if time_to_fidelity:
        from benchmarks import approach  # only here: --help need not wait for it

        base |= {"epochs": epochs, "threads": threads, "folder": str(WORK.absolute())}
        for judged in approach.measure(family or FAMILIES, base, test, repeats, env, say):
            # After each training: all of them may take hours.
            peers.write(out, "fidelity", {**facts, "threads": threads, **approach.to_json(judged)})
        console.print(*approach.shown(judged), sep="\n")
        say(f"written: {out}")
        return
    base |= {"steps": steps, "device": device, "epochs": 1, "folder": str(WORK.absolute())}
    counts = sorted(set(workers or WORKERS) | {1})
    room = _room(device)
    apart = [] if crowded and device == "cpu" else [count for count in counts if count > room]
    for count in apart:
        things = "GPU(s)" if device == "cuda" else "cores; --crowded measures it all the same"
        say(f"{count} workers are left out: there are {room} {things}")
    kept = [count for count in counts if count not in apart]
    if not kept:
        raise typer.BadParameter(f"there is no device '{device}' here")
    cases = list(cases_of(family or FAMILIES, batch or (), kept))
    measured = measure(ours, sides.limits(), cases, base, repeats, say)
    peers.write(out, "speed", {**facts, "device": device, **to_json(measured)})
    console.print(*shown(measured), sep="\n")
    say(f"written: {out}")


def cases_of(families: Sequence[str], batches: Sequence[int], workers: Sequence[int]) -> list[Case]:
    """Every training to measure; one worker's is of both scalings."""
    from raysynth import models  # only here: --help need not wait for it
    from raysynth.config import parse

    found = []
    for name in families:
        family = models.get(name)
        settings = parse(family.Config, {})
        for batch in batches or (settings.batch,):
            for count in workers:
                for scaling in SCALINGS if count > 1 else (WEAK,):
                    mine = batch if scaling == WEAK else max(1, batch // count)
                    rows = family.batch_rows(mine, settings)
                    found.append(Case(name, batch, count, scaling, rows))
    return found


def measure(
    ours: sides.Side,
    limits: sides.Side,
    cases: Sequence[Case],
    base: dict[str, Any],
    repeats: int,
    say: Say,
) -> list[Entry]:
    """One entry a case and repeat: its limits, what its step takes, how fast it went."""
    say("counting operations")
    counted = {
        (case.family, case.rows): ours.run(
            "step", 1, **{**base, "device": "cpu"}, family=case.family, batch=case.rows
        )
        for case in cases
    }
    found = []
    for repeat in range(repeats):
        limit = {}
        for count in sorted({case.workers for case in cases}):
            told = {"device": base["device"]}
            tasks = ("products", "bandwidth")
            limit[count] = {task: limits.run(task, count, **told) for task in tasks}
        for case in cases:
            say(f"repeat {repeat + 1} of {repeats}: {' '.join(map(str, case))}")
            settings = {**base, "family": case.family, "batch": case.rows}
            went = ours.run("train", 1, **settings, workers=case.workers)
            about = {"repeat": repeat, "case": case._asdict(), "limits": limit[case.workers]}
            found.append({**about, "step": counted[case.family, case.rows], "went": went})
    return found


def figures(measured: Sequence[Entry]) -> list[Entry]:
    """By case, a value a repeat: rows/s, ms a step, shares in per cent, efficiency."""
    found: dict[Case, Entry] = {}
    rates = {
        (*_about(entry)[:2], entry["repeat"]): entry["went"]["rows_per_s"]
        for entry in measured
        if entry["case"]["workers"] == 1
    }
    for entry in measured:
        case, went, step = _about(entry), entry["went"], entry["step"]
        alone = rates[case.family, case.batch, entry["repeat"]]
        products = entry["limits"]["products"]["gflop_per_s"]
        moved = entry["limits"]["bandwidth"]["gb_per_s"]
        whole = sum(went["parts"].values())
        told = {
            "rows_per_s": went["rows_per_s"],
            "step_ms": 1e3 * went["step_s"],
            **{part: 100 * spent / whole for part, spent in went["parts"].items()},
            "all_reduce_ms": 1e3 * went["all_reduce_s"],
            "products": 100 * case.workers * step["operations"] / went["step_s"] / 1e9 / products,
            "bandwidth": 100 * case.workers * step["weight_bytes"] / went["step_s"] / 1e9 / moved,
            "efficiency": 100 * went["rows_per_s"] / alone / case.workers,
        }
        values = found.setdefault(case, {"case": case._asdict(), **{name: [] for name in told}})
        for name, value in told.items():
            values[name].append(value)
    return list(found.values())


def to_json(measured: Sequence[Entry]) -> dict[str, Any]:
    """A JSON value: figures beside every measurement."""
    return {"figures": figures(measured), "measured": list(measured)}


COLUMNS = {
    "rows/s": "rows_per_s",
    "ms a step": "step_ms",
    "data %": "data",
    "compute %": "compute",
    "communicate %": "communicate",
    "bare mean ms": "all_reduce_ms",
    "% of products": "products",
    "% of bandwidth": "bandwidth",
    "efficiency %": "efficiency",
}


def shown(measured: Sequence[Entry]) -> list[Any]:
    """What the terminal shows: a table, and a line a number of workers with its limits."""
    repeats = 1 + max(entry["repeat"] for entry in measured)
    table = Table(title=f"training: median of {repeats} (least..most)", title_justify="left")
    for name in ("family", "batch", "workers", "rows a worker"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    before = None
    for figure in figures(measured):
        case = Case(**figure["case"])
        if before not in (None, case[:2]):
            table.add_section()
        before = case[:2]
        workers = f"{case.workers}" if case.workers == 1 else f"{case.workers} {case.scaling}"
        words = case.family, f"{case.batch}", workers, f"{case.rows}"
        table.add_row(*words, *(spread(figure[name]) for name in COLUMNS.values()))
    return [table, *_limits(measured)]


def _limits(measured: Sequence[Entry]) -> list[str]:
    lines = []
    for count in sorted({entry["case"]["workers"] for entry in measured}):
        mine = [entry["limits"] for entry in measured if entry["case"]["workers"] == count]
        products = spread([one["products"]["gflop_per_s"] for one in mine])
        moved = spread([one["bandwidth"]["gb_per_s"] for one in mine])
        lines.append(f"limits of {count} thread(s) or GPU(s): {products} GFLOP/s, {moved} GB/s")
    return lines


def _about(entry: Entry) -> Case:
    return Case(**entry["case"])


def _room(device: str) -> int:
    """How many workers have a core, or a GPU, each."""
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
