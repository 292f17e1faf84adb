"""Reports: ceiling and floor, determinism, JSON, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth import frames
from raysynth.errors import TableError
from raysynth.judge import Report, judge
from raysynth.schema import Schema

DATA = Path(__file__).parent.parent / "jobs" / "data"


@pytest.fixture(scope="module")
def adult() -> tuple[pa.Table, pa.Table, Schema]:
    """Adult's training rows, its test rows, its schema: 4,000 rows of each, for speed."""
    train, test = (pq.read_table(DATA / f"adult_{part}.parquet") for part in ("train", "test"))
    return train.slice(0, 4000), test.slice(0, 4000), Schema.infer(train.schema)


@pytest.fixture(scope="module")
def copied(adult: tuple[pa.Table, pa.Table, Schema]) -> Report:
    """A generator that hands out its training rows."""
    train, test, schema = adult
    return judge(train, test, train, schema, "income")


def figures(report: Report) -> dict[str, dict[str, object]]:
    return {figure["name"]: figure for figure in report.to_json()["figures"]}


def test_every_figure_stands_between_ceiling_and_floor(copied: Report) -> None:
    found = {figure.name: figure for figure in copied.figures}
    assert list(found) == [
        *("shape", "trend", "mutual_information", "three_way", "cumulative", "tails", "coverage"),
        *("missingness", "missing_together", "groups", "alpha_precision", "beta_recall"),
        *("detection", "detection_logistic", "utility", "f1", "dcr_share", "copies"),
    ]
    for name in (
        *("trend", "mutual_information", "three_way", "missing_together", "groups"),
        *("beta_recall", "utility", "f1"),
    ):
        assert found[name].ceiling is not None
        assert found[name].floor < found[name].ceiling
    assert found["detection"].floor > 0.9
    assert found["detection"].synthetic < 0.58
    assert found["copies"].synthetic == 1.0
    assert found["copies"].ceiling < 0.01
    assert found["shape"].floor > 0.97
    assert found["alpha_precision"].synthetic > 0.95
    assert found["beta_recall"].floor < 0.2
    assert found["detection_logistic"].floor < 0.56
    # The training rows themselves, so the figure is that of the ceiling.
    for name in ("shape", "three_way", "tails", "coverage", "missingness", "groups"):
        assert found[name].synthetic == pytest.approx(found[name].ceiling)


def test_every_figure_of_fidelity_lies_in_an_interval(copied: Report) -> None:
    without = {figure.name for figure in copied.figures if figure.low is None}
    assert without <= {"utility", "f1"}
    for score in (*copied.figures, *copied.columns.values(), *copied.pairs.values()):
        if score.low is not None and score.high is not None:
            assert 0 <= score.low <= score.synthetic <= score.high <= 1
    found = {figure.name: figure for figure in copied.figures}
    for name in ("shape", "trend", "three_way", "groups", "alpha_precision", "beta_recall"):
        assert 0 < found[name].high - found[name].low < 0.12
    # 4,000 rows that are all copies: Wilson's end is 1 / (1 + 1.96^2 / 4000).
    assert found["copies"].low == pytest.approx(1 / (1 + 1.959964**2 / 4000))
    assert found["copies"].high == 1.0
    assert found["detection"].low == pytest.approx(found["detection"].synthetic, abs=0.02)


def test_the_worst_group_is_told_by_its_column_alone(copied: Report) -> None:
    found = {figure.name: figure for figure in copied.figures}["groups"]
    assert copied.worst_group in copied.groups
    assert copied.groups[copied.worst_group or ""].synthetic == found.synthetic
    assert set(copied.groups) < set(copied.columns)
    assert "Black" in str(pq.read_table(DATA / "adult_train.parquet")["race"].unique())
    assert not any(f'"{value}"' in json.dumps(copied.to_json()) for value in ("Black", "Female"))


def test_handing_out_training_rows_is_told_by_the_dcr_share(copied: Report) -> None:
    found = {figure.name: figure for figure in copied.figures}["dcr_share"]
    assert found.synthetic > 0.99
    assert found.ceiling == pytest.approx(0.5, abs=0.04)
    assert found.floor == pytest.approx(0.5, abs=0.04)
    assert (found.unit, found.better) == ("share", "near 0.5")
    assert "smoke test" in found.note
    assert "proves nothing about privacy" in found.note


def test_report_is_json_with_names_rows_and_the_worst(copied: Report) -> None:
    value = json.loads(json.dumps(copied.to_json(), allow_nan=False))
    assert value["version"] == 3
    assert value["target"] == "income"
    assert value["rows"] == {"synthetic": 4000, "real": 4000, "train": 4000, "compared": 4000}
    assert len(value["columns"]) == 15
    assert len(value["pairs"]) == 105
    assert value["worst_column"] in copied.columns
    assert min(p["synthetic"] for p in value["pairs"]) == next(
        p["synthetic"] for p in value["pairs"] if p["columns"] == value["worst_pair"]
    )
    kept = {"name", "unit", "better", "synthetic", "ceiling", "floor", "note", "low", "high"}
    assert value["worst_group"] in {part["column"] for part in value["groups"]}
    assert all(set(figure) == kept for figure in value["figures"])


def small(rows: int, seed: int) -> pa.Table:
    g = np.random.default_rng(seed)
    x = g.normal(size=rows)
    return pa.table({"x": x, "y": x > 0, "n": pa.array(x, mask=x > 1)})


def test_same_seed_same_report_and_rows_are_those_of_the_smallest() -> None:
    tables = small(300, 1), small(200, 2), small(250, 3)
    schema = Schema.infer(tables[0].schema)
    one = judge(*tables, schema, seed=7)
    assert one == judge(*tables, schema, seed=7)
    assert one != judge(*tables, schema, seed=8)
    assert one.rows["compared"] == 200
    assert one.target == "y"


def test_without_training_rows_there_is_no_ceiling() -> None:
    real = small(200, 1)
    schema = Schema.infer(real.schema)
    report = judge(frames.permuted(real, np.random.default_rng(3)), real, None, schema)
    assert {figure.ceiling for figure in report.figures} == {None}
    assert "dcr_share" not in {figure.name for figure in report.figures}
    assert report.rows["train"] is None
    assert figures(report)["shape"]["synthetic"] == pytest.approx(1.0)
    assert figures(judge(real, real, None, schema))["copies"]["synthetic"] == 1.0


def test_one_column_has_no_trend_and_no_utility() -> None:
    table = pa.table({"b": [True, False, None] * 20})
    report = judge(table, table, table, Schema.infer(table.schema))
    assert [figure.name for figure in report.figures] == [
        *("shape", "coverage", "missingness", "missing_together"),
        *("alpha_precision", "beta_recall", "detection", "detection_logistic"),
        *("dcr_share", "copies"),
    ]
    assert report.worst_pair is None
    assert report.to_json()["worst_pair"] is None
    assert report.worst_group is None
    assert report.to_json()["worst_group"] is None


def test_a_number_as_target_has_r2_and_no_f1() -> None:
    table = small(200, 1)
    found = figures(judge(table, small(200, 2), table, Schema.infer(table.schema), "x"))
    assert found["utility"]["unit"] == "R2"
    assert "f1" not in found


def test_unusable_tables_are_refused_without_a_cell() -> None:
    table = small(200, 1)
    schema = Schema.infer(table.schema)
    with pytest.raises(TableError, match=r"at least 10 rows.*the real table has 9"):
        judge(table, table.slice(0, 9), table, schema)
    with pytest.raises(TableError, match="lacks 'y'"):
        judge(table.drop_columns(["y"]), table, None, schema)
    with pytest.raises(TableError, match="no column is called 'z'"):
        judge(table, table, None, schema, target="z")
