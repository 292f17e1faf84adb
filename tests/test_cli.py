"""The command line without a cluster: what it shows, what it prints where, what it writes."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysynth.config import TrainConfig
from raysynth.run import Run, add_files, build, fit, open_run, save_run
from raysynth.schema import Schema
from raysynth.source import read
from raysynth.storage import write
from raysynth.summary import summarise

Cli = Callable[..., Any]

OPTIONS = {
    "train": [
        *("--family", "--name", "--storage", "--epochs", "--batch", "--seed"),
        *("--workers", "--min-workers"),
        *(
            "--drop",
            "--category",
            "--select",
            "--where",
            "--fraction",
            "--least",
            "--set",
            "--gpu",
            "--no-gpu",
            "--precision",
            "--json",
        ),
        *("--schema", "--text", "--subject", "--relations"),
    ],
    "schema": ["--drop", "--category", "--select", "--where", "--fraction", "--subject"],
    "sample": [
        *("--rows", "--out", "--seed", "--given", "--select", "--offset"),
        *("--workers", "--storage", "--json"),
    ],
    "impute": ["--out", "--seed", "--storage", "--json"],
    "evaluate": [
        *("--real", "--synthetic", "--train", "--target", "--quasi", "--least", "--drop"),
        *(
            "--category",
            "--config",
            "--out",
            "--junit",
            "--fail-on",
            "--shadows",
            "--seed",
            "--storage",
        ),
        "--json",
    ],
    "quickstart": ["--epochs", "--storage", "--json"],
}


@pytest.fixture
def drawn(cli: Cli, small_run: Run, tmp_path: Path) -> Callable[..., pa.Table]:
    """Sample the small run by the command line, and read what it wrote."""

    def sample(*words: object, name: str = "out.parquet") -> pa.Table:
        out = tmp_path / name
        end = cli("sample", small_run.path, "--out", out, *words)
        assert end.code == 0, end.err
        return read(out)

    return sample


@pytest.mark.parametrize("command", OPTIONS)
def test_help_of_a_command_names_every_option(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    end = cli(command, "--help")
    assert end.code == 0
    assert end.err == ""
    for option in OPTIONS[command]:
        assert option in end.out


def test_the_options_listed_here_are_all_there_are() -> None:
    import inspect

    from raysynth import cli as module

    for command, options in OPTIONS.items():
        parameters = inspect.signature(getattr(module, command)).parameters
        named = {"as_json": "json", "setting": "set", "columns": "select"}
        spelt = (named.get(name, name).replace("_", "-") for name in parameters)
        names = {f"--{name}" for name in spelt} - {"--table", "--run"}
        assert names == set(options) - {"--no-gpu"}, command


def test_help_lists_every_command(cli: Cli) -> None:
    end = cli("--help")
    assert end.code == 0
    for command in OPTIONS:
        assert command in end.out


def test_without_a_command_the_help_is_shown_and_the_exit_code_says_so(cli: Cli) -> None:
    end = cli()
    assert end.code == 2
    assert "quickstart" in end.out + end.err
    assert "error" not in end.err


def test_version_is_that_of_the_package(cli: Cli) -> None:
    end = cli("--version")
    assert (end.code, end.out, end.err) == (0, f"{version('raysynth')}\n", "")


def test_the_module_runs_as_the_command_does() -> None:
    words = [sys.executable, "-m", "raysynth", "--version"]
    end = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (end.returncode, end.stdout, end.stderr) == (0, f"{version('raysynth')}\n", "")


def test_help_does_not_wait_for_torch_or_ray() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "raysynth", "--help"]
    end = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    imported = {line.rpartition("|")[2].strip() for line in end.stderr.splitlines()}
    assert not imported & {"torch", "ray", "pyarrow", "pandas", "sklearn", "matplotlib"}


def test_json_is_one_line_on_stdout_and_all_else_goes_to_stderr(
    cli: Cli, small_run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    end = cli("sample", small_run.path, "--rows", 30, "--out", out, "--seed", 4, "--json")
    assert end.code == 0
    assert end.out.count("\n") == 1
    assert end.out.endswith("\n")
    told = json.loads(end.out)
    assert told == {"path": str(out), "rows": 30, "tried": 125, "forced": 0, "seed": 4}
    lines = end.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["sample", "table"]


def test_without_json_nothing_is_printed_on_stdout(
    cli: Cli, small_run: Run, tmp_path: Path
) -> None:
    end = cli("sample", small_run.path, "--rows", 30, "--out", tmp_path / "out.csv")
    assert (end.code, end.out) == (0, "")
    assert f"table: {tmp_path / 'out.csv'}" in end.err.replace("\n", "")


def test_on_a_terminal_the_display_is_live(small_run: Run, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["sample", small_run.path, "--rows", "30", "--out", tmp_path / "out.csv", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "raysynth", *words], stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=60)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert json.loads(out)["rows"] == 30
    assert "100%" in shown
    assert "rows/s" in shown
    assert "table: " in shown


def test_a_parquet_sample_has_the_columns_and_types_of_the_training_table(
    drawn: Callable[..., pa.Table], people: pa.Table
) -> None:
    table = drawn("--rows", 1_500)
    assert table.num_rows == 1_500
    assert table.schema.equals(people.schema.remove_metadata())


def test_a_csv_sample_holds_the_rows_of_the_parquet_sample(
    drawn: Callable[..., pa.Table],
) -> None:
    parquet, csv = drawn("--rows", 70), drawn("--rows", 70, name="out.csv")
    assert csv.equals(parquet)


def test_a_sample_of_no_rows_is_a_table_of_no_rows(
    drawn: Callable[..., pa.Table], people: pa.Table
) -> None:
    table = drawn("--rows", 0)
    assert table.num_rows == 0
    assert table.schema.equals(people.schema.remove_metadata())


def test_the_same_seed_draws_the_same_rows_and_another_seed_others(
    drawn: Callable[..., pa.Table],
) -> None:
    first, again = drawn("--rows", 60, "--seed", 9), drawn("--rows", 1_200, "--seed", 9)
    assert first.equals(again.slice(0, 60))
    assert not first.equals(drawn("--rows", 60, "--seed", 10))


def test_every_row_holds_what_is_given(drawn: Callable[..., pa.Table]) -> None:
    table = drawn("--rows", 40, "--given", "sex=Female", "--given", "income=>50K")
    assert table.column("sex").to_pylist() == ["Female"] * 40
    assert table.column("income").to_pylist() == [">50K"] * 40


def test_a_run_is_found_by_its_name_in_the_storage_folder(
    cli: Cli, small_run: Run, tmp_path: Path
) -> None:
    words = ("--storage", small_run.path.parent, "--rows", 5, "--out", tmp_path / "out.parquet")
    assert cli("sample", "small", *words).code == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 5


def test_an_existing_file_is_replaced_whole(drawn: Callable[..., pa.Table], tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_bytes(b"what was there before")
    assert drawn("--rows", 5).num_rows == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.fixture
def judged_run(small_run: Run, tmp_path: Path) -> Path:
    """A copy of the small run to put a report into."""
    import shutil

    return Path(shutil.copytree(small_run.path, tmp_path / "judged"))


def test_evaluate_prints_figures_and_leaves_a_report_in_the_run(
    cli: Cli, judged_run: Path, adult: pa.Table, tmp_path: Path
) -> None:
    pa.csv.write_csv(adult.slice(2_000, 200), tmp_path / "real.csv")
    words = ("--real", tmp_path / "real.csv", "--target", "income", "--json")
    end = cli("evaluate", judged_run, *words)
    assert end.code == 0, end.err
    told = json.loads(end.out)
    figures = {figure["name"] for figure in told["figures"]}
    assert figures == {
        *("shape", "trend", "mutual_information", "three_way", "cumulative", "tails", "coverage"),
        *("missingness", "missing_together", "groups", "alpha_precision", "beta_recall"),
        *("detection", "detection_logistic", "utility", "f1", "learners", "importance"),
        *("dcr_share", "copies"),
    }
    assert told["report"] == str(judged_run / "report.json")
    assert Path(told["html"]).read_text().startswith("<!")
    for name in (*figures, *(risk["name"] for risk in told["risks"])):
        assert name in end.err
    assert "membership_model" not in {risk["name"] for risk in told["risks"]}  # no likelihood
    gate = open_run(judged_run).gate
    assert gate is not None
    assert gate == told["gate"]
    assert f"gate: {gate['verdict']}" in end.err


def test_a_run_forgets_what_the_gate_said_of_an_older_report(judged_run: Path) -> None:
    run = add_files(open_run(judged_run), {"report.json": b"{}"}, {"verdict": "pass"})
    assert open_run(judged_run).gate == {"verdict": "pass"}
    assert add_files(run, {"report.json": b"[]"}).gate is None


@pytest.fixture
def three(people: pa.Table, adult: pa.Table, tmp_path: Path) -> Callable[..., tuple[object, ...]]:
    """Judge a table on the command line beside 600 rows of training and 600 held out."""
    pq.write_table(people, tmp_path / "train.parquet")
    pq.write_table(adult.slice(600, 600), tmp_path / "held.parquet")

    def words(synthetic: pa.Table, *more: object) -> tuple[object, ...]:
        pq.write_table(synthetic, tmp_path / "made.parquet")
        real = ("--real", tmp_path / "held.parquet", "--train", tmp_path / "train.parquet")
        out = ("--out", tmp_path / "told")
        return "evaluate", "--synthetic", tmp_path / "made.parquet", *real, *out, "--json", *more

    return words


def test_a_table_of_any_tool_is_judged_and_one_that_copies_is_failed(
    cli: Cli, three: Callable[..., tuple[object, ...]], people: pa.Table, tmp_path: Path
) -> None:
    end = cli(*three(people, "--fail-on", "fail", "--junit", tmp_path / "told.xml"))
    assert end.code == 3, end.err
    told = json.loads(end.out)
    assert told["gate"]["verdict"] == "fail"
    failed = {one["name"] for one in told["gate"]["reasons"] if one["level"] == "fail"}
    assert {"membership_distance", "exact_copies"} <= failed
    report = json.loads((tmp_path / "told" / "report.json").read_text())
    assert report["gate"]["verdict"] == "fail"
    assert (tmp_path / "told" / "report.html").read_text().startswith("<!")
    assert "<failure" in (tmp_path / "told.xml").read_text()
    assert "whose exit" not in end.err


def test_fresh_rows_passed_off_as_synthetic_are_not_failed(
    cli: Cli, three: Callable[..., tuple[object, ...]], adult: pa.Table
) -> None:
    end = cli(*three(adult.slice(1_200, 600), "--fail-on", "fail"))
    assert end.code == 0, end.err
    told = json.loads(end.out)
    assert told["gate"]["verdict"] != "fail", told["gate"]["reasons"]
    for risk in told["risks"]:
        assert risk["low"] <= risk["chance"] + 0.02, risk


def test_bars_come_from_a_file(
    cli: Cli, three: Callable[..., tuple[object, ...]], adult: pa.Table, tmp_path: Path
) -> None:
    (tmp_path / "bars.toml").write_text("[gate]\ndetection = [0.4, 0.45]\n")
    words = three(adult.slice(1_200, 600), "--config", tmp_path / "bars.toml")
    told = json.loads(cli(*words).out)
    failed = [one["name"] for one in told["gate"]["reasons"] if one["level"] == "fail"]
    assert failed == ["detection"]
    (tmp_path / "bars.toml").write_text("[gate]\ndetecton = [0.4, 0.45]\n")
    end = cli(*words)
    assert end.code == 2
    assert "did you mean 'detection'" in end.err


def test_without_training_rows_no_attack_is_made_and_the_gate_does_not_pass(
    cli: Cli, three: Callable[..., tuple[object, ...]], adult: pa.Table
) -> None:
    words = [*three(adult.slice(1_200, 600))]
    place = words.index("--train")
    end = cli(*words[:place], *words[place + 2 :])
    assert end.code == 0, end.err
    told = json.loads(end.out)
    assert told["risks"] == []
    assert told["gate"]["verdict"] == "warn"
    assert "No attack was made" in told["gate"]["reasons"][0]["said"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected either RUN or --synthetic"),
        (("run", "--synthetic", "t.parquet"), "expected either RUN or --synthetic"),
        (("--synthetic", "t.parquet"), "expected --real TABLE"),
        (("run", "--real", "t.parquet", "--drop", "age"), "belong to --synthetic"),
    ],
)
def test_what_to_judge_must_be_plain(cli: Cli, words: tuple[str, ...], said: str) -> None:
    end = cli("evaluate", *words)
    assert end.code == 2
    assert said in end.err


def test_tables_that_differ_in_columns_are_told_apart_by_name(
    cli: Cli, three: Callable[..., tuple[object, ...]], people: pa.Table
) -> None:
    end = cli(*three(people.drop_columns(["age", "sex"])))
    assert end.code == 2
    assert "the synthetic table lacks 'age', 'sex'" in end.err
    end = cli(*three(people, "--target", "incme"))
    assert end.code == 2
    assert "did you mean 'income'" in end.err
    end = cli(*three(people, "--quasi", "agee"))
    assert end.code == 2
    assert "did you mean 'age'" in end.err


def test_a_judged_run_is_still_sound_and_can_be_judged_again(
    cli: Cli, judged_run: Path, adult: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(adult.slice(2_000, 100), tmp_path / "real.parquet")
    words = ("evaluate", judged_run, "--real", tmp_path / "real.parquet")
    assert cli(*words).code == 0
    assert cli(*words, "--seed", 1).code == 0
    assert cli("sample", judged_run, "--rows", 5, "--out", tmp_path / "out.parquet").code == 0


@pytest.fixture(scope="module")
def filling_run(people: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a few steps of the family that fills cells."""
    storage = str(tmp_path_factory.mktemp("filling"))
    overrides = {"table": "people.parquet", "name": "filling", "storage": storage, "epochs": 1}
    config = TrainConfig.load(overrides={**overrides, "model": {"hidden": 16, "mixtures": 2}})
    ids = np.arange(people.num_rows, dtype=np.uint64)
    codec = fit(config, summarise(people, ids, Schema.infer(people.schema)))
    return save_run(config, codec, build(config, codec), "", people.num_rows)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_impute_fills_nulls_and_counts_them(
    cli: Cli, filling_run: Run, people: pa.Table, tmp_path: Path, suffix: str
) -> None:
    nulls = pa.array(np.arange(people.num_rows) % 3 == 0)
    place = people.schema.names.index("age")
    holed = people.set_column(place, "age", pc.if_else(nulls, None, people["age"]))
    write([holed], tmp_path / f"holed.{suffix}")
    out = tmp_path / f"out.{suffix}"
    end = cli("impute", filling_run.path, tmp_path / f"holed.{suffix}", "--out", out, "--json")
    assert end.code == 0, end.err
    told = json.loads(end.out)
    filled = read(out)
    missing = sum(column.null_count for column in holed.columns)
    assert (told["rows"], told["cells"]) == (people.num_rows, missing)
    assert f"{missing:,} cells of {people.num_rows:,} rows filled" in end.err
    assert sum(column.null_count for column in filled.columns) == 0
    known = pc.invert(nulls)
    assert filled["age"].filter(known).to_pylist() == people["age"].filter(known).to_pylist()


def test_impute_with_a_family_that_cannot_says_which_can(
    cli: Cli, small_run: Run, tmp_path: Path
) -> None:
    people = small_run.path.parent.parent / "people.parquet"
    end = cli("impute", small_run.path, people, "--out", tmp_path / "out.parquet")
    assert end.code == 2
    assert "--family autoregressive" in end.err
    assert not (tmp_path / "out.parquet").exists()


def test_a_range_is_given_as_text(drawn: Callable[..., pa.Table]) -> None:
    ages = drawn("--rows", 200, "--given", "age=30..40")["age"].to_pylist()
    assert len(ages) == 200
    assert min(ages) >= 30
    assert max(ages) <= 40
