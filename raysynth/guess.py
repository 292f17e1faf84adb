"""What kind each column is: a guess on counters and sample, after the one pass, with its reason.

Rules, the first that holds (n are the values that are not null; *shared* is the share of them whose
value at least `least` hold; *named* looks at the words of the column's name):

1. The subject column is an identifier. What the user set stays.
2. One value in every row: its kind, kept by the codec "constant".
3. Booleans, times and fractions are what their type says: a fraction is never an identifier. A date
   of birth stays a time, whose ends are cut where `least` lie beyond.
4. Whole numbers: personal data (named, and of its form); codes (named zip or id, and mostly
   shared; by rank like measures where some are not); identifiers (a gapless sequence of distinct
   values, or named id and distinct or not shared); flags (two values); codes (at most `FEW` values
   and named class, type, level, ...). Else measures: education-num, counts, fnlwgt.
5. Text: personal data (named, and of its form; e-mail addresses, card numbers, IPs and social
   security numbers by form alone); identifiers (UUIDs; distinct, without spaces, with digits or
   named id, and no fractions); free text (several words, mostly distinct); else categories.

A name counts as personal however many share it. A city or postcode that many share is a category
like any other. Free text, and text no value of which is shared, is refused by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import pyarrow as pa

from raysynth.arrays import is_text, is_time, is_whole, plain_type
from raysynth.config import ColumnConfig
from raysynth.errors import ConfigError, TableError, nearest
from raysynth.facts import MOSTLY, NEARLY, Facts, distinct, personal
from raysynth.patterns import UUID
from raysynth.people import FORMS
from raysynth.schema import KINDS, Column, Kind, Schema, quoted
from raysynth.summary import ColumnSummary, Summary

FEW = 100
_CODE = "code class type label status level category cat group flag indicator ind gender sex race"
_COUNT = "count num total amount sum"
_BIRTH = ("birth", "birthdate", "birthday", "dob", "born")


def settle(
    summary: Summary,
    overrides: Mapping[str, ColumnConfig] | None = None,
    *,
    least: int = 10,
    placeholder: bool = False,
) -> Schema:
    """The final schema of a table: kind, codec, form and why of every column.

    `placeholder` keeps free text, as invented words. Raises `TableError` naming the columns that
    must be left out or told what to make of.
    """
    overrides = overrides or {}
    columns, alone = [], []
    for column in summary.schema.columns:
        part = summary[column.name]
        if column.name == summary.subject:
            columns.append(replace(column, kind="identifier", why="says whose a row is"))
            continue
        told = overrides.get(column.name, ColumnConfig())
        kind = told.kind or ("personal" if told.personal else None)
        if kind is None:
            facts = Facts(part, least)
            guessed = _guess(facts)
            columns.append(replace(guessed, codec=told.codec or _codec(part) or guessed.codec))
            if _unshared(columns[-1], facts):
                alone.append(column.name)
        else:
            form = told.personal or _form(Facts(part, least), kind)
            settled = cast("Kind", kind)
            columns.append(
                Column(column.name, settled, column.type, told.codec, form, "set by you")
            )
    schema = Schema(tuple(columns))
    _refuse(schema, alone, overrides, least, placeholder)
    return schema


def check(overrides: Mapping[str, ColumnConfig], schema: Schema, subject: str | None) -> None:
    """Refuse, by `ConfigError`, settings of columns that the table cannot have."""
    if subject is not None:
        if subject not in schema.names:
            raise ConfigError(
                f"subject: no column is called '{subject}', or it is dropped; "
                f"{nearest(subject, schema.names)}"
            )
        _fits(subject, "identifier", schema[subject].type)
    for name, told in overrides.items():
        if name not in schema.names:
            raise ConfigError(
                f"columns: no column is called '{name}'; {nearest(name, schema.names)}"
            )
        for setting, value, known in (
            ("kind", told.kind, KINDS),
            ("personal", told.personal, FORMS),
        ):
            if value is not None and value not in known:
                raise ConfigError(
                    f"columns.{name}.{setting}: '{value}' is not known; {nearest(value, known)}"
                )
        if told.personal and told.kind not in (None, "personal"):
            raise ConfigError(
                f"columns.{name}: personal = '{told.personal}' is of kind personal, but kind = "
                f"'{told.kind}' was asked for; leave one of them out"
            )
        kind = told.kind or ("personal" if told.personal else None)
        if kind:
            _fits(name, kind, schema[name].type)


def _guess(facts: Facts) -> Column:
    part, column = facts.part, facts.column
    if part.counters.nulls == part.rows:
        return replace(column, why="no value at all")
    if _codec(part):
        return replace(column, why="one value in every row")
    kind = plain_type(column.type)
    if is_time(kind) and column.kind == "time":
        named = facts.named(_BIRTH)
        why = "a date of birth: its ends are cut, its days modelled" if named else "by type"
        return replace(column, why=why)
    if column.kind == "boolean":
        return replace(column, why="by type")
    if is_text(kind):
        return _guess_text(facts)
    if column.kind == "category":
        return replace(column, why="by type, or as asked")
    return _guess_whole(facts) if is_whole(kind) else replace(column, why="fractions")


def _guess_whole(facts: Facts) -> Column:
    column = facts.column
    if form := personal(facts):
        return _as_personal(column, form)
    if facts.sequence:
        return replace(column, kind="identifier", why="a sequence: distinct, without gaps")
    few = facts.distinct is not None and facts.distinct <= FEW
    if facts.named_id and facts.unique >= NEARLY:
        return replace(column, kind="identifier", why="distinct, and named so")
    if facts.named(["zip", "postcode", "postal code", "plz"]) or facts.named_id:
        if facts.shared >= MOSTLY:
            return _as_codes(column, facts)
        if facts.named_id and not few:
            return replace(column, kind="identifier", why="named so, and few share one")
    if facts.distinct == 2:
        return replace(column, kind="category", why="a flag: two values")
    if few and facts.named(_CODE.split()) and not facts.named(_COUNT.split()):
        return replace(column, kind="category", why=f"codes, by name: {facts.distinct} values")
    return replace(column, why="whole numbers")


def _guess_text(facts: Facts) -> Column:
    column = facts.column
    if form := personal(facts):
        return _as_personal(column, form)
    if facts.like(UUID) >= NEARLY and facts.shared < MOSTLY:
        return replace(column, kind="identifier", why="UUIDs")
    spaced = facts.like(r"\s")
    measured = facts.like(r"^[+-]?\d*[.,]\d+$") >= MOSTLY  # numbers that one bad cell made text
    tidy = spaced < 0.01 and not measured and (facts.named_id or facts.like(r"\d") >= 0.9)
    if facts.unique >= NEARLY and tidy:
        return replace(column, kind="identifier", why="distinct, without spaces")
    if facts.named_id and tidy and facts.shared < MOSTLY:
        return replace(column, kind="identifier", why="named so, and few share one")
    if facts.unique >= MOSTLY and spaced >= MOSTLY:
        return replace(column, kind="text", form="text", why="several words, mostly distinct")
    every = distinct(facts.part)
    why = f"{every} values"
    if facts.shared < 1:
        held = f"{facts.kept:,} held by {facts.least} or more"
        why = f"{why}, {held} ({facts.shared:.0%} of the rows)"
    return replace(column, kind="category", why=why)


def _as_codes(column: Column, facts: Facts) -> Column:
    """Codes: those that enough share, and of the others, where among the numbers they lie.

    Pooled, as rare words are, a rare code would come back as any other, whatever the row says.
    """
    column = replace(column, kind="category", why="codes that many share, by name")
    if facts.shared == 1:
        return column
    why = f"{column.why}; made up near their like where fewer than {facts.least} do"
    return replace(column, codec="normal", why=why)


def _as_personal(column: Column, form: str) -> Column:
    return replace(
        column, kind="personal", form=form, why=f"named or formed as {form.replace('_', ' ')}"
    )


def _form(facts: Facts, kind: str) -> str | None:
    """What a column is made of that the user said is personal data or text, and no more."""
    if kind == "personal":
        found = personal(facts)
        if found is None:
            raise ConfigError(
                f"columns.{facts.column.name}: nothing says what personal data it holds; say "
                f"personal = one of {', '.join(FORMS)}"
            )
        return found
    return "text" if kind == "text" else None


def _codec(part: ColumnSummary) -> str | None:
    """The codec of a column that has one value in every row."""
    ends, counts = part.counters, part.counters.counts
    one = ends.minimum is not None and ends.minimum == ends.maximum
    if counts is not None:
        one = len(counts) == 1
    return "constant" if one and not ends.nulls else None


def _unshared(column: Column, facts: Facts) -> bool:
    # A category of text: there are values, not one in every row, and none that enough share.
    text = column.kind == "category" and is_text(plain_type(column.type))
    return text and not facts.kept and facts.unique > 0 and not _codec(facts.part)


def _refuse(
    schema: Schema,
    alone: Sequence[str],
    overrides: Mapping[str, ColumnConfig],
    least: int,
    placeholder: bool,
) -> None:
    text = [
        column.name
        for column in schema.columns
        if column.kind == "text" and not placeholder and column.name not in overrides
    ]
    if text:
        raise TableError(
            f"{'columns' if text[1:] else 'column'} {quoted(text)}: free text, which is never "
            f"copied; leave it out with {_drops(text)}, or keep words invented in its place with "
            "--text placeholder"
        )
    if alone:
        raise TableError(
            f"{'columns' if alone[1:] else 'column'} {quoted(alone)}: no value is shared by "
            f"{least} rows or more, so there is nothing to model; leave it out with "
            f"{_drops(alone)}, or say what it is by kind under [columns.NAME] in the settings"
        )


def _drops(names: Iterable[str]) -> str:
    return " ".join(f"--drop '{name}'" for name in names)


def _fits(name: str, kind: str, type_: pa.DataType) -> None:
    """Refuse a kind that values of this type cannot be."""
    plain = plain_type(type_)
    words, whole = is_text(plain), is_whole(plain)
    fits = {
        "number": pa.types.is_integer(plain)
        or pa.types.is_floating(plain)
        or pa.types.is_decimal(plain),
        "time": is_time(plain),
        "boolean": pa.types.is_boolean(plain),
        "category": not pa.types.is_floating(plain),
        "identifier": words or whole,
        "personal": words or whole,
        "text": words,
    }
    if not fits[kind]:
        raise ConfigError(
            f"columns.{name}: {type_} cannot be of kind {kind}; it can be "
            f"{', '.join(known for known, can in fits.items() if can)}"
        )
