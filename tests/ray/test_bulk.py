"""Jobs of a real server: written whole where it may, told of, cancelled, lost, and counted."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raysynth.remote import RemoteError
from raysynth.run import Run
from raysynth.sampler import Sampler
from raysynth.stages import bulk
from tests.server import Served, judge, serving, until

LONG = 400_000_000  # rows that take hours
TOKENS = {"all": {}, "other": {}, "reader": {"scopes": ("read",)}, "poor": {"rows_per_day": 500}}


@pytest.fixture(scope="module")
def served(
    cluster: None, small_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("bulk")
    for name in ("small", "failed"):
        shutil.copytree(small_run.path, home / "runs" / name)
    judge(home / "runs" / "failed", "fail")
    (home / "out").mkdir()
    (home / "out" / "link").symlink_to(home)
    with serving(home, TOKENS, jobs_to=(str(home / "out"),), jobs_at_once=2) as found:
        yield found


@pytest.fixture
def out(served: Served) -> Path:
    return served.runs.parent / "out"


def test_a_job_writes_the_rows_that_a_request_gets(
    served: Served, small_run: Run, out: Path
) -> None:
    client = served.client()
    given = {"sex": "Female", "age": (30, 40)}
    asked = {"seed": 3, "given": given, "columns": ["age", "sex", "income"], "offset": 300}
    job = client.submit("small", str(out / "new" / "a.parquet"), 60_000, **asked)
    assert job["state"] in ("waiting", "running")
    done = client.wait(job["id"], 60)
    assert (done["state"], done["rows"], done["asked"]) == ("done", 60_000, 60_000)
    assert done["ended"] >= done["begun"]
    table = pq.read_table(out / "new" / "a.parquet")
    expected = Sampler.open(small_run).stream(60_000, 3, given, 300)
    assert table.equals(pa.concat_tables(one.table for one in expected).select(asked["columns"]))
    assert client.jobs()[0]["id"] == job["id"]
    begun, ended = [one for one in served.log() if one.get("request") == job["id"]]
    assert (begun["given"], begun["asked"], begun["from"]) == (["age", "sex"], 60_000, "127.0.0.1")
    assert (ended["how"], ended["rows"]) == ("done", 60_000)
    assert "Female" not in json.dumps([begun, ended])
    again = served.ask("POST", "/v1/models/small/jobs", {"rows": 1, "to": job["to"]})
    assert "something is there already" in again.problem["detail"]


def test_it_is_told_of_while_it_draws_and_leaves_nothing_when_it_is_cancelled(
    served: Served, out: Path
) -> None:
    client = served.client()
    job = client.submit("small", str(out / "b.csv"), LONG)
    running = until(lambda: found if (found := client.job(job["id"]))["rows"] else None)
    assert running["state"] == "running"
    assert 0 < running["rows"] < LONG
    same = served.ask("POST", "/v1/models/small/jobs", {"rows": 1, "to": job["to"]})
    assert "another job is writing there" in same.problem["detail"]
    said = served.ask("DELETE", f"/v1/jobs/{job['id']}")
    assert said.status == 202
    over = client.wait(job["id"], 30)
    assert over["state"] == "cancelled"
    assert not [path for path in out.iterdir() if path.name.endswith((".csv", ".part"))]
    until(lambda: not bulk.Actors().alive(job["id"]))
    assert client.cancel(job["id"])["state"] == "cancelled"


def test_only_its_owner_knows_of_it(served: Served, out: Path) -> None:
    number = served.client().submit("small", str(out / "c.csv"), 10)["id"]
    other = served.client("other")
    assert other.jobs() == []
    for ask in (other.job, other.cancel):
        with pytest.raises(RemoteError, match="or it is another's") as refused:
            ask(number)
        assert (refused.value.status, refused.value.kind) == (404, "unknown-job")
    assert served.ask("GET", f"/v1/jobs/{number}", who="reader").status == 403
    assert served.ask("GET", f"/v1/jobs/{number}", who=None).status == 401
    assert served.client().wait(number, 60)["state"] == "done"


def test_there_are_so_many_at_once(served: Served, out: Path) -> None:
    client = served.client(patience=0)
    numbers = [client.submit("small", str(out / f"d{i}.csv"), LONG)["id"] for i in range(2)]
    with pytest.raises(RemoteError, match="as many as can be") as refused:
        client.submit("small", str(out / "d2.csv"), 10)
    assert (refused.value.status, refused.value.kind) == (429, "busy")
    for number in numbers:
        client.cancel(number)
    assert {client.wait(number, 30)["state"] for number in numbers} == {"cancelled"}


def test_rows_of_a_day_are_counted_and_given_back(served: Served, out: Path) -> None:
    client = served.client("poor", patience=0)
    with pytest.raises(RemoteError, match="500 rows a day"):
        client.submit("small", str(out / "e.csv"), 501)
    (out / "file").write_text("in the way of a folder")
    number = client.submit("small", str(out / "file" / "e.csv"), 500)["id"]
    with pytest.raises(RemoteError, match="a file is in the way of a folder"):
        client.wait(number, 60)
    number = client.submit("small", str(out / "e.csv"), 500)["id"]
    assert client.wait(number, 60)["state"] == "done"
    with pytest.raises(RemoteError, match="500 rows a day"):
        client.submit("small", str(out / "f.csv"), 1)


def test_one_whose_process_went_is_told_and_its_rows_given_back(
    served: Served, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysynth.serving import jobs

    client = served.client()
    job = client.submit("small", str(out / "g.parquet"), LONG)
    until(lambda: client.job(job["id"])["state"] == "running")
    ray.kill(ray.get_actor(f"raysynth-job-{job['id']}", namespace=bulk.NAMESPACE))
    until(lambda: not bulk.Actors().alive(job["id"]))
    monkeypatch.setattr(jobs, "BEGINS_S", 0)
    desk = jobs.Desk(jobs.Book(served.state), bulk.Actors(), (str(out),), 2)
    desk.settle()
    with pytest.raises(RemoteError, match="the process that drew it has ended"):
        client.wait(job["id"], 5)
    ended = [one for one in served.log() if one.get("request") == job["id"]][-1]
    assert (ended["how"], ended["rows"]) == ("failed", 0)
    had = desk.book._ledger.had("all", jobs.datetime.now(jobs.UTC))
    assert had < LONG


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"rows": 1}, 422, "to"),
        ({"rows": 0, "to": "OUT/x.csv"}, 422, "rows"),
        ({"rows": 2_000_000_000, "to": "OUT/x.csv"}, 422, "1,000,000,000"),
        ({"rows": 1, "to": "OUT/x.txt"}, 422, ".parquet"),
        ({"rows": 1, "to": "OUT/../x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "OUT/link/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "OUTSIDE/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "OUT/"}, 422, "not in a place"),
        ({"rows": 1, "to": "x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "/etc/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "s3://SECRET@b/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "s3://bucket/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "https://example.org/x.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "OUT/x\x00.csv"}, 422, "not in a place"),
        ({"rows": 1, "to": "OUT/x.csv", "given": {"agee": 1}}, 422, "'age'"),
        ({"rows": 1, "to": "OUT/x.csv", "given": {"sex": "SECRET"}}, 422, "sex"),
        ({"rows": 1, "to": "OUT/x.csv", "columns": ["agee"]}, 422, "'age'"),
        ({"rows": 1, "to": 3}, 422, "to"),
    ],
)
def test_what_cannot_be_written_is_said_before_it_is_begun(
    served: Served, out: Path, body: dict[str, Any], status: int, said: str
) -> None:
    before = len(served.client().jobs())
    sent = {**body, "to": body["to"].replace("OUT/", f"{out}/")} if "OUT/" in str(body) else body
    answer = served.ask("POST", "/v1/models/small/jobs", sent)
    assert answer.status == status, answer.body
    assert said in answer.problem["detail"]
    assert b"SECRET" not in answer.body
    assert len(served.client().jobs()) == before
    assert not (out / "x.csv").exists()


def test_the_gate_and_the_token_hold_for_jobs(served: Served, out: Path) -> None:
    body = {"rows": 1, "to": str(out / "h.csv")}
    assert served.ask("POST", "/v1/models/failed/jobs", body).problem["status"] == 403
    assert served.ask("POST", "/v1/models/small/jobs", body, who="reader").status == 403
    assert served.ask("POST", "/v1/models/none/jobs", body).problem["status"] == 404
    form = served.ask("POST", "/v1/models/small/jobs", b"rows=1", content_type="text/plain")
    assert form.problem["status"] == 415


def test_jobs_end_with_a_server_whose_cluster_does(served: Served, out: Path) -> None:
    client = served.client()
    number = client.submit("small", str(out / "i.csv"), LONG)["id"]
    until(lambda: client.job(number)["state"] == "running")
    bulk.end_all(str(served.state))
    assert client.job(number)["state"] == "cancelled"
    assert not list(out.glob("*i.csv*"))
