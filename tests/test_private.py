"""Nothing that few share gets into a run: every byte of it is searched for what was planted."""

import datetime as dt
import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from safetensors.numpy import load

from raysynth import models
from raysynth.arrays import plain, restored
from raysynth.config import TrainConfig
from raysynth.guess import settle
from raysynth.hashing import uniform
from raysynth.learn import Plan, Resident, learn
from raysynth.people import pool
from raysynth.run import Run, build, fit, related, save_run
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.summary import summarise
from tests.columns import read, real_tables
from tests.conftest import SETTINGS

ROWS, LEAST = 3_000, 10
DAY = dt.date(1871, 3, 14)
EPOCH = dt.date(1970, 1, 1)


def trained(table: pa.Table, folder: Path, family: str = "autoregressive", **settings: Any) -> Run:
    """A run of one epoch, made as training makes it."""
    overrides = {"table": "t.parquet", "name": "run", "storage": str(folder), "epochs": 1}
    overrides |= {"family": family, "model": SETTINGS[family]}
    config = TrainConfig.load(overrides={**overrides, **settings})
    ids = np.arange(table.num_rows, dtype=np.uint64)
    summary = summarise(table, ids, Schema.infer(table.schema, config.drop))
    summary = replace(summary, subject=config.subject)
    schema = settle(summary, config.columns, least=config.least, placeholder=True)
    chosen = models.get(config.family)
    summary = replace(summary, schema=schema)
    codec = fit(config, summary, related(config, summary).relations)
    codes = codec.encode(table, ids, seed=0)
    model = build(config, codec)
    plan = Plan(codes.rows, SETTINGS[family]["batch"], 1, config.seed)
    for _ in learn(model, codec.layout, chosen.drawing(model.config), Resident(codes), plan):
        pass
    return save_run(config, codec, model, "", codes.rows)


def planted(table: pa.Table, column: str, cells: list[Any]) -> pa.Table:
    """The table with its first cells of a column replaced."""
    place, old = table.schema.get_field_index(column), plain(table.column(column))
    new = pa.array(cells).cast(old.type)
    kept = old.slice(len(cells)).combine_chunks()
    return table.set_column(
        place, column, restored(pa.concat_arrays([new, kept]), table.schema.types[place])
    )


def ordinary() -> pa.Table:
    g = np.random.default_rng(0)
    n = np.arange(ROWS)
    return pa.table(
        {
            "city": g.choice(["Oslo", "Bergen", "Molde"], ROWS),
            "team": pa.array(g.choice(["red", "blue"], ROWS)).dictionary_encode(),
            "visits": g.poisson(30, ROWS),
            "code": g.integers(1, 5, ROWS),
            "weight": g.normal(70, 9, ROWS).round(2),
            "price": pa.array(g.integers(100, 9_000, ROWS)).cast(pa.decimal128(21, 2)),
            "day": pa.array(g.integers(10_000, 20_000, ROWS), pa.int32()).cast(pa.date32()),
            "at": pa.array(g.integers(10**18, 10**18 + 10**15, ROWS)).cast(pa.timestamp("ns")),
            "key": n + 500_000,
            "ref": [f"AW{number:08d}" for number in n + 40_000],
            "mail": [f"user{number}@corp.invalid" for number in n],
            "phone": [f"+47 22 {number:06d}" for number in n * 37],
            "first_name": g.choice(["Ada", "Bo", "Cy"], ROWS),
            "note": [f"wrote {number} lines to us" for number in n],
        }
    )


# Nine of each at most: too few to show. Text and digits that nothing else could hold by chance.
PLANTED: dict[str, list[Any]] = {
    "city": ["Zq-sentinel-city"] * 9 + ["Ærøskøbing-Q"],
    "team": ["zq-sentinel-team"] * 9,
    "visits": [918_273_641] * 9,
    "code": [827_364_555] * 9,
    "weight": [918_273.6451234] * 9 + [-77_182_736.45019],
    "day": [DAY] * 9,
    "at": [1_887_766_554_433_221_100] * 9,
    "key": [918_273_645_546_372],
    "ref": ["AW91827364", "zq/sentinel/ref"],
    "mail": ["zq.sentinel@secret.invalid"],
    "phone": ["+99 918 273 645 5"],
    "first_name": ["Zqsentinella"] * 9,
    "note": ["zq sentinel note about somebody"],
}


def forms(value: Any) -> Iterator[bytes]:
    """The bytes that a value could be written as: text, escaped text, numbers of any width."""
    if isinstance(value, dt.date):
        yield value.isoformat().encode()
        yield from forms(float((value - EPOCH).days))
        yield str((value - EPOCH).days * 86_400).encode()
    elif isinstance(value, str):
        yield value.encode()
        yield json.dumps(value)[1:-1].encode()
    else:
        if abs(value) > 10**8 or value % 1:
            yield str(value).encode()
            yield f"{value:,}".encode()
            yield np.format_float_positional(value, 6).encode()[:10]
        yield struct.pack("<d", value)
        yield struct.pack("<f", value)
        if not value % 1:
            yield struct.pack("<q", int(value))


def leaves(value: Any) -> Iterator[float]:
    """Every number of a JSON value, at any depth."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    elif isinstance(value, int | float):
        yield float(value)


def numbers_in(run: Run) -> np.ndarray:
    """Every number of a run: in JSON, at any depth, and in its weights."""
    found = [
        number
        for path in run.path.glob("*.json")
        for number in leaves(json.loads(path.read_text()))
    ]
    tensors = load((run.path / "weights.safetensors").read_bytes()).values()
    return np.concatenate([found, *(tensor.ravel().astype(float) for tensor in tensors)])


@pytest.fixture(scope="module", params=models.names())
def secretive(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    """A run of each family on a table with planted values."""
    table = ordinary()
    for column, cells in PLANTED.items():
        table = planted(table, column, cells)
    return trained(table, tmp_path_factory.mktemp("runs"), request.param)


def test_no_byte_of_a_run_is_of_a_value_that_few_share(secretive: Run) -> None:
    files = {path.name: path.read_bytes() for path in secretive.path.rglob("*") if path.is_file()}
    assert {"table.json", "schema.json", "weights.safetensors", "manifest.json"} <= set(files)
    for column, cells in PLANTED.items():
        for value in set(cells):
            for form in forms(value):
                holding = [name for name, data in files.items() if form in data]
                assert not holding, f"{column}: {holding}"


def test_no_number_of_a_run_is_near_one_that_few_share(secretive: Run) -> None:
    """Not even rounded, as a bound or a mean: within a millionth of any planted number."""
    held = numbers_in(secretive)
    for column, cells in PLANTED.items():
        for value in {cell for cell in cells if isinstance(cell, int | float)}:
            assert not np.isclose(held, value, rtol=1e-6, atol=0).any(), column


def test_the_search_finds_what_is_there(secretive: Run) -> None:
    """The same search for values that many share does find them."""
    data = (secretive.path / "table.json").read_bytes()
    assert next(forms("Bergen")) in data
    assert np.isclose(numbers_in(secretive), 10**15).any(), "the planted key, rounded up"
    assert set(secretive.table.names) >= {"identifier", "personal", "onehot"}


def test_no_planted_value_is_sampled(secretive: Run) -> None:
    drawn = Sampler.open(secretive).sample(5_000, seed=3)
    for column, cells in PLANTED.items():
        values = plain(drawn.column(column))
        secret = pa.array(cells).cast(values.type)
        assert not pc.any(pc.is_in(values, secret)).as_py(), column
    assert drawn.schema.equals(ordinary().schema)


def test_rows_of_one_subject_do_not_make_a_value_common(tmp_path: Path) -> None:
    """Fifty rows of one person show no more than one: with a subject people are counted."""
    table = ordinary().select(["city", "visits"])
    table = planted(table, "city", ["Zq-sentinel-city"] * 50)
    who = pa.array(np.maximum(np.arange(ROWS) // 3, 17))
    table = table.append_column("who", who)
    for subject, told in ((None, True), ("who", False)):
        run = trained(table, tmp_path / str(subject), subject=subject)
        data = b"".join(path.read_bytes() for path in run.path.iterdir())
        assert (b"Zq-sentinel-city" in data) == told
        assert b"Bergen" in data


# -- people -----------------------------------------------------------------------------------


def invented_people() -> pa.Table:
    """A table like `customers`, where that is not at hand: other names, other addresses."""
    g = np.random.default_rng(7)
    n = np.arange(4_000)
    first = np.array([f"{a}{b}RIK" for a in "BCDFGHJKLM" for b in ("E", "O", "AU", "ISTE")])
    last = np.array([f"{a}{b}SEN" for a in "BCDFGHJKLM" for b in ("ALT", "OLBORN", "IERKE")])
    chosen = g.choice(first, len(n))
    return pa.table(
        {
            "CustomerKey": n + 11_000,
            "FirstName": chosen,
            "LastName": g.choice(last, len(n)),
            "BirthDate": pa.array(g.integers(-9_000, 9_000, len(n)), pa.int32())
            .cast(pa.date32())
            .cast(pa.timestamp("us")),
            "EmailAddress": [
                f"{name.lower()}{number}@corp.invalid"
                for name, number in zip(chosen, n, strict=True)
            ],
            "TotalChildren": g.integers(0, 6, len(n)),
            "HomeOwner": g.choice(["Y", "N"], len(n)),
        }
    )


@pytest.fixture(scope="module")
def customers() -> pa.Table:
    """All rows of `customers`, or what stands in for it."""
    path = real_tables().get("customers")
    return invented_people() if path is None else read(path, rows=10**6)


@pytest.fixture(scope="module")
def customers_run(customers: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on it."""
    return trained(customers, tmp_path_factory.mktemp("runs"))


def words(text: str) -> set[str]:
    """Words and whole numbers of a text file."""
    cut = "".join(c if c.isalnum() or c in "@.-_" else " " for c in text).split()
    return {word for piece in cut for word in (piece, piece.strip(".-_"))}


def test_no_customer_is_in_the_run(customers: pa.Table, customers_run: Run) -> None:
    """No key, name, address or rare birthday, in text or in the weights.

    Names of fewer than six letters are looked for as whole words of the text files only: among the
    random bytes of weights any three letters turn up. A key's digits may be a count of rows, so
    counts are left out of where keys are looked for.
    """
    kinds = {column.name: column.kind for column in customers_run.table.schema.columns}
    assert kinds["CustomerKey"] == "identifier"
    assert {kinds[n] for n in ("FirstName", "LastName", "EmailAddress")} == {"personal"}
    texts = {p: p.read_text() for p in customers_run.path.iterdir() if p.suffix != ".safetensors"}
    held = set().union(*(words(text) for text in texts.values()))
    weights = (customers_run.path / "weights.safetensors").read_bytes()
    for name in ("FirstName", "LastName", "EmailAddress"):
        real = set(customers.column(name).drop_null().to_pylist())
        assert not real & held
        assert not [value for value in real if len(value) > 5 and value.encode() in weights]
    bounds = customers_run.table.codecs[customers.schema.get_field_index("CustomerKey")]
    keys = set(map(str, customers.column("CustomerKey").to_pylist()))
    assert not words(json.dumps(bounds.to_json())) & keys
    assert not [key for key in keys if struct.pack("<q", int(key)) in weights]
    births = customers.column("BirthDate").to_pylist()
    rare = [day for day, count in Counter(births).items() if count < LEAST]
    at = customers.schema.get_field_index("BirthDate")
    told = customers_run.table.codecs[at].to_json()
    ends = {told["scale"].pop("lower"), told["scale"].pop("upper")}  # ten customers lie beyond
    numbers = {*leaves(told)} - {*map(float, ends)}
    assert len(numbers) > 20, "what they are looked for in"
    assert not {day.date().isoformat() for day in rare} & held
    since = [day - dt.datetime.combine(EPOCH, dt.time()) for day in rare]
    for unit in (dt.timedelta(days=1), dt.timedelta(microseconds=1)):
        assert not {gap / unit for gap in since} & numbers


def test_no_customer_is_among_100_000_sampled_but_by_a_common_name(
    customers: pa.Table, customers_run: Run
) -> None:
    """No key and no address at all. A name as often as among the public.

    What chance allows: names are drawn from public lists, whoever is in the table, so a sampled
    first name is one of the table's with the sum of the public shares of the table's first names,
    and a full name with the sum, over the table's pairs, of the product of both shares. What is
    counted must lie within four standard errors of that.
    """
    rows = 100_000
    drawn = Sampler.open(customers_run).sample(rows, seed=1)
    assert drawn.schema.equals(customers.schema.remove_metadata())
    for name in ("CustomerKey", "EmailAddress"):
        assert pc.count_distinct(drawn.column(name)).as_py() == rows
        assert not pc.any(pc.is_in(drawn.column(name), customers.column(name))).as_py()
    public = {}
    for name, names in (("FirstName", pool("first_name")), ("LastName", pool("last_name"))):
        upper = map(str.upper, names.values.to_pylist())
        public[name] = dict(zip(upper, np.diff(names.ends, prepend=0), strict=True))
    for name, shares in public.items():
        real = set(customers.column(name).drop_null().to_pylist())
        found = np.mean([cell in real for cell in drawn.column(name).to_pylist()])
        expected = sum(share for value, share in shares.items() if value in real)
        assert found == pytest.approx(expected, abs=4 * np.sqrt(max(expected, 1e-5) / rows))

    def pairs(table: pa.Table) -> list[tuple[str, str]]:
        both = (table.column(name).to_pylist() for name in public)
        return list(zip(*both, strict=True))

    real = set(pairs(customers))
    found = np.mean([pair in real for pair in pairs(drawn)])
    expected = sum(
        public["FirstName"].get(first, 0) * public["LastName"].get(last, 0) for first, last in real
    )
    assert found == pytest.approx(expected, abs=4 * np.sqrt(max(expected, 1e-5) / rows))


def test_names_are_chosen_whoever_is_in_the_table(customers: pa.Table, customers_run: Run) -> None:
    """The choice is the row's number and the seed alone: it comes out without the run."""
    drawn = Sampler.open(customers_run).sample(50, seed=9).column("FirstName").to_pylist()
    chosen = pool("first_name").choose(uniform(np.arange(50, dtype=np.uint64), 9, 2**33 + 1))
    upper = customers.column("FirstName")[0].as_py().isupper()
    assert drawn == [name.upper() if upper else name for name in chosen.to_pylist()]
