"""The command that holds our attacks beside Anonymeter's, with a stand-in for Anonymeter."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from tests.reference import people

JOBS = Path(__file__).parent.parent / "jobs"
KEYS = ("value", "low", "high", "main", "control", "baseline")


class Peer:
    """Answers every task with the same figures, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def run(self, task: str, threads: int, **settings: Any) -> dict[str, float]:
        assert threads == 1
        rows = [pq.read_table(settings[name]).num_rows for name in ("synthetic", "train", "held")]
        assert rows == [200, 200, 200]
        self.asked.append((task, settings))
        return dict.fromkeys(KEYS, 0.25)


def test_every_attack_is_compared_on_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(JOBS)
    module, peer = import_module("benchmarks.parity_anonymeter"), Peer()
    monkeypatch.setattr(module, "_peer", lambda *_: peer)
    monkeypatch.setattr(module.peers, "read_with", lambda *_: {"commit": "c"})
    table, out = tmp_path / "people.parquet", tmp_path / "out.json"
    pq.write_table(people(900, 0), table)
    app = typer.Typer()
    app.command()(module.anonymeter)
    words = ["--table", str(table), "--rows", "200", "--seeds", "2", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    tasks = [task for task, _ in peer.asked]
    assert [tasks.count(task) for task in ("linkability", "inference", "singling_out")] == [4, 6, 4]
    entries = json.loads(out.read_text())["entries"]
    assert len(entries) == 4 + 6 + 2
    for _, _, ours, theirs in (entry.values() for entry in entries):
        assert theirs == dict.fromkeys(KEYS, 0.25)
        assert tuple(ours) == KEYS
        # Half of the synthetic rows are training rows, so each attack finds something out.
        assert ours["main"] > ours["control"]
        assert ours["low"] <= ours["value"] <= ours["high"]
