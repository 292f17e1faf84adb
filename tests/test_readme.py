"""The README's code: what is marked with `<!-- test -->` runs, the rest at least parses.

A marked block runs in a copy of the repository's tracked folders, with `raysynth` on the PATH and
nothing of the copy's surroundings; what it leaves is thrown away.
"""

import ast
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MARK = "<!-- test -->"
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


class Block(NamedTuple):
    """A fenced block: its language, its text, whether it is marked, and its line in the file."""

    language: str
    text: str
    marked: bool
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text; a mark counts on the line right before the fence."""
    found, inside, before = [], None, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*```(\w*)\s*$", line)
        if fence and inside is None:
            inside = Block(fence[1], "", before.strip() == MARK, number)
        elif fence and inside is not None:
            found.append(inside)
            inside = None
        elif inside is not None:
            inside = inside._replace(text=f"{inside.text}{line}\n")
        before = line
    assert inside is None, f"the block that begins at line {inside.line} does not end"
    return found


def check(block: Block) -> None:
    """Raise `SyntaxError` or `ValueError` where a block's code does not parse."""
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "bash":
        for words in commands(block):
            assert words


def commands(block: Block) -> list[list[str]]:
    """The commands of a bash block, in words; a `\\` continues a line, `&&` ends a command."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    found: list[list[str]] = []
    for words in filter(None, split):
        found.append([])
        for word in words:
            found[-1].append(word) if word != "&&" else found.append([])
    return found


def run(block: Block, folder: Path, home: Path) -> None:
    """Run a block in `folder`; it must end with exit code 0."""
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    words = [*RUNNERS[block.language], block.text]
    end = subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False
    )
    assert end.returncode == 0, f"{block}\n{end.stdout}\n{end.stderr}"


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: names of Ray's sockets end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What a reader has who cloned the repository, but for history and what was built."""
    for name in ("README.md", "pyproject.toml", "jobs", "raysynth"):
        source, goal = ROOT / name, tmp_path / "copy" / name
        goal.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        else:
            shutil.copy(source, goal)
    return tmp_path / "copy"


README = blocks((ROOT / "README.md").read_text())
MARKED = [block for block in README if block.marked]


def _lines(chosen: list[Block]) -> list[str]:
    return [f"line-{block.line}" for block in chosen]


@pytest.mark.parametrize("block", README, ids=_lines(README))
def test_code_of_the_readme_parses(block: Block) -> None:
    check(block)


@pytest.mark.parametrize("block", README, ids=_lines(README))
def test_commands_and_options_of_the_readme_exist(block: Block) -> None:
    from typer.main import get_command

    from raysynth.cli import app

    known = get_command(app).commands
    for words in commands(block) if block.language == "bash" else []:
        if words[0] != "raysynth":
            continue
        asked = [known[words[1]]]
        if words[1] == "submit":  # with the words of another
            asked.append(known[words[2]])
        elif hasattr(asked[0], "commands"):  # a group of them
            asked = [asked[0].commands[words[2]]]
        options = {name for one in asked for parameter in one.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", MARKED, ids=_lines(MARKED))
def test_marked_code_of_the_readme_runs(block: Block, copy: Path, home: Path) -> None:
    run(block, copy, home)


# -- the harness itself ---------------------------------------------------------------------------

SAMPLE = """
# Sample

```bash
raysynth train t.parquet --epochs 3 \\
    --drop "a b" && echo done  # a comment
```

<!-- test -->
```bash
ls jobs/data > found.txt
```

<!-- test -->

```python
not_run = "the mark is not right before the fence"
```

<!-- test -->
```python
import pathlib, raysynth
pathlib.Path("found.txt").write_text(raysynth.__name__)
```

```
raysynth: an output, in no language
```
"""


def test_blocks_are_found_with_their_language_mark_and_line() -> None:
    found = [(block.language, block.marked, block.line) for block in blocks(SAMPLE)]
    assert found == [
        ("bash", False, 4),
        ("bash", True, 10),
        ("python", False, 16),
        ("python", True, 21),
        ("", False, 26),
    ]


def test_commands_are_split_as_a_shell_splits_them() -> None:
    assert commands(blocks(SAMPLE)[0]) == [
        ["raysynth", "train", "t.parquet", "--epochs", "3", "--drop", "a b"],
        ["echo", "done"],
    ]


def test_marked_blocks_run_in_a_copy(copy: Path, home: Path) -> None:
    for number, said in ((1, "README.md"), (3, "raysynth")):
        run(blocks(SAMPLE)[number], copy, home)
        assert said in (copy / "found.txt").read_text()
    assert not (ROOT / "found.txt").exists()


@pytest.mark.parametrize(
    "block",
    [
        Block("bash", "echo here\nfalse\necho not here\n", True, 1),
        Block("bash", "false | true\n", True, 1),
        Block("bash", "echo $unset\n", True, 1),
        Block("python", "raise SystemExit(3)\n", True, 1),
    ],
)
def test_a_marked_block_that_fails_is_told(block: Block, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=block.language):
        run(block, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("language", "text", "error"),
    [("python", "import\n", SyntaxError), ("bash", "echo 'open\n", ValueError)],
)
def test_a_block_that_does_not_parse_is_told(
    language: str, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check(Block(language, text, False, 1))


def test_a_block_that_does_not_end_is_told() -> None:
    with pytest.raises(AssertionError, match="line 2 does not end"):
        blocks("text\n```bash\necho\n")
