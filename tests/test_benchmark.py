"""The benchmark's command line and its formatting. Nothing here is timed, no peer is run."""

import datetime as dt
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

JOBS = Path(__file__).parent.parent / "jobs"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(JOBS)
    return import_module("benchmarks.figures")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(JOBS)
    return import_module("benchmarks.tables")


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, list[Any]]:
    """Runs the command on Adult's test rows, without training; and the cells that it did so."""
    monkeypatch.syspath_prepend(JOBS)
    module, cells = import_module("benchmarks.fidelity"), []
    facts = {"commit": "c", "versions": {}}
    monkeypatch.setattr(module.peers, "read_with", lambda *_: facts)

    def entry(path: Path, test: Path | None, cell: Any) -> dict[str, Any]:
        cells.append(cell)
        figure = {"name": "trend", "unit": "score", "better": "higher"}
        figure |= {"synthetic": 0.5 + cell.seed / 10, "ceiling": None, "floor": 0.25}
        about = {"table": cell.table, "family": cell.family, "seed": cell.seed}
        spent = {what: {"wall_s": 2.0} for what in ("train", "sample")}
        report = {"figures": [figure]}
        return {**about, "cell": cell._asdict(), "spent": spent, "report": report}

    monkeypatch.setattr(module, "_entry", entry)
    app = typer.Typer()
    app.command()(module.fidelity)
    words = [str(JOBS / "data" / "adult_test.parquet"), "--out", str(tmp_path / "f" / "out.json")]

    def run(*more: str) -> Any:
        return CliRunner().invoke(app, [*words, *more])

    return run, cells


def test_fidelity_goes_on_where_it_was_stopped(fidelity: Any, monkeypatch: Any) -> None:
    run, cells = fidelity
    words = ("--family", "rnn", "--family", "ctgan", "--seeds")
    first = run(*words, "1")
    assert first.exit_code == 0, first.output
    both = run(*words, "2")
    assert [(cell.family, cell.seed) for cell in cells] == [
        *(("rnn", 0), ("ctgan", 0)),
        *(("rnn", 1), ("ctgan", 1)),
    ]
    for part in ("0.5500 (0.5000..0.6000)", "0.2500", "trend (score)", "train (s)"):
        assert part in both.output
    run(*words, "2")
    assert len(cells) == 4
    for more in (("--rows", "100"), ("--epochs", "3"), ("--set", "batch=100")):
        run(*words, "2", *more)
    assert [(cell.rows, cell.epochs, cell.model) for cell in cells[4::4]] == [
        (100, None, "{}"),
        (None, 3, "{}"),
        (None, None, '{"batch": 100}'),
    ]
    monkeypatch.setattr(import_module("benchmarks.fidelity"), "_source", lambda _: "another")
    run(*words, "2")
    assert len(cells) == 20


def test_fidelity_refuses_what_a_family_does_not_know(fidelity: Any) -> None:
    run, cells = fidelity
    assert run("--family", "rnn", "--set", "hiden=3").exit_code == 2
    assert run("--family", "gan").exit_code == 2
    assert not cells


COMMANDS = ["peers", "scale", "fidelity", "tables", "paper", "sample", "serve", "train", "cost"]


@pytest.mark.parametrize("command", [[], *([one] for one in COMMANDS)])
def test_help_works(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if command:  # in this process, which has imported what each would
        monkeypatch.syspath_prepend(JOBS)
        said = CliRunner().invoke(import_module("benchmark").app, [*command, "--help"]).output
    else:
        call = [sys.executable, str(JOBS / "benchmark.py"), "--help"]
        said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert all(word in said for word in command or COMMANDS)


def test_numbers_show_what_counts(figures: Any) -> None:
    numbers = (86_327.9, 624.8, 97.32, 2.345, 0.4696, 0.05758, 0.0)
    shown = ["86,328", "625", "97.3", "2.35", "0.470", "0.0576", "0.0000"]
    assert [figures.number(value) for value in numbers] == shown
    assert figures.spread((2.0, 9.0, 4.0), "x") == "4.00x (2.00..9.00)"
    assert figures.spread((39.0, 39.0)) == "39.0"
    assert figures.score((0.5, 0.7)) == "0.6000 (0.5000..0.7000)"


def test_ratio_above_one_is_better_either_way_and_is_of_pairs(figures: Any) -> None:
    less = figures.Compared("fit", "s", "lower", 1, (1.0, 2.0), (4.0, 6.0))
    more = figures.Compared("training", "rows/s", "higher", 2, (300.0,), (100.0,))
    assert less.ratios == (4.0, 3.0)
    assert less.to_json()["median"] == {"ours": 1.5, "peer": 5.0, "ratio": 3.5}
    assert more.ratios == (3.0,)


def test_tables_hold_every_figure(figures: Any) -> None:
    speed = figures.Compared("training", "rows/s", "higher", 2, (300.0,), (100.0,))
    judged = figures.Judged("trend", "score", "higher", (0.9, 0.8), (0.7, 0.7), (0.95,), (0.5,))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(figures.speed_table([speed], "speed"), figures.quality_table([judged], "q"))
    told = capture.get()
    for part in ("training, rows/s", "3.00x", "trend (score)", "0.8500 (0.8000..0.9000)", "0.9500"):
        assert part in told
    assert judged.to_json()["mean"]["ours"] == pytest.approx(0.85)


def test_shares_of_the_limit_count_work_done_and_work_skipped(figures: Any) -> None:
    result: dict[str, Any] = {
        "train": {"step_s": 0.01},
        "sample": {"rows_per_s": 1e5},
        "limit": 100.0,
    }
    result |= {"operations": {"step": 2e8, "row": 4e5}, "peer": {"step": 5e8, "row": 6e5}}
    result["peer"]["step_needed"] = 3e8
    readings = import_module("benchmarks.speed").READINGS
    shares = {name: read(result) for name, unit, _, read in readings if unit == "% of limit"}
    assert shares == {
        "training, done": pytest.approx(20),
        "training, peer's count": pytest.approx(50),
        "training, peer's needed": pytest.approx(30),
        "sampling, done": pytest.approx(40),
        "sampling, peer's count": pytest.approx(60),
    }


def test_the_peers_nulls_are_nulls_again(figures: Any) -> None:
    table = pa.table({"text": ["a", "?", "b"], "number": [1, 2, 3]})
    nulled = import_module("benchmarks.quality").nulled(table)
    assert nulled.to_pydict() == {"text": ["a", None, "b"], "number": [1, 2, 3]}


@pytest.mark.parametrize(
    ("package", "script"), [("ctgan|rdt", "peer_ctgan.py"), ("mostlyai", "peer_mostly.py")]
)
def test_only_the_peers_own_script_imports_the_peer(package: str, script: str) -> None:
    files = [*JOBS.rglob("*.py"), *(JOBS.parent / "raysynth").rglob("*.py")]
    imports = re.compile(rf"^\s*(from|import) ({package})\b", re.MULTILINE)
    found = [file.name for file in files if imports.search(file.read_text())]
    assert found == [script]


def test_growth_is_of_all_stages_and_ratios_of_what_is_written(figures: Any) -> None:
    scale = import_module("benchmarks.scale")

    def entry(rows: int, seconds: float, peak: float, repeat: int) -> dict[str, Any]:
        spent = {"wall_s": seconds, "cpu_s": 2 * seconds, "peak_mib": peak}
        stages = dict.fromkeys(scale.STAGES, spent)
        base = {"wall_s": seconds, "cpu_s": seconds, "peak_mib": 1.0}
        about = {"table": "t", "rows": rows, "repeat": repeat}
        return {**about, "baseline": base, "ours": {"stages": stages}}

    entries = [entry(rows, rows / 1e6, 500, repeat) for rows in (10**6, 10**7) for repeat in (0, 1)]
    assert scale.ratio(entries[0]) == 2
    assert scale.ratio(entries[0], "cpu_s") == 4
    (line,) = scale.growth(entries)
    assert "takes 10.0 times as long (10.0 times for tenfold rows)" in line
    assert "1.00 times as high" in line
    console = Console(width=200)
    with console.capture() as capture:
        console.print(scale.shown(entries))
    assert "10,000,000" in capture.get()


def test_tiling_keeps_types_and_rows(figures: Any, tmp_path: Path) -> None:
    streaming = import_module("benchmarks.streaming")
    source, out = JOBS / "data" / "adult_train.parquet", tmp_path / "t.parquet"
    made = streaming.tile({"table": str(source), "rows": 70_001, "out": str(out)})
    tiled, table = pq.read_table(out), pq.read_table(source)
    assert made["rows"] == tiled.num_rows == 70_001
    assert tiled.schema.equals(table.schema)
    assert tiled.column("sex")[32_561:65_122].equals(table.column("sex"))
    assert not tiled.column("fnlwgt")[32_561:65_122].equals(table.column("fnlwgt"))
    assert set(tiled.column("age").unique().to_pylist()) == set(table.column("age").to_pylist())


def test_private_values_are_of_one_half_alone_and_rare(tables: Any) -> None:
    mine = pa.chunked_array([["a", "b", "c", None], ["a", "d"]])
    theirs = pa.chunked_array([["b", "e", None]])
    assert tables.private_values(mine, theirs, 2).to_pylist() == ["c", "d"]
    assert tables.private_values(mine, theirs, 0).to_pylist() == ["a", "c", "d"]
    numbers = pa.table({"n": range(2_000)})
    one, other = tables.halves(numbers)
    assert one.num_rows + other.num_rows == 2_000
    assert 900 < one.num_rows < 1_100


def test_a_leak_is_told_from_chance(tables: Any) -> None:
    assert tables.chance(0, 0) == tables.chance(0, 40) == 1
    assert tables.chance(50, 50) == pytest.approx(0.54, abs=0.01)
    assert tables.chance(40, 10) < 1e-4
    assert tables.chance(3, 0) == 0.125


@pytest.mark.parametrize(
    ("kind", "sampled", "in_run", "clean"),
    [
        ("number", (50, 45), (6, 4), True),
        ("number", (50, 45), (30, 4), False),
        ("number", (50, 5), (0, 0), False),
        ("personal", (9, 11), (0, 3), True),
        ("personal", (9, 11), (1, 0), False),
    ],
)
def test_the_verdict_is_told_from_chance(
    tables: Any, kind: str, sampled: tuple[int, int], in_run: tuple[int, int], clean: bool
) -> None:
    column = {"kind": kind, "sampled": sampled, "in_run": in_run}
    fine = {"kind": "category", "sampled": (0, 0), "in_run": (0, 0)}
    assert tables.clean({"private": [fine, column]}) == clean


def test_a_value_is_looked_for_as_text_files_hold_it(tables: Any) -> None:
    assert list(tables.forms("Zoë Ny")) == ["Zoë Ny".encode(), b"Zo\\u00eb Ny"]
    assert list(tables.forms(123.45)) == list(tables.forms(40_000)) == []
    assert list(tables.forms(-71_234.56)) == [b"-71234.56"]
    assert list(tables.forms(dt.date(1971, 3, 14))) == [b"1971-03-14"]
    noon = dt.datetime(1971, 3, 14, 12, 34, 56, tzinfo=dt.UTC)
    assert list(tables.forms(noon)) == [b"1971-03-14 12:34:56+00:00", b"37802096000000"]


def test_our_side_imports_this_repository_whatever_is_installed(
    figures: Any, tmp_path: Path
) -> None:
    sides = import_module("benchmarks.sides")
    told = "import importlib.util as u, json, sys; path = sys.argv[3]\n"
    told += "open(path, 'w').write(json.dumps({'at': u.find_spec('raysynth').origin}))\n"
    (tmp_path / "told.py").write_text(told)
    (tmp_path / "raysynth").mkdir()
    (tmp_path / "raysynth" / "__init__.py").touch()
    ours = sides.ours()
    side = replace(ours, module="told", paths=(*ours.paths, tmp_path))
    assert Path(side.run("", 1)["at"]) == JOBS.parent / "raysynth" / "__init__.py"


def test_cases_of_a_training_keep_the_batch_of_a_worker_or_of_all(figures: Any) -> None:
    cases = import_module("benchmarks.training").cases_of(["ctgan"], [], [1, 2, 4])
    assert [case[2:] for case in cases] == [
        (1, "weak", 500),
        (2, "weak", 500),
        (2, "strong", 250),
        (4, "weak", 500),
        (4, "strong", 125),
    ]


def test_shares_and_efficiency_of_a_training(figures: Any) -> None:
    training = import_module("benchmarks.training")
    limits = {"products": {"gflop_per_s": 100.0}, "bandwidth": {"gb_per_s": 10.0}}

    def entry(workers: int, seconds: float, communicate: float) -> dict[str, Any]:
        parts = {"data": 0.0, "compute": seconds - communicate, "communicate": communicate}
        went = {"rows_per_s": 500 * workers / seconds, "step_s": seconds, "parts": parts}
        step = {"operations": 2e8, "weight_bytes": 1e7}
        about = {"repeat": 0, "limits": limits, "step": step, "went": went | {"all_reduce_s": 1e-3}}
        return about | {"case": training.Case("tvae", 500, workers, "weak", 500)._asdict()}

    measured = [entry(1, 0.01, 0.0), entry(2, 0.0125, 0.0025)]
    one, two = training.figures(measured)
    assert one["products"] == [pytest.approx(20)]
    assert one["bandwidth"] == [pytest.approx(10)]
    assert one["efficiency"] == [pytest.approx(100)]
    assert two["efficiency"] == [pytest.approx(80)]
    assert two["communicate"] == [pytest.approx(20)]
    assert two["products"] == [pytest.approx(32)]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(*training.shown(measured))
    for part in ("2 weak", "80,000", "communicate %", "limits of 2 thread(s)"):
        assert part in capture.get()


def test_two_workers_train_without_ray(figures: Any) -> None:
    side = replace(import_module("benchmarks.sides").ours(), module="benchmarks.workers")
    told = {"table": str(JOBS / "data" / "adult_test.parquet"), "rows": 1_000, "epochs": 1}
    told |= {"family": "tvae", "batch": 200, "steps": 2, "seed": 0, "folder": "nowhere"}
    step = side.run("step", 1, **told)
    assert step["reduced_bytes"] == 4 * step["parameters"]  # all of it is trained, in one step
    assert step["operations"] > 2 * 200 * step["parameters"]
    went = side.run("train", 1, **told, workers=2)
    assert went["rows_per_s"] == pytest.approx(2 * 200 / went["step_s"])
    assert went["steps_timed"] == 2
    assert went["all_reduce_s"] > 0
    assert 0 < went["parts"]["communicate"] < went["step_s"]


def test_time_to_fidelity_is_until_the_references_last_value(figures: Any) -> None:
    approach = import_module("benchmarks.approach")

    def training(family: str, side: str, seed: int, *marks: tuple[float, float]) -> dict[str, Any]:
        told = [
            # By steps of fidelity, so that the two are reached at other times.
            {"seconds": seconds, "fidelity": value, "detection": 1 - round(value, 1) / 2}
            for seconds, value in marks
        ]
        about = {"family": family, "side": side, "seed": seed, "encode_s": 0.5}
        return about | {"marks": told}

    trainings = [
        training("ctgan", "ours", 0, (1.0, 0.66), (2.0, 0.7), (3.0, 0.9)),
        training("ctgan", "peer", 0, (4.0, 0.6), (8.0, 0.8), (9.0, 0.7)),
        training("ctgan", "ours", 1, (1.0, 0.4), (2.0, 0.5)),
        training("ctgan", "peer", 1, (4.0, 0.6)),
        training("rnn", "ours", 0, (5.0, 0.5)),
    ]
    found = {"ceiling": {"fidelity": 0.98}, "trainings": trainings}
    first, second, alone = approach.figures(found)
    assert (first["ours_s"], first["peer_s"], first["times_sooner"]) == (2.0, 8.0, 4.0)
    assert (first["peer_last"], first["peer_whole_s"], first["peer_encode_s"]) == (0.7, 9.0, 0.5)
    by_detection = [first[f"{side}_detection_s"] for side in ("ours", "peer")]
    assert by_detection == [1.0, 8.0], "0.66 is told from real rows as well as 0.7"
    assert (first["peer_last_detection"], first["times_sooner_detection"]) == (0.65, 8.0)
    assert (second["ours_s"], second["times_sooner"]) == (None, None)
    assert second["times_sooner_detection"] is None
    assert "ours_s" not in alone
    console = Console(width=200)
    with console.capture() as capture:
        console.print(*approach.shown(found))
    for part in ("2.00, never in 1", "4.00x", "8.00x", "none here", "0.980"):
        assert part in capture.get()


def test_our_course_is_drawn_from_and_judged(figures: Any, tmp_path: Path) -> None:
    approach = import_module("benchmarks.approach")
    table, test = (JOBS / "data" / f"adult_{half}.parquet" for half in ("train", "test"))
    told = {"table": str(table), "rows": 4_000, "epochs": 1, "folder": str(tmp_path)}
    marks = (
        import_module("benchmarks.sides")
        .ours()
        .run("approach", 1, **told, family="tvae", seed=0, model={"batch": 1_000})["marks"]
    )
    assert [mark["epoch"] for mark in marks] == [1]
    judge = approach.Judge.of(told, test)
    drawn = judge.figures(pq.read_table(marks[0]["file"]))["fidelity"]
    assert drawn < judge.figures(pq.read_table(table).slice(0, 2_000))["fidelity"]
    assert approach.reached([{**marks[0], "fidelity": drawn}], drawn) == marks[0]["seconds"]


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    """Codes of some rows of Adult and a step on them, in this process; and their files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(JOBS)
        counting = import_module("benchmarks.counting")
        told = {"table": str(JOBS / "data" / "adult_test.parquet"), "rows": 2_000, "seed": 0}
        told |= {"epochs": 1, "folder": "nowhere", "family": "autoregressive"}
        step = counting.step({**told, "batch": 32})
        return {"step": step, "stored": counting.stored({**told, "batch": 150, "readers": 3})}


def test_formulas_of_a_step_are_what_the_code_does(figures: Any, counted: dict[str, Any]) -> None:
    cost, step = import_module("benchmarks.cost"), counted["step"]
    limit = {"products": {"gflop_per_s": 100.0}, "bandwidth": {"gb_per_s": 10.0}}
    checks = {check.name: check for check in cost.stepping(step, limit)}
    for name in ("bytes of a row of codes", "bytes averaged", "operations, from shapes"):
        assert checks[name].predicted == checks[name].measured
    assert checks["operations"].ratio == pytest.approx(1)
    assert checks["bytes of a checkpoint"].ratio == pytest.approx(1, abs=0.01)
    assert step["row_bytes"] == cost.row_bytes(15, 1, 6)  # Adult: nine categories, six numbers
    assert cost.ring_bytes(step["reduced_bytes"], 4) == 1.5 * 4 * step["parameters"]


def test_formulas_of_files_are_what_the_code_does(figures: Any, counted: dict[str, Any]) -> None:
    cost, stored = import_module("benchmarks.cost"), counted["stored"]
    checks = {check.name: check for check in cost.storing(stored)}
    for name in ("spilled files", "requests for buckets", "requests for windows"):
        assert checks[name].predicted == checks[name].measured
    for name in ("spilled bytes", "bytes read for buckets"):
        assert checks[name].ratio == pytest.approx(1, abs=0.05)
    assert stored["grouped"]["groups"] > 4
    assert checks["requests, first"].predicted == checks["requests, first"].measured
    for name in ("bytes spilled, first", "bytes read, first"):
        assert checks[name].ratio == pytest.approx(1, abs=0.05)
    # Of a few hundred rows a group, who crosses the size of a file is chance.
    for name in ("groups' files", "requests, then", "bytes spilled, then", "bytes read, then"):
        assert checks[name].ratio == pytest.approx(1, abs=0.25)


def test_what_is_reckoned_grows_as_told(figures: Any, counted: dict[str, Any]) -> None:
    cost = import_module("benchmarks.cost")
    step = {**counted["step"], "source_bytes": 9.0}
    some, more = (
        cost._reckoned("t", "autoregressive", step, counted["stored"], rows, cost.Rates(), False)
        for rows in (10**9, 10**10)
    )
    visits = [one["asked"]["visits"] for one in (some, more)]
    assert visits[1] / visits[0] == pytest.approx(10**1.5, rel=0.1)
    straight = [one["asked"]["spilled"][0] * one["asked"]["buckets"] for one in (some, more)]
    assert straight[0] > 10 * visits[0]
    assert straight[1] / straight[0] == pytest.approx(100, rel=0.1)
    assert more["steps"] / some["steps"] == pytest.approx(10, rel=0.01)
    assert some["batch"] == 4  # of 256 rows, on 64 workers
    assert {term["name"] for term in some["train"]} > {"steps", "sum: bytes"}
    with pytest.raises(typer.BadParameter, match="expected one of"):
        cost._rates(["nodse=8"])
    assert cost._rates(["nodes=2"]).workers == 16
