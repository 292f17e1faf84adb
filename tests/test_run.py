"""The folder a training leaves: whole, verified, or refused by name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from raysynth.errors import RunError, StorageError
from raysynth.run import MANIFEST, WORK, Run, add_files, build, finish, open_run, save_run
from raysynth.storage import Place

FILES = ["config.toml", "schema.json", "table.json", "weights.safetensors", "losses.jsonl"]
APART, UNSHARE = "RAYSYNTH_TEST_APART", ("unshare", "--map-root-user", "--mount")


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.path, tmp_path / "copy"))


@pytest.fixture
def tiny_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A filesystem of 256 KiB, which a run does not fit on.

    Who may not mount one runs the test in a namespace of its own, where everybody may.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        if APART in os.environ or subprocess.run([*UNSHARE, "true"], check=False).returncode:
            pytest.skip("needs the right to mount a small filesystem")
        test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
        place = {**os.environ, APART: "1"}
        done = subprocess.run(
            [*UNSHARE, *test],
            cwd=request.config.rootpath,
            env=place,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout
        pytest.skip("passed in a namespace of its own")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_comes_back_with_settings_codecs_and_weights(trained: Run) -> None:
    run = open_run(trained.path)
    assert sorted(run.manifest["files"]) == sorted(FILES)
    assert run.table == trained.table
    assert run.config == trained.config
    weights = zip(run.model().parameters(), trained.model().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_no_file_of_a_run_is_a_pickle(trained: Run) -> None:
    for file in trained.path.iterdir():
        head = file.read_bytes()[:2]
        assert head[:1] != b"\x80", file.name
        assert head != b"PK", file.name


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_one_altered_byte_is_told(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    # All of what is small, and some of the weights.
    for place in range(0, len(data), max(1, len(data) // 500)):
        altered = bytearray(data)
        altered[place] ^= 1
        (copy / name).write_bytes(altered)
        with pytest.raises(RunError, match=f"{name}|format"):
            open_run(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_torn_run_is_told(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:-5])
    with pytest.raises(RunError, match="not what was saved"):
        open_run(copy)
    (copy / name).unlink()
    with pytest.raises(RunError, match=f"'{name}' is missing"):
        open_run(copy)


def test_another_format_is_told_with_what_wrote_it(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**manifest, "format": 99, "raysynth": "7.7"}))
    with pytest.raises(RunError, match=r"format 99.*format 3.*7\.7"):
        open_run(copy)


def test_no_manifest_no_run(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    with pytest.raises(RunError, match="not a run folder"):
        open_run(copy)
    (copy / WORK).mkdir()
    with pytest.raises(RunError, match=r"not finished.*resume"):
        open_run(copy)


def test_a_saved_run_has_no_work_folder(trained: Run, tmp_path: Path) -> None:
    config = trained.config.model_copy(update={"storage": str(tmp_path), "name": "again"})
    (config.path / WORK).mkdir(parents=True)
    (config.path / WORK / "codes").write_text("as private as the table")
    run = save_run(config, trained.table, trained.model(), "", trained.rows)
    assert sorted(file.name for file in run.path.iterdir()) == sorted([*FILES, MANIFEST])


def test_a_run_tells_its_epochs_and_which_of_them_was_kept(trained: Run, tmp_path: Path) -> None:
    config = trained.config.model_copy(update={"storage": str(tmp_path), "name": "told"})
    lines = '{"epoch": 1, "held": 2.5}\n{"epoch": 2, "held": 3.0}\n'
    run = save_run(config, trained.table, trained.model(), lines, trained.rows, 1)
    assert open_run(run.path).kept == 1
    assert run.losses == [{"epoch": 1, "held": 2.5}, {"epoch": 2, "held": 3.0}]
    assert trained.kept is None


def test_a_full_disk_loses_nothing_that_resuming_needs(trained: Run, tiny_disk: Path) -> None:
    config = trained.config.model_copy(
        update={"storage": str(tiny_disk), "name": "full", "model": {"generator": [300, 300]}}
    )
    (config.path / WORK).mkdir(parents=True)
    (config.path / WORK / "codes").write_text("kept")
    model = build(config, trained.table)
    with pytest.raises(StorageError, match=r"disk is full.*free some space"):
        save_run(config, trained.table, model, "", trained.rows)
    assert (config.path / WORK / "codes").read_text() == "kept"
    assert not (config.path / MANIFEST).exists()
    assert not list(config.path.glob(".*.part"))


def test_a_disk_full_at_the_manifest_loses_nothing_either(trained: Run, tiny_disk: Path) -> None:
    """The last moment at which saving can fail: everything else is written."""
    config = trained.config.model_copy(update={"storage": str(tiny_disk), "name": "full"})
    (config.path / WORK).mkdir(parents=True)
    (config.path / WORK / "codes").write_text("kept")
    losses = (trained.path / "losses.jsonl").read_text()
    page = os.statvfs(tiny_disk).f_frsize
    needed = sum(-(-len((trained.path / name).read_bytes()) // page) for name in FILES)
    free = os.statvfs(tiny_disk).f_bavail
    (tiny_disk / "filler").write_bytes(bytes((free - needed) * page))
    with pytest.raises(StorageError, match=r"manifest\.json: cannot be written: the disk is full"):
        save_run(config, trained.table, trained.model(), losses, trained.rows)
    assert (config.path / WORK / "codes").read_text() == "kept"
    (tiny_disk / "filler").unlink()
    run = save_run(config, trained.table, trained.model(), losses, trained.rows)
    assert not (run.path / WORK).exists()


def test_a_run_of_somebody_else_is_told(
    trained: Run, public: Path, outsider: Callable[[], AbstractContextManager[None]]
) -> None:
    run = Path(shutil.copytree(trained.path, public / "run"))
    for name in FILES[0], MANIFEST:
        (run / name).chmod(0)
        told = rf"'{name}' cannot be read: permission denied"
        with outsider(), pytest.raises(RunError, match=told):
            open_run(run)
        (run / name).chmod(0o644)
    run.chmod(0)
    with outsider(), pytest.raises(RunError, match="run: cannot be read: permission denied"):
        open_run(run)


def test_a_place_of_somebody_else_is_told(
    trained: Run, public: Path, outsider: Callable[[], AbstractContextManager[None]]
) -> None:
    config = trained.config.model_copy(update={"storage": str(public), "name": "new"})
    table, model = trained.table, trained.model()
    public.chmod(0o555)
    with outsider(), pytest.raises(StorageError, match="cannot be written: permission denied"):
        save_run(config, table, model, "", trained.rows)


def test_weights_of_another_model_are_refused(trained: Run, tmp_path: Path) -> None:
    config = trained.config.model_copy(update={"storage": str(tmp_path), "name": "other"})
    wider = config.model_copy(update={"model": {**config.model, "generator": [48, 32]}})
    run = save_run(config, trained.table, build(wider, trained.table), "", trained.rows)
    with pytest.raises(RunError, match="another model"):
        run.model()


def test_a_report_joins_the_manifest(copy: Path) -> None:
    run = add_files(open_run(copy), {"report.json": b"{}"})
    run = add_files(run, {"report.json": b"{ }"})
    assert run.manifest["files"]["report.json"]["bytes"] == 3
    assert set(FILES) < set(open_run(copy).manifest["files"])


def test_the_same_seed_builds_the_same_weights(trained: Run, seeded: Callable) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    one, two = (build(trained.config, trained.table).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator is untouched"


def test_a_training_that_stopped_before_its_manifest_was_in_place_is_published_as_it_is(
    trained: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained.path, tmp_path / "copy"))
    (folder / WORK / "codes").mkdir(parents=True)
    (folder / WORK / "codes" / "1.parquet").write_text("as private as the table")
    assert finish(Place.of(folder)) is None, "nothing says that its training is over"
    (folder / MANIFEST).unlink()
    assert finish(Place.of(folder)) is None
    shutil.copy(trained.path / MANIFEST, folder / WORK)
    with pytest.raises(RunError, match=r"not finished.*resume"):
        open_run(folder)
    run = finish(Place.of(folder))
    assert run is not None
    assert run.manifest == trained.manifest
    assert sorted(file.name for file in folder.iterdir()) == sorted([*FILES, MANIFEST])
