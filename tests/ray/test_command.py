"""`raysynth train` stopped in every way a training is stopped: it goes on as if it had not been.

One training of many epochs is told as a story: killed outright, then ended by SIGTERM, then by
Ctrl-C, then left to finish; each command is the same and follows the last at once.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.run import Run
from tests.server import free

EPOCHS = 120
SENTINEL, NUMBER = "Zq-sentinel", 918273645
SETTINGS = f"""
table = "adult.parquet"
name = "story"
epochs = {EPOCHS}
family = "ctgan"
drop = ["note"]
cpus = 1
checkpoint_s = 0.1
[model]
batch = 100
"""
LINES = (
    r"(summarise|encode|shuffle|train|save): [\d,]+ rows in [\d.]+ s( · .+)?",
    r"column +kind +codec +distinct +nulls +why",
    r"[a-z-]+ +(number|category) +[a-z-]+ +[\d,]+\+? +[\d,]+  .+",
    r"relations, kept in every sampled row:",
    r"  '.+",
    r"training begins after [\d.]+ s: (Ray [\d.]+ s, )?(rows [\d.]+ s, )?workers [\d.]+ s",
    r"time of worker 0: [a-z]+ \d+%(, [a-z]+ \d+%)*; \d+ steps of [\d.]+ ms",
    rf"resuming 'story' from epoch \d+ of {EPOCHS}",
    rf"weights: those of epoch {EPOCHS}, the last; no rows were held out to choose by",
    r"stopping after this epoch, with a checkpoint \(once more: at once\) \.\.\.",
    r"stopped after epoch \d+; repeat the command to resume",
    r"run: runs/story  \(600 rows, \d+ s; Ray's log: runs/story\.log\)",
)


Start = Callable[..., AbstractContextManager["Popen[str]"]]


@dataclass
class Story:
    """What was seen: the commands as they ended, and what they left."""

    folder: Path
    start: Start
    ends: dict[str, "CompletedProcess[str]"] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "story"


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, people: pa.Table, start: Start, home: Path
) -> Story:
    story, others = Story(tmp_path_factory.mktemp("story"), start), _ours(home)
    pq.write_table(_planted(people), story.folder / "adult.parquet")
    (story.folder / "story.toml").write_text(SETTINGS)
    _until_checkpoint(story, "killed", lambda pid: os.kill(pid, signal.SIGKILL))
    story.left["killed"] = _names(story.run / "work")
    _to_the_end(story, "changed", "--seed", 7)
    _until_checkpoint(story, "terminated", lambda pid: os.kill(pid, signal.SIGTERM))
    story.left["terminated"] = _left(home, others)
    # A terminal sends Ctrl-C to the whole process group, Ray's processes among it.
    _until_checkpoint(story, "interrupted", lambda pid: os.killpg(pid, signal.SIGINT))
    story.left["interrupted"] = _left(home, others)
    _to_the_end(story, "finished", "--json")
    before = _contents(story.run)
    _to_the_end(story, "again")
    story.left["again"] = [] if _contents(story.run) == before else ["changed"]
    return story


def _planted(people: pa.Table) -> pa.Table:
    """The table with cells that nobody else may see: a rare category, an extreme number, a lonely
    number between two crowds, and a column that is left out.
    """
    columns = people.to_pydict()
    columns["occupation"][7] = SENTINEL
    columns["fnlwgt"][9] = NUMBER
    columns["crowds"] = [0.0, 1000.0] * 300
    columns["crowds"][11] = float(f"555.{NUMBER}")
    columns["note"] = [f"{SENTINEL} {row}" for row in range(600)]
    return pa.table(columns)


def _to_the_end(story: Story, end: str, *words: object) -> None:
    with story.start("train", "story.toml", *words, cwd=story.folder) as process:
        out, err = process.communicate(timeout=300)
        story.ends[end] = CompletedProcess(process.args, process.returncode, out, err)


def _until_checkpoint(story: Story, end: str, stop: Callable[[int], None]) -> None:
    """Train until a checkpoint is there that was not before, then `stop` the process."""
    with story.start("train", "story.toml", cwd=story.folder) as process:
        before, since = _checkpoints(story), time.monotonic()
        while process.poll() is None and not _checkpoints(story) - before:
            assert time.monotonic() - since < 180, "no checkpoint came"
            time.sleep(0.02)
        stop(process.pid)
        out, err = process.communicate(timeout=120)
        story.ends[end] = CompletedProcess(process.args, process.returncode, out, err)


def _checkpoints(story: Story) -> set[str]:
    """Checkpoints that are whole."""
    return {path.parent.name for path in story.run.glob("work/checkpoints/*/index.json")}


def _ours(home: Path) -> dict[str, str]:
    """Number and name of each process of Ray's, told by the environment of our tests."""
    mark, found = f"RAY_TMPDIR={home}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() and process.name != str(os.getpid()):
                found[process.name] = (process / "comm").read_text().strip()
        except OSError:
            continue
    return found


def _left(home: Path, others: dict[str, str], patience_s: float = 60) -> list[str]:
    """What is still alive of them after `patience_s`, but for those of another cluster."""
    until = time.monotonic() + patience_s
    while left := {number: name for number, name in _ours(home).items() if number not in others}:
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    return list(left.values())


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _from(end: "CompletedProcess[str]") -> int:
    found = re.search(rf"resuming 'story' from epoch (\d+) of {EPOCHS}", end.stderr)
    assert found, end.stderr
    return int(found[1])


def test_a_killed_training_leaves_no_run_but_what_it_needs_to_resume(story: Story) -> None:
    assert story.ends["killed"].returncode == -signal.SIGKILL
    assert {"codes", "settings.json", "source.json", "table.json", "checkpoints"} <= set(
        story.left["killed"]
    )


def test_the_same_command_goes_on_from_the_last_checkpoint(story: Story) -> None:
    begins = [_from(story.ends[end]) for end in ("terminated", "interrupted", "finished")]
    assert begins[0] >= 1
    assert begins == sorted(set(begins))
    assert begins[-1] < EPOCHS


@pytest.mark.parametrize("end", ["terminated", "interrupted"])
def test_a_stopped_training_keeps_its_last_epoch_and_says_how_to_resume(
    story: Story, end: str
) -> None:
    stopped = story.ends[end]
    assert stopped.returncode == 130
    said = stopped.stderr.splitlines()[-1]
    found = re.fullmatch(r"stopped after epoch (\d+); repeat the command to resume", said)
    assert found, stopped.stderr
    following = {"terminated": "interrupted", "interrupted": "finished"}[end]
    assert _from(story.ends[following]) == int(found[1])


@pytest.mark.parametrize("end", ["terminated", "interrupted"])
def test_a_stopped_training_leaves_no_process_behind(story: Story, end: str) -> None:
    assert story.left[end] == []


def test_other_settings_are_refused_while_a_training_is_unfinished(story: Story) -> None:
    end = story.ends["changed"]
    assert end.returncode == 2
    assert end.stderr.startswith("error: runs/story: holds an unfinished training with other")
    assert "(seed)" in end.stderr
    assert len(end.stderr.splitlines()) == 1


def test_a_finished_name_is_refused_and_its_run_left_as_it_was(story: Story) -> None:
    end = story.ends["again"]
    assert end.returncode == 2
    assert end.stderr.startswith("error: runs/story: already holds a run; choose another --name")
    assert story.left["again"] == []


def test_nothing_private_is_left_when_the_run_is_saved(story: Story) -> None:
    assert _names(story.run) == [
        "config.toml",
        "losses.jsonl",
        "manifest.json",
        "schema.json",
        "table.json",
        "weights.safetensors",
    ]


def test_no_cell_is_in_any_message_in_the_log_or_in_the_run(story: Story) -> None:
    seen = _contents(story.run) | {"log": (story.folder / "runs" / "story.log").read_bytes()}
    for end, process in story.ends.items():
        seen[end] = (process.stdout + process.stderr).encode()
    for place, data in seen.items():
        for cell in (SENTINEL, str(NUMBER)):
            assert cell.encode() not in data, place


def test_progress_goes_to_stderr_and_nothing_of_rays_goes_anywhere_but_to_the_log(
    story: Story,
) -> None:
    phases = set()
    for end in ("killed", "terminated", "interrupted", "finished"):
        for line in story.ends[end].stderr.splitlines():
            assert any(re.fullmatch(known, line) for known in LINES), (end, line)
            phases.add(line.partition(":")[0])
        out = story.ends[end].stdout.splitlines()
        assert len(out) == (1 if end == "finished" else 0), (end, out)
    assert {"summarise", "encode", "train", "save"} <= phases
    assert "Ray" in (story.folder / "runs" / "story.log").read_text()


def test_the_weights_are_those_of_an_undisturbed_training(
    story: Story, tmp_path: Path, cluster: None
) -> None:
    from raysynth.config import TrainConfig
    from raysynth.stages.train import train

    changes = {"table": str(story.folder / "adult.parquet"), "storage": str(tmp_path)}
    undisturbed = train(TrainConfig.load(story.folder / "story.toml", changes))
    for name in ("weights.safetensors", "table.json", "losses.jsonl"):
        assert (story.run / name).read_bytes() == (undisturbed.path / name).read_bytes(), name


@pytest.mark.parametrize(("said", "times"), [("timed out during startup", 2), ("no room", 1)])
def test_ray_is_started_twice_where_it_takes_too_long(
    said: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from raysynth.stages import cluster

    asked: list[object] = []

    def init(**options: object) -> None:
        asked.append(options["num_cpus"])
        raise RuntimeError(f"The current node {said}.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match=said):
        cluster._start(num_cpus=3)
    assert asked == [3] * times


SERVES = """
import json, os, sys

from raysynth.serving.server import Serving
from raysynth.stages import cluster, serve
from tests.listening import addresses, family

runs, port = sys.argv[1:]
serve.start(Serving(runs, runs, None), serve.Listening(port=int(port)))
print("listens:", json.dumps(sorted(addresses(family(os.getpid())))))
serve.stop()
cluster.disconnect()
"""


def test_nothing_listens_beyond_loopback(small_run: Run) -> None:
    port = free()
    words = [sys.executable, "-c", SERVES, small_run.path.parent, port]
    end = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
    (said,) = re.findall(r"^listens: (.*)$", end.stdout, re.MULTILINE)
    found = json.loads(said)
    assert ["127.0.0.1", port] in found
    assert len(found) > 5, "Ray's own are among them"
    assert {address for address, _ in found} == {"127.0.0.1"}
