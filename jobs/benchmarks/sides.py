"""The two environments, and the fresh process of each measurement.

Both sides run the same torch on the CPU, with as many threads each: OpenMP, BLAS and torch are
told, and so is joblib, which starts the peer's processes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

PEER = "0.12.1"
MOSTLY = "2.7.3"
SDGYM = {"sdgym": "0.15.0", "sdv": "1.38.5"}
METRICS = {"sdmetrics": "0.32.0", "synthcity": "0.2.12"}
PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "scikit-learn", "ctgan", "rdt", "raysynth")
JOBS = Path(__file__).parent.parent
_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


@dataclass(frozen=True)
class Side:
    """A Python, the module whose tasks it runs, and folders it imports from before `jobs`."""

    name: str
    python: Path
    module: str
    paths: tuple[Path, ...] = ()

    def run(self, task: str, threads: int | None, **settings: Any) -> Result:
        """The result of one task, run in a process of its own with `threads` threads.

        None is one thread where there is no torch to tell. Raises `RuntimeError` with the end of
        what the process said where it fails.
        """
        told = {} if threads is None else {"threads": threads}
        return _run(self.python, self.module, task, {**settings, **told}, self.paths)


def ours() -> Side:
    """Our side: this very Python, and this repository, whichever raysynth is installed."""
    return Side("ours", Path(sys.executable), "benchmarks.ours", (JOBS.parent,))


def limits() -> Side:
    """The machine: matrix products in this very Python."""
    return Side("limits", Path(sys.executable), "benchmarks.limits")


def peer(folder: Path, say: Callable[[str], None]) -> Side:
    """The peer's side: an environment in `folder`, made where it is not there yet.

    Raises `RuntimeError` where it cannot be made to hold the wanted versions.
    """
    return Side("peer", _made(folder, _wanted(), _install, say), "benchmarks.peer_ctgan")


def metrics(folder: Path, say: Callable[[str], None]) -> Side:
    """The side of the peers' metrics, as `peer`; synthcity without what it depends on."""

    def install(python: Path, say: Callable[[str], None]) -> None:
        pinned = [f"{name}=={number}" for name, number in wanted.items() if name != "synthcity"]
        say(f"installing {', '.join(pinned)} and synthcity")
        alone = f"synthcity=={wanted['synthcity']}"
        problem = _pip(python, *pinned) or _pip(python, "--no-deps", alone)
        if problem:
            raise RuntimeError(f"pip cannot install the peers' metrics; {problem}")

    wanted = {**METRICS, "pyarrow": version("pyarrow")}
    return Side("metrics", _made(folder, wanted, install, say), "benchmarks.peer_metrics")


def sdgym(folder: Path, say: Callable[[str], None]) -> Side:
    """SDGym's side, with what raysynth's core needs: all its packages but Ray."""

    def install(python: Path, say: Callable[[str], None]) -> None:
        pinned = [f"{name}=={number}" for name, number in SDGYM.items()]
        say(f"installing {', '.join(pinned)}, and what raysynth needs but Ray")
        needed = (one for one in requires("raysynth") or () if "extra ==" not in one)
        own = [one for one in needed if not one.startswith(("ray[", "torch", "optuna"))]
        torch = f"torch=={version('torch').split('+')[0]}"
        problem = _pip(python, torch) or _pip(python, torch, *pinned, *own)
        if problem:
            raise RuntimeError(f"pip cannot install SDGym; {problem}")

    made = _made(folder, SDGYM, install, say)
    return Side("sdgym", made, "benchmarks.peer_sdgym", (JOBS.parent,))


def mostly(folder: Path, say: Callable[[str], None]) -> Side:
    """MOSTLY AI's engine, without the packages of sounds and images that it imports nowhere.

    Those alone ask for builds of torch other than ours.
    """

    def install(python: Path, say: Callable[[str], None]) -> None:
        say(f"installing mostlyai-engine {MOSTLY}")
        problem = (
            _pip(python, torch)
            or _pip(python, "--no-deps", f"mostlyai-engine=={MOSTLY}")
            or _pip(python, torch, f"pyarrow=={wanted['pyarrow']}", *needed(python))
        )
        if problem:
            raise RuntimeError(f"pip cannot install mostlyai-engine {MOSTLY}; {problem}")

    def needed(python: Path) -> list[str]:
        told = _run(python, "benchmarks.measure", "needed", {"package": "mostlyai-engine"})
        apart = ("torch", "pyarrow")  # torchaudio and torchvision, too
        here = [one for one in told["needed"] if "extra ==" not in one]
        return [one for one in here if not one.startswith(apart)]

    wanted = {"torch": version("torch"), "mostlyai-engine": MOSTLY, "pyarrow": version("pyarrow")}
    torch = f"torch=={wanted['torch'].split('+')[0]}"
    return Side("peer", _made(folder, wanted, install, say), "benchmarks.peer_mostly")


def _made(
    folder: Path,
    wanted: dict[str, str],
    install: Callable[[Path, Callable[[str], None]], None],
    say: Callable[[str], None],
) -> Path:
    """The Python of an environment that holds the wanted versions."""
    python = folder.absolute() / "bin" / "python"
    if not python.is_file():
        say(f"making the peer's environment in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if _apart(python, wanted):
        install(python, say)
    apart = _apart(python, wanted)
    if apart:
        raise RuntimeError(f"{folder}: {apart}; delete the folder to make it anew")
    return python


def versions(side: Side) -> Result:
    """Versions of Python and of what matters here in the side's environment."""
    return _run(side.python, "benchmarks.measure", "versions", {"packages": PACKAGES})


def _wanted() -> dict[str, str]:
    return {"torch": version("torch"), "ctgan": PEER, "pyarrow": version("pyarrow")}


def _apart(python: Path, wanted: dict[str, str]) -> str:
    """How the environment differs from what is wanted; empty where it does not.

    Torch may be another build of the same version, where pip knows no other; both are printed.
    """
    found = _run(python, "benchmarks.measure", "versions", {"packages": list(wanted)})
    return ", ".join(
        f"{name} is {found[name]}, not {wanted[name]}"
        for name in wanted
        if (found[name] or "").split("+")[0] != wanted[name].split("+")[0]
    )


def _install(python: Path, say: Callable[[str], None]) -> None:
    """Our torch first, since ctgan alone would bring the newest, and for a GPU at that."""
    wanted = _wanted()
    exact, public = wanted["torch"], wanted["torch"].split("+")[0]
    say(f"installing torch {exact}, then ctgan {PEER}")
    torch = next(
        (name for name in dict.fromkeys((exact, public)) if not _pip(python, f"torch=={name}")),
        None,
    )
    if torch is None:
        raise RuntimeError(f"pip finds no torch {public}; {_pip(python, f'torch=={public}')}")
    rest = [f"torch=={torch}", f"ctgan=={PEER}", f"pyarrow=={wanted['pyarrow']}"]
    problem = _pip(python, *rest)
    if problem:
        raise RuntimeError(f"pip cannot install ctgan {PEER}; {problem}")


def _pip(python: Path, *wanted: str) -> str:
    """What went wrong; empty where nothing did."""
    command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stderr[-2000:] or "pip failed" if done.returncode else ""


def _run(
    python: Path,
    module: str,
    task: str,
    settings: dict[str, Any],
    paths: tuple[Path, ...] = (),
) -> Result:
    threads = str(settings.get("threads", 1))
    environment = os.environ | dict.fromkeys(_THREADED, threads)
    # Safe path: the folder we stand in, a checkout of raysynth perhaps, is nothing to the peer.
    places = os.pathsep.join(map(str, (*paths, JOBS)))
    environment |= {"PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
    if settings.get("device", "cpu") == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [str(python), "-m", module, task, json.dumps(settings), str(result)]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{module} {task} failed:\n{done.stderr[-4000:]}")
        value: Result = json.loads(result.read_text())
        return value
