"""Identifiers made anew: of the pattern, unique in any piece of any sample, none of them real."""

import hashlib
import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.codecs import ColumnCodes, identifier
from raysynth.errors import TableError
from raysynth.hashing import Chance, mix, permute
from raysynth.patterns import DIGITS, LOWER, UPPER, coarse
from raysynth.schema import Schema
from raysynth.summary import ColumnSummary, summarise

LEAST, MADE = 10, 100_000
G = np.random.default_rng(0)
KEYS = np.unique(G.integers(10**6, 9 * 10**8, 3_000))
HASHED = [hashlib.sha256(str(key).encode()).hexdigest() for key in KEYS]


def summarised(values: pa.Array, size: int = 65_536) -> ColumnSummary:
    table = pa.table({"c": values})
    ids = np.arange(len(table), dtype=np.uint64)
    return summarise(table, ids, Schema.infer(table.schema), size)["c"]


def chance(rows: int, start: int = 0, seed: int = 0) -> Chance:
    return Chance(np.arange(start, start + rows, dtype=np.uint64), seed, 1_003)


def codes(rows: int) -> ColumnCodes:
    return ColumnCodes(np.empty((rows, 0), np.int32), np.empty((rows, 0), np.float32))


def fitted(values: pa.Array, size: int = 65_536) -> identifier.Codec:
    codec = identifier.Codec.fit(summarised(values, size), least=LEAST)
    text = json.dumps(codec.to_json(), allow_nan=False)
    copy = identifier.Codec.from_json(json.loads(text))
    assert copy == codec
    return copy


def made(codec: identifier.Codec, rows: int = MADE, start: int = 0, seed: int = 0) -> pa.Array:
    return codec.decode(codes(rows), chance(rows, start, seed))


def hashed(values: pa.Array) -> set[bytes]:
    """Membership by hash, as the issue has it; in the test only."""
    return {hashlib.sha256(str(value).encode()).digest() for value in values.to_pylist()}


def texts(form: str, numbers: Any = KEYS) -> pa.Array:
    return pa.array([form.format(number) for number in numbers])


def letters(number: int, alphabet: str, width: int) -> str:
    return "".join(alphabet[number // len(alphabet) ** at % len(alphabet)] for at in range(width))


CASES = {
    "sequence": (pa.array(np.arange(11_000, 29_484)), r"[3-9]\d{4}|\d{6}"),
    "scattered": (pa.array(KEYS), r"9\d{8}|\d{10,}"),
    "int32": (pa.array(KEYS.astype(np.int32)), r"9\d{8}|1\d{9}|2[01]\d{8}"),
    "uint64": (pa.array(KEYS.astype(np.uint64) + np.uint64(2**63)), r"1\d{19}"),
    "full int64": (pa.array(np.append(KEYS, 2**63 - 1)), r"-\d+"),
    "negative": (pa.array(-KEYS), r"\d+"),
    "decimal": (pa.array(KEYS).cast(pa.decimal128(30, 0)), r"9\d{8}|\d{10,}"),
    "decimal32": (pa.array(KEYS).cast(pa.decimal128(30, 0)).cast(pa.decimal32(9, 0)), r"-?\d+"),
    "prefix": (texts("AW{:08d}", range(11_000, 29_484)), r"AW\d{8,}"),
    "padded": (texts("AW{:012d}"), r"AW\d{12}"),
    "unpadded": (texts("user{}"), r"user\d{10}"),
    "digits": (texts("{:012d}"), r"\d{12}"),
    "long digits": (texts("8{:024d}", KEYS), r"\d{25,26}"),
    "suffix": (texts("no. {:09d}/B"), r"no\. \d{9,}/B"),
    "two runs": (texts("{0:09d}-{0:09d}"), r"\d{9}-\d{10}"),
    "letters": (pa.array([letters(int(k), "QWERTYUIOP", 9) for k in KEYS]), r"[A-Z]{10}"),
    "plate": (pa.array([f"{letters(int(k), 'ABXY', 3)}-{k % 10**6:06d}" for k in KEYS]),
              r"[A-Z]{3}-\d{7}"),
    "two patterns": (pa.concat_arrays([texts("A-{:09d}"), texts("{:09d}.de")]),
                     r"A-\d{11}|\d{10}\.de"),
    "hex": (pa.array([h[:12] for h in HASHED]), r"[0-9a-f]{13}"),
    "long hex": (pa.array(HASHED), r"[0-9a-f]{65}"),
    "mixed": (pa.array([f"tok_{letters(int(k), 'aB3dE5gH1jK9', 9)}" for k in KEYS]),
              r"tok_[0-9A-Za-z]{10}"),
    "accents": (texts("Größe {}"), r"Größe \d{10}"),
    "uuid": (pa.array([f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}" for h in HASHED]),
             r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "UUID": (pa.array([f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}".upper()
                       for h in HASHED]),
             r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}"),
    "uuid32": (pa.array([h[:32] for h in HASHED]), r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_100_000_are_unique_of_the_pattern_and_none_is_real(case: str) -> None:
    values, form = CASES[case]
    codec = fitted(values)
    found = made(codec)
    assert found.type == values.type
    assert found.null_count == 0
    said = [str(value) for value in found.to_pylist()]
    assert len(set(said)) == MADE
    pattern = re.compile(form)
    assert [text for text in said if not pattern.fullmatch(text)][:3] == []
    assert not hashed(values) & hashed(found)


@pytest.mark.parametrize("case", CASES)
def test_a_row_has_the_same_one_in_any_piece_and_no_other_row_ever_has(case: str) -> None:
    values, _ = CASES[case]
    codec = fitted(values)
    whole = made(codec, 5_000)
    pieces = [made(codec, 1_250, start) for start in (0, 1_250, 2_500, 3_750)]
    assert pa.concat_arrays(pieces).equals(whole)
    order = G.permutation(5_000)
    moved = codec.decode(codes(5_000), chance(5_000)[order])
    assert moved.equals(whole.take(pa.array(order)))
    far = made(codec, 5_000, 10**7)
    assert not set(far.to_pylist()) & set(whole.to_pylist())
    assert codec.encode(values, chance(len(values))).indices.shape == (len(values), 0)
    assert codec.parts == codec.shares == ()
    assert codec.index_of(values[0].as_py()) is None


@pytest.mark.parametrize("case", CASES)
def test_no_real_one_is_in_the_codec(case: str) -> None:
    """Not as a value, and not as its digits; of their ends only a number with one digit left."""
    values, _ = CASES[case]
    told = json.dumps(fitted(values).to_json())
    for alphabet in (DIGITS + LOWER[:6], DIGITS, UPPER, LOWER):
        told = told.replace(alphabet, "")
    for value in map(str, values.to_pylist()):
        runs = [run.lstrip("0") for run in re.findall(r"\d+|[a-z]+|[A-Z]+", value)]
        assert not [run for run in [value, *runs] if len(run) > 4 and run in told]


@pytest.mark.parametrize("case", ["prefix", "unpadded", "two patterns", "long hex", "scattered"])
def test_none_is_real_though_the_sample_missed_the_largest_and_longest(case: str) -> None:
    """Ends are exact over the table, of which the sample here is a tenth."""
    values, _ = CASES[case]
    some = len(values) // 10
    odd = {
        "prefix": "AW99999999",
        "unpadded": "user" + "9" * 12,
        "two patterns": "zzzz-" + "1" * 20,
    }
    planted = odd.get(case)
    if planted is not None:
        values = pa.concat_arrays([values, pa.array([planted])])
    found = made(fitted(values, some))
    assert not hashed(values) & hashed(found)
    assert len(set(found.to_pylist())) == MADE


def test_a_sequence_counts_on_and_others_are_scattered() -> None:
    values = CASES["sequence"][0]
    assert made(fitted(values), 5, 7).to_pylist() == [30_007, 30_008, 30_009, 30_010, 30_011]
    assert made(fitted(CASES["prefix"][0]), 2).to_pylist() == ["AW00030000", "AW00030001"]
    scattered = made(fitted(CASES["scattered"][0]), 2_000).to_numpy()
    assert abs(np.corrcoef(np.arange(2_000), scattered)[0, 1]) < 0.1
    assert scattered.std() > 10**7
    again = made(fitted(CASES["scattered"][0]), 2_000, seed=1).to_numpy()
    assert not np.array_equal(scattered, again)


def test_a_run_that_is_used_up_gets_more_digits() -> None:
    codec = fitted(texts("AW{:04d}", range(100, 900)))
    found = made(codec, 200_000).to_pylist()
    assert len(set(found)) == 200_000
    lengths = {len(text) for text in found}
    assert lengths == {6, 7, 8}
    assert all(len(text) == 6 for text in found[:9_000]), "the pattern's own come first"


def test_nulls_come_back_with_their_share_and_too_few_not_at_all() -> None:
    values = pa.array([f"user{key}" for key in KEYS[:900]] + [None] * 100)
    found = made(fitted(values))
    assert found.null_count / MADE == pytest.approx(0.1, abs=0.005)
    assert len(set(found.drop_null().to_pylist())) == MADE - found.null_count
    assert made(fitted(values.slice(0, 909))).null_count == 0


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_types_are_restored(kind: pa.DataType) -> None:
    found = made(fitted(texts("user{}").cast(kind)), 500)
    assert found.type == kind
    assert len(set(found.to_pylist())) == 500


def test_a_pattern_that_few_share_is_not_written_down() -> None:
    values = pa.concat_arrays([texts("A-{:09d}"), pa.array(["Ünique/person-7"] * 9)])
    told = json.dumps(fitted(values).to_json(), ensure_ascii=False)
    assert "nique" not in told
    assert "person" not in told
    shared = pa.concat_arrays([texts("A-{:09d}"), texts("Ünit/{}", range(10, 40))])
    assert fitted(shared).patterns[1].pieces[:3] == ("Ü", "nit", "/")


def test_a_type_without_room_is_refused_when_fitted_or_when_sampled() -> None:
    full = pa.array(np.arange(256, dtype=np.uint8))
    with pytest.raises(TableError, match=r"column 'c' is uint8, which has no room .*--drop 'c'"):
        fitted(full)
    narrow = pa.array([f"AW{n:08d}" for n in range(100)]).dictionary_encode()
    kind = pa.dictionary(pa.int8(), pa.string())
    with pytest.raises(TableError, match=r"column 'c' is .*int8.*cast it to string, or .*--drop"):
        fitted(narrow.cast(kind))
    codec = fitted(pa.array(np.arange(-100, 100, dtype=np.int16)))
    assert len(set(made(codec, 30_000).to_pylist())) == 30_000
    with pytest.raises(
        TableError, match=r"int16 has room for 32,668 new identifiers; sample fewer"
    ):
        made(codec, 40_000)


@given(st.integers(1, 2**62), st.integers(0, 2**63), st.integers(0, 2**40))
def test_permute_is_one_to_one_below_its_size(size: int, seed: int, stream: int) -> None:
    some = np.unique(np.random.default_rng(seed).integers(0, size, 300).astype(np.uint64))
    moved = permute(some, size, seed, stream)
    assert moved.max() < size
    assert len(np.unique(moved)) == len(some)
    if size <= 10_000:
        every = permute(np.arange(size, dtype=np.uint64), size, seed, stream)
        assert np.array_equal(np.sort(every), np.arange(size))


def test_the_bound_keeps_one_digit() -> None:
    assert [coarse(n) for n in (-5, 0, 7, 99, 100, 29_483, 99_999)] == [
        *(1, 1, 8, 100, 200, 30_000, 100_000),
    ]


def test_uuids_use_all_of_a_one_to_one_hash() -> None:
    """So that no two rows can have the same, the 64 bits of a row's hash are all in its UUID."""
    ids = chance(1_000).ids
    found = made(fitted(CASES["uuid"][0]), 1_000).to_pylist()
    first = mix(ids, 0, 2**34 + 2**14 * 1_003)
    for text, bits in zip(found, first.tolist(), strict=True):
        whole = int(text.replace("-", ""), 16)
        top, low = whole >> 64, whole & (2**64 - 1)
        back = (top >> 16) << 16 | (top & 0xFFF) << 4 | low >> 58 & 15
        assert back == bits
