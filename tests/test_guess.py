"""What each column is taken for, rule by rule; what the user may say instead; how it is shown."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raysynth import outline
from raysynth.arrays import is_whole
from raysynth.config import ColumnConfig, TrainConfig
from raysynth.errors import ConfigError, TableError
from raysynth.guess import check, settle
from raysynth.relate import find
from raysynth.schema import Column, Schema
from raysynth.summary import Summary, summarise
from tests.columns import read, real_tables

ROWS = 2_000
G = np.random.default_rng(0)
UNIQUE = np.unique(G.integers(0, 10**9, 3 * ROWS))[:ROWS]


def summarised(table: pa.Table, subject: str | None = None, **infer: Sequence[str]) -> Summary:
    ids = np.arange(table.num_rows, dtype=np.uint64)
    schema = Schema.infer(table.schema, **infer)
    return replace(summarise(table, ids, schema), subject=subject)


def guessed(name: str, cells: Any, type_: pa.DataType | None = None, **told: str) -> Column:
    summary = summarised(pa.table({name: pa.array(cells, type_)}))
    overrides = {name: ColumnConfig(**told)} if told else {}
    return settle(summary, overrides, placeholder=True)[name]


def whole(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, ROWS)


def texts(form: str, numbers: Any = None) -> list[str]:
    return [form.format(number) for number in (UNIQUE if numbers is None else numbers)]


CARDS = ["4000001234567899", "5555555555554444", "378282246310005", "4111-1111-1111-1111"]
NAMES = ["Ann Lee", "Bo Ek", "Cy O'Neil", "Di van Dam", "Éva Nagy-Kis"]


@pytest.mark.parametrize(
    ("name", "cells", "kind", "form"),
    [
        # Whole numbers: flags and codes, or measures.
        ("land", whole(0, 2), "category", None),
        ("side", 2 * whole(0, 2) - 1, "category", None),
        ("Cover_Type", whole(1, 8), "category", None),
        ("loyaltyLevel", whole(0, 5), "category", None),
        ("zip", whole(10_000, 10_050), "category", None),
        ("Clothing ID", whole(0, 100), "category", None),
        ("type_count", whole(0, 9), "number", None),
        ("education-num", whole(1, 17), "number", None),
        ("TotalChildren", whole(0, 6), "number", None),
        ("num_hrefs", whole(0, 90), "number", None),
        ("oxygen level", whole(0, 500), "number", None),
        # Keys; a measure that hardly repeats is none.
        ("CustomerKey", UNIQUE, "identifier", None),
        ("customerid", UNIQUE, "identifier", None),
        ("n", np.random.default_rng(2).permutation(ROWS) + 500, "identifier", None),
        ("user_id", UNIQUE[whole(0, 900)], "identifier", None),
        ("fnlwgt", UNIQUE, "number", None),
        ("paid", UNIQUE, "number", None),
        ("income_in_cents", UNIQUE, "number", None),
        # Fractions are never keys, and never counted.
        ("key", UNIQUE + 0.5, "number", None),
        ("id", UNIQUE.astype(float), "number", None),
        # Text: keys.
        ("x", texts("AW{:011d}"), "identifier", None),
        ("code", texts("{}"), "identifier", None),
        ("ref", texts("4be0643f-1d98-573b-97cd-ca98{:08x}"), "identifier", None),
        ("x", texts("4be0643f1d98573b97cdca98{:08x}"), "identifier", None),
        ("session id", texts("s{}", UNIQUE[whole(0, 900)]), "identifier", None),
        # Personal data: name and content, or content that cannot be anything else.
        ("EmailAddress", texts("jon{}@adventure-works.com"), "personal", "email"),
        ("contact", texts("jon{}@adventure-works.com"), "personal", "email"),
        ("phone", texts("+47 22 {:09d}"), "personal", "phone"),
        ("Mobile", 4_700_000_000 + UNIQUE, "personal", "phone"),
        ("FirstName", ["JON", "EUGENE", "ANA"] * 600, "personal", "first_name"),
        ("surname", ["Li", "O'Hara", "Åse-Berg"] * 600, "personal", "last_name"),
        ("name", NAMES * 400, "personal", "name"),
        ("customer name", ["Lee, Ann", "Ek, Bo"] * 600, "personal", "name"),
        ("address", texts("{} Main Street"), "personal", "street"),
        ("ssn", texts("{:09d}"), "personal", "ssn"),
        ("x", [f"{n:09d}"[:3] + "-12-" + f"{n:09d}"[3:7] for n in UNIQUE], "personal", "ssn"),
        ("card", CARDS * 400, "personal", "card"),
        ("ip", ["10.0.0.1", "192.168.255.3"] * 800, "personal", "ipv4"),
        ("host", [f"10.{n % 256}.{n // 256 % 256}.7" for n in UNIQUE], "personal", "ipv4"),
        ("ip_address", ["fe80::1", "2001:db8:0:0:0:0:0:1"] * 800, "personal", "ipv6"),
        ("city", [f"Town {chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676 % 26)}"
                  for n in range(ROWS)], "personal", "city"),
        ("postcode", texts("N-{}"), "personal", "postcode"),
        # What only sounds like it.
        ("city", ["Oslo", "Bergen"] * 800, "category", None),
        ("zip", ["0150", "5003"] * 800, "category", None),
        ("card", ["gold", "silver"] * 800, "category", None),
        ("phone", ["mobile", "landline"] * 800, "category", None),
        ("product name", ["Blue shirt", "Red sock"] * 800, "category", None),
        ("mail", ["yes", "no"] * 800, "category", None),
        ("id", [None] * 200, "category", None),
        # Free text.
        ("review", texts("I bought number {} and like it"), "text", "text"),
    ],
)  # fmt: skip
def test_rules(name: str, cells: Any, kind: str, form: str | None) -> None:
    column = guessed(name, cells, pa.string() if cells[0] is None else None)
    assert (column.kind, column.form, column.codec) == (kind, form, None), column.why
    assert column.why


@pytest.mark.parametrize(
    ("cells", "kind"),
    [([7] * 200, "number"), ([7.5] * 200, "number"), (["a"] * 200, "category"),
     ([True] * 200, "boolean"), (pa.array([5] * 200, pa.date32()), "time")],
)  # fmt: skip
def test_one_value_in_every_row_is_kept_as_it_is(cells: Any, kind: str) -> None:
    column = guessed("c", cells)
    assert (column.kind, column.codec) == (kind, "constant")
    nullable = guessed("c", pa.concat_arrays([pa.array(cells), pa.nulls(50, column.type)]))
    assert (nullable.kind, nullable.codec) == (kind, None), "null is a value beside it"


def test_numbers_and_times_of_other_types() -> None:
    for name, cells, scale, kind in (
        *(("id", UNIQUE, 0, "identifier"), ("flag", whole(0, 2), 0, "category")),
        ("price", whole(0, 99), 2, "number"),
    ):
        assert guessed(name, pa.array(cells).cast(pa.decimal128(30, scale))).kind == kind
    assert guessed("h", whole(0, 99).astype(np.float16), pa.float16()).kind == "number"
    coded = guessed("c", pa.array(whole(0, 300)).dictionary_encode())
    assert coded.kind == "category"
    born = guessed("BirthDate", whole(-9_000, 9_000).astype(np.int32), pa.date32())
    assert born.kind == "time"
    assert "date of birth" in born.why
    assert guessed("id", UNIQUE, pa.timestamp("us")).kind == "time"
    mails = pa.array(texts("jon{}@adventure-works.com")).dictionary_encode()
    assert guessed("m", mails).form == "email"


def test_integers_named_by_the_user_are_categories() -> None:
    table = pa.table({"age": whole(18, 90)})
    assert settle(summarised(table, categories=["age"]))["age"].kind == "category"


def test_codes_that_too_few_share_lie_where_their_number_does() -> None:
    """Pooled, a rare article would come back as any other; by rank it is one that is near."""
    rare = [*np.repeat(np.arange(0, 1_000, 20), 40), *range(1_001, 1_101)]
    assert guessed("article id", rare).codec == "normal"
    assert guessed("article id", rare).kind == "category"
    assert guessed("article id", np.repeat(np.arange(50), 40)).codec is None
    assert guessed("article id", [f"A{code}" for code in rare]).codec is None


def test_the_guess_is_the_same_past_the_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample stands in for counts: nothing becomes an identifier or ceases to be one by it."""
    monkeypatch.setattr("raysynth.summary.COUNTED", 50)
    monkeypatch.setattr("raysynth.summary.CODES", 50)
    assert guessed("CustomerKey", UNIQUE).kind == "identifier"
    assert guessed("zip", whole(10_000, 10_100)).kind == "category"
    assert guessed("age", whole(0, 100)).kind == "number"
    assert guessed("x", texts("AW{:011d}")).kind == "identifier"
    assert guessed("shop", texts("shop {}", whole(0, 100))).kind == "category"
    assert guessed("FirstName", texts("Jo{}", ["ab"] * 1_000 + ["n"] * 1_000)).kind == "personal"


def test_free_text_and_text_nobody_shares_are_refused_by_name_with_the_way_out() -> None:
    table = pa.table(
        {
            "good": whole(0, 50),
            "Review Text": texts("sentinel I bought {} of it"),
            "Title": texts("sentinel {} times"),
        }
    )
    with pytest.raises(TableError, match="columns 'Review Text', 'Title': free text") as told:
        settle(summarised(table))
    assert "--drop 'Review Text' --drop 'Title'" in str(told.value)
    assert "--text placeholder" in str(told.value)
    assert "sentinel" not in str(told.value)
    kept = settle(summarised(table), placeholder=True)
    assert [column.kind for column in kept.columns] == ["number", "text", "text"]
    one = {name: ColumnConfig(kind="text") for name in ("Title", "Review Text")}
    assert settle(summarised(table), one)["Title"].form == "text"
    weights = [f"{n / 7}" for n in UNIQUE]
    with pytest.raises(TableError, match="column 'x': no value is shared by 10"):
        settle(summarised(pa.table({"x": weights})))
    rare = ["".join(chr(97 + int(c)) for c in str(n)) for n in UNIQUE]
    with pytest.raises(TableError, match="column 'who': no value is shared by 10") as told:
        settle(summarised(pa.table({"who": rare})))
    assert "--drop 'who'" in str(told.value)


def test_the_subject_column_is_an_identifier_and_counts_for_the_rest() -> None:
    table = pa.table(
        {"who": np.repeat(np.arange(200), 10), "zip": np.repeat(whole(0, 200)[:200], 10)}
    )
    assert settle(summarised(table))["zip"].kind == "category"
    schema = settle(summarised(table, subject="who"))
    assert schema["who"].kind == "identifier"
    assert schema["zip"].form == "postcode", "ten rows of one subject are not ten"


@pytest.mark.parametrize(
    ("told", "kind", "form", "codec"),
    [
        ({"kind": "category"}, "category", None, None),
        ({"kind": "identifier"}, "identifier", None, None),
        ({"personal": "phone"}, "personal", "phone", None),
        ({"codec": "minmax"}, "number", None, "minmax"),
        ({"kind": "number", "codec": "bins"}, "number", None, "bins"),
    ],
)
def test_what_the_user_says_of_a_column_stays(
    told: dict[str, str], kind: str, form: str | None, codec: str | None
) -> None:
    column = guessed("age", whole(18, 90), **told)
    assert (column.kind, column.form, column.codec) == (kind, form, codec)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"agee": {"kind": "number"}}, "columns: .*'agee'; did you mean 'age'"),
        ({"age": {"kind": "numbr"}}, "columns.age.kind: 'numbr' .*did you mean 'number'"),
        ({"age": {"personal": "emial"}}, "columns.age.personal: 'emial' .*mean 'email'"),
        ({"age": {"kind": "text"}}, "columns.age: int64 cannot be of kind text; it can be number"),
        ({"real": {"kind": "category"}}, "columns.real: double cannot be of kind category"),
        ({"real": {"kind": "identifier"}}, "columns.real: double cannot be of kind identifier"),
        ({"at": {"personal": "name"}}, "columns.at: date32.* cannot be of kind personal"),
        ({"word": {"kind": "number"}}, "columns.word: string cannot be of kind number"),
        ({"word": {"kind": "text", "personal": "name"}}, "leave one of them out"),
    ],
)
def test_settings_a_column_cannot_have(columns: dict[str, Any], said: str) -> None:
    fields = [("age", pa.int64()), ("real", pa.float64()), ("at", pa.date32())]
    schema = Schema.infer(pa.schema([*fields, ("word", pa.string())]))
    with pytest.raises(ConfigError, match=said):
        check({name: ColumnConfig(**told) for name, told in columns.items()}, schema, None)


def test_an_unknown_subject_or_one_of_fractions_is_refused() -> None:
    schema = Schema.infer(pa.schema([("who", pa.int64()), ("real", pa.float64())]))
    check({}, schema, "who")
    with pytest.raises(ConfigError, match=r"subject: no column is called 'wo'.*mean 'who'"):
        check({}, schema, "wo")
    with pytest.raises(ConfigError, match="real: double cannot be of kind identifier"):
        check({}, schema, "real")


def test_personal_data_that_nothing_recognises_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"columns.x: .*say personal = one of first_name"):
        guessed("x", ["a", "b"] * 200, kind="personal")
    assert guessed("mail", ["a@b.cd"] * 200, kind="personal").form == "email"


def test_an_unknown_setting_of_a_column_names_the_nearest() -> None:
    settings = {"table": "t", "columns": {"age": {"knd": "number"}}}
    with pytest.raises(ConfigError, match=r"'columns.age.knd'; did you mean 'kind'"):
        TrainConfig.load(None, settings)
    with pytest.raises(ValidationError):
        ColumnConfig(knd="number")


# -- shown ----------------------------------------------------------------------------------------


def people() -> pa.Table:
    return pa.table(
        {
            "Customer.Key": UNIQUE,
            "mail": texts("sentinel{}@adventure-works.com"),
            "say": texts("sentinel says {} words"),
            "age": pa.array(whole(18, 90), mask=whole(0, 5) == 0),
            "side": ["sentinel", "other"] * (ROWS // 2),
            "one": [5] * ROWS,
        }
    )


def test_the_guess_is_one_table_without_cells() -> None:
    summary = summarised(people())
    summary = replace(summary, schema=settle(summary, placeholder=True))
    found = outline.lines(summary, ["identifier", "personal", "personal", "modes", "onehot", "x"])
    assert found[0].split() == ["column", "kind", "codec", "distinct", "nulls", "why"]
    assert [line.split()[0] for line in found[1:]] == people().schema.names
    assert "personal (email)" in found[2]
    assert "sentinel" not in "".join(found)
    starts = {line.index(word) for line, word in zip(found[4:6], ("modes", "onehot"), strict=True)}
    assert len(starts) == 1, "columns are aligned"


def test_relations_are_told_with_the_guess_and_do_not_go_back_in() -> None:
    net, tax = whole(0, 900), whole(0, 900) % 7
    summary = summarised(pa.table({"net": net, "tax": tax, "gross": net + tax}))
    summary = replace(summary, schema=settle(summary))
    found = find(summary).relations
    line = "'gross' = 'net' + 'tax'"
    assert f"  {line}" in outline.relations(found)
    assert outline.relations(()) == []
    text = outline.toml(summary, found)
    assert f"#   {line}" in text
    assert tomllib.loads(text) == tomllib.loads(outline.toml(summary))


def test_toml_goes_back_in_as_settings_and_gives_the_same_kinds() -> None:
    summary = summarised(people())
    schema = settle(summary, placeholder=True)
    text = outline.toml(replace(summary, schema=schema))
    assert "sentinel" not in text
    told = tomllib.loads(text)["columns"]
    assert set(told) == set(people().schema.names) - {"say"}, "text stays refused until uncommented"
    edited = text.replace("# [columns.say]", "[columns.say]").replace(
        '# kind = "text"', 'kind = "text"'
    )
    config = TrainConfig.load(None, {"table": "t", **tomllib.loads(edited)})
    check(config.columns, summary.schema, None)
    again = settle(summary, config.columns)
    assert [(c.name, c.kind, c.form) for c in again.columns] == [
        (c.name, c.kind, c.form) for c in schema.columns
    ]
    assert TrainConfig.load(None, tomllib.loads(config.to_toml())).columns == config.columns


# -- real tables ----------------------------------------------------------------------------------

# What is no plain number or category: by kind, columns; and whole numbers that are categories.
REAL: dict[str, dict[str, set[str]]] = {
    "adult_train": {},
    "covertype": {
        "codes": {
            "Cover_Type",
            *(f"Wilderness_Area{i}" for i in range(1, 5)),
            *(f"Soil_Type{i}" for i in range(1, 41)),
        }
    },
    "news": {
        "codes": {
            *(
                f"weekday_is_{day}day"
                for day in ["mon", "tues", "wednes", "thurs", "fri", "satur", "sun"]
            ),
            *(
                f"data_channel_is_{c}"
                for c in ["lifestyle", "entertainment", "bus", "socmed", "tech", "world"]
            ),
            "is_weekend",
        }
    },
    "customers": {
        "identifier": {"CustomerKey"},
        "personal": {"FirstName", "LastName", "EmailAddress"},
        "time": {"BirthDate"},
    },
    "intrusion": {
        "codes": {"land", "logged_in", "root_shell", "is_guest_login"},
        "constant": {"num_outbound_cmds", "is_host_login"},
    },
}


@pytest.mark.parametrize("name", real_tables())
def test_real_tables(name: str) -> None:
    """On all rows: flags and codes become categories, counts and measures do not."""
    table = read(real_tables()[name], rows=10**7)
    schema = settle(summarised(table))
    expected = REAL[name]
    codes = {c.name for c in schema.columns if c.kind == "category" and is_whole(c.type)}
    assert codes == expected.get("codes", set())
    assert {c.name for c in schema.columns if c.codec} == expected.get("constant", set())
    for kind in ("identifier", "personal", "time", "text"):
        assert {c.name for c in schema.columns if c.kind == kind} == expected.get(kind, set())
