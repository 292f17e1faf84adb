"""What HTTP costs: rows of a run through `raysynth serve` beside the same sampler without it.

In turn and `repeats` times: a fresh process draws rows by `Sampler.stream` on one thread, then a
server whose replicas draw on one thread each sends as many, in each format. wrk asks for `SMALL`
rows over and over, with more and more clients, which gives latencies and what is left of the
throughput when more is asked than can be had; as many clients that ask whether the server is alive
give what HTTP and Serve take by themselves. Server and clients share this machine.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import peers, sides
from benchmarks.figures import number, spread
from benchmarks.measure import Result, Settings, clock, main
from benchmarks.processes import Watch
from raysynth.serving.server import Serving

SMALL = 100
SEED = 1
PIECE = 2**20  # bytes read at once
TARGETS = (
    "targets: arrow 80 % of in-process rows/s, csv 40 %; 100 rows at 8 clients in 30 ms (p50), "
    "150 ms (p99); goodput at 64 clients 80 % of the best; no 5xx but 503; memory flat"
)
Entry = dict[str, Any]


def serve(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    rows: Annotated[int, typer.Option(help="Rows of a request.", min=1)] = 200_000,
    repeats: Annotated[int, typer.Option(help="Repeats of each measurement.", min=1)] = 3,
    clients: Annotated[
        list[int] | None,
        typer.Option(
            help="Clients at once. Repeat.", show_default="1, 8, 64, four times what may wait"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long they ask.", min=0.1)] = 20.0,
    replicas: Annotated[int, typer.Option(help="Replicas of the server.", min=1)] = min(
        2, os.cpu_count() or 1
    ),
    stream_rows: Annotated[
        int, typer.Option(help="Rows of the stream whose memory is watched.", min=1)
    ] = 20_000_000,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path(
        ".benchmark/serve.json"
    ),
) -> None:
    """Serve a run and ask for its rows; state rates beside the sampler's own, latency, memory."""
    if shutil.which("wrk") is None:
        raise typer.BadParameter("wrk asks for the rows and is not here; apt-get install wrk")
    console = Console()
    side = replace(sides.ours(), module="benchmarks.serving")
    facts = peers.read_with((sides.ours(),), {"run": run.name})
    console.print_json(data=facts)
    found: Entry = {**facts, "rows": rows, "replicas": replicas, "streams": [], "load": []}
    with Watch() as watch, _served(run, max(rows, stream_rows), replicas) as (port, started):
        found["started_s"] = started
        for _ in range(repeats):
            found["streams"].append(_round(side, run, rows, port))
        for count in clients or [1, 8, 64, 4 * replicas * (Serving.at_once + Serving.line)]:
            found["load"].append(_load(port, run.name, count, seconds))
        found["alive"] = _alive(port, 8, seconds)
        watch.forget_peaks()
        _read(port, run.name, max(1, stream_rows // 20), "text/csv")
        small = watch.peak_mib()
        _read(port, run.name, stream_rows, "text/csv")
        found["memory"] = {"rows": stream_rows, "short_mib": small, "long_mib": watch.peak_mib()}
    found["load_after"] = os.getloadavg()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    console.print(shown_streams(found["streams"]), shown_load(found), TARGETS, sep="\n")
    peak = found["memory"]
    console.print(
        f"{replicas} replica(s); first answer after {started:.0f} s; the largest process held "
        f"{peak['short_mib']:,.0f} MiB over {max(1, stream_rows // 20):,} rows and "
        f"{peak['long_mib']:,.0f} MiB over {stream_rows:,}; written: {out}"
    )


def draw(settings: Settings) -> Result:
    """Rows a second of the sampler alone, and seconds of `SMALL` rows."""
    from raysynth.sampler import Sampler

    sampler, rows = Sampler.open(settings["run"], "cpu"), settings["rows"]
    sampler.sample(SMALL)
    with clock() as spent:
        for _ in sampler.stream(rows, SEED):
            pass
    times = []
    for _ in range(20):
        with clock() as small:
            sampler.sample(SMALL, SEED)
        times.append(small["wall_s"])
    return {"rows_per_s": rows / spent["wall_s"], "small_s": median(times)}


@contextmanager
def _served(run: Path, most: int, replicas: int) -> Iterator[tuple[int, float]]:
    """A server of that run on a free port, and the seconds until it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as state:
        words = ["serve", str(run), "--no-auth", "--port", str(port), "--state", state]
        words += ["--most-rows", str(most), "--replicas", str(replicas)]
        command = [sys.executable, "-m", "raysynth", *words]
        here = os.environ | {"PYTHONPATH": str(sides.JOBS.parent)}
        begun = time.perf_counter()
        with subprocess.Popen(command, env=here) as process:
            try:
                while not _ready(port):
                    if process.poll() is not None:
                        raise RuntimeError("the server ended before it answered")
                    time.sleep(0.1)
                yield port, time.perf_counter() - begun
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()


def _ready(port: int) -> bool:
    try:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        line.request("GET", "/readyz")
        return line.getresponse().status == 200
    except OSError:
        return False


def _ask(line: http.client.HTTPConnection, name: str, rows: int, media: str) -> tuple[int, int]:
    """Status and bytes of one answer, read to its end."""
    headers = {"accept": media, "content-type": "application/json"}
    body = json.dumps({"rows": rows, "seed": SEED})
    line.request("POST", f"/v1/models/{name}/sample", body, headers)
    answer, size = line.getresponse(), 0
    while data := answer.read(PIECE):
        size += len(data)
    return answer.status, size


def _read(port: int, name: str, rows: int, media: str) -> Entry:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    with clock() as spent:
        status, size = _ask(line, name, rows, media)
    line.close()
    if status != 200:
        raise RuntimeError(f"{media}: {status}")
    return {"rows_per_s": rows / spent["wall_s"], "bytes_per_s": size / spent["wall_s"]}


def _round(side: sides.Side, run: Path, rows: int, port: int) -> Entry:
    """The sampler alone, then every format."""
    from raysynth.serving.formats import FORMATS

    alone = side.run("draw", 1, run=str(run.absolute()), rows=rows)
    served = {form.suffix: _read(port, run.name, rows, form.media) for form in FORMATS}
    return {"alone": alone, "served": served}


def _load(port: int, name: str, clients: int, seconds: float) -> Entry:
    """What `clients` get who ask for `SMALL` rows, each again as soon as it has an answer."""
    return _wrk(f"http://127.0.0.1:{port}/v1/models/{name}/sample", clients, seconds, _ASKING)


def _alive(port: int, clients: int, seconds: float) -> Entry:
    """What as many get who ask whether the server is alive."""
    return _wrk(f"http://127.0.0.1:{port}/healthz", clients, seconds, "")


# Statuses are counted by wrk's one thread; times are those of all answers, in microseconds.
_ASKING = f"""
wrk.method = "POST"
wrk.body = '{{"rows": {SMALL}, "seed": {SEED}}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "text/csv"
"""
_COUNTING = """
local mine
function setup(thread) mine = thread end
function init(args) counts = {} end
function response(status)
  local key = tostring(status)
  counts[key] = (counts[key] or 0) + 1
end
function done(summary, latency, requests)
  io.write(string.format("TOLD %f %f %f %d", summary.duration, latency:percentile(50),
    latency:percentile(99), summary.errors.connect + summary.errors.read + summary.errors.timeout))
  for status, count in pairs(mine:get("counts")) do
    io.write(string.format(" %s:%d", status, count))
  end
  io.write("\\n")
end
"""


def _wrk(url: str, clients: int, seconds: float, asking: str) -> Entry:
    """Latency, answers a second and statuses, as wrk sees them."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(asking + _COUNTING)
        script.flush()
        words = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
        ended = subprocess.run(
            [*words, "-s", script.name, url], capture_output=True, text=True, check=True
        )
    told = next(line for line in ended.stdout.splitlines() if line.startswith("TOLD"))
    duration, middle, late, lost, *counted = told.split()[1:]
    statuses = {status: int(count) for status, count in (one.split(":") for one in counted)}
    return {
        "clients": clients,
        "p50_ms": float(middle) / 1_000,
        "p99_ms": float(late) / 1_000,
        "answers_per_s": statuses.get("200", 0) / (float(duration) / 1e6),
        "statuses": statuses | ({"none": int(lost)} if int(lost) else {}),
    }


def shown_streams(rounds: list[Entry]) -> Table:
    """Rows a second by format, and their ratio to the sampler's of the same round."""
    shown = Table("", "rows/s", "MB/s", "of the sampler's", title="Streams, one after the other")
    alone = [one["alone"]["rows_per_s"] for one in rounds]
    shown.add_row("sampler alone", spread(alone), "", "")
    for suffix in rounds[0]["served"]:
        told = [one["served"][suffix] for one in rounds]
        rates = [one["rows_per_s"] for one in told]
        ratios = [rate / own for rate, own in zip(rates, alone, strict=True)]
        bytes_ = spread([one["bytes_per_s"] / 1e6 for one in told])
        shown.add_row(suffix, spread(rates), bytes_, spread(ratios))
    small = spread([1_000 * one["alone"]["small_s"] for one in rounds])
    shown.caption = f"the sampler alone takes {small} ms for {SMALL} rows"
    return shown


def shown_load(found: Entry) -> Table:
    """Latency and goodput by clients at once, and of those that ask for no rows."""
    shown = Table("clients", "p50 ms", "p99 ms", "answers/s", "statuses", title=f"{SMALL} rows")
    asking = [(str(one["clients"]), one) for one in found["load"]]
    for label, one in [*asking, (f"{found['alive']['clients']}, no rows", found["alive"])]:
        told = ", ".join(f"{status}: {count}" for status, count in sorted(one["statuses"].items()))
        figures = (number(one[key]) for key in ("p50_ms", "p99_ms", "answers_per_s"))
        shown.add_row(label, *figures, told)
    return shown


if __name__ == "__main__":
    main({"draw": draw})
