"""Progress as lines of JSON, for whoever collects logs."""

import io
import json
from typing import Any

import pytest

from raysynth import progress
from raysynth.progress import Lines
from raysynth.terminal import lines
from tests.conftest import Ended


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_phase_tells_when_it_is_over_and_meanwhile_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    show = Lines(stream, run="adult", job="raysynth-train-1")
    with show.phase("encode", 100) as phase:
        phase.begin(0)
        phase.at(10)
        monkeypatch.setattr(progress, "EVERY_S", 0.0)
        phase.at(50, "40 bytes a row")
        monkeypatch.setattr(progress, "EVERY_S", 60.0)
        phase.at(100, "40 bytes a row")
    show.say("run: runs/adult")
    first, second, last = told(stream)
    assert first["message"].startswith("encode: 50 of 100 rows in 0.")
    assert (first["rows"], first["of"], first["over"]) == (50, 100, False)
    assert second["message"].startswith("encode: 100 rows in 0.")
    assert (second["rows"], second["stage"], second["over"]) == (100, "encode", True)
    assert last["message"] == "run: runs/adult"
    for line in (first, second, last):
        assert (line["run"], line["job"], line["level"]) == ("adult", "raysynth-train-1", "info")


def test_a_message_of_several_lines_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    Lines(stream).say("one\ntwo")
    assert len(stream.getvalue().splitlines()) == 1
    monkeypatch.delenv("RAYSYNTH_LOGS", raising=False)
    assert lines(stream) is None, "for people, unless asked"


def test_errors_are_lines_too(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSYNTH_LOGS", "json")
    monkeypatch.setenv("RAYSYNTH_JOB", "raysynth-sample-1")
    end: Ended = cli("sample", "nowhere/at-all", "--rows", 1, "--out", "a.csv")
    (line,) = map(json.loads, end.err.splitlines())
    assert end.code == 2
    assert (line["level"], line["job"]) == ("error", "raysynth-sample-1")
    assert "not a run folder" in line["message"]
