"""Training in this process: the same table comes out as from a run, and nothing is left behind."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from raysynth import local
from raysynth.config import TrainConfig
from raysynth.errors import TableError
from raysynth.relate import Found
from raysynth.schema import Schema
from raysynth.summary import summarise

TINY = {"hidden": 16, "mixtures": 2}


def config(family: str = "autoregressive", **settings: object) -> TrainConfig:
    base = {"table": "nowhere.parquet", "name": "tiny", "family": family, "epochs": 2}
    model = TINY if family == "autoregressive" else {}
    return TrainConfig.load(None, {**base, "model": model, **settings})


def test_a_table_in_memory_is_trained_on_and_sampled(
    people: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sampler = local.train(config(), people)
    drawn = sampler.sample(200, seed=1)
    assert drawn.schema.names == people.schema.names
    assert drawn.num_rows == 200
    assert drawn.equals(local.train(config(), people).sample(200, seed=1))
    assert not list(tmp_path.iterdir())


def test_columns_are_what_the_schema_says(people: pa.Table) -> None:
    schema = Schema.infer(people.schema, categories=("age",))
    sampler = local.train(config("independent"), people, schema)
    assert sampler.table.schema["age"].kind == "category"
    assert sampler.table.schema.names == schema.names


def test_by_heart_keeps_the_last_weights_and_holds_no_row_out(people: pa.Table) -> None:
    mine = config(epochs=3)
    usual, heart = local.train(mine, people), local.train(mine, people, by_heart=True)
    assert heart.model.chooses is False
    assert usual.model.chooses is True
    assert not usual.sample(50, 0).equals(heart.sample(50, 0))


def test_relations_hold_in_what_is_drawn(people: pa.Table) -> None:
    twice = people.append_column("age2", pa.compute.multiply(people["age"], 2))
    drawn = local.train(config("independent"), twice).sample(300, seed=0)
    assert drawn["age2"].to_pylist() == [2 * age for age in drawn["age"].to_pylist()]


def test_rows_held_out_are_as_any_where_the_table_is_sorted(people: pa.Table) -> None:
    table = people.select(["sex", "income"]).sort_by("sex")
    ids = np.arange(table.num_rows, dtype=np.uint64)
    summary = summarise(table, ids, Schema.infer(table.schema))
    halves = [(table.slice(start, 300), ids[start : start + 300]) for start in (0, 300)]
    codec, codes = local.encode(config(), summary, Found(()), lambda: halves)
    assert codes.rows == table.num_rows
    place = next(span.slot for span in codec.layout.choices if span.column == "sex")
    last = codes.indices[-codes.rows // 10 :, place].float()
    assert 0.1 < (last == last[0]).float().mean() < 0.9
    decoded = codec.decode(codes, np.arange(codes.rows, dtype=np.uint64), 0)
    assert sorted(decoded["sex"].to_pylist()) == table["sex"].to_pylist()


def test_bits_need_no_column_that_is_invented(people: pa.Table) -> None:
    keys = pa.array([f"K{number:05d}" for number in range(people.num_rows)])
    keyed = people.append_column("key", keys)
    sampler = local.train(config(), keyed)
    assert "key" not in sampler.table.schema.modelled.names
    assert np.array_equal(sampler.bits(people), sampler.bits(keyed))
    with pytest.raises(TableError, match="lacks 'age'"):
        sampler.bits(people.drop_columns(["age"]))


def test_too_few_rows_are_refused(people: pa.Table) -> None:
    with pytest.raises(TableError, match="100"):
        local.train(config(), people.slice(0, 50).select(["sex", "income"]))
