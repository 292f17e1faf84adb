"""A real Serve on loopback: formats, tokens, quotas, bad input, clients that go, and the log."""

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import ConfigError
from raysynth.remote import ARROW, MEDIA, RemoteError
from raysynth.run import Run
from raysynth.sampler import Sampler
from tests.browser import Tab, browse
from tests.server import Served, asking, judge, reading, serving, until

PARQUET, CSV, LINES, JSON = (MEDIA[end] for end in (".parquet", ".csv", ".ndjson", ".json"))
MOST = 2_000_000
TOKENS = {
    "all": {},
    "reader": {"scopes": ("read",)},
    "narrow": {"models": ("allowed", "dam*")},
    "poor": {"rows_per_day": 150},
    "single": {"concurrent": 1},
    "expired": {"expires": "2020-01-01T00:00Z"},
}


@pytest.fixture(scope="module")
def served(
    cluster: None, small_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    runs = home / "runs"
    for name in ("small", "allowed", "failed", "damaged", "torn"):
        shutil.copytree(small_run.path, runs / name)
    for name in ("allowed", "failed"):
        judge(runs / name, "fail")
    weights = runs / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (runs / "torn" / "manifest.json").write_text("[1")
    shutil.copytree(small_run.path, home / "outside")
    (runs / "link").symlink_to(home / "outside")
    options = {"allow_failed": ("allowed",), "most_rows": MOST, "patience": 0.5}
    with serving(home, TOKENS, **options) as found:
        yield found


def test_every_format_opens_straight_with_the_rows_of_the_sampler(
    served: Served, small_run: Run
) -> None:
    expected = Sampler.open(small_run).sample(1_500, seed=7)
    asked = {"rows": 1_500, "seed": 7}
    assert pa.ipc.open_stream(served.sample(asked, ARROW).body).read_all().equals(expected)
    assert pq.read_table(io.BytesIO(served.sample(asked, PARQUET).body)).equals(expected)
    frame = expected.to_pandas()
    for media, read in (
        (CSV, pd.read_csv),
        (JSON, pd.read_json),
        (LINES, lambda file: pd.read_json(file, lines=True)),
    ):
        said = served.sample(asked, media)
        assert (said.status, said.headers["content-type"]) == (200, media)
        found = read(io.BytesIO(said.body))
        pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_the_same_request_gives_the_same_bytes_whichever_replica_answers(served: Served) -> None:
    asked = {"rows": 30_000, "seed": 3, "offset": 500}
    for media in (ARROW, PARQUET, CSV, LINES, JSON):
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda _, m=media: served.sample(asked, m).body, range(4)))
        assert len(set(bodies)) == 1
        assert served.sample(asked | {"seed": 4}, media).body != bodies[0]


def test_ranges_make_up_the_table(served: Served) -> None:
    client = served.client()
    whole = client.table("small", 3_500, seed=5, columns=["age", "sex"])
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(
            lambda start: client.table("small", 1_750, 5, None, ["age", "sex"], start), (0, 1_750)
        )
    assert pa.concat_tables(parts).equals(whole)
    assert whole.schema.names == ["age", "sex"]


def test_what_is_given_holds(served: Served) -> None:
    frame = served.client().frame("small", 300, given={"sex": "Female", "age": (30, 40)})
    assert set(frame["sex"]) == {"Female"}
    assert frame["age"].between(30, 40).all()


def test_a_client_reads_pieces_saves_files_and_says_what_was_refused(
    served: Served, tmp_path: Path
) -> None:
    client = served.client()
    sizes = [batch.num_rows for batch in client.batches("small", 60_000)]
    assert sum(sizes) == 60_000
    assert len(sizes) > 1
    table = client.table("small", 500)
    assert pq.read_table(client.save("small", tmp_path / "a.parquet", 500)).equals(table)
    assert len(pd.read_csv(client.save("small", tmp_path / "a.csv", 500))) == 500
    with pytest.raises(RemoteError, match="did you mean 'age'") as refused:
        client.table("small", 10, columns=["agee"])
    assert (refused.value.status, refused.value.kind) == (422, "request")
    with pytest.raises(RemoteError, match="greater than or equal to 1"):
        client.table("small", 0)
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "a.csv"}


def test_models_are_listed_and_described(served: Served, small_run: Run) -> None:
    models = {one["name"]: one for one in served.client().models()}
    assert set(models) >= {"small", "allowed", "failed", "damaged", "torn"}
    assert "link" not in models
    assert models["small"]["usable"]
    assert models["small"]["rows"] == small_run.rows
    assert not models["failed"]["usable"]
    assert models["allowed"]["usable"]
    assert "damaged" in models["torn"]["why"]
    model = served.client().model("small")
    columns = {one["name"]: one for one in model["columns"]}
    assert list(columns) == list(small_run.table.schema.names)
    assert columns["sex"]["values"] == ["Female", "Male"]
    assert columns["age"] | {"kind": "number", "given": True} == columns["age"]
    assert model["limits"]["rows"] == MOST
    failed = served.client().model("failed")
    assert "values" not in failed["columns"][0]
    assert failed["gate"] == "fail"
    assert [one["said"] for one in failed["reasons"]] == ["Somebody was found."]
    assert failed["untried"] == ["Most things."]
    assert (model["gate"], model["reasons"]) == (None, [])
    assert served.ask("GET", "/v1/models/small/report").problem["type"].endswith("no-report")
    assert served.ask("GET", "/v1/models/damaged").status == 503


def test_health_and_the_description_ask_for_no_token(served: Served) -> None:
    assert served.ask("GET", "/healthz", who=None).status == 200
    assert served.ask("GET", "/readyz", who=None).status == 200
    paths = json.loads(served.ask("GET", "/openapi.json", who=None).body)["paths"]
    assert set(paths["/v1/models/{name}/sample"]["post"]["responses"]["200"]["content"]) == {
        *(ARROW, PARQUET, CSV, LINES, JSON)
    }


@pytest.mark.parametrize("who", [None, "nonsense", "", "expired"])
def test_without_a_good_token_nothing_is_told(served: Served, who: str | None) -> None:
    for said in (
        served.ask("GET", "/v1/models", who=who),
        served.ask("GET", "/v1/models/nothing", who=who),
        served.sample({"rows": 1}, who=who),
        served.sample(b"{", who=who),
    ):
        assert said.status == 401
        assert said.headers["www-authenticate"].startswith("Bearer")
        assert said.problem["type"] == "about:raysynth/unauthorised"


def test_a_token_reaches_what_it_is_for(served: Served) -> None:
    assert served.ask("GET", "/v1/models/small", who="reader").status == 200
    assert served.sample({"rows": 1}, who="reader").status == 403
    names = [one["name"] for one in served.client("narrow").models()]
    assert names == ["allowed", "damaged"]
    assert served.sample({"rows": 1}, who="narrow").status == 404
    assert served.ask("GET", "/v1/models/small", who="narrow").status == 404
    assert served.sample({"rows": 1}, who="narrow", name="allowed").status == 200


def test_rows_of_a_day_run_out(served: Served) -> None:
    assert served.sample({"rows": 100}, who="poor").status == 200
    said = served.sample({"rows": 100}, who="poor")
    assert said.problem["type"] == "about:raysynth/quota"
    assert 0 < int(said.headers["retry-after"]) <= 86_400
    assert served.sample({"rows": 5, "columns": ["none"]}, who="poor").status == 422  # not counted
    assert served.sample({"rows": 50}, who="poor").status == 200
    assert served.sample({"rows": 1}, who="poor").status == 429


def test_requests_at_once_run_out_and_come_back(served: Served) -> None:
    with ExitStack() as held:
        answers = []
        for _ in range(3):  # the limit is a replica's, and two replicas answer
            one = reading(served, {"rows": MOST}, "single")
            held.enter_context(one)
            answers.append(one.answer)
        assert {one.status for one in answers} == {200, 429}
        busy = [one for one in answers if one.status == 429]
        assert json.loads(busy[0].read())["type"] == "about:raysynth/busy"
        assert busy[0].headers["retry-after"] == "1"
    until(lambda: all(served.sample({"rows": 1}, who="single").status == 200 for _ in range(8)))


def test_a_client_that_goes_ends_the_work_and_the_log_says_how_much_left(served: Served) -> None:
    with reading(served, {"rows": MOST}, "all") as number:
        pass
    end = served.ended(number)
    assert end["how"] == "gone"
    assert 0 < end["rows"] < MOST


def test_what_is_not_read_is_not_drawn(served: Served) -> None:
    with reading(served, {"rows": MOST}, "all") as number:
        time.sleep(4)  # in which far more could be drawn than may wait
    end = served.ended(number)
    assert end["bytes"] < 32 * 2**20  # the window, and what the kernel holds between sockets


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": -1}, "rows"),
        ({"rows": MOST + 1}, "offset"),
        ({"rows": "10"}, "rows"),
        ({"rows": 1.5}, "rows"),
        ({"rows": 1e400}, "rows"),
        ({}, "rows"),
        ([], "body"),
        (b"rows=1", "JSON"),
        (b"\xff", "JSON"),
        ({"rows": 1, "seed": -1}, "seed"),
        ({"rows": 1, "seed": 2**63}, "seed"),
        ({"rows": 1, "offset": -1}, "offset"),
        ({"rows": 1, "rowz": 1}, "rowz"),
        ({"rows": 1, "columns": []}, "columns"),
        ({"rows": 1, "columns": ["agee"]}, "'age'"),
        ({"rows": 1, "columns": ["age", "age"]}, "twice"),
        ({"rows": 1, "given": {"agee": 3}}, "'age'"),
        ({"rows": 1, "given": {"sex": "SECRET"}}, "sex"),
        ({"rows": 1, "given": {"sex": ["SECRET", "Male"]}}, "sex"),
        ({"rows": 1, "given": {"sex": {"SECRET": 1}}}, "given.sex"),
        ({"rows": 1, "given": {"age": "SECRET"}}, "age"),
        ({"rows": 1, "given": {"age": [40, 30]}}, "before it begins"),
        ({"rows": 1, "given": {"age": [1, 2, 3]}}, "age"),
        ({"rows": 1, "given": {"age": [None, None]}}, "age"),
        ({"rows": 1, "given": {"age": 10**40}}, "age"),
        ({"rows": 1, "given": {"age": [-(10**9), -(10**8)]}}, "age"),
    ],
)
def test_what_cannot_be_answered_is_said_without_a_value(
    served: Served, body: Any, said: str
) -> None:
    answer = served.sample(body)
    assert answer.status == 422, answer.body
    assert said in answer.problem["detail"]
    assert b"SECRET" not in answer.body


def test_what_is_not_a_request_is_refused_by_its_status(served: Served) -> None:
    sample = "/v1/models/small/sample"
    assert served.sample({"rows": 1}, accept="image/png").problem["status"] == 406
    assert served.sample({"rows": 1}, name="nothing").problem["status"] == 404
    form = served.ask("POST", sample, b"rows=1", content_type="text/plain")
    assert form.problem["status"] == 415
    huge = json.dumps({"rows": 1, "given": {"a": "x" * 100_000}}).encode()
    assert served.ask("POST", sample, huge).problem["status"] == 413
    assert served.ask("DELETE", "/v1/models").problem["status"] == 405
    assert served.ask("GET", "/v2").problem["status"] == 404


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../outside",
        "..%2Foutside",
        "%2e%2e%2foutside",
        "link",
        "/etc",
        "small%00",
        "small%2f",
    ],
)
def test_names_do_not_leave_the_folder(served: Served, name: str) -> None:
    for method, path in (("GET", ""), ("GET", "/report"), ("POST", "/sample")):
        body = {"rows": 1} if method == "POST" else None
        assert served.ask(method, f"/v1/models/{name}{path}", body).status in (404, 405)


def test_a_damaged_run_harms_nobody_else(served: Served) -> None:
    asked = [("damaged", 503), ("small", 200), ("torn", 503), ("small", 200)] * 3
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(lambda one: served.sample({"rows": 10}, name=one[0]), asked)
    for said, (_, status) in zip(told, asked, strict=True):
        assert said.status == status, said.body
        if status == 503:
            assert said.problem["type"] == "about:raysynth/model"
            assert str(served.runs).encode() not in said.body


def test_a_run_that_failed_its_gate_stays_unless_it_is_named(served: Served) -> None:
    refused = served.sample({"rows": 1}, name="failed")
    assert refused.status == 403
    assert refused.problem["type"] == "about:raysynth/gate"
    assert "--allow-failed failed" in refused.problem["detail"]
    assert served.sample({"rows": 1}, name="allowed").status == 200


def test_a_new_run_appears_and_a_replaced_one_is_opened_anew(
    served: Served, small_run: Run
) -> None:
    assert served.sample({"rows": 1}, name="later").status == 404
    shutil.copytree(small_run.path, served.runs / "later")
    until(lambda: served.sample({"rows": 1}, name="later").status == 200)
    judge(served.runs / "later", "fail")
    until(lambda: served.sample({"rows": 1}, name="later").status == 403)


def test_the_log_says_who_had_what_and_no_value(served: Served) -> None:
    asked = {"rows": 20, "seed": 11, "given": {"sex": "Female", "age": [31, 37]}}
    number = served.sample(asked).headers["x-raysynth-request"]
    ended = until(
        lambda: [one for one in served.log() if one.get("request") == number and "how" in one]
    )
    begun = next(one for one in served.log() if one.get("request") == number)
    told = {"event": "begun", "who": "all", "model": "small", "seed": 11, "asked": 20}
    assert told.items() <= begun.items()
    assert begun["given"] == ["age", "sex"]
    assert (ended[0]["how"], ended[0]["rows"]) == ("whole", 20)
    text = (served.state / "audit.jsonl").read_text()
    assert "Female" not in text
    assert "31" not in json.dumps(begun["given"])
    assert not any(secret in text for secret in served.secrets.values())
    assert any(one["event"] == "refused" and one["why"] == "unauthorised" for one in served.log())
    assert (served.state / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def replicas() -> set[str]:
    import ray

    found = ray.util.list_named_actors(all_namespaces=True)
    names = (one["name"] for one in found)
    return {name for name in names if name.startswith("SERVE_REPLICA::raysynth")}


def test_a_replica_that_is_killed_costs_no_request_but_those_it_held(served: Served) -> None:
    import ray

    with asking(served, 4) as (told, cut):
        until(lambda: len(told) > 40)
        killed = min(replicas())
        ray.kill(ray.get_actor(killed, namespace="serve"), no_restart=True)
        since = len(told)
        until(lambda: len(told) > since + 40)
        until(lambda: len(replicas() - {killed}) == 2, 60)
        since = len(told)
        until(lambda: len(told) > since + 40)
    assert len(cut) <= 4
    assert {one.status for one in told} == {200}  # others were asked what it had said nothing to
    assert len({one.body for one in told}) == 1


def test_replicas_are_replaced_without_a_request_that_fails(served: Served) -> None:
    from ray import serve as ray_serve

    from raysynth.stages.serve import application

    before = replicas()
    options = asdict(served.serving) | {"replicas": 2, "models": 5}
    with asking(served, 4) as (told, cut):
        until(lambda: len(told) > 40)
        ray_serve.run(application(options), name="raysynth", route_prefix="/")
        until(lambda: len(replicas() - before) == 2 and not replicas() & before, 60)
        since = len(told)
        until(lambda: len(told) > since + 40)
    assert not cut
    assert {one.status for one in told} == {200}
    assert len({one.body for one in told}) == 1


def test_the_page_asks_nobody_else(served: Served) -> None:
    said = served.ask("GET", "/", who=None)
    policy = said.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "script-src 'sha256-" in policy
    assert b"//" not in said.body.replace(b"http://www.w3.org/2000/svg", b"").split(b"<script>")[0]


def test_the_configuration_of_a_cluster_builds_the_application() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from raysynth.stages import serve

    file = Path(__file__).parents[2] / "infra" / "serve.yaml"
    found = ServeDeploySchema(**yaml.safe_load(file.read_text()))
    (told,) = found.applications
    assert told.import_path == "raysynth.stages.serve:application"
    assert told.args["tokens"]
    assert found.http_options.host == "127.0.0.1"
    serve.application(told.args)
    for left in ("runs", "state", "tokens"):
        with pytest.raises(ConfigError, match=f"{left}: needed"):
            serve.application({**told.args, left: None})
    with pytest.raises(ConfigError, match="allow_fail: no such option"):
        serve.application({**told.args, "allow_fail": ["a"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--no-auth", "--host", "0.0.0.0"], "can be reached from elsewhere"),
        ([], "holds no token yet"),
        (["--no-auth", "--certificate", "a.pem"], "go together"),
    ],
)
def test_the_command_refuses_what_would_be_open_or_useless(
    cli: Callable[..., Any], small_run: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    end = cli("serve", small_run.path, "--state", tmp_path / "state", "--port", 8_199, *words)
    assert end.code == 2
    assert said in end.err


def test_a_browser_draws_rows_on_the_page_and_asks_nobody_else(
    served: Served, tmp_path: Path
) -> None:
    expected = served.client().table("small", 3, seed=5, given={"sex": "Female"}).to_pylist()

    async def use(tab: Tab) -> None:
        await tab.until("document.getElementById('said').textContent.includes('token is needed')")
        secret = json.dumps(served.secrets["all"])
        await tab.run(f"document.getElementById('token').value = {secret}")
        await tab.run("document.querySelector('#enter button').click()")
        await tab.until("!document.getElementById('model').hidden")
        await tab.run("document.querySelector('[data-name=small]').click()")
        await tab.until("document.getElementById('name').textContent === 'small'")
        await tab.run("document.getElementById('rows').value = 3")
        await tab.run("document.getElementById('seed').value = 5")
        await tab.run(
            "document.querySelector('[data-column=sex]').value = JSON.stringify('Female')"
        )
        await tab.run("document.getElementById('preview').click()")
        await tab.until("document.querySelectorAll('#shown tbody tr').length === 3")
        cells = await tab.run(
            "[...document.querySelectorAll('#shown tbody tr')].map("
            "(row) => [...row.cells].map((cell) => cell.textContent))"
        )
        assert [row[0] for row in cells] == [str(row["age"]) for row in expected]
        sex = list(expected[0]).index("sex")
        assert {row[sex] for row in cells} == {"Female"}
        kept = "JSON.stringify([sessionStorage, localStorage, document.cookie, location.href])"
        assert served.secrets["all"] not in await tab.run(kept)
        await tab.run("document.querySelector('[data-name=failed]').click()")
        await tab.until("document.getElementById('said').textContent.includes('gate failed')")
        assert await tab.run("document.getElementById('ask').hidden")
        assert await tab.run("document.getElementById('download').disabled")
        said = await tab.run("document.getElementById('judgement').textContent")
        assert "Somebody was found." in said
        verdicts = await tab.run(
            "Object.fromEntries([...document.querySelectorAll('#models button')].map((one) => "
            "[one.dataset.name, one.querySelector('.verdict')?.textContent ?? null]))"
        )
        gates = {"small": "not judged", "failed": "gate: fail", "allowed": "gate: fail"}
        assert gates.items() <= verdicts.items()
        assert verdicts["torn"] is None  # what is damaged has no verdict

    asked = browse(f"http://127.0.0.1:{served.port}/", tmp_path / "profile", use)
    own = (f"http://127.0.0.1:{served.port}/", "data:", "about:")
    assert asked
    assert all(url.startswith(own) for url in asked)
