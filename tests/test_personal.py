"""Invented people: of the form that was there, of one piece in a row, and nobody's."""

import ipaddress
import json
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.codecs import ColumnCodes, personal
from raysynth.errors import TableError
from raysynth.hashing import Chance
from raysynth.people import FORMS, pool
from raysynth.schema import Column, Schema
from raysynth.summary import ColumnSummary, summarise

LEAST, MADE = 10, 20_000
NUMBERS = np.unique(np.random.default_rng(0).integers(10**8, 10**9, 900))
REAL = {
    "first_name": ["Zebulon", "Aurelie", "Jan-Erik"] * 200,
    "last_name": ["Qvist", "Ngata", "O'Hara"] * 200,
    "name": ["Zebulon Qvist", "Aurelie Ngata", "Jan-Erik O'Hara"] * 200,
    "email": [f"zeb.qvist{n}@corp.invalid" for n in NUMBERS],
    "phone": [f"({n % 900 + 100}) {n // 900 % 900 + 100}-{n % 10_000:04d}" for n in NUMBERS],
    "street": [f"{n} Queens Gate" for n in NUMBERS],
    "city": [f"Nowhere {n}" for n in NUMBERS],
    "postcode": [f"NQ{n % 10} {n % 7}xz" for n in NUMBERS],
    "ssn": [f"{n:09d}"[:3] + "-45-" + f"{n:09d}"[:4] for n in NUMBERS],
    "card": [f"5{n:09d}{n % 10**6:06d}" for n in NUMBERS],
    "ipv4": [f"10.{n % 256}.{n % 251}.{n % 241}" for n in NUMBERS],
    "ipv6": [f"fe80::{n % 65_536:x}:{n % 65_521:x}" for n in NUMBERS],
    "text": [f"Sentinel {n} went to sea with a cat" for n in NUMBERS],
}


def summarised(values: pa.Array, form: str, whose: Any = None) -> ColumnSummary:
    table = pa.table({"c": values})
    schema = Schema((Column("c", "personal", values.type, None, form),))
    return summarise(table, np.arange(len(table), dtype=np.uint64), schema)["c"]


def chance(rows: int = MADE, start: int = 0, seed: int = 0, stream: int = 1_003) -> Chance:
    return Chance(np.arange(start, start + rows, dtype=np.uint64), seed, stream)


def fitted(form: str, cells: Any = None, kind: pa.DataType | None = None) -> personal.Codec:
    values = pa.array(REAL[form] if cells is None else cells, kind)
    codec = personal.Codec.fit(summarised(values, form), least=LEAST)
    copy = personal.Codec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    assert copy == codec
    return copy


def made(codec: personal.Codec, at: Chance | None = None) -> pa.Array:
    at = at or chance()
    rows = len(at.ids)
    return codec.decode(ColumnCodes(np.empty((rows, 0), np.int32), np.empty((rows, 0))), at)


def luhn(text: str) -> bool:
    """The check digit, written as ISO/IEC 7812 says it, apart from the code under test."""
    total = 0
    for place, digit in enumerate(reversed(re.sub(r"\D", "", text))):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


NETS = [ipaddress.ip_network(net) for net in (
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32",
)]  # fmt: skip
MUST = {
    "first_name": lambda text: text in set(pool("first_name").values.to_pylist()),
    "last_name": lambda text: text in set(pool("last_name").values.to_pylist()),
    "name": lambda text: len(text.split()) == 2,
    "email": re.compile(r"[a-z]+\.[a-z]+\d+@example\.(org|com|net)").fullmatch,
    "phone": re.compile(r"\([2-9]\d\d\) 555-01\d\d").fullmatch,
    "street": re.compile(r"[1-9]\d* [A-Z].+ [A-Z].+").fullmatch,
    "city": re.compile(r"[A-Z][A-Za-z' ]+").fullmatch,
    "postcode": re.compile(r"[A-Z][A-Z]\d \d[a-z][a-z]").fullmatch,
    "ssn": re.compile(r"9\d\d-[0-4]\d-\d{4}").fullmatch,
    "card": lambda text: re.fullmatch(r"400000\d{10}", text) and luhn(text),
    "ipv4": lambda text: any(ipaddress.ip_address(text) in net for net in NETS),
    "ipv6": lambda text: any(ipaddress.ip_address(text) in net for net in NETS),
    "text": re.compile(r"[A-Z][a-z]*( [a-z]+)*\.").fullmatch,
}
NOBODYS = ("email", "phone", "ssn", "card", "ipv4", "ipv6", "text", "first_name", "last_name")


def test_every_form_is_tested() -> None:
    assert set(MUST) == set(REAL) == {*FORMS, "text"}


@pytest.mark.parametrize("form", MUST)
def test_values_are_of_the_form_and_what_was_promised(form: str) -> None:
    codec = fitted(form)
    found = made(codec)
    assert found.type == pa.string()
    cells = found.to_pylist()
    few = cells[:2_000]
    assert [text for text in few if not MUST[form](text)][:3] == []
    if form in NOBODYS:
        assert not set(REAL[form]) & set(cells)
    told = json.dumps(codec.to_json())
    assert not [real for real in REAL[form] if real in told]
    assert "entinel" not in told


@pytest.mark.parametrize("form", MUST)
def test_a_row_is_the_same_in_any_piece_and_another_with_another_seed(form: str) -> None:
    codec = fitted(form)
    whole = made(codec, chance(600))
    assert pa.concat_arrays([made(codec, chance(200, at)) for at in (0, 200, 400)]).equals(whole)
    order = np.random.default_rng(1).permutation(600)
    assert made(codec, chance(600)[order]).equals(whole.take(pa.array(order)))
    again = made(codec, chance(600, seed=1))
    assert (
        np.mean([a == b for a, b in zip(whole.to_pylist(), again.to_pylist(), strict=True)]) < 0.1
    )


def test_a_row_is_one_person() -> None:
    """First name, last name, full name and address agree, whatever columns they are in."""
    columns = {
        form: made(fitted(form), chance(stream=1_000 + place)).to_pylist()
        for place, form in enumerate(("first_name", "last_name", "name", "email"))
    }
    for first, last, name, mail in zip(*columns.values(), strict=True):
        assert name == f"{first} {last}"
        bare = re.sub(r"[^a-z.]", "", f"{first}.{last}".lower())
        assert mail.partition("@")[0].rstrip("0123456789") == bare


def test_no_two_addresses_are_equal() -> None:
    cells = made(fitted("email")).to_pylist()
    later = made(fitted("email"), chance(start=10**12)).to_pylist()
    assert len(set(cells) | set(later)) == 2 * MADE


def test_names_come_as_often_as_in_public() -> None:
    """Their share follows the list's own weights, within four standard errors."""
    counts = Counter(made(fitted("last_name")).to_pylist())
    names = pool("last_name")
    shares = np.diff(names.ends, prepend=0)
    for name, share in list(zip(names.values.to_pylist(), shares, strict=True))[:5]:
        assert counts[name] / MADE == pytest.approx(share, abs=4 * (share / MADE) ** 0.5)


@pytest.mark.parametrize(
    ("form", "cells", "like"),
    [
        ("first_name", ["JON", "ANA"] * 50, r"[A-Z']+"),
        ("last_name", ["yang", "li"] * 50, r"[a-z']+"),
        ("name", ["Lee, Ann", "Ek, Bo"] * 50, r"[A-Z][A-Za-z']+, [A-Z][a-z]+"),
        ("email", ["jon24@corp.invalid"] * 50, r"[a-z]+\d+@example\.(org|com|net)"),
        ("email", ["JON_LI@CORP.INVALID"] * 50, r"[A-Z]+_[A-Z]+\d+@EXAMPLE\.(ORG|COM|NET)"),
        ("phone", ["+47 22 33 44 55"] * 50, r"\+47 [2-9]5 55 01 \d\d"),
        ("phone", ["+1-212-736-5000", "+1-202-456-1111"] * 50, r"\+1-[2-9]\d\d-555-01\d\d"),
        ("phone", ["0044 7700"] * 9, r"[2-9]\d\d-555-01\d\d"),
        ("street", ["Storgata 5", "Lillegata 17"] * 50, r"[A-Z].* \d+"),
        ("card", ["4111 1111 1111 1111"] * 50, r"4000 00\d\d \d{4} \d{4}"),
        ("card", ["378282246310005"] * 50, r"400000\d{9}"),
        ("ssn", ["123456789"] * 50, r"9\d\d[0-4]\d{5}"),
        ("postcode", ["90210-1234"] * 50, r"\d{5}-\d{4}"),
    ],
)
def test_the_form_is_that_of_the_sample(form: str, cells: list[str], like: str) -> None:
    found = made(fitted(form, cells), chance(2_000)).to_pylist()
    assert [text for text in found if not re.fullmatch(like, text)][:3] == []
    if form == "card":
        assert all(map(luhn, found))


@pytest.mark.parametrize(
    ("form", "cells", "kind"),
    [
        ("phone", [2_127_365_000] * 50, pa.int64()),
        ("phone", [2_127_365_000] * 50, pa.uint32()),
        ("ssn", [123_456_789] * 50, pa.int32()),
        ("card", [4_111_111_111_111_111] * 50, pa.int64()),
        ("name", ["Ann Lee"] * 50, pa.large_string()),
        ("name", ["Ann Lee"] * 50, pa.dictionary(pa.int16(), pa.string())),
    ],
)
def test_types_are_restored(form: str, cells: list[Any], kind: pa.DataType) -> None:
    found = made(fitted(form, cells, kind), chance(2_000))
    found.validate(full=True)
    assert found.type == kind
    assert len(found.unique()) > 80
    assert not set(cells) & set(found.to_pylist())


def test_a_dictionary_without_room_is_refused() -> None:
    kind = pa.dictionary(pa.uint8(), pa.string())
    with pytest.raises(TableError, match=r"column 'c' is .*uint8.*cast it to string, or .*--drop"):
        fitted("name", ["Ann Lee"] * 50, kind)


def test_nulls_come_back_with_their_share_and_too_few_not_at_all() -> None:
    found = made(fitted("email", [*REAL["email"][:300], *[None] * 100]))
    assert found.null_count / MADE == pytest.approx(0.25, abs=0.02)
    assert made(fitted("email", [*REAL["email"], *[None] * 9])).null_count == 0
    nothing = made(fitted("phone", [None] * 50, pa.string()))
    assert nothing.null_count == MADE


def test_a_form_that_cannot_be_invented_is_refused() -> None:
    with pytest.raises(TableError, match="column 'c' is of a form that cannot be invented"):
        personal.Codec.fit(summarised(pa.array(["a"] * 50), "shoe size"))


def test_pools_are_the_same_in_every_process() -> None:
    script = (
        "from raysynth.people import pool\n"
        "print([pool(n).values[:9].to_pylist() for n in ('last_name', 'street_name', 'city')])"
    )
    outs = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    mine = [pool(name).values[:9].to_pylist() for name in ("last_name", "street_name", "city")]
    assert outs == {f"{mine}\n".encode()}
