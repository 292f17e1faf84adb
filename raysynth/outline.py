"""The columns of a table and their kinds, for people: as lines on a screen, as TOML to edit.

Column names, kinds and counts are in both, cell values in neither. A column whose codec is "-"
is not modelled itself: a relation says what it follows from.
"""

from collections.abc import Sequence

import tomli_w

from raysynth.facts import distinct
from raysynth.relations import Relation
from raysynth.summary import Summary


def lines(summary: Summary, codecs: Sequence[str]) -> list[str]:
    """One table: column, kind, codec, distinct values, nulls, why; `codecs` by column."""
    rows = [("column", "kind", "codec", "distinct", "nulls", "why")]
    for column, codec in zip(summary.schema.columns, codecs, strict=True):
        part = summary[column.name]
        kind = f"{column.kind} ({column.form})" if column.form else column.kind
        nulls = f"{part.counters.nulls:,}"
        rows.append((column.name, kind, codec, distinct(part), nulls, column.why))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    aligned = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in (3, 4) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        aligned.append("  ".join(cells).rstrip())
    return aligned


def relations(found: Sequence[Relation]) -> list[str]:
    """A line each, where there are any."""
    return ["relations, kept in every sampled row:"] * bool(found) + [f"  {r.text}" for r in found]


def toml(summary: Summary, found: Sequence[Relation] = ()) -> str:
    """The guess as settings: edited, they go back in by `--schema`.

    Free text is refused until its lines are uncommented, or the column is dropped. Relations are
    comments: training finds them again.
    """
    parts = []
    if found:
        note = ["relations, kept in every sampled row if every row of the table has them"]
        note += [f"  {relation.text}" for relation in found]
        note.append("without_relations = ['COLUMN'] leaves a column alone, relations = false all")
        parts.append("\n".join(f"# {line}" for line in note))
    for column in summary.schema.columns:
        part = summary[column.name]
        told: dict[str, str] = {"kind": column.kind}
        if column.kind == "personal" and column.form:
            told["personal"] = column.form
        if column.codec and column.codec != "constant":
            told["codec"] = column.codec
        head, *rest = tomli_w.dumps({"columns": {column.name: told}}).strip().splitlines()
        counted = f"{distinct(part)} distinct, {part.counters.nulls:,} null"
        note = [f"# {column.why}; {counted}"]
        if column.kind == "text":
            note.append("# Uncomment to keep invented words in its place, or leave it out: --drop")
            head, rest = f"# {head}", [f"# {line}" for line in rest]
        parts.append("\n".join([*note, head, *rest]))
    return "\n\n".join(parts) + "\n"
