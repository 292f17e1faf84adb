"""Which rows a user means: a condition on their columns, in a small grammar of its own.

    condition   comparison | condition and condition | condition or condition
                | not condition | (condition) | a column of booleans
    comparison  operand (== | != | < | <= | > | >=) operand, also in chains: 18 <= age < 65
                | column in [literal, ...] | column not in [literal, ...]
                | column is null | column is not null
    operand     column | literal
    column      a name, or in backticks where it is no plain word: `education-num`
    literal     a number | 'text' | "text" | true | false

Dates and times are quoted ISO text that is compared with a column of times:
`born < '1990-01-31' and seen >= '2024-05-01 12:00'`; text without a zone is taken in the column's.
Words may be capitals (AND, IS NOT NULL). The text is parsed, never run.

Null is as in SQL: comparing it gives neither true nor false, and only what is true is kept; so
`not age > 30` leaves out rows without an age, as `age <= 30` does. NaN counts as null.

No message repeats the condition: its literals are cells.
"""

import ast
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from raysynth.errors import ConfigError, nearest

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"|`(?P<name>[^`]*)`"
    r"|\b(?P<word>AND|OR|NOT|IN|IS|NULL|null|TRUE|true|FALSE|false)\b"
)
_WORDS = {"null": "None", "true": "True", "false": "False"}
_QUOTED = "quoted_column_"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_FLIPPED = {pc.less: pc.greater, pc.less_equal: pc.greater_equal}
_FLIPPED |= {there: back for back, there in _FLIPPED.items()}
_EXPECTED = (
    "expected comparisons of columns with numbers, quoted text, true or false, joined by and, or, "
    "not; also: column in [...], column is null; a column whose name is no plain word stands in "
    "backticks"
)


@dataclass(frozen=True)
class Where:
    """A condition on the rows of tables of one Arrow `schema`."""

    tree: ast.expr
    quoted: tuple[str, ...]
    schema: pa.Schema

    @classmethod
    def parse(cls, text: str, schema: pa.Schema) -> Self:
        """The condition that `text` states. Raises `ConfigError` for one that cannot be tested."""
        quoted: list[str] = []

        def plain(token: re.Match[str]) -> str:
            if token["text"]:
                return token["text"]
            if token["word"]:
                return _WORDS.get(token["word"].lower(), token["word"].lower())
            quoted.append(token["name"])
            return f"{_QUOTED}{len(quoted) - 1}"

        try:
            # A column in backticks that follows a word would run into it.
            tree = ast.parse(_TOKEN.sub(plain, text).strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(f"where: cannot be parsed; {_EXPECTED}") from None
        where = cls(tree, tuple(quoted), schema)
        where.mask(schema.empty_table())  # columns and types are told before any row is read
        return where

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it asks about, each once."""
        names = (self._name(node) for node in ast.walk(self.tree) if isinstance(node, ast.Name))
        return tuple(dict.fromkeys(names))

    def mask(self, table: pa.Table) -> pa.Array:
        """Booleans (B,): true for the rows it holds for, false for all others."""
        found = self._truth(self.tree, table)
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        return pc.fill_null(found, False)

    def _truth(self, node: ast.expr, table: pa.Table) -> Any:
        """Booleans (B,) with nulls where nothing is known."""
        match node:
            case ast.BoolOp(op=op, values=values):
                join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
                found = self._truth(values[0], table)
                for value in values[1:]:
                    found = join(found, self._truth(value, table))
                return found
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return pc.invert(self._truth(operand, table))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                sides = [left, *rights]
                found = self._comparison(sides[0], ops[0], sides[1], table)
                for place in range(1, len(ops)):
                    more = self._comparison(sides[place], ops[place], sides[place + 1], table)
                    found = pc.and_kleene(found, more)
                return found
            case ast.Name():
                column = self._column(node, table)
                if pa.types.is_boolean(column.type):
                    return column
                raise ConfigError(
                    f"where: column '{self._name(node)}' is {column.type}, and only a boolean "
                    "column is a condition; compare it with something"
                )
        raise ConfigError(f"where: {_EXPECTED}")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, table: pa.Table) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise ConfigError("where: after 'is' only null or not null may come; use ==")
            column = self._column(left, table)
            return column.is_null() if isinstance(op, ast.Is) else column.is_valid()
        if isinstance(op, ast.In | ast.NotIn):
            return self._among(left, right, isinstance(op, ast.NotIn), table)
        compare = _COMPARE[type(op)]
        if not isinstance(left, ast.Name):
            left, right = right, left
            compare = _FLIPPED.get(compare, compare)
        column = self._column(left, table)
        name = self._name(left)
        if isinstance(right, ast.Name):
            other, said = self._column(right, table), f"column '{self._name(right)}'"
        else:
            other, said = _literal(right, column.type, name), "what stands there"
        try:
            return compare(column, other)
        except (pa.ArrowException, NotImplementedError):
            raise ConfigError(
                f"where: column '{name}' is {column.type}, which does not compare with {said} "
                f"({other.type})"
            ) from None

    def _among(self, left: ast.expr, right: ast.expr, outside: bool, table: pa.Table) -> Any:
        column, name = self._column(left, table), self._name(left)
        if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
            raise ConfigError(f"where: after '{name} in' expected a list such as [1, 2, 3]")
        found = pc.equal(column, _literal(right.elts[0], column.type, name))
        try:
            for item in right.elts[1:]:
                found = pc.or_kleene(found, pc.equal(column, _literal(item, column.type, name)))
        except (pa.ArrowException, NotImplementedError):
            raise ConfigError(
                f"where: column '{name}' is {column.type}, which does not compare with all that "
                "is in its list"
            ) from None
        return pc.invert(found) if outside else found

    def _name(self, node: ast.expr) -> str:
        """The column that a node names. Raises `ConfigError` where it is none."""
        if not isinstance(node, ast.Name):
            raise ConfigError(f"where: {_EXPECTED}")
        name = node.id
        if name.startswith(_QUOTED):
            name = self.quoted[int(name.removeprefix(_QUOTED))]
        if name not in self.schema.names:
            close = nearest(name, self.schema.names)
            raise ConfigError(f"where: no column is called '{name}'; {close}")
        return name

    def _column(self, node: ast.expr, table: pa.Table) -> pa.ChunkedArray:
        column = table.column(self._name(node))
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return column


def _literal(node: ast.expr, kind: pa.DataType, column: str) -> pa.Scalar:
    """A literal as it compares with a column of type `kind`."""
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    if isinstance(node, ast.UnaryOp) and negative:
        node = node.operand
    if not isinstance(node, ast.Constant) or not isinstance(node.value, bool | int | float | str):
        raise ConfigError(f"where: {_EXPECTED}")
    value = node.value
    if negative:
        if isinstance(value, bool | str):
            raise ConfigError(f"where: {_EXPECTED}")
        value = -value
    if pa.types.is_temporal(kind) and isinstance(value, str):
        return _time(value, kind, column)
    try:
        return pa.scalar(value)
    except (pa.ArrowException, OverflowError):
        raise ConfigError(f"where: a number beside column '{column}' is too large") from None


def _time(text: str, kind: pa.DataType, column: str) -> pa.Scalar:
    """ISO text as a scalar of a date, time or timestamp type."""
    tries: list[Callable[[], pa.Scalar]] = [lambda: pa.scalar(text).cast(kind)]
    if pa.types.is_timestamp(kind):
        plain = pa.timestamp("us")
        tries += [lambda: pc.assume_timezone(pa.scalar(text).cast(plain), kind.tz)]
    elif pa.types.is_date(kind):  # a moment of the day compares with its days, too
        tries += [lambda: pa.scalar(text).cast(pa.timestamp("us"))]
    elif pa.types.is_time(kind):
        tries = [lambda: pa.scalar(dt.time.fromisoformat(text), pa.time64("us"))]
    for attempt in tries:
        try:
            return attempt()
        except (pa.ArrowException, NotImplementedError, TypeError, ValueError):
            continue
    raise ConfigError(
        f"where: column '{column}' is {kind}; expected ISO text beside it, such as '2024-01-31', "
        "'2024-01-31 12:00:00' or '12:00'"
    )
