"""Reports: ceiling and floor, determinism, JSON, and what is refused."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth import frames
from raysynth.config import GateConfig
from raysynth.errors import TableError
from raysynth.figures import Learner
from raysynth.gate import decide
from raysynth.judge import Report, judge
from raysynth.learners import LEARNERS
from raysynth.reading import OTHERS, grouped
from raysynth.risks import Risk, skipped
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
        *("detection", "detection_logistic", "utility", "f1", "learners", "importance"),
        *("dcr_share", "copies"),
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
    assert not [figure.name for figure in copied.figures if figure.low is None]
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


def test_learners_come_back_from_json(copied: Report) -> None:
    told = json.loads(json.dumps(copied.to_json(), allow_nan=False))["learners"]
    assert tuple(Learner(**one) for one in told) == copied.learners
    assert len(told) == 2 * len(LEARNERS)


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


SCHEMA = json.loads(
    (Path(frames.__file__).parent / "report.schema.json").read_text(encoding="utf-8")
)
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
SAID = {"$schema", "$defs", "title", "description"}


def of_type(value: Any, rule: str | list[str]) -> bool:
    kinds = [TYPES[one] for one in ([rule] if isinstance(rule, str) else rule)]
    return any(isinstance(value, kind) for kind in kinds) and not isinstance(value, bool)


def more(value: Any, rule: Any, schema: dict[str, Any]) -> bool:
    left = set(value) - set(schema.get("properties", {}))
    return not left if rule is False else all(holds(value[one], rule) for one in left)


RULES: dict[str, Callable[[Any, Any, dict[str, Any]], bool]] = {
    "$ref": lambda value, rule, _: holds(value, SCHEMA["$defs"][rule.removeprefix("#/$defs/")]),
    "anyOf": lambda value, rule, _: any(holds(value, one) for one in rule),
    "type": lambda value, rule, _: of_type(value, rule),
    "const": lambda value, rule, _: value == rule,
    "enum": lambda value, rule, _: value in rule,
    "minimum": lambda value, rule, _: value is None or value >= rule,
    "maximum": lambda value, rule, _: value is None or value <= rule,
    "minItems": lambda value, rule, _: len(value) >= rule,
    "maxItems": lambda value, rule, _: len(value) <= rule,
    "required": lambda value, rule, _: set(rule) <= set(value),
    "properties": lambda value, rule, _: all(holds(value[k], rule[k]) for k in rule if k in value),
    "additionalProperties": more,
    "items": lambda value, rule, _: all(holds(one, rule) for one in value),
}


def holds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is what a JSON Schema says, of the keywords that ours has."""
    known = [key for key in schema if key not in SAID]  # in their order: the type comes first
    assert set(known) <= set(RULES), f"this test lacks one of {known}"
    return all(RULES[key](value, schema[key], schema) for key in known)


@pytest.fixture(scope="module")
def full(copied: Report) -> Report:
    """With all that a report may have."""
    rates = {"tpr_at_1pct": 0.01, "tpr_at_1pct_low": 0.0, "tpr_at_1pct_high": 0.02}
    risks = (
        Risk("membership_trees", "AUC", 0.5, 0.4, 0.6, 0.5, 9, "n", None, rates, ((0.0, 0.1),)),
        skipped("inference", "risk", "how to read it", "needs 100 rows of each table"),
    )
    verdict = decide(risks, copied.figures, GateConfig(), ("That was not tried.",))
    learners = (Learner("trees", "AUC", 0.9, None, 0.5),)
    return replace(copied, risks=risks, verdict=verdict, learners=learners)


def written(report: Report) -> Any:
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_reports_are_as_their_schema_says(full: Report, copied: Report) -> None:
    one = pa.table({"b": [True, False, None] * 20})
    few = judge(one, one, None, Schema.infer(one.schema))
    for report in (full, copied, few):
        assert holds(written(report), SCHEMA)


def test_the_schema_refuses_what_is_no_report(full: Report) -> None:
    def broken(*path: Any, value: Any = None, without: bool = False) -> Any:
        told = copy.deepcopy(written(full))
        inner = told
        for key in path[:-1]:
            inner = inner[key]
        if without:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return told

    for path, value in (
        (("version",), 2),
        (("surprise",), 1),
        (("rows", "real"), -1),
        (("rows", "real"), 1.5),
        (("figures", 0, "better"), "worse"),
        (("figures", 0, "low"), "0.5"),
        (("columns", 0, "synthetic"), None),
        (("pairs", 0, "columns"), ["one"]),
        (("groups", 0, "group"), "Female"),
        (("risks", 0, "details", "rate"), "high"),
        (("risks", 0, "curve"), [[0.5, 1.5]]),
        (("gate", "verdict"), "maybe"),
        (("gate", "reasons", 0, "level"), "skip"),
        (("learners", 0, "ceiling"), "-"),
    ):
        assert not holds(broken(*path, value=value), SCHEMA), path
    for path in (("gate",), ("worst_group",), ("risks", 1, "skipped"), ("figures", 3, "high")):
        assert not holds(broken(*path, without=True), SCHEMA), path


def test_every_figure_has_its_place_in_the_page(full: Report) -> None:
    parts = grouped(full.figures)
    assert OTHERS not in {part.name for part in parts}
    assert sum(len(part.members) for part in parts) == len(full.figures)
    unheard = replace(full.figures[0], name="unheard_of")
    assert [part.name for part in grouped([unheard])] == [OTHERS]


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
