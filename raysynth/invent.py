"""Values of personal data invented for a row: functions of its number, and of how they should look.

`codecs.personal` says what each form can be and why it is nobody's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.hashing import Chance, mix
from raysynth.patterns import written
from raysynth.people import pool

_STREAM = 2**35  # past those of all else
_FIRST, _LAST, _STREET, _CITY = range(1, 5)  # what a row's columns agree on
_CARD = "400000"
_DOMAINS = ("example.org", "example.com", "example.net")
_NETS = ("192.0.2.", "198.51.100.", "203.0.113.")


@dataclass(frozen=True)
class Look:
    """How values look.

    `case` is "upper", "lower" or "" (as made); `layout` has # for a digit, A and a for letters, all
    else as it stands; `style` is what joins a name's parts: " " or ", " (last name first), or what
    joins them in an e-mail address ("" for the first name alone), or " " where a street begins with
    its number; `words` are the most of a text.
    """

    case: str = ""
    layout: str = ""
    style: str = ""
    words: int = 1


def invented(form: str, look: Look, chance: Chance) -> pa.Array:
    """Texts (B,) of a form of `people.FORMS`, or "text", for the rows that `chance` numbers."""
    made = _MAKERS[form](look, chance)
    if look.case:
        made = (pc.utf8_upper if look.case == "upper" else pc.utf8_lower)(made)
    return made


def _first(look: Look, chance: Chance) -> pa.Array:
    return pool("first_name").choose(chance.of_row(_FIRST))


def _last(look: Look, chance: Chance) -> pa.Array:
    return pool("last_name").choose(chance.of_row(_LAST))


def _name(look: Look, chance: Chance) -> pa.Array:
    parts = [_first(look, chance), _last(look, chance)]
    return pc.binary_join_element_wise(*(parts[::-1] if "," in look.style else parts), look.style)


def _email(look: Look, chance: Chance) -> pa.Array:
    """The names, then the row's number: a name has no digits, so no two are equal."""
    local = _first(look, chance)
    if look.style:
        local = pc.binary_join_element_wise(local, _last(look, chance), look.style)
    local = pc.replace_substring_regex(pc.utf8_lower(local), r"[^a-z._-]", "")
    number = pa.array(chance.ids).cast(pa.string())
    domain = pa.array(_DOMAINS).take(pa.array((chance.uniform * 3).astype(np.int64)))
    return pc.binary_join_element_wise(pc.binary_join_element_wise(local, number, ""), domain, "@")


def _street(look: Look, chance: Chance) -> pa.Array:
    street = pool("street_name").choose(chance.of_row(_STREET))
    number = pa.array(1 + (chance.uniform * 999).astype(np.int64)).cast(pa.string())
    first = look.style == " "
    return pc.binary_join_element_wise(*((number, street) if first else (street, number)), " ")


def _city(look: Look, chance: Chance) -> pa.Array:
    return pool("city").choose(chance.of_row(_CITY))


def _text(look: Look, chance: Chance) -> pa.Array:
    """A sentence of 1 to `words` Latin words."""
    count = 1 + (chance.uniform * look.words).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(count)])
    rows = np.repeat(chance.ids, count)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], count)
    drawn = mix(mix(rows, chance.seed, _STREAM + chance.stream) ^ places.astype(np.uint64), 0)
    words = pool("word").choose((drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), words)
    joined = pc.utf8_capitalize(pc.binary_join(lists, " ")).cast(pa.string())
    return pc.binary_join_element_wise(joined, pa.scalar("."), "")


def _digits(chance: Chance, count: int, turn: int = 0) -> NDArray[np.int64]:
    """Digits by chance, (B, `count`)."""
    pieces = []
    for at in range(0, count, 16):
        drawn = mix(mix(chance.ids, chance.seed, _STREAM + chance.stream), at + turn, 1)
        units = 10 ** np.arange(min(16, count - at), dtype=np.uint64)
        pieces.append((drawn[:, None] // units % np.uint64(10)).astype(np.int64))
    return np.concatenate(pieces or [np.empty((len(chance.ids), 0), np.int64)], axis=1)


def _phone(look: Look, chance: Chance) -> pa.Array:
    free = look.layout.count("#")
    digits = _digits(chance, free)
    digits[:, 0] = 2 + digits[:, 0] % 8
    if free >= 7:
        digits[:, -7:-2] = [5, 5, 5, 0, 1]
    return _laid(look.layout, digits, chance)


def _ssn(look: Look, chance: Chance) -> pa.Array:
    digits = _digits(chance, look.layout.count("#"))
    digits[:, 0] = 9
    digits[:, 3:4] %= 5  # what begins with 9 and goes on with 50 or more may be a taxpayer's number
    return _laid(look.layout, digits, chance)


def _card(look: Look, chance: Chance) -> pa.Array:
    digits = _digits(chance, look.layout.count("#"))
    first = min(len(_CARD), digits.shape[1] - 1)
    digits[:, :first] = [int(digit) for digit in _CARD[:first]]
    digits[:, -1] = 0
    doubled = digits[:, -2::-2] * 2
    total = digits[:, ::-2].sum(axis=1) + (doubled // 10 + doubled % 10).sum(axis=1)
    digits[:, -1] = -total % 10
    return _laid(look.layout, digits, chance)


def _postcode(look: Look, chance: Chance) -> pa.Array:
    return _laid(look.layout, _digits(chance, look.layout.count("#")), chance)


def _laid(layout: str, digits: NDArray[np.int64], chance: Chance) -> pa.Array:
    """Digits (B, D) and letters by chance in the places of a layout."""
    letters = _digits(chance, len(layout), turn=1_000).astype(np.uint8)
    used, parts = 0, []
    for place, mark in enumerate(layout):
        if mark == "#":
            parts.append((ord("0") + digits[:, used, None]).astype(np.uint8))
            used += 1
        elif mark in "Aa":
            parts.append(ord(mark) + letters[:, place, None])
        else:
            same = np.frombuffer(mark.encode(), np.uint8)
            parts.append(np.broadcast_to(same, (len(digits), len(same))))
    return written(np.concatenate(parts, axis=1))


def _ipv4(look: Look, chance: Chance) -> pa.Array:
    place = (chance.uniform * 3 * 256).astype(np.int64)
    net = pa.array(_NETS).take(pa.array(place // 256))
    return pc.binary_join_element_wise(net, pa.array(place % 256).cast(pa.string()), "")


def _ipv6(look: Look, chance: Chance) -> pa.Array:
    drawn = [mix(chance.ids, chance.seed, _STREAM + chance.stream + turn) for turn in (0, 2**32)]
    words = [half >> np.uint64(at) & np.uint64(0xFFFF) for half in drawn for at in (0, 16, 32)]
    made = [":".join(f"{word:x}" for word in row) for row in np.stack(words, axis=1).tolist()]
    return pa.array([f"2001:db8:{rest}" for rest in made], pa.string())


def as_numbers(made: pa.Array, kind: pa.DataType) -> pa.Array:
    """Digits as whole numbers; those too large for the type lose their first digit."""
    numbers = pc.replace_substring_regex(made, r"[^0-9]", "")
    if pa.types.is_decimal(kind):
        most = 10**kind.precision - 1
    else:
        most = int(np.iinfo(kind.to_pandas_dtype()).max)
    values = [int(text) for text in numbers.to_pylist()]
    fitting = [value if value <= most else value % 10 ** (len(str(most)) - 1) for value in values]
    if pa.types.is_decimal(kind):
        return pa.array(fitting, pa.decimal128(38, 0)).cast(kind)
    return pa.array(fitting, kind)


_MAKERS: dict[str, Callable[[Look, Chance], pa.Array]] = {
    "first_name": _first,
    "last_name": _last,
    "name": _name,
    "email": _email,
    "phone": _phone,
    "street": _street,
    "city": _city,
    "postcode": _postcode,
    "ssn": _ssn,
    "card": _card,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "text": _text,
}
