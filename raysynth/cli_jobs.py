"""The commands `raysynth submit`, `jobs`, `logs` and `cancel`: jobs on a Ray cluster."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from raysynth.terminal import Json, tell

Address = Annotated[
    str,
    typer.Option(help="Where the cluster's dashboard answers.", envvar="RAY_API_SERVER_ADDRESS"),
]
Number = Annotated[str, typer.Argument(metavar="ID", help="A job's, as 'raysynth jobs' has it.")]
HERE = "http://127.0.0.1:8265"


def submit(
    words: typer.Context,
    command: Annotated[
        str, typer.Argument(metavar="COMMAND ...", help="train, tune, sample, evaluate, impute.")
    ],
    address: Address = HERE,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it is over.")] = False,
    retries: Annotated[int, typer.Option(help="With --wait, times to try again.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Run a command on a Ray cluster; the same one submitted twice is one job."""
    from raysynth.stages.submit import USERS, Cluster

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    begun, asked = time.monotonic(), [command, *words.args]
    cluster = Cluster(address)
    number = cluster.submit(asked, console.print)
    console.print(f"job: {number}  (submitted in {time.monotonic() - begun:.1f} s)")
    if not wait:
        tell({"job": number}, as_json)
        return

    heard: list[float] = []

    def out(text: str) -> None:
        if not heard:
            heard.append(time.monotonic() - begun)
            console.print(f"job: {number}  (first heard of after {heard[0]:.1f} s)")
        console.print(text, end="", markup=False)

    job = cluster.follow(number, out)
    while retries and job.state == "FAILED" and job.code != USERS:
        retries -= 1
        console.print(f"{number}: {job.state.lower()}; tried again")
        number = cluster.submit(asked)
        job = cluster.follow(number, out)
    console.print(f"{number}: {job.state.lower()} after {job.seconds:.0f} s {job.why}".rstrip())
    tell(_told(job), as_json)
    if job.state != "SUCCEEDED":
        raise typer.Exit(job.code or 1)


def jobs(address: Address = HERE, as_json: Json = False) -> None:
    """List the jobs of a cluster, the latest first."""
    from raysynth.stages.submit import Cluster

    found = Cluster(address).jobs()
    table = Table(box=None)
    # Whole, however narrow the terminal: it is there to be copied.
    widest = max((len(one.id) for one in found), default=0)
    table.add_column("job", no_wrap=True, min_width=widest)
    for name in ("state", "since", "seconds", "command"):
        table.add_column(name)
    for one in found:
        since = (
            datetime.fromtimestamp(one.begun, UTC).strftime("%Y-%m-%d %H:%M") if one.begun else ""
        )
        command = one.command.removeprefix("python -m ")
        table.add_row(one.id, one.state.lower(), since, f"{one.seconds:.0f}", command)
    if as_json:
        tell({"jobs": [_told(one) for one in found]}, as_json)
    else:
        Console().print(table)


def logs(
    number: Number,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job is over.")] = False,
    address: Address = HERE,
) -> None:
    """Print what a job has said."""
    from raysynth.stages.submit import Cluster

    cluster = Cluster(address)
    if follow:
        cluster.follow(number, lambda text: typer.echo(text, nl=False))
    else:
        typer.echo(cluster.logs(number), nl=False)


def cancel(number: Number, address: Address = HERE, as_json: Json = False) -> None:
    """End a job; a training keeps a checkpoint, from which submitting it again goes on."""
    from raysynth.stages.submit import Cluster

    job = Cluster(address).cancel(number)
    Console(stderr=True, highlight=False).print(f"{number}: {job.state.lower()}")
    tell(_told(job), as_json)


def _told(job: Any) -> dict[str, Any]:
    return {
        "job": job.id,
        "state": job.state.lower(),
        "seconds": round(job.seconds, 1),
        "code": job.code,
        "why": job.why,
    }
