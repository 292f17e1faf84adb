"""What a server answers from, without a server: formats, counts, places in line, verdicts."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.errors import RunError, StorageError
from raysynth.run import Run, add_files, open_run
from raysynth.serving import flow, formats, guard
from raysynth.serving.answers import Meters
from raysynth.serving.audit import Ledger, Log
from raysynth.serving.catalogue import Catalogue, Entry, ReplacedError, Shelf
from raysynth.serving.flow import Paced
from raysynth.serving.guard import Guard, Slots
from raysynth.serving.problems import Problem
from raysynth.serving.server import Server, Serving
from raysynth.serving.tokens import ANYONE
from raysynth.storage import Place

DAY = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)


def rewrite(run: Path, **facts: Any) -> None:
    """Put facts into a manifest, with the digest they make."""
    told = json.loads((run / "manifest.json").read_text()) | facts
    del told["digest"]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    (run / "manifest.json").write_text(json.dumps({**told, "digest": digest}))


def test_what_is_written_to_a_shared_file_stays_when_others_close_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rows")
    ledger.take("a", 1, None, DAY)
    thread = threading.Thread(target=ledger.had, args=("a", DAY))  # a connection of its own
    thread.start()
    thread.join()
    other = (
        "import sys; from datetime import datetime; from raysynth.serving.audit import Ledger\n"
        "ledger, day = Ledger(sys.argv[1]), datetime.fromisoformat(sys.argv[2])\n"
        "ledger.take('a', 10, None, day); print(ledger.had('a', day))\n"
    )
    command = [sys.executable, "-c", other, str(tmp_path / "rows"), DAY.isoformat()]
    for had in (11, 121):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(done.stdout) == had
        ledger.take("a", 100, None, DAY)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_every_chunk_counts_for_rows_and_all_of_them_for_all(form: type[formats.Writer]) -> None:
    text = pa.table({"a": ["x" * 400] * 10_000, "b": range(10_000)})
    chunks = list(formats.encode([text] * 3, text.schema, form))
    assert sum(chunk.rows for chunk in chunks) == 30_000
    if form is not formats.Parquet:  # whose repeated text takes next to nothing
        assert len(chunks) > 10
        assert chunks[0].rows > 1_000


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_chunk_is_never_counted_for_less_than_its_share(size: int, rows: int) -> None:
    most, formats.MOST = formats.MOST, 1_000
    try:
        cut = list(formats._cut(bytes(min(size, 20_000)), rows))
    finally:
        formats.MOST = most
    sent = counted = 0
    for data, own in cut:
        sent, counted = sent + len(data), counted + own
        assert counted >= rows * sent / min(size, 20_000) - 1e-6
    assert counted == rows


def test_rows_are_given_back_to_the_day_they_were_taken_from(tmp_path: Path) -> None:
    ledger, next_day = Ledger(tmp_path / "rows"), DAY.replace(day=2, hour=0)
    assert ledger.take("a", 90, 100, DAY) is None
    assert ledger.take("a", 60, 100, next_day) is None
    ledger.give_back("a", 80, DAY)
    assert (ledger.had("a", DAY), ledger.had("a", next_day)) == (10, 60)
    assert ledger.take("a", 41, 100, next_day) == 86_400 - 59 * 60 + 1
    assert ledger.take("a", 40, 100, next_day) is None


def test_places_in_line_are_told_and_come_back() -> None:
    told: list[tuple[int, int]] = []

    async def use() -> None:
        slots = Slots(1, 1, 0.05, lambda drawing, waiting: told.append((drawing, waiting)))
        await slots.enter("a", 2)
        waits = asyncio.ensure_future(slots.enter("a", 2))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as full:
            await slots.enter("b", 2)
        assert (full.value.status, full.value.retry_after) == (429, 2)
        with pytest.raises(Problem):  # after its patience
            await waits
        gone = asyncio.ensure_future(slots.enter("a", 2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        slots.leave("a")
        await slots.enter("c", 1)
        slots.leave("c")

    asyncio.run(use())
    assert max(drawing for drawing, _ in told) == 1
    assert max(waiting for _, waiting in told) == 1
    assert told[-1] == (0, 0)


@pytest.mark.parametrize(
    ("gate", "verdict", "refused"),
    [
        (None, None, False),
        ({"verdict": "pass", "reasons": [], "untried": []}, "pass", False),
        ({"verdict": "warn", "reasons": [], "untried": []}, "warn", False),
        ({"verdict": "fail", "reasons": [], "untried": []}, "fail", True),
        ({"verdict": "Pass?"}, "fail", True),
        ({}, "fail", True),
        ("pass", "pass", False),
        ([], "fail", True),
        (False, "fail", True),
    ],
)
def test_a_verdict_that_cannot_be_read_keeps_rows_back(
    tmp_path: Path, gate: Any, verdict: str | None, refused: bool
) -> None:
    serving = Serving(str(tmp_path), str(tmp_path / "state"), allow_failed=("named",))
    server = Server(serving, Meters())
    manifest = {} if gate is None else {"gate": gate}
    entry = Entry("run", Place.of(tmp_path / "run"), manifest)
    assert (entry.verdict, server.refused(entry)) == (verdict, refused)
    assert not server.refused(Entry("named", entry.place, manifest))


def test_a_run_replaced_since_it_was_found_is_not_opened(small_run: Run, tmp_path: Path) -> None:
    path, opened = tmp_path / "runs" / "a", []
    shutil.copytree(small_run.path, path)
    shelf = Shelf(2, 2**30, lambda entry, run: opened.append((entry.name, run.rows)))
    catalogue = Catalogue(Place.of(tmp_path / "runs"))
    found = catalogue.entry("a")
    rewrite(path, gate={"verdict": "fail"})
    with pytest.raises(ReplacedError, match="ask again") as error:
        shelf.get(found)
    assert isinstance(error.value, RunError)
    assert (len(shelf), opened) == (0, [])
    new = Catalogue(Place.of(tmp_path / "runs")).entry("a")
    assert new.verdict == "fail"
    assert shelf.get(new) is shelf.get(new)
    assert opened == [("a", small_run.rows)]


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (500, b"text/plain", 503),
        (500, b"application/problem+json", 500),
        (503, b"text/plain", 503),
        (200, b"text/csv", 200),
        (None, b"", 503),  # a proxy that gives up without a word
        (408, b"application/problem+json", 503),  # another replica was asked, without the body
    ],
)
def test_a_lost_replica_is_a_problem_to_come_back_from(
    status: int | None, kind: bytes, told: int
) -> None:
    sent: list[Any] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if status is None:
            return
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"a stack", "more_body": False})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "headers": [], "path": "/v1/models/a/sample"}
    asyncio.run(Paced(proxy)(scope, receive, send))
    start, *rest = sent
    body = b"".join(one["body"] for one in rest)
    assert (start["status"], len(rest)) == (told, 1)
    if status != told:
        assert dict(start["headers"])[b"retry-after"] == b"1"
        assert json.loads(body)["type"] == "about:raysynth/ended"
    else:
        assert body == b"a stack"


def test_a_proxy_refuses_what_a_full_replica_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_pause", lambda: 0.0)
    monkeypatch.setattr(flow, "FULL_FOR", 0.3)
    busy = Problem("busy", "all is taken", retry_after=2, full=True)
    inside, asked, go = 0, 0, asyncio.Event()

    async def two_at_once(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside, asked
        asked += 1
        if inside == 2:
            await flow.refuse(busy, send)
            return
        inside += 1
        await go.wait()
        inside -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"rows", "more_body": False})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def all_of_it() -> None:
        paced = Paced(two_at_once)

        async def ask(path: str = "/v1/models/a/sample") -> int:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            await paced({"type": "http", "headers": [], "path": path}, receive, send)
            if sent[0]["status"] == 429:
                assert dict(sent[0]["headers"])[b"retry-after"] == b"2"
                assert json.loads(sent[1]["body"])["type"] == "about:raysynth/busy"
            return int(sent[0]["status"])

        drawn = [asyncio.ensure_future(ask()) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await ask(), asked) == (429, 3)  # the replica said so
        assert (await ask(), asked) == (429, 3)  # the proxy did
        assert (await ask("/v1/models"), asked) == (429, 4)  # other paths are the replica's
        await asyncio.sleep(0.3)
        assert (await ask(), asked) == (429, 5)  # looked at anew, and full still
        go.set()
        assert await asyncio.gather(*drawn) == [200, 200]
        assert (await ask(), await ask(), asked) == (200, 200, 7)  # there is room again

    asyncio.run(all_of_it())


def test_a_description_is_of_the_run_as_it_is_and_a_report_as_it_was_saved(
    small_run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "runs" / "a"
    shutil.copytree(small_run.path, path)
    run = add_files(open_run(path), {"report.html": b"<p>fine</p>"}, {"verdict": "pass"})
    server = Server(Serving(str(tmp_path / "runs"), str(tmp_path / "state")), Meters())
    server.catalogue = Catalogue(Place.of(tmp_path / "runs"), fresh=0.0)
    entry = server.entry("a", ANYONE)
    assert entry.stamp == run.manifest["digest"]
    told = server.described(entry)
    assert (told["gate"], told["usable"], told["reasons"]) == ("pass", True, [])
    assert server.described(entry) == told
    assert server.report(entry) == b"<p>fine</p>"
    (path / "report.html").write_bytes(b"<p>else</p>")
    with pytest.raises(Problem, match="not what was saved"):
        server.report(entry)
    rewrite(path, gate={"verdict": "fail", "reasons": [{"said": "x"}], "untried": ["y"]})
    (path / "report.html").write_bytes(b"<p>fine</p>")
    told = server.described(server.entry("a", ANYONE))
    assert (told["gate"], told["usable"], told["untried"]) == ("fail", False, ["y"])
    assert all("values" not in column for column in told["columns"])


def asked(app: Any, *parts: bytes, wait: float = 0.0) -> tuple[int, dict[str, Any]]:
    """Status and problem that the guard gives of a body in parts, the last after `wait` s."""
    sent: list[Any] = []
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    left.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        if len(left) == 1:
            await asyncio.sleep(wait)
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app)({"type": "http", "method": "POST", "headers": []}, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_body_too_slow_or_too_large_is_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(*_: Any) -> None:
        raise AssertionError("it was seen")

    monkeypatch.setattr(guard, "IN_TIME", 0.05)
    assert asked(app, b"{", wait=5.0)[1]["type"] == "about:raysynth/slow"
    status, problem = asked(app, *[b"x" * guard.BODY] * 2)
    assert (status, problem["type"]) == (413, "about:raysynth/large")


def test_a_fault_says_where_and_nothing_of_what(caplog: pytest.LogCaptureFixture) -> None:
    async def app(*_: Any) -> None:
        raise ValueError("SECRET")

    status, problem = asked(app, b"{}")
    assert (status, problem["type"]) == (500, "about:raysynth/fault")
    assert "ValueError at test_serving.py" in caplog.text
    assert "SECRET" not in caplog.text + json.dumps(problem)


def test_strangers_cannot_fill_the_log(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    for _ in range(1_000):
        log.refused(DAY, False, why="unauthorised")
    log.refused(DAY, True, why="request")
    log.refused(DAY, False, why="unauthorised")
    log.refused(DAY.replace(day=2), False, why="unauthorised")
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [one["why"] for one in lines] == ["unauthorised"] * 60 + ["request", "unauthorised"]
    assert [one.get("untold") for one in lines[-2:]] == [940, 1]


def test_what_cannot_be_written_down_is_not_answered(small_run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = Server(Serving(str(small_run.path), str(state)), Meters())
    entry = server.entry(server.listed(ANYONE)[0]["name"], ANYONE)
    (state / "rows.sqlite").mkdir(parents=True)

    async def ask() -> None:
        answer = server.answer(entry, ANYONE, "", "text/csv", b'{"rows": 5}')
        await (await answer.begin()).next()

    with pytest.raises(StorageError, match=r"rows.sqlite: cannot be written: SQLITE_CANTOPEN"):
        asyncio.run(ask())
    assert not (state / "audit.jsonl").exists()
