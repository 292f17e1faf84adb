"""A cluster of four nodes, started as cluster.yaml says, operated: jobs, rows served, metrics.

One cluster for all, since it takes long to start: each test goes on from what those before it did.
"""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import RaysynthError
from raysynth.remote import Client
from raysynth.run import add_files, open_run
from tests.browser import Tab, browse
from tests.ray.nodes import Cluster, cluster
from tests.ray.watcher import GRAFANA_S, Prometheus, alerts, panels, prometheus
from tests.server import until

pytestmark = pytest.mark.operate

SETTINGS = """
table = "{home}/people.parquet"
storage = "{home}/runs"
name = "job"
family = "rnn"
epochs = 12
workers = 2
cpus = 1
checkpoint_s = 0.001
[model]
hidden = 64
batch = 250
"""
SEARCH = """
table = "{home}/people.parquet"
storage = "{home}/runs"
name = "search"
epochs = 1
cpus = 1
[tune]
families = ["independent"]
trials = 2
at_once = 1
objectives = ["detection"]
early = false
"""
# What nobody may see: a cell of the table, and secrets in the environment of nodes and of clients.
CELL, KEY, MINE = "Planted-Cell-7f31", "planted-key-9c44aa", "planted-client-key-77b2"


@pytest.fixture(scope="module")
def nodes(adult: pa.Table) -> Iterator[Cluster]:
    more = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": KEY}
    more |= {"RAY_metrics_report_interval_ms": "2000"}
    with cluster({"data": (2,), "train": (1, 1)}, **more) as found:
        people = adult.slice(0, 9_000)
        work = people.column("workclass").to_pylist()
        work[7] = CELL
        place = people.column_names.index("workclass")
        people = people.set_column(place, "workclass", pa.array(work))
        pq.write_table(people, found.home / "people.parquet")
        (found.home / "job.toml").write_text(SETTINGS.format(home=found.home))
        (found.home / "search.toml").write_text(SEARCH.format(home=found.home))
        yield found


@pytest.fixture(scope="module")
def watcher(nodes: Cluster) -> Iterator[Prometheus]:
    file = nodes.home / "0" / "prom_metrics_service_discovery.json"
    until(file.is_file, 30)
    with prometheus(nodes.home, file) as found:
        yield found


@pytest.fixture(scope="module")
def begun(watcher: Prometheus) -> float:
    """When all this began, seconds since 1970."""
    return time.time()


@pytest.fixture(scope="module")
def story(nodes: Cluster, begun: float) -> dict[str, Any]:
    """A training that is submitted, submitted again, cancelled, gone on with, submitted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", MINE)
        told = {"job": nodes.told("submit", "train", "job.toml")["job"]}
        told["again"] = nodes.run("submit", "train", "job.toml")
        checkpoints = nodes.home / "runs" / "job" / "work" / "checkpoints"
        until(lambda: any(checkpoints.glob("*")), 120)
        told["cancelled"] = nodes.told("cancel", told["job"])
        told["listed"] = nodes.told("jobs")["jobs"]
        told["gone on"] = nodes.run("submit", "train", "job.toml", "--wait", "--json")
        waited = time.monotonic()
        told["done"] = nodes.told("submit", "train", "job.toml", "--wait")
        return told | {"seconds": time.monotonic() - waited}


def test_a_training_is_submitted_once_cancelled_and_gone_on_with(
    nodes: Cluster, story: dict[str, Any]
) -> None:
    number, end = story["job"], story["gone on"]
    assert f"{number}: is there already" in story["again"].err
    assert story["cancelled"]["state"] == "stopped"
    assert [(one["job"], one["state"]) for one in story["listed"]] == [(number, "stopped")]
    assert end.code == 0, end.err
    assert f"{number}: stopped before, and submitted anew" in end.err
    assert "training begins after" in end.err
    assert "resuming 'job' from epoch" in end.err
    told = json.loads(end.out)
    assert (told["job"], told["state"]) == (f"{number}-2", "succeeded")
    assert open_run(nodes.home / "runs" / "job").rows == 9_000
    for one in (number, f"{number}-2"):
        logged = nodes.run("logs", one).out
        lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
        assert {(line["job"], line.get("run", "job")) for line in lines} == {(one, "job")}
    assert story["done"]["state"] == "succeeded"
    assert story["seconds"] < 30, "nothing is trained twice"


def test_stages_keep_to_the_nodes_of_their_pool(nodes: Cluster, story: dict[str, Any]) -> None:
    pools = {one["node_id"]: one["labels"]["raysynth/pool"] for one in nodes.listed("nodes")}
    where: dict[str, set[str]] = {}
    for one in (*nodes.listed("tasks"), *nodes.listed("actors")):
        if one["node_id"]:
            what = one.get("class_name") or one["name"]
            where.setdefault(what, set()).add(pools[one["node_id"]])
    data = {what for what in where if what.startswith("MapBatches")}
    assert len(data) == 2, "summarised and spilled, and sorted"
    assert {pool for what in data for pool in where[what]} == {"data"}
    assert where["JobSupervisor"] == where["TrainController"] == where["Board"] == {"data"}
    assert where["RayTrainWorker"] == {"train"}
    workers = [one for one in nodes.listed("actors") if one["class_name"] == "RayTrainWorker"]
    assert len({one["node_id"] for one in workers}) == 2, "one on each"


@pytest.fixture(scope="module")
def searched(nodes: Cluster, story: dict[str, Any]) -> str:
    """A search that was submitted, with a sample beside it: its id."""
    search = nodes.told("submit", "tune", "search.toml")["job"]
    out = nodes.home / "sample.parquet"
    words = ["sample", nodes.home / "runs" / "job", "--rows", 1_000, "--out", out]
    assert nodes.told("submit", *words, "--wait")["state"] == "succeeded"
    assert pq.read_table(out).num_rows == 1_000
    until(lambda: nodes.run("logs", search).out and _state(nodes, search).is_terminal(), 120)
    assert _state(nodes, search) == "SUCCEEDED", nodes.run("logs", search).out
    return search


def test_a_search_and_a_sample_are_jobs_as_well(nodes: Cluster, searched: str) -> None:
    assert len(list((nodes.home / "runs" / "search" / "trials").iterdir())) == 1, "the best"
    log = (nodes.home / "runs" / "search.log").read_text().splitlines()
    told = [json.loads(line) for line in log if line.startswith("{")]
    trials = [one for one in told if one["message"] == "trial"]
    assert [(one["run"], one["trial"], one["state"]) for one in trials] == [
        ("search", number, "complete") for number in range(2)
    ]


def test_workers_log_their_epochs_with_the_runs_name(nodes: Cluster, story: dict[str, Any]) -> None:
    files = nodes.home.glob("[0-9]/session_2*/logs/train/ray-train-app-worker-*.log")
    lines = [line for file in files for line in file.read_text().splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    epochs = {one["epoch"] for one in told if one["message"] == "epoch" and one["run"] == "job"}
    assert epochs == set(range(1, 13))


def _state(nodes: Cluster, number: str) -> Any:
    from ray.job_submission import JobStatus

    (found,) = (one for one in nodes.told("jobs")["jobs"] if one["job"] == number)
    return JobStatus(found["state"].upper())


def test_what_is_wrong_ends_with_the_commands_own_code(nodes: Cluster) -> None:
    words = ["train", nodes.home / "people.parquet", "--storage", nodes.home / "runs"]
    end = nodes.run("submit", *words, "--drop", "nothing", "--wait", "--retries", 3)
    assert end.code == 2
    assert "error: " in end.err
    assert "tried again" not in end.err


def test_a_driver_of_another_python_is_told_so(nodes: Cluster) -> None:
    script = (
        "from ray._private import utils\n"
        "utils.compute_version_info = lambda: ('2.60.0', '3.99.1')\n"
        "from raysynth.errors import ConfigError\n"
        "from raysynth.stages import cluster\n"
        "try: cluster.connect(1)\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=nodes.environment | {"RAY_ADDRESS": f"127.0.0.2:{nodes.gcs}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "3.99.1" in done.stdout, done.stderr
    assert "Expected the cluster's Ray and Python, to the minor release" in done.stdout


@pytest.fixture(scope="module")
def served(nodes: Cluster, story: dict[str, Any]) -> tuple[str, Client]:
    """The application of infra/serve.yaml on the cluster: a token, and who has it."""
    run = open_run(nodes.home / "runs" / "job")
    told_of = {"figures": [{"name": "detection", "synthetic": 0.6}]}
    add_files(run, {"report.json": json.dumps(told_of).encode()}, {"verdict": "warn"})
    return nodes.serve()


def test_rows_are_served_from_the_cluster(nodes: Cluster, served: tuple[str, Client]) -> None:
    assert served[1].table("job", 500, seed=3).num_rows == 500
    replicas = [one for one in nodes.listed("actors") if "ServeReplica" in one["class_name"]]
    pools = {one["node_id"]: one["labels"]["raysynth/pool"] for one in nodes.listed("nodes")}
    assert {pools[one["node_id"]] for one in replicas} == {"data"}


def test_nothing_answers_without_a_token(nodes: Cluster, served: tuple[str, Client]) -> None:
    job = {"entrypoint": "true", "submission_id": "theirs"}
    asked: list[tuple[str, Any]] = [
        ("/api/jobs/", None),
        ("/api/jobs/", job),
        ("/api/v0/actors", None),
        ("/api/v0/logs?node_id=0", None),
        ("/nodes?view=summary", None),
        ("/api/serve/applications/", None),
        ("/api/serve/applications/", {"applications": []}),
        ("/api/actors/kill?actor_id=0", None),
        ("/worker/traceback?pid=1", None),
    ]
    for path, data in asked:
        assert nodes.ask(path, data)[0] == 401, path
        status, said = nodes.ask(path, data, Authorization="Bearer another")
        assert status == 403, (path, said)
    agents = [one["driver_agent_http_address"] for one in json.loads(nodes.get("/api/jobs/"))]
    for agent in filter(None, agents):
        status, _ = nodes.ask("/api/job_agent/jobs/", job, address=agent)
        assert status in (401, 403), agent
    with pytest.raises(RaysynthError, match="token is unknown"):
        Client(served[1].url, "another").table("job", 1)
    raylets = [
        (one["ip"], one["raylet"]["nodeManagerPort"])
        for one in json.loads(nodes.get("/nodes?view=summary"))["data"]["summary"]
    ]
    ports = [("127.0.0.2", nodes.gcs, "NodeInfoGcsService/GetAllNodeInfo")]
    ports += [("127.0.0.2", nodes.client, "RayletDriver/ClusterInfo")]
    ports += [(ip, port, "NodeManagerService/GetNodeStats") for ip, port in raylets]
    for ip, port, method in ports:
        # So that its refusals mean something. Who asks is of no client, or of no node, it knows.
        assert _called(ip, port, method, nodes.token) in ("OK", "NOT_FOUND"), method
        for token in (None, "another"):
            assert _called(ip, port, method, token) == "UNAUTHENTICATED", (method, token)


def _called(ip: str, port: int, method: str, token: str | None) -> str:
    """The status of a gRPC call with a token, or none."""
    sent = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"{ip}:{port}") as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=20, metadata=sent)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def test_every_query_of_the_dashboard_and_the_alerts_has_had_data(
    watcher: Prometheus, begun: float, searched: str, served: tuple[str, Client]
) -> None:
    assert served[1].table("job", 100).num_rows == 100
    with pytest.raises(RaysynthError):
        Client(served[1].url, "another").table("job", 1)
    asked = [(title, query) for title, queries in panels().items() for query in queries]
    asked += list(alerts().items())
    assert len(asked) > 40
    end = time.monotonic() + 30
    while True:
        missing = [
            title
            for title, query in asked
            if not watcher.query(query.replace("[5m]", f"[{GRAFANA_S}]"), begun, time.time())
        ]
        if not missing or time.monotonic() > end:
            break
        time.sleep(1)
    assert not missing
    assert all(one["health"] == "up" for one in watcher.targets())
    rows = watcher.query(
        'max(ray_raysynth_rows_total{run="job",stage="encode"})', begun, time.time()
    )
    assert float(rows[0]["values"][-1][1]) == 9_000


def test_the_dashboard_shows_jobs_trainings_and_what_is_read(
    nodes: Cluster, watcher: Prometheus, served: tuple[str, Client], tmp_path: Path
) -> None:
    trained = json.loads(nodes.get("/api/train/v2/runs/v1"))["train_runs"]
    assert {(one["name"], one["status"]) for one in trained} >= {("job", "FINISHED")}
    jobs = json.loads(nodes.get("/api/jobs/"))
    ids = {one["submission_id"]: one["job_id"] for one in jobs}
    second = next(number for number in ids if number.endswith("-2"))
    first, job = ids[second.removesuffix("-2")], ids[second]
    read = json.loads(nodes.get(f"/api/data/datasets/{first}"))["datasets"]
    assert {one["state"] for one in read} == {"FINISHED"}
    assert len(read) == 3, "to be summarised, encoded, shuffled"
    pictures = Path(os.environ.get("PICTURES", tmp_path))

    async def use(tab: Tab) -> None:
        told = {"name": "ray-authentication-token", "value": nodes.token, "url": nodes.address}
        await tab.call("Network.setCookie", **told)
        sizes = {"width": 1500, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        await tab.call("Emulation.setDeviceMetricsOverride", **sizes)
        query = panels()["Rows a second by stage"][0]
        graph = f"http://127.0.0.1:{watcher.port}/graph?g0.tab=0&g0.range_input=10m&g0.expr="
        for page, url, shown in (
            ("jobs", f"{nodes.address}/#/jobs", "raysynth-train-"),
            ("job", f"{nodes.address}/#/jobs/{job}", "weights: those of epoch"),
            ("nodes", f"{nodes.address}/#/cluster", "127.0.0.5"),
            ("serve", f"{nodes.address}/#/serve", "raysynth"),
            ("metrics", graph + quote(query), 'stage="encode"'),
        ):
            await tab.call("Page.navigate", url=url)
            try:
                await tab.until(f"document.body && document.body.innerText.includes('{shown}')")
            finally:
                picture = await tab.call("Page.captureScreenshot", format="png")
                (pictures / f"{page}.png").write_bytes(base64.b64decode(picture["data"]))

    browse(f"{nodes.address}/", tmp_path / "browser", use)


def test_no_secret_and_no_cell_is_in_a_log_a_title_a_metric_or_the_dashboard(
    nodes: Cluster, watcher: Prometheus, served: tuple[str, Client]
) -> None:
    served[1].table("job", 10)
    seen: dict[str, bytes] = {}
    for what in ("jobs", "actors", "tasks", "workers", "nodes", "runtime_envs", "objects"):
        seen[what] = nodes.get(f"/api/v0/{what}?detail=1&limit=10000")
    for path in ("/api/jobs/", "/api/serve/applications/", "/nodes?view=summary"):
        seen[path] = nodes.get(path)
    for one in json.loads(seen["/api/jobs/"]):
        seen[one["submission_id"]] = nodes.get(f"/api/jobs/{one['submission_id']}/logs")
    for target in watcher.targets():
        _, seen[target["scrapeUrl"]] = nodes.ask("", address=target["scrapeUrl"])
    for file in (*nodes.home.glob("[0-9]*/session_*/logs/**/*"), *nodes.home.glob("**/*.log")):
        if file.is_file():
            seen[str(file)] = file.read_bytes()
    seen["audit"] = (nodes.home / "state" / "audit.jsonl").read_bytes()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen[str(process)] = process.read_bytes()
        except OSError:
            continue
    assert len(seen) > 100
    secrets = {"cell": CELL, "key": KEY, "client's": MINE, "Ray's": nodes.token, "ours": served[0]}
    for what, secret in secrets.items():
        found = [name for name, text in seen.items() if secret.encode() in text]
        assert not found, (what, found)
    assert b"raysynth-train-" in seen["/api/jobs/"], "what is looked through is what is shown"
