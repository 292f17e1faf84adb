"""Summary and encoding on Ray: what comes out does not depend on how the table is cut."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.config import TrainConfig
from raysynth.layout import Codes
from raysynth.progress import Silent
from raysynth.schema import Schema
from raysynth.shards import Share, pack
from raysynth.source import fragments
from raysynth.stages import data
from raysynth.summary import summarise
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


def _encoded(source: Path, work: Path) -> tuple[TableCodec, Codes]:
    """What `encode` gives, and the published rows in their order."""
    config = TrainConfig(table=str(source), name="cut", seed=SEED)
    work.mkdir()
    codec, rows = data.encode(config, source, work, Silent())
    share = Share(work / data.CODES, codec.layout, 0, 1, 2**30)
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
    arrow, found = fragments(_seven_groups(people, tmp_path))
    schema = Schema.infer(arrow)
    on_ray = data._summarise(found, schema, people.num_rows, Silent())
    core = summarise(people, np.arange(people.num_rows, dtype=np.uint64), schema)
    assert on_ray.to_bytes() == core.to_bytes()
