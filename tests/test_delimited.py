"""CSV tables: one type a column over all rows, streamed, and told apart from what is none."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth import delimited
from raysynth.errors import TableError
from raysynth.listing import listing
from raysynth.source import read

SENTINEL = "Zq-sentinel-918273645"


def _csv(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


TYPES: dict[str, tuple[list[str], str]] = {
    "whole numbers": (["1", "-2", "9223372036854775807"], "int64"),
    "numbers": (["1", "2.5", "1e300", "-inf"], "double"),
    "space is not looked at": ([" 1", "2 ", "\t3"], "int64"),
    "leading zeros": (["1", "2", "00123"], "string"),
    "a signed leading zero": (["-01"], "string"),
    "leading zeros among reals": (["1.5", "007"], "string"),
    "zero itself": (["0", "-0", "10"], "int64"),
    "zero point": (["0.5", "0"], "double"),
    "more digits than a float holds": (["1", "92233720368547758070"], "string"),
    "truths": (["true", "False", "TRUE"], "bool"),
    "0 and 1": (["0", "1"], "int64"),
    "truths and numbers": (["true", "1"], "string"),
    "dates": (["2024-01-31", "9999-12-31"], "date32[day]"),
    "no such date": (["2024-01-31", "2024-02-31"], "string"),
    "dates and moments": (["2024-01-31", "2024-01-31 12:00:00"], "timestamp[s]"),
    "seconds": (["2024-01-31T12:00:00"], "timestamp[s]"),
    "milliseconds": (["2024-01-31 12:00:00", "2024-01-31 12:00:00.125"], "timestamp[ms]"),
    "far off, and fine": (["9999-12-31", "2024-01-31 12:00:00.123456"], "timestamp[us]"),
    "nanoseconds": (["2024-01-31 12:00:00.123456789"], "timestamp[ns]"),
    "no one unit": (["9999-12-31", "2024-01-31 12:00:00.123456789"], "string"),
    "zones": (["2024-01-31T12:00:00Z", "2024-01-31 12:00:00+02:00"], "timestamp[s, tz=UTC]"),
    "some zones": (["2024-01-31T12:00:00Z", "2024-01-31 12:00:00"], "string"),
    "text": (["1", "x"], "string"),
    "nulls": (["", "1", "NA", "null", "NaN", '""'], "int64"),
    "nothing but nulls": (["", "NA"], "null"),
}


@pytest.mark.parametrize("name", TYPES)
def test_the_first_type_that_fits_all_values_is_theirs(tmp_path: Path, name: str) -> None:
    values, kind = TYPES[name]
    lines = "".join(f"{row},{value}\n" for row, value in enumerate(values))
    field = read(_csv(tmp_path, f"n,v\n{lines}")).schema.field("v")
    assert str(field.type) == kind


@pytest.mark.parametrize("late", ["late text", "0.5", "00123", "true", "2024-01-31"])
def test_types_are_settled_over_the_whole_file_not_its_first_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 1_000)
    lines = "".join(f"{row}\n" for row in range(2_000))
    table = read(_csv(tmp_path, f"n\n{lines}{late}\n"))
    kind = pa.float64() if late == "0.5" else pa.string()
    assert table.schema.field("n").type == kind
    assert table.num_rows == 2_001
    assert str(table.column("n")[-1].as_py()) == late
    assert table.column("n")[7].as_py() == (7.0 if late == "0.5" else "7")


def test_so_are_they_over_all_files(tmp_path: Path) -> None:
    _csv(tmp_path, "a,b\n1,2\n", "1.csv")
    _csv(tmp_path, "a,b\n0.5,\n", "2.csv.gz")
    table = read(tmp_path)
    assert table.to_pydict() == {"a": [1.0, 0.5], "b": [2, None]}
    assert table.schema.types == [pa.float64(), pa.int64()]


def test_files_of_another_header_are_refused(tmp_path: Path) -> None:
    _csv(tmp_path, "a,b\n1,2\n", "1.csv")
    _csv(tmp_path, "b,a\n1,2\n", "2.csv")
    with pytest.raises(TableError, match=r"2\.csv: its header differs from that of .*1\.csv"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_marks_and_line_ends(tmp_path: Path, name: str, mark: bytes, end: str) -> None:
    text = end.join(['a,"b ""c"""', '1,"two', 'lines, one cell"', "", "3,plain", ""])
    table = read(_csv(tmp_path, mark + text.encode(), name))
    assert table.to_pydict() == {"a": [1, 3], 'b "c"': [f"two{end}lines, one cell", "plain"]}


FAULTS: dict[str, tuple[bytes, str]] = {
    "short row": (b"a,b\n1,2\n3\n", r"row 3 \(the header is row 1\) has 1 cells where 2 were"),
    "long row": (
        b"a,b\n" + b'"1\n1",2\n' * 150 + f"1,2,{SENTINEL}\n".encode(),
        "row 152 .* has 3 cells where 2 were expected",
    ),
    "not UTF-8": (
        b"a,b\n" + b"1,2\n" * 150 + SENTINEL.encode() + b",\xff\xfe\n",
        r"row 152 \(the header is row 1\) holds text that is not UTF-8",
    ),
    "header not UTF-8": (b"a,\xff\n1,2\n", "its header is no UTF-8 text"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "its header is no UTF-8 text"),
    "open quote": (b'a,b\n1,"2\n' + b"1,2\n" * 2_000, "a quote is not closed"),
    "long cell": (b"a,b\n1," + b"x" * 5_000 + b"\n", "a row is longer than"),
    "empty": (b"", "the file is empty; expected a header line"),
    "twice": (b"a,a\n1,2\n", "'a' occurs more than once"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_its_row_and_not_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 2_000)
    data, says = FAULTS[name]
    with pytest.raises(TableError, match=rf"t\.csv: .*{says}") as error:
        read(_csv(tmp_path, data))
    assert SENTINEL not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_torn_gzip_file_is_told(tmp_path: Path) -> None:
    path = _csv(tmp_path, "a,b\n" + "".join(f"{n},{n * n}\n" for n in range(5_000)), "t.csv.gz")
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(TableError, match=r"t\.csv\.gz: .*damaged or incomplete"):
        read(path)
    path.write_bytes(SENTINEL.encode() * 10)
    with pytest.raises(TableError, match=r"t\.csv\.gz: not a CSV table"):
        read(path)


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path: Path) -> None:
    members = gzip.compress(b"a\n1\n") + gzip.compress(b"2\n")
    (tmp_path / "t.csv.gz").write_bytes(members)
    assert read(tmp_path / "t.csv.gz").to_pydict() == {"a": [1, 2]}


def test_a_header_without_rows_has_columns(tmp_path: Path) -> None:
    table = read(_csv(tmp_path, "a,b\n"))
    assert table.column_names == ["a", "b"]
    assert table.num_rows == 0


def test_blocks_hold_a_bounded_part_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 1_000)
    path = _csv(tmp_path, "a,b\n" + "12345,abc\n" * 1_000)
    files = listing(path).files
    schema = delimited.settle(files)
    sizes = [table.num_rows for table in delimited.tables(files, schema)]
    assert sum(sizes) == 1_000
    assert max(sizes) <= 100


CELLS = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.floats(allow_nan=False).map(repr),
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(
        ["true", "FALSE", "0123", " 7", "", "NA", "1e5", "x", "Zürich", 'a"b', "a,\nb"]
    ),
)


@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=30), cut=st.integers(0, 30))
def test_text_that_comes_out_of_a_column_of_text_went_in_and_files_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    whole = read(_csv(folder, _text(rows)))
    (folder / "parts").mkdir()
    _csv(folder / "parts", _text(rows[:cut]), "1.csv")
    _csv(folder / "parts", _text(rows[cut:]), "2.csv")
    assert read(folder / "parts").equals(whole)
    nulls = {"", "NA"}
    for place, name in enumerate(["a", "b"]):
        column = [None if row[place] in nulls else row[place] for row in rows]
        found: list[Any] = whole.column(name).to_pylist()
        assert [value is None for value in found] == [value is None for value in column]
        if pa.types.is_string(whole.schema.field(name).type):
            assert found == column
        elif pa.types.is_integer(whole.schema.field(name).type):
            assert found == [None if value is None else int(value) for value in column]


def _text(rows: list[tuple[str, str]]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([("a", "b"), *rows])
    return sink.getvalue()
