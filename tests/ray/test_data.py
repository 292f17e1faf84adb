"""Summary and encoding on Ray: what comes out does not depend on how the table is cut."""

import gzip
import time
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import source
from raysynth.config import TrainConfig, read_toml
from raysynth.errors import TableError
from raysynth.hashing import mix
from raysynth.layout import Codes
from raysynth.progress import Silent
from raysynth.schema import Schema
from raysynth.selection import WHOLE, Selection
from raysynth.shards import Share, pack
from raysynth.source import Source, read
from raysynth.stages import data, shuffle, staging
from raysynth.storage import Place
from raysynth.summary import SAMPLE, summarise
from raysynth.table import TableCodec

pytestmark = pytest.mark.usefixtures("cluster")

SEED = 3


def _one_group(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "one.parquet")
    return folder / "one.parquet"


def _seven_groups(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "seven.parquet", row_group_size=-(-table.num_rows // 7))
    return folder / "seven.parquet"


def _three_files(table: pa.Table, folder: Path) -> Path:
    (folder / "three").mkdir()
    bounds = (0, 50, 51, table.num_rows)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        piece = table.slice(start, stop - start)
        pq.write_table(piece, folder / "three" / f"part-{number}.parquet", row_group_size=97)
    return folder / "three"


def _encoded(source: Path, work: Path, **settings: Any) -> tuple[TableCodec, Codes]:
    """What `encode` gives, and the published rows in their order."""
    config = TrainConfig(table=str(source), name="cut", seed=SEED, **settings)
    work.mkdir()
    at = Place.of(work)
    codec, rows = data.encode(config, Place.of(source), at, Silent())
    share = Share(at / data.CODES, codec.layout, 0, 1, 2**30)
    assert share.total == rows
    (bounds,) = share.bounds
    return codec, share.window(bounds, "cpu")


def _bytes(codes: Codes) -> list[bytes]:
    packed = pack(codes, np.zeros(codes.rows, np.uint64))
    return packed.column("row").to_pylist()


@pytest.mark.parametrize("cut", [_seven_groups, _three_files])
def test_codecs_and_codes_are_the_same_however_the_table_is_cut(
    people: pa.Table, tmp_path: Path, cut: object
) -> None:
    _, whole = _encoded(_one_group(people, tmp_path), tmp_path / "a")
    _, pieces = _encoded(cut(people, tmp_path), tmp_path / "b")
    codecs = [(tmp_path / work / data.CODECS).read_bytes() for work in "ab"]
    assert codecs[0] == codecs[1]
    assert _bytes(whole) == _bytes(pieces)


def test_every_row_is_encoded_exactly_once_and_as_the_core_encodes_it(
    people: pa.Table, tmp_path: Path
) -> None:
    codec, codes = _encoded(_three_files(people, tmp_path), tmp_path / "work")
    ids = np.arange(people.num_rows, dtype=np.uint64)
    core = codec.encode(people, ids, SEED)
    assert sorted(_bytes(codes)) == sorted(_bytes(core))
    assert _bytes(codes) != _bytes(core), "rows are published shuffled"


def test_the_summary_over_ray_data_is_that_of_the_core(people: pa.Table, tmp_path: Path) -> None:
    found = Source.of(_seven_groups(people, tmp_path))
    schema = Schema.infer(found.schema)
    on_ray = data.summarised(data.Part(found, WHOLE, schema.names), schema, Silent())
    core = summarise(people, np.arange(people.num_rows, dtype=np.uint64), schema)
    assert on_ray.to_bytes() == core.to_bytes()


@settings(max_examples=4)
@given(
    cuts=st.lists(st.integers(0, 600), max_size=5),
    group=st.integers(40, 600),
    batch=st.integers(30, 600),
    bucket=st.integers(2_000, 40_000),
    direct=st.sampled_from([1, 256]),
)
def test_they_are_the_same_for_any_split_and_any_size_of_unit_and_bucket(
    people: pa.Table,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    group: int,
    batch: int,
    bucket: int,
    direct: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    _, whole = _encoded(_one_group(people, folder), folder / "a")
    (folder / "parts").mkdir()
    for number, (start, stop) in enumerate(pairwise([0, *sorted(cuts), people.num_rows])):
        piece = people.slice(start, stop - start)
        pq.write_table(piece, folder / "parts" / f"{number}.parquet", row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "ROWS", batch)
        patch.setattr(source, "SLICE_ROWS", 50)
        patch.setattr(shuffle, "BUCKET", bucket)
        patch.setattr(shuffle, "DIRECT", direct)
        _, pieces = _encoded(folder / "parts", folder / "b")
    codecs = [(folder / work / data.CODECS).read_bytes() for work in "ab"]
    assert codecs[0] == codecs[1]
    assert _bytes(whole) == _bytes(pieces)


def test_rows_of_many_buckets_are_grouped_first_and_the_codes_are_the_same(
    people: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "BUCKET", 1_000)
    path = _three_files(people, tmp_path)
    _, direct = _encoded(path, tmp_path / "a")
    monkeypatch.setattr(shuffle, "DIRECT", 2)
    seen: list[str] = []
    remove = Place.remove

    def removed(place: Place, but: Place | None = None) -> None:
        files = [file.text.removeprefix(f"{place.text}/") for file, _ in place.files()]
        seen.extend(f"{place.name}/{file}" for file in files)
        remove(place, but)

    monkeypatch.setattr(Place, "remove", removed)
    _, grouped = _encoded(path, tmp_path / "b")
    names = [
        sorted(file.name for file in (tmp_path / work / data.CODES).iterdir()) for work in "ab"
    ]
    assert names[0] == names[1]
    assert len(names[0]) > 20, "so many buckets have rows"
    assert _bytes(grouped) == _bytes(direct)
    groups = {name.split("/")[1] for name in seen if name.startswith("grouped/")}
    assert groups == {str(group) for group in range(len(groups))}
    assert len(groups) > 4
    assert any(name.startswith("spilled/") for name in seen)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {data.CODES, data.CODECS}


@pytest.mark.parametrize("margin", [data.MARGIN, -100.0])
def test_the_summary_of_more_rows_than_its_sample_is_that_of_the_core(
    tmp_path: Path, margin: float
) -> None:
    rows = 3 * SAMPLE
    table = pa.table({"n": np.arange(rows) % 1_000, "c": [f"c{n % 7}" for n in range(rows)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20_000)
    found = Source.of(tmp_path / "t.parquet")
    schema = Schema.infer(found.schema)
    part = data.Part(found, WHOLE, schema.names)
    on_ray = data.summarised(part, schema, Silent(), margin)
    core = summarise(table, np.arange(rows, dtype=np.uint64), schema)
    assert on_ray.to_bytes() == core.to_bytes()


def test_a_selection_encodes_its_rows_as_the_whole_table_does(
    people: pa.Table, tmp_path: Path
) -> None:
    part = Selection(("sex", "education"), "age >= 30 and income is not null", 0.8)
    codec, codes = _encoded(
        _seven_groups(people, tmp_path),
        tmp_path / "work",
        select=part.columns,
        where=part.where,
        fraction=part.fraction,
    )
    ids = np.arange(people.num_rows, dtype=np.uint64)
    kept, left = part.rows(people, ids, part.condition(people.schema))
    assert 100 < kept.num_rows < people.num_rows
    assert codec.schema.names == ("education", "sex")
    assert sorted(_bytes(codes)) == sorted(_bytes(codec.encode(kept, left, SEED)))


@pytest.mark.parametrize(
    ("where", "says"),
    [("age > 1000", "no row is left of 600 by --where"), ("age > 60", "at least 100 rows")],
)
def test_a_selection_of_too_few_rows_is_refused(
    people: pa.Table, tmp_path: Path, where: str, says: str
) -> None:
    with pytest.raises(TableError, match=says):
        _encoded(_one_group(people, tmp_path), tmp_path / "work", where=where)


def test_what_an_interrupted_call_encoded_is_used_as_it_is(
    people: pa.Table, tmp_path: Path
) -> None:
    path = _one_group(people, tmp_path)
    codec, codes = _encoded(path, tmp_path / "work", where="age >= 30")
    path.unlink()
    config = TrainConfig(table=str(path), name="cut", seed=SEED, where="age >= 30")
    again, rows = data.encode(config, Place.of(path), Place.of(tmp_path / "work"), Silent())
    assert again == codec
    assert rows == codes.rows < people.num_rows
    assert not (tmp_path / "work" / data.SPILLED).exists()


# -- relations ------------------------------------------------------------------------------------


def _broken_once(folder: Path) -> tuple[pa.Table, Path]:
    """A table of more rows than its sample; a row that is not in it breaks two relations."""
    rows = SAMPLE + 5_000
    g = np.random.default_rng(0)
    net, tax, day = g.integers(0, 900, rows), g.integers(0, 90, rows), g.integers(0, 4, rows)
    gross, days = net + tax, [(day == n).astype(np.int64) for n in range(4)]
    odd = int(mix(np.arange(rows, dtype=np.uint64), 0).argmax())
    gross[odd] += 1
    days[0][odd] = days[1][odd] = 1
    columns = {f"is_{n}": flags for n, flags in enumerate(days)}
    late = {"late": (day > 1).astype(np.int64), "twice": net}
    table = pa.table({"net": net, "tax": tax, "gross": gross, **columns, **late})
    pq.write_table(table, folder / "odd.parquet", row_group_size=9_000)
    return table, folder / "odd.parquet"


def test_a_relation_that_one_row_of_the_table_breaks_is_left_out(tmp_path: Path) -> None:
    table, path = _broken_once(tmp_path)
    codec, codes = _encoded(path, tmp_path / "work")
    assert [relation.text for relation in codec.relations] == ["'twice' = 'net'"]
    assert codes.rows == table.num_rows
    core = codec.encode(table, np.arange(table.num_rows, dtype=np.uint64), SEED)
    assert sorted(_bytes(codes)) == sorted(_bytes(core))
    assert not (tmp_path / "work" / data.SPILLED).exists()


def test_a_relation_that_was_asked_for_is_not_left_out_but_told(tmp_path: Path) -> None:
    _, path = _broken_once(tmp_path)
    wanted = [{"kind": "total", "columns": ["gross", "net", "tax"]}]
    with pytest.raises(TableError, match=r"'gross' = 'net' \+ 'tax': 1 of 70,536 rows break it"):
        _encoded(path, tmp_path / "work", relations=wanted)


def test_relations_can_be_left_alone(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    table = pa.table({name: g.integers(0, 999, 600) for name in ("net", "tax", "twice")})
    gross = pa.array(table.column("net").to_numpy() + table.column("tax").to_numpy())
    path = _one_group(table.append_column("gross", gross), tmp_path)
    kept = [
        [r.text for r in _encoded(path, tmp_path / work, **settings)[0].relations]
        for work, settings in (
            ("a", {}),
            ("b", {"relations": False}),
            ("c", {"without_relations": ("tax",)}),
        )
    ]
    assert kept[:2] == [["'gross' = 'net' + 'tax'"], []]
    assert kept[2] == ["'net' <= 'gross'", "'gross' is coded as its distance from 'net'"]


# -- tables that are no Parquet -------------------------------------------------------------------


def _staged(table: staging.Table, work: Path, **settings: Any) -> pa.Table:
    work.mkdir()
    config = TrainConfig(table="table", name="staged", **settings)
    return read(staging.stage(config, table, Place.of(work)))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "parts"])
def test_a_csv_table_is_converted_once_as_it_is_read(
    people: pa.Table, tmp_path: Path, name: str
) -> None:
    (tmp_path / "parts").mkdir()
    for path, part in (("t.csv", people), ("parts/1.csv", people[:7]), ("parts/2.csv", people[7:])):
        pa.csv.write_csv(part, tmp_path / path)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    staged = _staged(tmp_path / name, tmp_path / "work")
    assert staged.equals(people)
    assert staged.equals(read(tmp_path / name))


def test_a_dataset_is_written_once_in_its_order_without_its_dropped_cells(
    people: pa.Table, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()

    def slow_first(block: pa.Table) -> pa.Table:
        first = block.column("row")[0].as_py()
        (calls / f"{first}-{time.monotonic_ns()}").touch()
        time.sleep(0.5 if first == 0 else 0)  # later blocks are done before it
        return block

    rows = people.append_column("row", pa.array(range(people.num_rows)))
    blocks = [rows.slice(start, 100) for start in range(0, 600, 100)]
    dataset = ray.data.from_arrow(blocks).map_batches(
        slow_first, batch_format="pyarrow", batch_size=None
    )
    before = dataset.context.execution_options.preserve_order
    staged = _staged(dataset, tmp_path / "work", drop=("race", "age"), where="age >= 0")
    assert staged.column("row").to_pylist() == list(range(600))
    assert staged.column("race").null_count == 600
    assert staged.column("age").equals(people.column("age"))
    assert staged.select(["sex", "income"]).equals(people.select(["sex", "income"]))
    assert dataset.context.execution_options.preserve_order == before
    firsts = [path.name.partition("-")[0] for path in calls.iterdir()]
    assert firsts.count("500") == 1, "the dataset is read once"


# -- the guess, printed ---------------------------------------------------------------------------


def test_the_schema_of_a_selection_is_printed_as_settings(
    cli: Callable[..., Any], people: pa.Table, tmp_path: Path
) -> None:
    folder = _three_files(people, tmp_path)
    words = ["--select", "age", "--select", "income", "--where", "age >= 30"]
    end = cli("schema", folder, *words, "--category", "age")
    assert end.code == 0, end.err
    told = tomllib.loads(end.out)["columns"]
    assert {name: column["kind"] for name, column in told.items()} == {
        "age": "category",
        "income": "category",
    }
    kept = sum(age is not None and age >= 30 for age in people.column("age").to_pylist())
    assert f"{kept} rows" in end.err
    assert kept < people.num_rows
    (tmp_path / "schema.toml").write_text(end.out)
    config = TrainConfig.load(overrides={"table": "t", **read_toml(tmp_path / "schema.toml")})
    assert config.columns["age"].kind == "category"
