"""Cells of the paper's benchmark as tasks of Ray: the figures are those of one process."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from raysynth.stages import data

JOBS = Path(__file__).parents[2] / "jobs"


def test_cells_are_the_same_as_tasks(home: Path, tmp_path: Path) -> None:
    words = ["--table", "ring", "--family", "independent", "--family", "uniform", "--seeds", "1"]
    words += ["--epochs", "1", "--rows", "1000"]
    found = []
    for more in ([], ["--ray"]):
        out = tmp_path / f"cells{len(more)}.json"
        call = [sys.executable, str(JOBS / "benchmark.py"), "paper", *words, "--out", str(out)]
        # Elsewhere than the repository: tasks find the benchmark by the script's own folder.
        done = subprocess.run(
            [*call, *more], cwd=home, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        cells = json.loads(out.read_text())["cells"]
        found.append({cell["family"]: cell["figures"] for cell in cells})
    assert found[0].keys() == {"independent", "uniform"}
    assert found[0] == found[1]


def test_encoding_is_reckoned_by_as_many_tasks_as_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(JOBS)
    assert import_module("benchmarks.cost").TASKS == data.TASKS
