"""The page: self-contained, escaped, and silent about what few real rows share."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.judge import judge
from raysynth.report import html
from raysynth.schema import Schema

HOSTILE = "<script>alert('v')</script>"
NAME = 'a"><img src=x onerror=alert(1)> $\\frac'


def hostile(rows: int = 400, seed: int = 0) -> pa.Table:
    g = np.random.default_rng(seed)
    words = g.choice([HOSTILE, "$x^", "]]>--><!--", "{{ 7 * 7 }}", "統計\x00\n\u202ex"], rows)
    return pa.table(
        {
            NAME: words,
            "n": g.normal(size=rows),
            "flag": pa.array(g.random(rows) > 0.4, mask=g.random(rows) > 0.9),
        }
    )


def page(synthetic: pa.Table, real: pa.Table, **options: Any) -> str:
    schema = Schema.infer(real.schema)
    return html(judge(synthetic, real, None, schema), synthetic, real, schema, **options)


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def source() -> str:
    return page(hostile(seed=1), hostile(), title="</title><script>alert(2)</script>")


def test_names_and_values_are_escaped(source: str) -> None:
    tags = {tag for tag, _ in Elements(source).found}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
    assert "&lt;script&gt;alert" in source
    assert "&lt;img src=x" in source
    assert "{{ 7 * 7 }}" in source
    assert "\x00" not in source
    assert "\u202e" not in source
    for _, attributes in Elements(source).found:
        assert not any(name.startswith("on") for name in attributes)


def test_nothing_is_fetched(source: str) -> None:
    for _, attributes in Elements(source).found:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in source
    assert re.findall(r"url\((?!#|'#|\"#)", source) == []
    assert "http" not in source.replace("http-equiv", "")
    assert "default-src 'none'" in source


def test_page_says_what_it_does_not_measure(source: str) -> None:
    assert "does not measure membership attacks" in source
    assert "attribute attacks" in source
    assert "anonymous" not in source.lower()
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source
    assert source.count("<svg") == 3


def test_page_is_the_same_again(source: str) -> None:
    title = "</title><script>alert(2)</script>"
    assert page(hostile(seed=1), hostile(), title=title) == source


def test_categories_that_few_real_rows_share_are_not_named() -> None:
    real = pa.table({"c": ["usual"] * 190 + ["sentinelA"] * 9 + [None], "k": ["tenfold"] * 200})
    synthetic = pa.table({"c": ["usual"] * 100 + ["sentinelB"] * 100, "k": ["tenfold"] * 200})
    found = page(synthetic, real)
    assert "usual" in found
    assert "sentinel" not in found
    assert "(missing)" not in found
    assert "other: real 5.0%, synthetic 50.0%" in found
    few = pa.table({"c": ["usual"] * 195 + ["sentinelA"] * 5, "k": ["tenfold"] * 200})
    assert "other: real fewer than 10 rows, synthetic 50.0%" in page(synthetic, few)


def test_numbers_that_few_real_rows_share_are_not_drawn() -> None:
    g = np.random.default_rng(0)
    usual = g.integers(0, 10, 395)
    real = pa.table({"n": [*usual, *[7777] * 5], "c": ["a"] * 400})
    found = page(pa.table({"n": [*usual, *[7777] * 5], "c": ["a"] * 400}), real)
    assert "7777" not in found
    assert "in bins not drawn: real" in found
    ticks = [float(t) for t in re.findall(r">(-?\d+(?:\.\d+)?)</text>", found)]
    assert not [tick for tick in ticks if 7000 < tick < 8000]


def test_a_table_too_small_to_draw_still_has_a_page() -> None:
    table = pa.table(
        {"n": pa.array([None] * 4 + list(range(8)), pa.int64()), "c": list("abcdefghijkl")}
    )
    found = page(table, table)
    assert "not drawn: fewer than 10 real rows share any value" in found
    assert "<svg" not in found


def test_extreme_and_constant_numbers_are_drawn() -> None:
    g = np.random.default_rng(0)
    table = pa.table(
        {
            "huge": g.normal(size=200) * 1e290,
            "tiny": g.normal(size=200) * 1e-300,
            "far": 1e15 + g.random(200),
            "one": [4.2] * 200,
            "ends": [1.7e308, -1.7e308] * 100,
            "none": pa.array([None] * 200, pa.float64()),
        }
    )
    found = page(table, table)
    assert found.count("<svg") == 4
    assert "in bins not drawn: real 100.0%" in found
    assert "missing: real 100.0%, synthetic 100.0%" in found


def test_at_most_sixty_columns_are_drawn() -> None:
    table = pa.table({f"n{i}": [True, False] * 15 for i in range(62)})
    found = page(table, table)
    assert found.count("<svg") == 60
    assert "2 more columns" in found


EPOCHS = [
    {"epoch": 1, "rows": 400, "loss": 3.0, "held": 9.5},
    {"epoch": 2, "rows": 400, "loss": 2.0, "held": 8.25, "fidelity": 0.5},
    {"epoch": 3, "rows": 400, "loss": 1.0, "held": 8.5},
    {"epoch": 4, "rows": 400, "loss": 1.0, "held": 8.75, "fidelity": 0.625},
]


def test_what_was_measured_while_training_is_drawn_and_the_kept_epoch_marked() -> None:
    table = pa.table({"b": [True, False] * 20})
    plain = page(table, table)
    assert "<h2>Training</h2>" not in plain
    assert page(table, table, epochs=EPOCHS[:1], kept=1) == plain
    assert page(table, table, epochs=[{"epoch": k, "loss": 1.0} for k in (1, 2)], kept=2) == plain
    found = page(table, table, epochs=EPOCHS, kept=2)
    assert "for 4 epochs" in found
    assert "those of epoch 2" in found
    assert found.count("<svg") == plain.count("<svg") + 2
    told = re.findall(r"<span>(fidelity|held)</span><small>([0-9.]+)</small>", found)
    assert told == [("fidelity", "0.500"), ("held", "8.250")]
    assert "It ranks the epochs of one training" in found
    assert "Bits that a held-out row costs" in found
    tags = {tag for tag, _ in Elements(found).found}
    assert not tags & {"script", "img", "link"}


def test_the_line_and_its_mark_lie_where_the_epochs_are() -> None:
    def drawn(epochs: list[dict[str, float]], kept: int | None) -> tuple[Any, Any, Any]:
        """The line's points, where the mark across it is, and the mark on it."""
        table = pa.table({"b": [True, False] * 20})
        found = page(table, table, epochs=epochs, kept=kept)
        svg = found.split("<h2>Training</h2>")[1].split("</svg>")[0]
        line = re.search(r'd="([^"]+)"[^>]*stroke: var\(--synthetic\)', svg)
        dashed = re.search(r'd="M ([-0-9.]+) [^"]*"[^>]*stroke-dasharray', svg)
        dot = re.search(r'<use [^>]*x="([-0-9.]+)" y="([-0-9.]+)"[^>]*fill: var\(--ink\)', svg)
        assert line is not None
        numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", line[1])]
        return (
            [*zip(numbers[::2], numbers[1::2], strict=True)],
            dashed and float(dashed[1]),
            dot and tuple(map(float, dot.groups())),
        )

    epochs = [{"epoch": k, "fidelity": f} for k, f in ((1, 0.2), (2, 0.6), (4, 0.5))]
    points, dashed, dot = drawn(epochs, 2)
    assert dot == pytest.approx(points[1], abs=0.01)
    assert dashed == pytest.approx(points[1][0], abs=0.01)
    assert points[1][1] < points[2][1] < points[0][1]
    assert points[2][0] - points[1][0] == pytest.approx(2 * (points[1][0] - points[0][0]), abs=0.01)
    assert drawn(epochs, None)[1:] == (None, None)
    # An epoch that was not measured has no point, but a place.
    _, dashed, dot = drawn(epochs, 3)
    assert dot is None
    assert dashed == pytest.approx((points[1][0] + points[2][0]) / 2, abs=0.01)
