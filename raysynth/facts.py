"""Facts about one column that its kind is guessed from: its name's words, its values' form."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import is_text, is_whole
from raysynth.schema import Column
from raysynth.summary import ColumnSummary

# A share of rows: all but the few that errors of entry make, and more than not.
NEARLY, MOSTLY = 0.99, 0.5
LOOKED_AT = 5_000  # distinct values whose form is looked at

_ID = "id key uuid guid identifier no nr number serial ref reference code sku hash token"
_WHOSE = "full customer person contact patient client employee owner holder member student"
_JOINED_ID = re.compile(
    r"(user|customer|client|order|transaction|row|record|patient|account|member|person|employee|"
    r"student|product|item|session|device|case|invoice)s?(id|key|no|nr|number)"
)
# By form: names that say so (all words of one), and a pattern of the values. In the order tried.
_PERSONAL: dict[str, tuple[str, str]] = {
    "email": ("email|e mail|mail", r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$"),
    "ipv4": (
        "ip|ipv4|ip address",
        r"^((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)$",
    ),
    "ipv6": ("ip|ipv6|ip address", r"^[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}$"),
    "card": ("card|credit card|pan|ccnum|cc number|card number", r"^\d([ -]?\d){12,18}$"),
    "ssn": ("ssn|social security|national id|tax id|personal id", r"^\d{3}-?\d{2}-?\d{4}$"),
    "phone": (
        "phone|telephone|tel|mobile|cell|cellphone|fax|msisdn|phonenumber",
        r"^\+?[\d(][\d ()./-]{5,20}\d$",
    ),
    "first_name": (
        "first name|given name|middle name|firstname|givenname|forename|fname",
        r"^\pL[\pL'. -]*$",
    ),
    "last_name": (
        "last name|family name|maiden name|lastname|familyname|surname|lname",
        r"^\pL[\pL'. -]*$",
    ),
    "name": (
        "|".join(f"{whose} name" for whose in _WHOSE.split()) + "|fullname|customername|=name",
        r"^\pL[\pL'.-]*,?( \pL[\pL'.-]*)+$",
    ),
    "street": ("street|address|addr|streetaddress", r"\pL.*\d|\d.*\pL"),
    "city": ("city|town", r"^\pL[\pL'. -]*$"),
    "postcode": ("postcode|postal code|zip|zipcode|plz", r"\d"),
}
_TELLING = {"email": 1, "ipv4": 50, "ipv6": 50, "card": 50, "ssn": 50}  # distinct values it takes
_IF_RARE = ("city", "postcode")


@dataclass(frozen=True)
class Facts:
    """What the rules look at in one column; `least` is how many must share a value to show it."""

    part: ColumnSummary
    least: int

    @property
    def column(self) -> Column:
        """The column."""
        return self.part.column

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the name, in lower case: CustomerKey is customer, key."""
        found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", self.column.name)
        return tuple(word.lower() for word in found)

    def named(self, names: str | Iterable[str]) -> bool:
        """Whether all words of one of the `names` are in the column's.

        A name after "=" is the whole of it: "=name" is not said by "product name".
        """
        names = names.split("|") if isinstance(names, str) else names
        return any(
            self.words == (name[1:],) if name[0] == "=" else set(name.split()) <= set(self.words)
            for name in names
        )

    @cached_property
    def named_id(self) -> bool:
        """Whether the name says that values tell rows, or what rows are of, apart."""
        joined = "".join(self.words)
        return self.named(_ID.split()) or _JOINED_ID.fullmatch(joined) is not None

    @cached_property
    def distinct(self) -> int | None:
        """Distinct values, or None where there were too many to count."""
        counts = self.part.counters.counts
        return None if counts is None else len(counts)

    @cached_property
    def unique(self) -> float:
        """Distinct values by rows that are not null: of the table, or at most of its sample."""
        rows = self.part.rows - self.part.counters.nulls
        if self.distinct is not None:
            return self.distinct / max(rows, 1)
        sampled = len(self.part.sample) - self.part.sample.null_count
        share = len(self.part.counts) / max(sampled, 1)
        return float(min(share, self._span / rows) if is_whole(self.column.type) else share)

    @property
    def _span(self) -> int:
        # How many whole numbers lie from the least to the largest.
        ends = self.part.counters
        return 0 if ends.minimum is None else int(ends.maximum - ends.minimum + 1)

    @cached_property
    def sequence(self) -> bool:
        """Whether distinct whole numbers lie without gaps."""
        rows = self.part.rows - self.part.counters.nulls
        return self.unique >= NEARLY and self._span * NEARLY <= rows

    @cached_property
    def shared(self) -> float:
        """Share of the values, by rows, that at least `least` hold."""
        rows, held = self.part.counts.rows, self.part.held
        return float(rows[held >= self.least].sum() / max(rows.sum(), 1))

    @cached_property
    def kept(self) -> int:
        """Distinct values that at least `least` hold."""
        return int((self.part.held >= self.least).sum())

    @cached_property
    def texts(self) -> pa.Array:
        """Distinct values of the sample as text, no more than are looked at."""
        values = self.part.sample.unique().drop_null()
        places = np.unique(np.linspace(0, len(values) - 1, LOOKED_AT).astype(np.int64))
        return values.take(pa.array(places[places >= 0])).cast(pa.string())

    def like(self, pattern: str) -> float:
        """Share of the distinct values that match."""
        found = np.asarray(pc.match_substring_regex(self.texts, pattern))
        return float(found.mean()) if len(found) else 0.0

    def luhn(self) -> float:
        """Share of the distinct values whose check digit is a card number's."""
        return float(np.mean([_luhn(text) for text in self.texts.to_pylist()] or [False]))


def personal(facts: Facts) -> str | None:
    """The form of personal data that name and content, or content alone, say a column is."""
    if not len(facts.texts):
        return None
    text = is_text(facts.column.type)
    for form, (names, pattern) in _PERSONAL.items():
        named = facts.named(names) and not (form == "street" and facts.named("ip|email|mail"))
        telling = text and len(facts.texts) >= _TELLING.get(form, LOOKED_AT + 1)
        if not named and not telling:
            continue
        if facts.like(pattern) < (0.8 if named else 0.95):
            continue
        if form == "card" and facts.luhn() < 0.9:
            continue
        if form in _IF_RARE and facts.shared >= MOSTLY:
            continue
        if not text and form not in ("card", "ssn", "phone", "postcode"):
            continue
        return form
    return None


def _luhn(text: str) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", text)][::-1]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return bool(digits) and total % 10 == 0


def distinct(part: ColumnSummary) -> str:
    """How many distinct values a column has, or the least it can have."""
    exact = part.counters.counts is not None or len(part.sample) == part.rows
    return f"{len(part.counts):,}{'' if exact else '+'}"
