"""Tables of any size to a sample and a census: the same by whatever way they are read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import ray.data
from scipy.stats import chisquare

from raysynth.census import Census
from raysynth.config import TrainConfig
from raysynth.errors import RaysynthError, TableError
from raysynth.schema import Schema, select
from raysynth.selection import Selection
from raysynth.stages import evaluate as stage
from raysynth.stages.evaluate import Asked, compare, evaluate
from raysynth.stages.gather import arrow, gather
from raysynth.stages.train import train
from raysynth.storage import Place

ROWS = 3_000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    g = np.random.default_rng(0)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "c": pa.array(g.choice(["a", "b", "c"], ROWS), mask=g.random(ROWS) < 0.1),
            "x": pa.array(np.round(g.normal(size=ROWS), 2), mask=g.random(ROWS) < 0.1),
            "t": pa.array(g.integers(0, 10**9, ROWS)).cast(pa.timestamp("s")),
        }
    )


@pytest.fixture(scope="module")
def files(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for number in range(4):
        part = table.slice(number * ROWS // 4, ROWS // 4)
        pq.write_table(part, folder / f"part-{number}.parquet", row_group_size=100)
    return folder


@pytest.fixture(scope="module")
def schema(table: pa.Table) -> Schema:
    return Schema.infer(table.schema)


def test_a_sample_is_the_same_by_any_way(
    cluster: None, table: pa.Table, files: Path, schema: Schema, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "one.parquet")
    pa.csv.write_csv(table, tmp_path / "one.csv")
    data = ray.data.from_arrow([table.slice(at, 500) for at in range(0, ROWS, 500)])
    first = gather(table, schema, 200, 7)
    assert (first.rows, first.table.num_rows, first.whole) == (ROWS, 200, False)
    ids = first.table["id"].to_numpy()
    assert (np.diff(ids) > 0).all()
    assert first.table.equals(select(table.take(ids), schema))
    ways = [tmp_path / "one.parquet", files, tmp_path / "one.csv", data, table.to_pandas()]
    for way in ways:
        found = gather(way, schema, 200, 7)
        assert found.rows == ROWS
        assert found.table["id"].to_pylist() == ids.tolist()
    for workers in (1, 2):
        assert gather(files, schema, 200, 7, workers=workers).table.equals(first.table)
    assert not gather(table, schema, 200, 8).table.equals(first.table)


def test_a_table_with_no_more_rows_comes_whole_and_in_order(
    cluster: None, table: pa.Table, files: Path, schema: Schema
) -> None:
    for workers in (None, 2):
        found = gather(files, schema, ROWS, workers=workers)
        assert found.whole
        assert found.table.equals(select(table, schema))


def test_each_row_is_as_likely(table: pa.Table, schema: Schema) -> None:
    counts = np.zeros(30)
    for seed in range(40):
        ids = gather(table, schema, 300, seed).table["id"].to_numpy()
        counts += np.bincount(ids * 30 // ROWS, minlength=30)
    assert chisquare(counts).pvalue > 1e-3


def test_a_selection_is_drawn_from(
    cluster: None, table: pa.Table, files: Path, schema: Schema
) -> None:
    wanted = Selection(where="c == 'a'")
    kept = table.filter(pc.equal(table["c"], "a"))
    for workers in (None, 2):
        found = gather(files, schema, 100, 0, wanted, workers=workers)
        assert found.rows == kept.num_rows
        assert set(found.table["c"].to_pylist()) == {"a"}


def test_a_census_is_the_same_on_ray(
    cluster: None, table: pa.Table, files: Path, schema: Schema
) -> None:
    sides = [select(table.slice(start, 300), schema) for start in (0, 2_000)]
    here, there = (Census.of(sides, schema, 5, ["c", "x"]) for _ in range(2))
    here.add(select(table, schema))
    gather(files, schema, 0, 0, census=there, workers=2)
    assert there.seen == ROWS
    assert there.rows.side(1).tolist() == [1] * 300
    for one, other in zip(here._all(), there._all(), strict=True):
        assert one.counts.tolist() == other.counts.tolist()
    for place, side in enumerate(sides):
        for name, found in here.rare(side, place).items():
            assert found.tolist() == there.rare(side, place)[name].tolist()


def test_columns_that_are_missing_or_turned_are_told_without_a_cell(
    table: pa.Table, files: Path, schema: Schema, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="'x'"):
        gather(table.drop_columns("x"), schema, 10)
    other = table.set_column(2, "x", pa.array(["secret"] * ROWS))
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(TableError) as told:
        gather(tmp_path / "other.parquet", schema, 10)
    assert "secret" not in str(told.value)
    with pytest.raises(RaysynthError):
        gather(tmp_path / "gone.parquet", schema, 10)


def test_columns_are_known_before_a_table_is_read(table: pa.Table, files: Path) -> None:
    for way in (table, files, table.to_pandas(), ray.data.from_arrow(table)):
        assert arrow(way).names == table.column_names


def test_a_table_larger_than_what_is_looked_at_is_judged_and_counted_whole(
    cluster: None, adult: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real, known = (adult.slice(at, 1_200) for at in (0, 3_000, 6_000))
    made = pa.concat_tables([made, known.slice(0, 300)])
    names = ("rare_values", "rare_combinations", "exact_copies")

    def risks(most: int, name: str) -> dict[str, float]:
        monkeypatch.setattr(stage, "MOST", most)
        # As many synthetic and real rows either way: of training rows alone there are too many.
        sample = (table.slice(0, min(most, 600)) for table in (made.slice(1_000), real))
        report = compare(*sample, Place.of(tmp_path / name), known, Asked(quasi=["sex", "age"]))
        assert report.rows["train"] == known.num_rows
        told = {risk.name: risk.value for risk in report.risks if risk.name in names}
        return told | {"copies": report.figures[-1].synthetic}

    whole, part = risks(100_000, "whole"), risks(600, "part")
    assert whole == part
    assert whole["copies"] > 0.4


def test_a_run_finds_its_table_again_and_selects_from_it(
    cluster: None, adult: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(adult.slice(0, 1_000), tmp_path / "t.parquet")
    settings = {"table": str(tmp_path / "t.parquet"), "name": "r", "storage": str(tmp_path)}
    config = TrainConfig.load(
        None, {**settings, "family": "independent", "epochs": 1, "where": "age >= 30"}
    )
    run = train(config)
    assert run.rows < 1_000
    for known in (None, tmp_path / "t.parquet"):
        report = evaluate(run, adult.slice(1_000, 500), known)
        assert report.rows["train"] == run.rows
        assert report.risks
