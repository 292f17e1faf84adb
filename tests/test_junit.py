"""JUnit XML: well-formed whatever the names, and never green without a verdict."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest

from raysynth.gate import Reason, Verdict
from raysynth.judge import Report, judge
from raysynth.junit import junit
from raysynth.risks import skipped
from raysynth.schema import Schema

HOSTILE = 'a"><failure/>&]]>\x00\x1b[31m\u202e\ud800\n'


@pytest.fixture(scope="module")
def report() -> Report:
    table = pa.table({"b": [True, False, None] * 20})
    return judge(table, table, None, Schema.infer(table.schema))


def suite(text: str) -> ET.Element:
    """The one suite of it, with its counts checked."""
    text.encode()
    root = ET.fromstring(text.removeprefix('<?xml version="1.0" encoding="UTF-8"?>'))
    (found,) = root
    assert root.tag == "testsuites"
    for element in (root, found):
        assert element.get("tests") == str(len(found.findall("testcase")))
        assert element.get("failures") == str(len(found.findall("testcase/failure")))
        assert element.get("skipped") == str(len(found.findall("testcase/skipped")))
        assert element.get("errors") == "0"
    return found


def test_hostile_names_leave_the_xml_sound(report: Report) -> None:
    reasons = tuple(Reason(level, HOSTILE, HOSTILE) for level in ("fail", "warn", "pass"))
    risk = skipped(HOSTILE + "2", "risk", HOSTILE, HOSTILE)
    told = replace(report, risks=(risk,), verdict=Verdict("fail", reasons, (HOSTILE,)))
    found = suite(junit(told, HOSTILE))
    assert len(found.findall("testcase")) == 4
    assert len({case.get("name") for case in found.findall("testcase")}) == 4
    (failure,) = found.findall("testcase/failure")
    assert '"><failure/>&]]>' in (failure.text or "")
    assert not any(ord(letter) < 32 and letter != "\n" for letter in "".join(found.itertext()))


def test_a_failed_reason_fails_and_a_skipped_attack_is_skipped(report: Report) -> None:
    reasons = (
        Reason("fail", "exact_copies", "Finding somebody's whole row works."),
        Reason("warn", "inference", "It could not be tried."),
        Reason("warn", "utility", "Much is lost."),
        Reason("pass", "linkability", "It gained little."),
    )
    risk = skipped("inference", "risk", "how to read it", "needs 100 rows of each table")
    verdict = Verdict("fail", reasons, ("That was not tried.",))
    found = suite(junit(replace(report, risks=(risk,), verdict=verdict), "run"))
    cases = {case.get("name"): case for case in found.findall("testcase")}
    assert list(cases) == ["exact_copies", "inference", "utility", "linkability"]
    assert [child.tag for child in cases["exact_copies"]] == ["failure"]
    assert [child.tag for child in cases["inference"]] == ["skipped", "system-out"]
    assert (cases["utility"].findtext("system-out") or "") == "warning: Much is lost."
    assert cases["linkability"].findtext("system-out") == "It gained little."
    assert "That was not tried." in (found.findtext("system-out") or "")


def test_without_a_verdict_nothing_passes(report: Report) -> None:
    found = suite(junit(report, "run"))
    assert [case.get("name") for case in found.findall("testcase/skipped/..")] == ["verdict"]
    assert len(found.findall("testcase")) == 1
