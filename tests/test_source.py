"""Tables as they lie in files: what is listed, how it is cut, that every row is read once."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth import source
from raysynth.arrays import plain
from raysynth.errors import RaysynthError, StorageError, TableError
from raysynth.listing import Listing, listing
from raysynth.selection import WHOLE, Selection
from raysynth.source import Source, read
from raysynth.storage import write
from raysynth.units import Unit

SENTINEL = "sentinel-93ab"
TABLE = pa.table({"a": pa.array(range(100)), "b": [f"v{i % 7}" for i in range(100)]})


def _parts(folder: Path, *names: str) -> list[pa.Table]:
    """Write a file a name with ten rows of the table each; gives the rows of each."""
    pieces = [TABLE.slice(10 * place, 10) for place in range(len(names))]
    for name, piece in zip(names, pieces, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(piece, folder / name)
    return pieces


def _all(found: Source, encoded: bool = False) -> tuple[pa.Table, list[int]]:
    """Every row as the units give them, and the rows of each batch."""
    names = found.schema.names
    batches = [
        batch
        for unit in found.units
        for batch in found.batches(Unit.from_json(unit.to_json()), names, WHOLE, None, encoded)
    ]
    ids = np.concatenate([ids for _, ids in batches])
    assert ids.tolist() == list(range(found.rows)), "ids number the rows through"
    return pa.concat_tables([table for table, _ in batches]), [len(ids) for _, ids in batches]


# -- what is listed -------------------------------------------------------------------------------


def _names(found: Listing, folder: Path) -> list[str]:
    return [file.path.removeprefix(f"{folder}/") for file in found.files]


def test_a_folder_is_read_at_any_depth_without_hidden_files(tmp_path: Path) -> None:
    first, second, third = _parts(tmp_path, "a.parquet", "in/b.parquet", "in/deep/c.parquet")
    for name in (".x.parquet", "_x.parquet", "_temporary/0/x.parquet", ".ipynb/x.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no table")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").touch()
    assert read(tmp_path).equals(pa.concat_tables([first, second, third]))


GLOBS = {
    "part-*.parquet": ["part-1.parquet", "part-2.parquet"],
    "*": ["other.parquet", "part-1.parquet", "part-2.parquet", "x/part-3.parquet", "x/y/4.parquet"],
    "**/part-*.parquet": ["part-1.parquet", "part-2.parquet", "x/part-3.parquet"],
    "**": [
        "other.parquet",
        "part-1.parquet",
        "part-2.parquet",
        "x/part-3.parquet",
        "x/y/4.parquet",
    ],
    "part-[!1].parquet": ["part-2.parquet"],
    "?/*.parquet": ["x/part-3.parquet"],
    "x/*": ["x/part-3.parquet", "x/y/4.parquet"],
    "*/y": ["x/y/4.parquet"],
}


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_names_files_and_folders(tmp_path: Path, pattern: str) -> None:
    _parts(tmp_path, *GLOBS["**"])
    (tmp_path / "readme.md").touch()
    assert _names(listing(f"{tmp_path}/{pattern}"), tmp_path) == GLOBS[pattern]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (piece,) = _parts(tmp_path, "t[1].parquet")
    assert read(tmp_path / "t[1].parquet").equals(piece)


def test_a_relative_path_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = _parts(tmp_path, "t/1.parquet", "t/2.parquet")
    monkeypatch.chdir(tmp_path)
    for path in ("t", "t/*.parquet", "./t/"):
        assert read(path).equals(pa.concat_tables(pieces))


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "noise.parquet").write_bytes(SENTINEL.encode() + bytes(range(200)))
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "folder").mkdir()
    for name, says in {
        "none.parquet": "no such file",
        "none.csv": "no such file",
        "none/*.parquet": "no such file|cannot be read",
        "*.pq": "no such file",
        "folder": "no such file or folder of .parquet",
        "noise.parquet": "not a Parquet table",
        "empty.parquet": "not a Parquet table",
    }.items():
        with pytest.raises(TableError, match=says) as error:
            read(tmp_path / name)
        assert SENTINEL not in str(error.value)


def test_parquet_and_csv_side_by_side_are_refused(tmp_path: Path) -> None:
    _parts(tmp_path, "a.parquet")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="Parquet and CSV files side by side"):
        read(tmp_path)
    assert read(tmp_path / "*.csv").to_pydict() == {"a": [1], "b": [2]}


def test_what_is_not_readable_is_told(
    public: Path, outsider: Callable[[], AbstractContextManager[None]]
) -> None:
    for name in ("t.parquet", "t.csv"):
        write([TABLE], public / name)
        (public / name).chmod(0)
    (public / "folder").mkdir(mode=0)
    for name in ("t.parquet", "t.csv", "folder/t.csv", "folder/t.parquet", "folder", "folder/*"):
        with outsider(), pytest.raises(RaysynthError, match="permission denied"):
            read(public / name)


# -- listed first, then compared ------------------------------------------------------------------


def _vanish(path: Path) -> None:
    path.unlink()


def _shrink(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _rewrite(path: Path) -> None:
    """Of the same size, another content perhaps: only the time tells."""
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000))


@pytest.mark.parametrize("change", [_vanish, _shrink, _rewrite])
def test_a_file_that_is_not_what_was_listed_is_an_error(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    found = Source.of(tmp_path / "t.parquet")
    change(tmp_path / "t.parquet")
    with pytest.raises(StorageError, match=r"t\.parquet: cannot be read any more, .*put the file"):
        _all(found)


@pytest.mark.parametrize("change", [_vanish, _shrink])
def test_so_is_one_of_many(tmp_path: Path, change: Callable[[Path], None]) -> None:
    _parts(tmp_path, *(f"{number}.parquet" for number in range(10)))
    found = Source.of(tmp_path)
    change(tmp_path / "7.parquet")
    with pytest.raises(StorageError, match=r"7\.parquet: cannot be read any more"):
        _all(found)


def test_damaged_pages_are_told_by_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path, row_group_size=25)
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(1)
    data = bytearray(path.read_bytes())
    for place in range(chunk.dictionary_page_offset, chunk.data_page_offset):
        data[place] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(StorageError, match="row groups 0 to 3 cannot be read any more"):
        read(path)


# -- columns agree --------------------------------------------------------------------------------

OTHERS = {
    "it lacks column 'b'": TABLE.select(["a"]),
    "it has column 'c', too": TABLE.append_column("c", TABLE.column("a")),
    "column 'a' is int32, not int64": TABLE.set_column(0, "a", TABLE.column("a").cast("int32")),
}


@pytest.mark.parametrize("says", OTHERS)
def test_files_that_differ_are_told_by_file_and_column(tmp_path: Path, says: str) -> None:
    pq.write_table(TABLE, tmp_path / "1.parquet")
    pq.write_table(OTHERS[says], tmp_path / "2.parquet")
    with pytest.raises(TableError, match=rf"2\.parquet: .* differ from .*1\.parquet: {says}"):
        read(tmp_path)


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 50), tmp_path / "1.parquet")
    pq.write_table(TABLE.slice(50).select(["b", "a"]), tmp_path / "2.parquet")
    assert read(tmp_path).equals(TABLE)


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([TABLE.column("a")] * 2, names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="'a' occurs more than once"):
        read(tmp_path / "t.parquet")


# -- Hive partitions ------------------------------------------------------------------------------


def test_partition_keys_become_columns_in_their_order(tmp_path: Path) -> None:
    _parts(
        tmp_path,
        "month=01/country=NO/1.parquet",
        "month=01/country=__HIVE_DEFAULT_PARTITION__/1.parquet",
        "month=11/country=S%C3%A3o%20Tom%C3%A9/1.parquet",
        "_month=11/country=NO/1.parquet",
    )
    with pytest.raises(TableError, match="every file needs the same keys"):
        read(tmp_path)
    (tmp_path / "_month=11" / "country=NO" / "1.parquet").unlink()
    table = read(tmp_path)
    assert table.schema == pa.schema([*TABLE.schema, ("month", pa.int64()), ("country", "string")])
    cells = {(row["a"] // 10, row["month"], row["country"]) for row in table.to_pylist()}
    assert cells == {(0, 1, "NO"), (1, 1, None), (2, 11, "São Tomé")}
    assert read(f"{tmp_path}/month=0*").num_rows == 20
    assert "month" in read(f"{tmp_path}/month=0*").column_names
    assert "month" not in read(tmp_path / "month=11").column_names


def test_a_key_with_a_value_that_is_no_number_is_text(tmp_path: Path) -> None:
    _parts(tmp_path, "k=1/1.parquet", "k=1b/1.parquet")
    assert set(read(tmp_path).column("k").to_pylist()) == {"1", "1b"}


def test_partitions_that_contradict_are_refused(tmp_path: Path) -> None:
    _parts(tmp_path, "in/k=1/1.parquet", "in/1.parquet")
    with pytest.raises(TableError, match=r"by 'k', but .* by no key|by no key, but .* by 'k'"):
        read(tmp_path / "in")
    _parts(tmp_path, "both/b=1/1.parquet")
    with pytest.raises(TableError, match="column 'b' is in the file and the key"):
        read(tmp_path / "both")
    _parts(tmp_path, "twice/k=1/k=2/1.parquet")
    with pytest.raises(TableError, match="each once"):
        read(tmp_path / "twice")


def test_partition_keys_alone_can_be_read(tmp_path: Path) -> None:
    _parts(tmp_path, "k=1/1.parquet", "k=2/1.parquet")
    found = Source.of(tmp_path)
    batches = [b for unit in found.units for b in found.batches(unit, ["k"], WHOLE, None)]
    assert [k for table, _ in batches for k in table.column("k").to_pylist()] == [1] * 10 + [2] * 10


# -- units ----------------------------------------------------------------------------------------


def test_small_files_and_row_groups_are_bundled(tmp_path: Path) -> None:
    for number in range(300):
        pq.write_table(
            TABLE.slice(number % 90, 3), tmp_path / f"{number:03d}.parquet", row_group_size=2
        )
    found = Source.of(tmp_path)
    assert found.rows == 900
    assert len(found.units) == 1
    table, sizes = _all(found)
    assert sizes == [900]
    assert table.equals(pa.concat_tables([TABLE.slice(number % 90, 3) for number in range(300)]))


def test_a_huge_row_group_is_read_in_slices_of_bounded_size(tmp_path: Path) -> None:
    rows = 3 * source.SLICE_ROWS
    table = pa.table({"n": np.arange(rows), "c": pa.array(np.arange(rows) % 5).cast(pa.string())})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=rows)
    found = Source.of(tmp_path / "t.parquet")
    assert [unit.rows for unit in found.units] == [source.SLICE_ROWS] * 3
    back, sizes = _all(found)
    assert back.equals(table)
    assert max(sizes) <= source.ROWS


def test_many_columns_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({f"c{number}": np.arange(2_000) for number in range(200)})
    pq.write_table(table, tmp_path / "t.parquet")
    monkeypatch.setattr(source, "BYTES", 2**20)
    back, sizes = _all(Source.of(tmp_path / "t.parquet"))
    assert 500 < max(sizes) <= 2**20 / (8 * 200)
    assert back.equals(table)


@given(
    files=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=6),
    batch=st.integers(1, 50),
    slices=st.integers(1, 10),
)
def test_rows_come_once_and_in_order_whatever_the_layout(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[int, int]],
    batch: int,
    slices: int,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    rows, start = sum(count for count, _ in files), 0
    table = pa.table({"n": np.arange(rows), "t": [f"t{n}" for n in range(rows)]})
    for number, (count, group) in enumerate(files):
        pq.write_table(
            table.slice(start, count), folder / f"{number}.parquet", row_group_size=group
        )
        start += count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "ROWS", batch)
        patch.setattr(source, "SLICE_ROWS", slices)
        found = Source.of(folder)
        if rows == 0:
            assert found.units == ()
            return
        back, sizes = _all(found)
        encoded, _ = _all(found, encoded=True)
    assert back.equals(table)
    assert pa.types.is_dictionary(encoded.schema.field("t").type)
    assert pa.table([plain(column) for column in encoded.columns], ["n", "t"]).equals(table)
    assert max(sizes) <= batch


def test_strings_come_as_dictionaries_where_no_condition_looks_at_them(tmp_path: Path) -> None:
    """Also those whose dictionary outgrew its page, and of a name with a dot in it."""
    texts = [None if n % 9 == 0 else f"{n:040d}" for n in range(60_000)]
    table = pa.table({"a.b": texts, "kind": ["x", "y", None] * 20_000, "n": range(60_000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=50_000)
    found = Source.of(tmp_path / "t.parquet")
    back, _ = _all(found, encoded=True)
    assert [pa.types.is_dictionary(kind) for kind in back.schema.types] == [True, True, False]
    assert pa.table([plain(column) for column in back.columns], table.column_names).equals(table)
    chosen = Selection(where="kind == 'x'")
    where = chosen.condition(found.schema)
    (batch, _), *_ = found.batches(found.units[0], ["kind", "a.b"], chosen, where, encoded=True)
    assert batch.schema.field("kind").type == pa.string()
    assert pa.types.is_dictionary(batch.schema.field("a.b").type)
    assert batch.column("kind").unique().to_pylist() == ["x"]
