"""We beside the reference implementation of CTGAN, on one machine in one run."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import sides

WORK = Path(".benchmark")
QUIET = 0.5  # load average above which speeds are not to be trusted
OUT, ENV = WORK / "peers.json", WORK / "peer-env"


def peers(
    table: Annotated[Path, typer.Option(help="Training rows, a Parquet file.", exists=True)],
    test: Annotated[Path, typer.Option(help="Rows to judge by, a Parquet file.", exists=True)],
    epochs: Annotated[int, typer.Option(help="Epochs of the trainings judged.", min=1)] = 100,
    repeats: Annotated[int, typer.Option(help="Repeats of each speed, and seeds.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = OUT,
    target: Annotated[
        str | None, typer.Option(help="Column to predict.", show_default="the last category")
    ] = None,
    speed_only: Annotated[bool, typer.Option("--speed-only", help="Only speeds.")] = False,
    quality_only: Annotated[bool, typer.Option("--quality-only", help="Only quality.")] = False,
    env: Annotated[Path, typer.Option(help="The peer's environment, made if need be.")] = ENV,
) -> None:
    """Compare with ctgan: speed of every stage, and quality after as many epochs.

    Speeds and quality are kept apart in OUT: running one leaves the other's last result.
    """
    from benchmarks import quality, speed  # only here: they bring what --help need not wait for

    if speed_only and quality_only:
        raise typer.BadParameter("--speed-only and --quality-only exclude each other")
    log, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 120

    def say(line: str) -> None:
        log.print(line, highlight=False, markup=False, soft_wrap=True)

    ours, peer = sides.ours(), sides.peer(env, say)
    facts = read_with((ours, peer), {"train": str(table), "test": str(test)})
    console.print_json(data=facts)
    if not quality_only and os.getloadavg()[0] > QUIET:
        say(f"others use this machine (load {os.getloadavg()[0]:.1f}): speeds will be off")
    if not quality_only:
        measured = speed.measure(ours, peer, sides.limits(), table, repeats, say)
        write(out, "speed", {**facts, **speed.to_json(measured)})
        console.print(*speed.shown(measured), sep="\n")
    if not speed_only:
        job = quality.Job((table, test), target, epochs, repeats, WORK / "quality")
        judged = quality.measure((ours, peer), job, say)
        write(out, "quality", {**facts, **quality.to_json(job, judged)})
        console.print(*quality.shown(job, judged), sep="\n")
    say(f"written: {out}")


def write(out: Path, half: str, value: dict[str, Any]) -> None:
    """Put one half into the file, beside what it holds of the other."""
    held = json.loads(out.read_text()) if out.is_file() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    value["load_after"] = os.getloadavg()
    out.write_text(json.dumps({**held, half: value}, indent=1))


def read_with(both: Iterable[sides.Side], tables: dict[str, str]) -> dict[str, Any]:
    """What a figure must be read with: machine, versions, commit, tables."""
    return {
        "machine": _machine(),
        "versions": {side.name: sides.versions(side) for side in both},
        "commit": _commit(),
        "tables": tables,
        "load_before": os.getloadavg(),
    }


def _machine() -> dict[str, Any]:
    """The processor, and how many of its cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = next(named, platform.processor())
    return {"processor": processor, "cores": cores, "system": platform.platform()}


def _commit() -> str | None:
    """The commit we run, '-dirty' where files differ from it; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, cwd=sides.JOBS, capture_output=True, text=True)
    return done.stdout.strip() or None
