"""The CTGAN paper's benchmark: a cell is done once, and printed beside the paper's."""

import json
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

JOBS = Path(__file__).parent.parent / "jobs"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a module of the benchmark."""
    monkeypatch.syspath_prepend(JOBS)
    return lambda name: import_module(f"benchmarks.{name}")


# -- cells ----------------------------------------------------------------------------------------


@pytest.fixture
def run(benchmark: Any, tmp_path: Path) -> Any:
    app = typer.Typer()
    app.command()(benchmark("paper").paper)
    out = tmp_path / "deep" / "paper.json"

    def call(*words: str) -> tuple[int, str, list[dict[str, Any]]]:
        done = CliRunner().invoke(app, [*words, "--out", str(out)])
        return (
            done.exit_code,
            done.output,
            json.loads(out.read_text())["cells"] if out.is_file() else [],
        )

    return call


def test_cells_are_done_once(run: Any, benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = benchmark("paper")
    words = ("--table", "ring", "--family", "identity", "--family", "uniform")
    code, output, cells = run(*words, "--seeds", "1")
    assert code == 0, output
    assert [(cell["family"], cell["seed"]) for cell in cells] == [("identity", 0), ("uniform", 0)]
    assert cells[0]["figures"]["L_syn"] > cells[1]["figures"]["L_syn"]
    asked: list[Any] = []

    def done(cell: Any, data: Path) -> dict[str, Any]:
        asked.append(cell)
        return {"figures": cells[0]["figures"]}

    monkeypatch.setattr(paper, "done", done)
    assert run(*words, "--seeds", "1")[2] == cells
    assert not asked
    code, output, cells = run(*words, "--seeds", "2", "--epochs", "5")
    assert [(cell.family, cell.seed) for cell in asked] == [("identity", 1), ("uniform", 1)]
    assert len(cells) == 4
    run(*words, "--seeds", "1", "--rows", "100")
    assert [cell.rows for cell in asked[2:]] == [100, 100]


def test_a_family_is_trained_in_a_process_of_its_own(run: Any) -> None:
    words = ("--table", "ring", "--family", "independent", "--seeds", "1")
    code, output, (cell,) = run(*words, "--epochs", "2", "--rows", "2000")
    assert code == 0, output
    assert (cell["trained_rows"], cell["passes"]) == (2_000, 2)
    assert cell["spent"]["train"]["wall_s"] > 0
    assert -4.5 < cell["figures"]["L_syn"] < -1.75  # between even and true
    assert "independent" in output


def test_a_cell_that_fails_stops_no_other(
    run: Any, benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def run(self, *_: Any, **settings: Any) -> None:
            raise RuntimeError(f"no {settings['family']} today")

    paper = benchmark("paper")
    monkeypatch.setattr(paper, "SIDE", Broken())
    monkeypatch.setattr(paper.peers, "read_with", lambda *_: {"commit": "c"})
    words = ("--table", "ring", "--family", "rnn", "--family", "identity", "--seeds", "1")
    code, output, cells = run(*words)
    assert code == 1
    assert "no rnn today" in output
    assert [cell["family"] for cell in cells] == ["identity"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--table", "grit"), "expected one of grid"),
        (("--family", "gan"), "expected one of identity"),
        (("--table", "asia", "--data", "nowhere"), "Bayesian"),
        (("--table", "news", "--data", "nowhere"), "expected a table"),
    ],
)
def test_what_is_not_there_is_refused_first(run: Any, words: tuple[str, ...], told: str) -> None:
    code, output, cells = run(*words)
    assert code == 2
    assert told in " ".join(output.replace("│", " ").split())
    assert not cells


# -- what is printed ------------------------------------------------------------------------------


def test_the_papers_cells_have_the_means_that_it_prints(benchmark: Any) -> None:
    """Its Table 2, but for three methods' means over networks, which are not those of its cells."""
    published, paper = benchmark("published"), benchmark("paper")
    assert tuple(paper.SETS) == published.TABLES
    means = {
        "Identity": "-2.61 -2.61 -9.33 -9.36",
        "CLBN": "-3.06 -7.31 -10.66 -9.92",
        "PrivBN": "-3.38 -12.42",
        "MedGAN": "-7.27 -60.03",
        "VEEGAN": "-10.06 -4.22 -15.40 -13.86",
        "TableGAN": "-8.24 -4.12 -11.84 -10.47",
        "TVAE": "-2.65 -5.42",
        "CTGAN": "-5.72 -3.40 -11.67 -10.60",
    }
    assert means.keys() == published.PAPER.keys()
    for method, printed in means.items():
        cells = published.PAPER[method]
        groups = (("grid", "gridr", "ring"), ("asia", "alarm", "child", "insurance"))
        found = [
            fmean(float(cells[name].split("/")[place]) for name in names)
            for names in groups
            for place in (0, 1)
        ]
        wanted = [float(word) for word in printed.split()]
        assert found[: len(wanted)] == pytest.approx(wanted, abs=0.03)


def test_figures_stand_beside_the_papers(benchmark: Any) -> None:
    def entry(table: str, family: str, seed: int, **figures: float) -> dict[str, Any]:
        spent = {} if family == "identity" else {"spent": {"train": {"wall_s": 7.0 + 2 * seed}}}
        return {"table": table, "family": family, "seed": seed, "figures": figures, **spent}

    tables = benchmark("published").shown(
        [
            entry("asia", "identity", 0, L_syn=-2.25, L_test=-2.26),
            entry("asia", "ctgan", 0, L_syn=-2.5, L_test=-2.4),
            entry("asia", "ctgan", 1, L_syn=-2.7, L_test=-2.4),
            entry("adult", "rnn", 0, score=0.6543),
        ]
    )
    assert [table.title[:11] for table in tables] == ["Bayesian ne", "real tables"]
    console = Console(width=160)
    with console.capture() as capture:
        console.print(*tables)
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in capture.get().splitlines()
        if line.startswith("│")
    ]
    assert rows[0] == ["asia", "identity", "1", "", "-2.25", "-2.23", "-2.26", "-2.24"]
    ctgan = ["asia", "ctgan", "2", "8", "-2.60 (-2.70..-2.50)", "-2.56", "-2.40", "-2.31"]
    assert rows[1] == ctgan
    assert ["asia", "TVAE (paper)", "", "", "", "-2.31", "", "-2.27"] in rows
    assert not any("CTGAN (paper)" in row for row in rows[:8])
    assert ["adult", "rnn", "1", "7", "0.654", ""] in rows
    assert ["adult", "CTGAN (paper)", "", "", "", ".601"] in rows
