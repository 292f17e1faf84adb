"""A report's verdict as JUnit XML, so that a pipeline stops at a table that must not be shared.

There is no one schema of JUnit; what is written here are the elements of Jenkins's
(`testsuites`, `testsuite`, `testcase`, `failure`, `skipped`, `system-out`), which GitLab, GitHub's
actions and Azure's pipelines read too. A warning has no element of its own: it is a passed case
whose `system-out` begins with "warning:".
"""

from collections import Counter
from xml.etree import ElementTree as ET

from raysynth.judge import Report
from raysynth.printable import printable

CHECKS, ATTACKS = "raysynth.gate", "raysynth.attacks"


def junit(report: Report, name: str) -> str:
    """The verdict as XML: a case for each reason of the gate and each attack that was skipped.

    A reason that fails is a failure. A skipped attack is a skipped case, whatever its reason, but
    for one that fails. Without a verdict the one case of the gate is skipped: no pipeline should
    take a table for passed that was not judged. `name` is the suite's.
    """
    suite = ET.Element("testsuite", name=printable(name))
    skipped = {risk.name: risk.skipped for risk in report.risks if risk.skipped is not None}
    seen: Counter[str] = Counter()
    if report.verdict is None:
        _skip(_case(suite, CHECKS, "verdict", seen), "no gate was asked")
    for reason in [] if report.verdict is None else report.verdict.reasons:
        case = _case(suite, CHECKS, reason.name, seen)
        said = printable(reason.said)
        if reason.level == "fail":
            ET.SubElement(case, "failure", message=said, type="fail").text = said
            continue
        if reason.name in skipped:
            _skip(case, skipped[reason.name])
        _tell(case, f"warning: {said}" if reason.level == "warn" else said)
    told = set() if report.verdict is None else {one.name for one in report.verdict.reasons}
    for risk, why in skipped.items():
        if risk not in told:
            _skip(_case(suite, ATTACKS, risk, seen), why)
    if report.verdict is not None and report.verdict.untried:
        untried = "\n".join(f"- {printable(one)}" for one in report.verdict.untried)
        _tell(suite, f"not tried:\n{untried}")
    root = ET.Element("testsuites", name=printable(name))
    root.append(suite)
    for element in (root, suite):
        for key, tags in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            element.set(key, str(len(list(suite.iter(tags)))))
        element.set("errors", "0")
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, group: str, name: str, seen: Counter[str]) -> ET.Element:
    """A case of that name, numbered from the second on: readers take same names for one case."""
    name = printable(name)
    seen[name] += 1
    shown = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return ET.SubElement(suite, "testcase", classname=group, name=shown)


def _skip(case: ET.Element, why: str) -> None:
    ET.SubElement(case, "skipped", message=printable(why))


def _tell(element: ET.Element, said: str) -> None:
    ET.SubElement(element, "system-out").text = said
