"""The relations of a table: found on the summary's sample, counted against every row, restored.

See `relations` for what they are and what is promised of them.

**Found** on the sample alone, so their cost does not grow with the table and they are the same for
any partitioning. **Verified** while the table is encoded: every batch counts the rows that break
each (`reduce`). Those that any row breaks are dropped, with those that build on what they made, and
the table is encoded again (`without`); the rest were seen to hold in that very pass. What the user
asked for is refused instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth import relations
from raysynth.errors import ConfigError, TableError, nearest
from raysynth.hashing import Chance, Ids
from raysynth.relations import Relation, View, Wish
from raysynth.schema import Schema
from raysynth.summary import Summary
from raysynth.values import Mask

_RESTORING = 2_000_000_000  # keeps the streams of restoring apart from those of codecs

Wanted: TypeAlias = Sequence[tuple[str, Sequence[str]]]  # (kind, columns)


class Found(NamedTuple):
    """The relations of a table in the order they reduce it, and those `asked` for by the user."""

    relations: tuple[Relation, ...]
    asked: tuple[Relation, ...] = ()


def find(
    summary: Summary, *, least: int = 10, wanted: Wanted = (), apart: Sequence[str] = ()
) -> Found:
    """The relations of a table: those `wanted`, then what is found.

    Columns `apart` take part in none that is found. Raises `ConfigError` for a relation that
    cannot be, `TableError` for one that rows of the sample break.
    """
    for name in apart:
        if name not in summary.schema.names:
            close = nearest(name, summary.schema.names)
            raise ConfigError(f"without_relations: no column is called '{name}'; {close}")
    view = View(summary, least)
    found: list[Relation] = []
    for kind, columns in wanted:
        _check(columns, view)
        ones = relations.get(kind).of(columns, view)
        for one in ones:
            broken = int(one.broken(view.summary.sample).sum())
            if broken:
                raise broken_by(one, broken, view.summary.sample.num_rows)
            view = _after(view, one)
            found.append(one)
    # What the user asked for is restored last, so nothing else must hold of what it writes.
    spoken = frozenset(apart).union(*(one.written for one in found))
    asked, view = tuple(found), replace(view, apart=spoken, masks={})
    discovered: list[Relation] = []
    for kind in relations.KINDS:
        for one in relations.get(kind).find(view):
            view = _after(view, one)
            discovered.append(one)
    return Found((*asked, *sorted(discovered, key=lambda one: one.late)), asked)


def broken_by(relation: Relation, broken: int, rows: int) -> TableError:
    """What to say of a relation the user asked for that `broken` of so many `rows` break."""
    return TableError(
        f"relations: {relation.text}: {broken:,} of {rows:,} rows break it; mend them, or take it "
        "out of [[relations]]"
    )


def without(found: Found, broken: NDArray[np.int64], rows: int) -> Found:
    """Those that no row of a table of so many `rows` breaks, and that build on no broken one.

    Raises `TableError` where the user asked for one that some break.
    """
    kept, spoilt = list[Relation](), set[str]()
    for place, relation in enumerate(found.relations):
        if broken[place] and relation in found.asked:
            raise broken_by(relation, int(broken[place]), rows)
        about = {*relation.sources, *relation.written}
        if broken[place] or about & spoilt:
            spoilt |= set(relation.made)  # no longer what later ones know them as
        else:
            kept.append(relation)
    return Found(tuple(kept), found.asked)


def reduced(summary: Summary, found: Sequence[Relation]) -> Summary:
    """The summary of the reduced table."""
    for relation in found:
        summary = relation.reduced(summary)
    return summary


def columns(schema: Schema, found: Sequence[Relation]) -> Schema:
    """The schema of the reduced table."""
    for relation in found:
        schema = relation.columns(schema)
    return schema


def reduce(table: pa.Table, found: Sequence[Relation]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The reduced table, and how many rows break each relation, (R,)."""
    broken = np.zeros(len(found), np.int64)
    for place, relation in enumerate(found):
        broken[place] = relation.broken(table).sum()
        table = relation.reduce(table)
    return table, broken


def restore(
    table: pa.Table, found: Sequence[Relation], schema: Schema, ids: Ids, seed: int
) -> pa.Table:
    """The table (B rows) of `schema` that a reduced one stands for; `ids` (B,) number its rows."""
    for place, relation in reversed([*enumerate(found)]):
        table = relation.restore(table, Chance(ids, seed, _RESTORING + place))
    arrays = [table.column(name).combine_chunks() for name in schema.names]
    return pa.table(arrays, schema=schema.arrow)


def asked(found: Sequence[Relation], name: str, wish: Wish) -> "list[tuple[str, Wish]] | Relation":
    """What to ask of columns of the reduced table for the column `name` to be as wished.

    The relation that stands in the way, where nothing does.
    """
    wishes = [(name, wish)]
    for relation in found:
        turned: list[tuple[str, Wish]] = []
        for one, what in wishes:
            if one not in relation.written:
                turned.append((one, what))
                continue
            asked = relation.asked(one, what)
            if asked is None:
                return relation
            turned += asked.items()
        wishes = turned
    return wishes


def unknown(found: Sequence[Relation], nulls: Mapping[str, Mask]) -> Mapping[str, Mask]:
    """Where columns of the reduced table are unknown, by where those of a table are null."""
    for relation in found:
        nulls = relation.unknown(nulls)
    return nulls


def to_json(found: Sequence[Relation]) -> list[dict[str, Any]]:
    """A JSON value that `from_json` turns back into equal relations."""
    return [relation.to_json() for relation in found]


def from_json(value: Sequence[Mapping[str, Any]]) -> tuple[Relation, ...]:
    """The relations that `to_json` described."""
    return tuple(
        relations.get(one["kind"]).from_json({k: v for k, v in one.items() if k != "kind"})
        for one in value
    )


def _check(names: Sequence[str], view: View) -> None:
    """Refuse, by `ConfigError`, columns that no relation can be about."""
    open_ = {one.name for one in view.open()}
    for name in names:
        if name in open_:
            continue
        schema = view.summary.schema
        if name not in schema.names:
            close = nearest(name, schema.names)
            raise ConfigError(f"relations: no column is called '{name}'; {close}")
        column = schema[name]
        why = "another relation writes it" if name in view.settled else f"it is {column.kind}"
        if column.codec:
            why = f"its codec is '{column.codec}'"
        raise ConfigError(f"relations: '{name}' cannot be in a relation: {why}")


def _after(view: View, one: Relation) -> View:
    """The view of what is left once a relation has reduced it."""
    left = set(one.written) - set(one.dropped)
    mask, orders = one.mask, (one,) if one.kind == "order" else ()
    masks = dict.fromkeys(one.written, mask) if mask else {}
    return View(
        one.reduced(view.summary),
        view.least,
        view.settled | left,
        view.apart,
        {**view.masks, **masks},
        (*view.orders, *orders),
    )
