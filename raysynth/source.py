"""Tables as they lie in files: listed, then read in fragments, each row with a stable id.

A table is a Parquet file, a folder of them, or a CSV file. It is read in fragments (row groups)
numbered through, so every row has the same id whatever reads it, in any order, at any try.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysynth.errors import StorageError, TableError
from raysynth.storage import reason


@dataclass(frozen=True)
class Fragment:
    """A row group of a Parquet file: `rows` rows, the first of which has the id `start`."""

    path: str
    group: int
    start: int
    rows: int

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The fragment's rows. Raises `StorageError` where the file is gone or damaged."""
        try:
            with pq.ParquetFile(self.path) as file:
                return file.read_row_group(self.group, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{self.path}: row group {self.group} cannot be read any more "
                f"({type(error).__name__}); put the file back as it was and repeat the command"
            ) from None


def files_of(path: str | Path) -> list[Path]:
    """The files of a table, in name order. Raises `TableError` where there is none."""
    path = Path(path)
    try:
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        found = bool(files) and path.exists()
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {reason(error)}") from None
    if not found:
        raise TableError(f"{path}: no such file or folder of .parquet files; check the path")
    return files


def fragments(path: str | Path) -> tuple[pa.Schema, list[Fragment]]:
    """The Arrow schema of a Parquet file or folder, and its row groups in name order.

    Raises `TableError` where there is no such file, it is no Parquet, or schemas differ.
    """
    schema, found, start = None, [], 0
    files = files_of(path)
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise TableError(
                f"{file}: not a Parquet table ({reason(error)}); expected a .parquet or .csv file"
            ) from None
        with parquet:
            if schema is None:
                schema = parquet.schema_arrow.remove_metadata()
            elif not schema.equals(parquet.schema_arrow.remove_metadata()):
                raise TableError(f"{file}: its columns differ from those of {files[0]}")
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                found.append(Fragment(str(file.absolute()), group, start, rows))
                start += rows
    return schema, found


def read(path: str | Path) -> pa.Table:
    """A whole table into memory. Raises `TableError` where it is absent or no table."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    schema, found = fragments(path)
    return pa.concat_tables([fragment.read() for fragment in found] or [schema.empty_table()])


def _read_csv(path: Path) -> pa.Table:
    try:
        if not path.is_file():
            raise TableError(f"{path}: no such file; check the path")
        if path.stat().st_size == 0:
            raise TableError(f"{path}: the file is empty; expected a header line and rows")
        # Arrow's own error quotes the cell or line it stumbles over, so it is not passed on.
        return pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(strings_can_be_null=True),
        )
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{path}: not a CSV table that can be read ({reason(error)}); expected a header line, "
            "commas, and one type a column; or convert it to Parquet"
        ) from None
