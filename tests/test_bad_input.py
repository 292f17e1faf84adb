"""What goes wrong through no fault of raysynth: one clear message, exit code 2, nothing lost.

Every case goes through the real command. Where a training is refused, Ray has not been started: the
cases set RAY_ADDRESS to what is no address, so that starting it would fail loudly.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import ConfigError, RaysynthError, StorageError, TableError
from raysynth.run import Run, add_files, open_run, save_run
from raysynth.storage import Place, write_bytes

pytestmark = [
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:pydantic\..*"),
]

SENTINEL = "Zq-sentinel-918273645"  # a cell: no message may hold it
NUMBER = 918273645.918

Refused = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, from which no cluster can be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    return tmp_path


@pytest.fixture
def refused(cli: Callable[..., Any], folder: Path) -> Refused:
    """A command ends with code 2 and one message that says `said`; what was there is untouched."""

    def run(*words: object, said: str | tuple[str, ...]) -> None:
        before = _contents(folder)
        end = cli(*words)
        assert end.code == 2, end
        assert end.err.startswith("error: ")
        assert end.err.endswith("\n")
        assert end.err.count("\n") == 1
        assert end.out == ""
        for part in (said,) if isinstance(said, str) else said:
            assert part in end.err
        assert SENTINEL not in end.err
        assert str(int(NUMBER)) not in end.err
        assert _contents(folder) == before

    return run


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def table(folder: Path, people: pa.Table) -> Path:
    """A table that could be trained on."""
    pq.write_table(people, folder / "good.parquet")
    return folder / "good.parquet"


# -- no table, or not one -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.parquet", "none.csv", "none", "none/there.csv"])
def test_no_such_file(refused: Refused, name: str) -> None:
    refused("train", name, said=(name, "no such file", "check the path"))


def test_a_folder_without_parquet_files(refused: Refused, folder: Path) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "notes.txt").write_text(SENTINEL)
    refused("train", "tables", said="no such file or folder of .parquet files")


@pytest.mark.parametrize("name", ["noise.parquet", "table.txt", "table.xlsx", "table"])
def test_what_is_no_table(refused: Refused, folder: Path, name: str) -> None:
    (folder / name).write_bytes(SENTINEL.encode() + np.random.default_rng(0).bytes(4_000))
    refused("train", name, said=(name, "not a Parquet table", "expected a .parquet or .csv file"))


@pytest.mark.parametrize("line", [f"1,2,{SENTINEL}", SENTINEL])
def test_a_csv_file_with_a_line_that_does_not_fit(
    refused: Refused, folder: Path, line: str
) -> None:
    (folder / "t.csv").write_text("a,b\n" + "1,2\n" * 150 + f"{line}\n")
    refused("train", "t.csv", said=("t.csv: not a CSV table", "a header line, commas"))


def test_a_csv_file_that_is_not_utf8(refused: Refused, folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"a,b\n" + b"1,x\n" * 150 + b"2,\xff\xfe\n")
    refused("train", "t.csv", said=("t.csv: not a CSV table", "row 152 ", "not UTF-8"))


def test_a_folder_of_tables_that_differ(refused: Refused, folder: Path, people: pa.Table) -> None:
    (folder / "tables").mkdir()
    pq.write_table(people, folder / "tables" / "a.parquet")
    pq.write_table(people.drop_columns(["age"]), folder / "tables" / "b.parquet")
    refused("train", "tables", said=("b.parquet: its columns differ from those of", "a.parquet"))


# -- too little in it -----------------------------------------------------------------------------


def test_a_table_without_rows(refused: Refused, folder: Path, people: pa.Table) -> None:
    pq.write_table(people.slice(0, 0), folder / "t.parquet")
    refused("train", "t.parquet", said="t.parquet: the table is empty; expected rows")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "the file is empty; expected a header line"), ("a,b\n", "the table is empty")],
)
def test_a_csv_file_without_rows(refused: Refused, folder: Path, text: str, said: str) -> None:
    (folder / "t.csv").write_text(text)
    refused("train", "t.csv", said=("t.csv", said))


@pytest.mark.parametrize(("rows", "said"), [(1, "1 row,"), (10, "10 rows,"), (99, "99 rows,")])
def test_too_few_rows(
    refused: Refused, folder: Path, people: pa.Table, rows: int, said: str
) -> None:
    pq.write_table(people.slice(0, rows), folder / "t.parquet")
    refused("train", "t.parquet", said=(f"the table has {said}", "at least 100 rows are needed"))


def test_a_csv_column_without_a_value_has_no_kind(refused: Refused, folder: Path) -> None:
    (folder / "t.csv").write_text("a,b\n" + "1,\n" * 150)
    refused("train", "t.csv", said=("column 'b' is null", "--drop 'b'"))


# -- columns --------------------------------------------------------------------------------------


def test_a_column_named_twice(refused: Refused, folder: Path, people: pa.Table) -> None:
    twice = pa.table([people.column("age")] * 2, names=["age", "age"])
    pq.write_table(twice, folder / "t.parquet")
    said = ("column names must be unique", "'age' occurs more than once", "rename")
    refused("train", "t.parquet", said=said)
    (folder / "t.csv").write_text("age,age\n" + "1,2\n" * 150)
    refused("train", "t.csv", said=said)


FOREIGN = {
    "list<": [1, 2],
    "struct<a: int64>": {"a": 1},
    "binary": SENTINEL.encode(),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_kind_not_supported_is_named_with_the_way_out(
    refused: Refused, folder: Path, people: pa.Table, kind: str
) -> None:
    other = people.append_column("other", pa.array([FOREIGN[kind]] * people.num_rows))
    pq.write_table(other, folder / "t.parquet")
    said = (f"column 'other' is {kind}", "cannot be modelled", "--drop 'other'")
    refused("train", "t.parquet", said=said)


def test_dropping_every_column_leaves_nothing_to_model(refused: Refused, folder: Path) -> None:
    pq.write_table(pa.table({"a": range(200)}), folder / "t.parquet")
    refused("train", "t.parquet", "--drop", "a", said="no column left")


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "hiden=5"), "no setting is called 'hiden'; did you mean 'hidden'?"),
        (("--drop", "agee"), "drop: no column is called 'agee'; did you mean 'age'?"),
        (("--category", "educatio"), "did you mean 'education'?"),
        (("--select", "agee"), "select: no column is called 'agee'; did you mean 'age'?"),
        (("--where", "agee > 3"), "where: no column is called 'agee'; did you mean 'age'?"),
        (
            ("--where", f"age > '{SENTINEL}'"),
            "where: column 'age' is int64, which does not compare",
        ),
        (("--where", f"{SENTINEL} ="), "where: cannot be parsed"),
        (("--family", "ctgn"), "no family is called 'ctgn'; did you mean 'ctgan'?"),
        (("--epoch", 3), "--epochs"),
        (("--set", "pack"), "expected KEY=VALUE"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    refused: Refused, table: Path, words: tuple[object, ...], said: str
) -> None:
    refused("train", table.name, *words, said=said)


def test_an_unknown_key_in_a_file_is_answered_with_the_nearest(
    refused: Refused, folder: Path, table: Path
) -> None:
    toml = folder / "t.toml"
    toml.write_text(f'table = "{table.name}"\nepoch = 3\n')
    refused("train", "t.toml", said="no setting is called 'epoch'; did you mean 'epochs'?")
    toml.write_text(f'table = "{table.name}"\n[model]\nhiden = 3\n')
    refused("train", "t.toml", said="no setting is called 'hiden'; did you mean 'hidden'?")
    toml.write_text(f'table = "{table.name}"\nmodel = 3\n')
    refused("train", "t.toml", said="model: expected a table")


@pytest.mark.parametrize("text", ["epochs = ", "= 3", "\xff"])
def test_a_file_that_is_no_toml(refused: Refused, folder: Path, text: str) -> None:
    (folder / "t.toml").write_bytes(text.encode("latin-1"))
    refused("train", "t.toml", said="t.toml: not a readable TOML file")


def test_a_file_of_settings_that_is_not_there_or_names_no_table(
    refused: Refused, folder: Path
) -> None:
    refused("train", "none.toml", said="none.toml: not a readable TOML file")
    (folder / "t.toml").write_text("epochs = 3\n")
    refused("train", "t.toml", said="table: field required")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", 0), ("epochs", "greater than or equal to 1", "got 0")),
        (("--workers", 0), ("workers", "greater than or equal to 1", "got 0")),
        (("--min-workers", 2), ("min_workers", "expected at most as many as workers", "got 2")),
        (("--batch", 0), ("batch", "greater than 0", "got 0")),
        (("--seed", -1), ("seed", "greater than or equal to 0", "got -1")),
        (("--fraction", 0), ("fraction", "greater than 0", "got 0.0")),
        (("--fraction", 1.5), ("fraction", "less than or equal to 1", "got 1.5")),
        (("--least", 0), ("least", "greater than or equal to 1", "got 0")),
        (("--set", "dropout=1.5"), ("dropout", "less than 1", "got 1.5")),
        (("--set", "hidden=many"), ("hidden", "valid integer", "got 'many'")),
        (("--epochs", "many"), ("--epochs", "valid integer")),
        (("--name", "../elsewhere"), ("name", "should match pattern", "got '../elsewhere'")),
    ],
)
def test_a_value_out_of_range(
    refused: Refused, table: Path, words: tuple[object, ...], said: tuple[str, ...]
) -> None:
    refused("train", table.name, *words, said=said)


def test_several_faults_are_told_at_once(refused: Refused, table: Path) -> None:
    said = ("epochs: ", "; workers: ")
    refused("train", table.name, "--epochs", 0, "--workers", 0, said=said)


@pytest.mark.parametrize("command", ["trian", "evaluat"])
def test_an_unknown_command(refused: Refused, command: str) -> None:
    refused(command, said=("No such command", "Did you mean"))


# -- places ---------------------------------------------------------------------------------------


def test_a_storage_folder_below_a_file(refused: Refused, folder: Path, table: Path) -> None:
    (folder / "file").write_text("mine")
    refused("train", table.name, "--storage", "file", said="a file is in the way of a folder")
    said = "a file is in the way of a folder"
    refused("train", table.name, "--storage", "file/below", said=said)


@pytest.fixture
def mounted(folder: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system with the options given; skipped where mounting is not allowed."""
    place = folder / "mounted"
    place.mkdir()

    def mount(options: str) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_a_storage_folder_that_is_read_only(
    refused: Refused, table: Path, mounted: Callable[[str], Path]
) -> None:
    mounted("ro")
    refused(
        "train", table.name, "--storage", "mounted", said="cannot be written: permission denied"
    )


def test_a_name_that_holds_a_run(
    refused: Refused, folder: Path, table: Path, small_run: Run
) -> None:
    shutil.copytree(small_run.path, folder / "runs" / "mine")
    said = ("runs/mine: already holds a run", "choose another --name")
    refused("train", table.name, "--name", "mine", said=said)
    open_run(folder / "runs" / "mine")


def test_a_name_that_holds_something_else(refused: Refused, folder: Path, table: Path) -> None:
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "thesis.tex").write_text("precious")
    refused("train", table.name, "--name", "mine", said="is not empty and holds no run")


# -- claims ---------------------------------------------------------------------------------------


@pytest.fixture
def config(folder: Path, table: Path) -> Any:
    """Settings of a training of the good table."""
    from raysynth.config import TrainConfig

    return TrainConfig(table=str(table), name="mine")


def test_a_name_is_trained_by_one_process_at_a_time(
    refused: Refused, table: Path, config: Any
) -> None:
    from raysynth.stages.claim import claimed

    with claimed(config):
        said = ("runs/mine: another process is at work on it", "choose another --name")
        refused("train", table.name, "--name", "mine", said=said)


def test_what_stopped_before_its_codes_were_whole_leaves_the_name_free(config: Any) -> None:
    from raysynth.stages.claim import claimed

    with contextlib.suppress(KeyboardInterrupt), claimed(config) as work:
        write_bytes(work / "table.parquet", SENTINEL.encode())
        raise KeyboardInterrupt
    assert not config.path.exists()


def test_what_was_killed_before_its_codes_were_whole_is_begun_anew(config: Any) -> None:
    from raysynth.stages.claim import claimed

    work = config.path / "work"
    work.mkdir(parents=True)
    (work / "settings.json").write_text(json.dumps({"seed": 7}))
    (work / "table.parquet").write_text(SENTINEL)
    with claimed(config) as fresh:
        assert fresh == Place.of(work)
        assert [path.name for path in work.iterdir()] == ["settings.json"]
        assert work.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def unfinished(config: Any) -> Path:
    """What a training leaves that was killed after its codes were whole."""
    from raysynth.stages.claim import claimed, staged

    with claimed(config) as work:
        staged(config, config.table, work)
        write_bytes(work / "codes" / "index.json", b"{}")
    return config.path


def test_an_unfinished_training_is_not_resumed_with_other_settings(
    refused: Refused, table: Path, unfinished: Path
) -> None:
    said = ("holds an unfinished training with other settings (epochs, seed)", "--name")
    words = ("--name", unfinished.name, "--seed", 5, "--epochs", 2)
    refused("train", table, *words, said=said)


def test_an_unfinished_training_is_not_resumed_on_another_table(
    refused: Refused, table: Path, unfinished: Path, people: pa.Table
) -> None:
    pq.write_table(people.slice(1), table)
    said = "holds an unfinished training of another table, or this table has changed"
    refused("train", table, "--name", unfinished.name, said=said)


def test_an_unfinished_training_cannot_be_sampled(refused: Refused, unfinished: Path) -> None:
    said = ("its training is not finished", "repeat the train command")
    refused("sample", unfinished, "--rows", 5, "--out", "o.parquet", said=said)


# -- runs -----------------------------------------------------------------------------------------


@pytest.fixture
def run(folder: Path, small_run: Run) -> Path:
    """A copy of a run, to be maltreated."""
    return Path(shutil.copytree(small_run.path, folder / "runs" / "mine"))


FILES = ["config.toml", "schema.json", "table.json", "weights.safetensors", "losses.jsonl"]


def _sample(refused: Refused, said: str | tuple[str, ...], *words: object) -> None:
    refused("sample", "mine", "--rows", 5, "--out", "o.parquet", *words, said=said)


def test_no_such_run(refused: Refused) -> None:
    _sample(refused, ("mine: not a run folder", "train one first"))


@pytest.mark.parametrize("name", FILES)
def test_a_run_that_lacks_a_file(refused: Refused, run: Path, name: str) -> None:
    (run / name).unlink()
    _sample(refused, f"the run is torn, '{name}' is missing; copy it again")


def test_a_run_without_its_manifest(refused: Refused, run: Path) -> None:
    (run / "manifest.json").unlink()
    _sample(refused, "not a run folder (no manifest.json)")


@pytest.mark.parametrize("name", FILES)
def test_a_run_altered_by_a_byte(refused: Refused, run: Path, name: str) -> None:
    data = (run / name).read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 1 if data else 0]) + data[middle + 1 :]
    (run / name).write_bytes(changed)
    _sample(refused, (f"'{name}' is not what was saved", "copy the run again or train it again"))


@pytest.mark.parametrize("place", [0, 40, -2])
def test_a_manifest_altered_by_a_byte(refused: Refused, run: Path, place: int) -> None:
    data = bytearray((run / "manifest.json").read_bytes())
    data[place] ^= 1
    (run / "manifest.json").write_bytes(data)
    _sample(refused, "manifest.json is damaged or altered; copy the run again")


def test_a_run_of_another_format(refused: Refused, run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {"format": 1, "raysynth": "9.9.9"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    _sample(refused, ("the run has format 1", "this raysynth reads format 3", "(9.9.9)"))


# -- given ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"sexx={SENTINEL}", "no column is called 'sexx'; did you mean 'sex'?"),
        (f"sex={SENTINEL}", ("column 'sex' has no such value", "table.json")),
        ("sex=female", "column 'sex' has no such value"),
        ("age=400..500", ("column 'age' holds nothing there", "table.json")),
        ("age=40..30", "the range of 'age' ends before it begins"),
        (f"age={SENTINEL}", "'age' is int64; expected a value of that type, or a range"),
        ("sex", "expected COLUMN=VALUE"),
    ],
)
def test_what_cannot_be_given(refused: Refused, run: Path, given: str, said: Any) -> None:
    assert run.is_dir()
    _sample(refused, said, "--given", given)


def test_a_number_of_rows_below_zero(refused: Refused, run: Path) -> None:
    words = ("--rows", -1, "--out", "o.parquet")
    refused("sample", run, *words, said=("--rows", "greater than or equal to 0"))


# -- out ------------------------------------------------------------------------------------------


@pytest.fixture
def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is named: what draws rows before it fails would look for it, to count them."""
    monkeypatch.delenv("RAY_ADDRESS")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("out", ["o.xlsx", "o", "o.parquet.gz"])
def test_an_out_file_of_no_known_kind(refused: Refused, run: Path, out: str) -> None:
    refused("sample", run, "--rows", 5, "--out", out, said=("ends in .parquet or .csv", out))


@pytest.mark.usefixtures("alone")
def test_an_out_file_where_none_can_be(refused: Refused, folder: Path, run: Path) -> None:
    (folder / "file").write_text("mine")
    said = "a file is in the way of a folder"
    refused("sample", run, "--rows", 5, "--out", "file/o.csv", said=said)
    (folder / "folder.csv").mkdir()
    refused("sample", run, "--rows", 5, "--out", "folder.csv", said="cannot be written")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["o.parquet", "o.csv"])
def test_a_disk_that_fills_up_while_sampling(
    refused: Refused, run: Path, mounted: Callable[[str], Path], name: str
) -> None:
    place = mounted("size=200k")
    (place / name).write_text("the sample of before")
    words = ("--rows", 60_000, "--out", place / name)
    refused("sample", run, *words, said=("the disk is full", "free some space and repeat"))


def test_a_disk_that_fills_up_while_saving_loses_nothing(
    small_run: Run, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=100k")
    config = small_run.config.model_copy(update={"storage": str(place), "name": "full"})
    state = config.path / "work" / "state"
    state.parent.mkdir(parents=True)
    state.write_text("what resuming needs")
    facts = (small_run.table, small_run.model(), "", small_run.rows)
    with pytest.raises(StorageError, match="the disk is full"):
        save_run(config, *facts)
    assert state.read_text() == "what resuming needs"
    with pytest.raises(RaysynthError, match="not finished; repeat the train command to resume"):
        open_run(config.path)
    subprocess.run(["mount", "-o", "remount,size=9m", str(place)], check=True)
    assert save_run(config, *facts).rows == small_run.rows
    assert not state.parent.exists()


# -- the cluster ----------------------------------------------------------------------------------


def _apart(address: str, *words: object) -> "subprocess.CompletedProcess[str]":
    """The command in a process that no other test has joined to a cluster; it waits for none."""
    code = "from raysynth.stages import cluster; cluster.PATIENCE_S = 0; "
    code += "from raysynth.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = os.environ | {"RAY_ADDRESS": address}
    return subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("address", ["nowhere", "http://127.0.0.1:8265", "127.0.0.1:9"])
def test_an_address_where_no_cluster_is_stops_who_needs_one(table: Path, address: str) -> None:
    end = _apart(address, "train", table.name, "--epochs", 1)
    assert end.returncode == 2, end
    said = "no Ray cluster answers there; expected the head's HOST:6379"
    assert f"error: RAY_ADDRESS: {said}" in end.stderr
    assert "Traceback" not in end.stderr.rpartition("error: ")[2]


def test_an_address_where_no_cluster_is_stops_nobody_else(folder: Path, run: Path) -> None:
    end = _apart("nowhere", "sample", run, "--rows", 5, "--out", "o.csv")
    assert end.returncode == 0, end
    assert "rows are not counted for Prometheus: RAY_ADDRESS" in end.stderr
    assert len((folder / "o.csv").read_text().splitlines()) == 6


# -- evaluate -------------------------------------------------------------------------------------


def _evaluate(refused: Refused, run: Path, real: pa.Table, said: object, *words: object) -> None:
    pq.write_table(real, "real.parquet")
    refused("evaluate", run, "--real", "real.parquet", *words, said=said)


def test_evaluating_on_no_table(refused: Refused, run: Path) -> None:
    refused("evaluate", run, "--real", "none.parquet", said="no such file")


def test_evaluating_on_a_table_that_lacks_columns(
    refused: Refused, run: Path, people: pa.Table
) -> None:
    said = "the table lacks 'age', 'sex'; expected the columns the run was trained on"
    _evaluate(refused, run, people.drop_columns(["sex", "age"]), said)


def test_evaluating_on_a_table_of_other_types(
    refused: Refused, run: Path, people: pa.Table
) -> None:
    place = people.schema.names.index("age")
    words = pa.array([SENTINEL] * people.num_rows)
    said = "column 'age' should be int64 but is string and does not convert without loss"
    _evaluate(refused, run, people.set_column(place, "age", words), said)
    numbers = pa.array([NUMBER] * people.num_rows)
    said = "column 'age' should be int64 but is double and does not convert without loss"
    _evaluate(refused, run, people.set_column(place, "age", numbers), said)


def test_evaluating_on_a_table_that_names_a_column_twice(
    refused: Refused, run: Path, people: pa.Table
) -> None:
    twice = people.append_column("age", people.column("age"))
    _evaluate(refused, run, twice, ("'age'", "more than once"))


def test_evaluating_on_too_few_rows(refused: Refused, run: Path, people: pa.Table) -> None:
    _evaluate(refused, run, people.slice(0, 3), ("at least 10 rows", "real table has 3"))


def test_evaluating_with_an_unknown_target(refused: Refused, run: Path, people: pa.Table) -> None:
    said = "no column is called 'incme'; did you mean 'income'?"
    _evaluate(refused, run, people, said, "--target", "incme")


def test_a_report_that_cannot_be_written_leaves_the_run_sound(
    run: Path, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=4m")
    full = open_run(shutil.copytree(run, place / "full"))
    report = {"report.json": b"{}", "report.html": bytes(100_000)}
    judged = add_files(full, report)
    _fill(place, free=50_000)
    with pytest.raises(StorageError, match="the disk is full"):
        add_files(judged, report)
    assert set(open_run(full.path).manifest["files"]) == set(full.manifest["files"])


def _fill(place: Path, free: int) -> None:
    """Fill a small file system but for `free` bytes."""
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4_096)):
            pass
    os.truncate(place / "filler", (place / "filler").stat().st_size - free)


# -- cells ----------------------------------------------------------------------------------------


def test_a_frame_that_does_not_convert_is_refused_without_its_cells() -> None:
    import pandas as pd

    import raysynth

    frame = pd.DataFrame({"fine": range(200), "mixed": [1, SENTINEL] * 100})
    with pytest.raises(TableError, match="column 'mixed' of the DataFrame") as told:
        raysynth.train(frame)
    assert SENTINEL not in str(told.value)
    assert told.value.__suppress_context__


def test_a_report_holds_no_cell_that_few_rows_share(
    cli: Callable[..., Any], folder: Path, run: Path, people: pa.Table
) -> None:
    columns = people.slice(0, 200).to_pydict()
    columns["occupation"][3] = SENTINEL
    columns["fnlwgt"][5] = int(NUMBER)
    pq.write_table(pa.table(columns), folder / "real.parquet")
    end = cli("evaluate", run, "--real", "real.parquet", "--train", "real.parquet", "--json")
    assert end.code == 0, end.err
    for place, data in {**_contents(run), "said": (end.out + end.err).encode()}.items():
        for cell in (SENTINEL, str(int(NUMBER)), f"{int(NUMBER):,}"):
            assert cell.encode() not in data, place


def test_python_is_told_what_the_command_is_told(folder: Path) -> None:
    import raysynth

    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        raysynth.train("t.parquet", epoch=3)
    with pytest.raises(TableError, match="expected a path, a pandas DataFrame"):
        raysynth.train({"a": [1]})
    assert not list((folder / "runs").iterdir())
