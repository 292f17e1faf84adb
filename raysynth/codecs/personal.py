"""Personal data and free text: never modelled; invented anew in the same form.

Nothing is encoded, so the codec has no parts. Decoding invents a value from the row's number alone.
What one row's columns say of a person fits together: first name, last name, full name and e-mail
come from the same choices of the row (of one person: a table of two people a row shows the same
name twice). Of the table the codec holds only facts of form that at least `least` share: upper or
lower case, the most common layout of digits, the order of a name, the number of words.

**What an invented value can be:** e-mail addresses lie at example.org, .com and .net (RFC 2606) and
end in the row's number, so no two are equal; phone numbers end in 555-01xx, kept for fiction; IP
addresses are those of documentation (RFC 5737, RFC 3849); card numbers pass the check digit and
begin with 400000, used for tests; social security numbers begin with 9, never issued. None of these
is a real one but by a fault in the table. Names, streets, cities and postcodes are drawn from
public lists (`people`) or digits: a real one comes up as often as it is common there, whoever is in
the table. Words put for free text are Latin.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.arrays import is_text, plain_type, restored
from raysynth.codecs import ColumnCodes, Unmodelled, check_room, nulled
from raysynth.errors import TableError
from raysynth.hashing import Chance
from raysynth.invent import Look, as_numbers, invented
from raysynth.patterns import DIGITS, LOWER, UPPER
from raysynth.people import FORMS
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary

_LAYOUTS = {"phone": "###-###-####", "ssn": "###-##-####", "card": "#" * 16, "postcode": "#" * 5}


_FEWEST = {"phone": 5, "ssn": 9, "card": 12, "postcode": 1}  # digits that a layout must have
_MARKS = str.maketrans(
    f"{DIGITS}{UPPER}{LOWER}", "#" * len(DIGITS) + "A" * len(UPPER) + "a" * len(LOWER)
)


@dataclass(frozen=True)
class Codec(Unmodelled):
    """What is invented (`form`) and how it looks; `nulls` is their share of rows."""

    type: str
    form: str
    look: Look
    nulls: float

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, **_: Any) -> Self:
        """Learn the form.

        Raises `TableError` where the column has no form that can be invented, or no room for it.
        """
        check_room(column)
        form = column.column.form or "text"
        if form not in (*FORMS, "text"):
            raise TableError(
                f"column '{column.column.name}' is of a form that cannot be invented; "
                f"expected one of {', '.join(FORMS)}"
            )
        texts = column.sample.cast(pa.string()).drop_null().to_pylist()
        owners = column.holders[np.asarray(column.sample.is_valid())]
        return cls(
            str(column.column.type),
            form,
            Look(
                _case(texts),
                _layout(texts, owners, form, least) if form in _LAYOUTS else "",
                _style(texts, form),
                2 * max(1, int(np.median([len(text.split()) for text in texts] or [True]))),
            ),
            column.counted_nulls(least) / max(column.counted, 1),
        )

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Invented values (B,) of the rows that `chance` numbers."""
        kind = arrow_type(self.type)
        made = invented(self.form, self.look, chance)
        if not is_text(kind):
            made = as_numbers(made, plain_type(kind))
        made = made.cast(plain_type(kind))
        return restored(nulled(made, self.nulls, chance), kind)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(**{**value, "look": Look(**value["look"])})


# -- the form of what is there ------------------------------------------------------------------


def _case(texts: Sequence[str]) -> str:
    cased = [text for text in texts if text.upper() != text.lower()]
    for case in ("upper", "lower"):
        if cased and np.mean([text == getattr(text, case)() for text in cased]) >= 0.9:
            return case
    return ""


def _layout(texts: Sequence[str], owners: NDArray[np.int64], form: str, least: int) -> str:
    """The most common layout; of its first digits, the three at most that all share stay."""
    layouts = [text.translate(_MARKS) for text in texts]
    layout = Counter(layouts).most_common(1)[0][0] if layouts else ""
    of = [place for place, found in enumerate(layouts) if found == layout]
    if len(set(owners[of].tolist())) < least or layout.count("#") < _FEWEST[form]:
        return _LAYOUTS[form]
    if form == "phone" and layout.startswith(("+", "(+")):
        first = [[digit for digit in texts[place] if digit.isdigit()][:3] for place in of]
        for digits in zip(*first, strict=True):
            if len(set(digits)) > 1:
                break
            layout = layout.replace("#", digits[0], 1)
    return layout


def _style(texts: Sequence[str], form: str) -> str:
    if form == "name":
        return ", " if np.mean(["," in text for text in texts] or [False]) > 0.5 else " "
    if form == "street":
        return " " if np.mean([text[:1].isdigit() for text in texts] or [True]) > 0.5 else ", "
    if form == "email":
        local = [text.partition("@")[0] for text in texts]
        for mark in "._-":
            if np.mean([mark in part for part in local] or [False]) > 0.5:
                return mark
    return ""
