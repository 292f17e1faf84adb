"""The page: verdict first, self-contained, escaped, silent about what few real rows share."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.config import GateConfig
from raysynth.figures import Learner
from raysynth.gate import decide
from raysynth.judge import Report, judge
from raysynth.reading import question
from raysynth.report import html
from raysynth.risks import Risk, membership, skipped
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


def columns(found: str) -> str:
    """The part of a page that draws columns."""
    return found.split("<h2>Columns</h2>")[1].split("</section>", maxsplit=1)[0]


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class Words(HTMLParser):
    """What a reader sees, in order, in one line."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = tag in {"style", "title"}

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False

    def handle_data(self, data: str) -> None:
        self.parts += [] if self.hidden else data.split()

    def __str__(self) -> str:
        return " ".join(self.parts)


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


def test_a_page_without_attacks_says_that_it_is_not_about_privacy(source: str) -> None:
    words = str(Words(source))
    assert "Whether this table may be shared was not judged" in words
    assert "No attack was made: nothing here is about privacy." in words
    assert "anonymous" not in source.lower()
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source
    assert columns(source).count("<svg") == 3


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


@pytest.mark.parametrize("least", [5, 10, 30])
def test_what_fewer_than_least_real_rows_share_is_not_drawn(least: int) -> None:
    """An extreme number, a rare category and a rare time: of one row, or of one too few."""
    g = np.random.default_rng(1)
    usual = [*g.normal(50, 10, 600).round(1)]
    for rows in (1, least - 1, least):
        real = pa.table(
            {
                "wage": [*usual, *[987654.5] * rows],
                "low": [*usual, *[-31415.5] * rows],
                "age": [*g.integers(20, 60, 600), *[7777] * rows],
                "job": [*g.choice(["baker", "nurse"], 600), *["astronaut"] * rows],
            }
        )
        found = page(real, real, least=least)
        named = "astronaut" in found
        assert named == (rows == least)
        shown = [float(tick) for tick in re.findall(r">(-?[0-9.]+)</text>", columns(found))]
        assert shown
        if rows < least:
            # Neither the number nor how far off it is: no axis reaches beyond the other rows.
            assert not [tick for tick in shown if not -10 < tick < 110]
            assert not any(cell in found for cell in ("987654", "987,654", "31415", "7777"))
    assert f"fewer than {least} real rows share" in found


def test_a_number_that_many_share_is_drawn_however_far_off() -> None:
    g = np.random.default_rng(1)
    table = pa.table({"n": [*g.normal(0, 1, 300), *[40.0] * 100], "c": ["a", "b"] * 200})
    found = columns(page(table, table))
    assert "40" in re.findall(r">(-?[0-9.]+)</text>", found)


def test_a_table_too_small_to_draw_still_has_a_page() -> None:
    table = pa.table(
        {"n": pa.array([None] * 4 + list(range(8)), pa.int64()), "c": list("abcdefghijkl")}
    )
    found = page(table, table)
    assert "not drawn: fewer than 10 real rows share any value" in found
    assert "<svg" not in columns(found)


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
    assert columns(found).count("<svg") == 4
    assert "in bins not drawn: real 100.0%" in found
    assert "missing: real 100.0%, synthetic 100.0%" in found


def test_at_most_sixty_columns_are_drawn() -> None:
    table = pa.table({f"n{i}": [True, False] * 15 for i in range(62)})
    found = page(table, table)
    assert columns(found).count("<svg") == 60
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


NOTE = "how to read it"
QUIET = membership("membership_trees", *np.random.default_rng(3).normal(size=(2, 2000)), NOTE)
LOUD = Risk("singling_out_univariate", "risk", 0.4, 0.3, 0.5, 0.0, 1000, NOTE)
DOUBT = Risk("linkability", "risk", 0.07, 0.04, 0.11, 0.0, 1000, NOTE)
SKIPPED = skipped("inference", "risk", NOTE, "needs 100 rows of each table")


def judged(*risks: Risk, **changed: Any) -> str:
    """The page of two tables that are alike, with what those attacks achieved."""
    real, synthetic = hostile(), hostile(seed=1)
    schema = Schema.infer(real.schema)
    report: Report = judge(synthetic, real, real, schema, target="flag")
    verdict = decide(risks, (), GateConfig(), ("That was not tried.",))
    report = replace(report, risks=risks, verdict=verdict, **changed)
    return html(report, synthetic, real, schema, "A table", gate=GateConfig())


@pytest.mark.parametrize(
    ("risks", "first"),
    [
        ([QUIET], "No check speaks against sharing this table Every check stayed under its bars."),
        (
            [QUIET, DOUBT],
            (
                "Weigh the warnings before sharing this table No check failed, but an attack "
                "gained something, cannot be ruled out, or could not be made. The warnings say "
                "which. Warn Linking two records of one person gains something: risk 0.070"
            ),
        ),
        (
            [QUIET, DOUBT, LOUD],
            (
                "Do not share this table An attack works: whoever gets the table can learn more "
                "about people in the training rows than about anybody else. Fail Singling a person "
                "out works: risk 0.400 (0.300 to 0.500; without the table 0), above the bar of 0.1."
            ),
        ),
    ],
)
def test_the_verdict_and_why_come_first(risks: list[Risk], first: str) -> None:
    found = judged(*risks)
    words = str(Words(found))
    assert words.startswith(f"A table {first}")
    assert "anonym" not in found.lower()
    order = ["What passed", "What was not tried", "In plain words", "Attacks on people"]
    places = [words.rindex(f"{part} ") for part in order]
    assert places == sorted(places)
    assert found.index("<h1>") < found.index("<h2>")
    assert "That was not tried." in words


def test_an_attack_that_was_skipped_is_shown_as_not_tried() -> None:
    found = judged(QUIET, SKIPPED)
    words = str(Words(found))
    assert words.startswith("A table Weigh the warnings")
    assert "Not tried Could not be made (needs 100 rows of each table)" in words
    untried = found.split("<h2>What was not tried</h2>")[1].split("</section>")[0]
    assert "inference: needs 100 rows of each table" in untried
    assert untried.count("<li>") == 2
    attacks = found.split('<section id="attacks">')[1]
    row = attacks.split("<small>inference</small>")[1].split("</tr>")[0]
    assert "<svg" not in row
    assert "Pass" not in row


def test_what_an_attack_achieves_is_drawn_beside_chance_and_bars() -> None:
    """Bars are at the same places of all lines, and what lies beyond one lies to its right."""

    def drawn(risk: Risk) -> tuple[list[float], float, tuple[float, float]]:
        line = judged(risk).split("<h2>Attacks")[1].split("<svg")[1].split("</svg>")[0]
        zones = re.findall(r'class="(low|middle|high)" x="([0-9.]+)"', line)
        dot = re.search(r'cx="([0-9.]+)"', line)
        span = re.search(r'class="span" x="([0-9.]+)" y="10" width="([0-9.]+)"', line)
        assert [zone for zone, _ in zones] == ["low", "middle", "high"]
        assert dot is not None
        assert span is not None
        left, wide = float(span[1]), float(span[2])
        return [float(x) for _, x in zones], float(dot[1]), (left, left + wide)

    loud, doubt, quiet = (drawn(risk) for risk in (LOUD, DOUBT, QUIET))
    assert loud[0] == doubt[0] == quiet[0]
    _, warn, fail = loud[0]
    assert loud[1] > fail
    assert warn < doubt[1] < fail
    assert quiet[1] < warn
    assert doubt[2][0] < warn
    assert doubt[2][1] > fail
    assert loud[2][0] > fail
    for bars in ((0.0, 0.0), (0.05, 1.0)):  # at the line's ends, nothing is of negative width
        real = hostile()
        schema = Schema.infer(real.schema)
        report = replace(judge(real, real, None, schema), risks=(LOUD,))
        found = html(report, real, real, schema, gate=GateConfig(risk=bars))
        assert 'width="-' not in found


def test_a_curve_of_an_attack_is_drawn_evenly_and_by_magnitude() -> None:
    found = judged(QUIET, LOUD)
    folded = re.findall(r"<details class=\"roc\">.*?</details>", found, flags=re.DOTALL)
    assert len(folded) == 1
    assert "membership_trees" in folded[0]
    assert folded[0].count("<svg") == 2
    assert "on a logarithmic scale" in folded[0]
    assert "0.001</text>" in folded[0]
    few = membership("membership_trees", np.arange(40.0), np.arange(40.0), NOTE)
    assert "on a logarithmic scale" in judged(few)
    assert "0.001</text>" not in judged(few)


def test_every_attack_asks_a_question_of_its_own() -> None:
    """Names that begin alike are not asked alike where they ask for something else."""
    names = ["inference", "inference_worst", "membership_trees", "membership_model"]
    asked = [question(replace(LOUD, name=name)) for name in names]
    assert len(set(asked)) == len(names)
    assert question(replace(LOUD, name="unheard_of")) == "Unheard of"


def test_learners_are_drawn_with_the_line_of_equal_scores() -> None:
    assert "<h2>Models learned from it</h2>" not in judged(QUIET, learners=())
    found = judged(
        QUIET,
        learners=(
            Learner(HOSTILE, "AUC", 0.7, 0.8, 0.5),
            Learner("trees", "AUC", 0.9, 0.9, 0.5),
            Learner("alone", "R2", 0.4, None, 0.0),
        ),
    )
    part = found.split("<h2>Models learned from it</h2>")[1].split("</section>")[0]
    assert part.count("<svg") == 1  # without a ceiling there is nothing to hold it against
    assert "stroke-dasharray" in part
    assert all(f">{name}<" in part for name in ("trees", "alone", "0.700", "0.400"))
    assert HOSTILE not in found


def test_hostile_names_are_escaped_wherever_they_stand() -> None:
    why = f"needs {HOSTILE}"
    found = judged(
        replace(SKIPPED, skipped=why, note=HOSTILE), replace(LOUD, note=f"Worst is '{NAME}'.")
    )
    tags = {tag for tag, _ in Elements(found).found}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
    assert HOSTILE not in found
    for _, attributes in Elements(found).found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith("#")


def test_the_page_is_read_without_a_mouse_or_eyes() -> None:
    found = judged(QUIET, LOUD)
    elements = Elements(found).found
    for tag, attributes in elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
    places = {attributes["id"] for _, attributes in elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert {"#attacks", "#figures", "#columns"} <= links
    assert {str(link)[1:] for link in links} <= places
