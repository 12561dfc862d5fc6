"""Results of the gate as JUnit XML: a test case per benchmark, so that any CI can count, show and link them.

A regression is a `failure`, what cannot be judged or has no baseline is an `error`; everything else passes, with its
findings as output.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from lords_bench.gate.finding import Finding, LayerResult, Level
from lords_bench.text import visible

_TAGS = {Level.REGRESSION: "failure", Level.INVALID: "error", Level.NO_BASELINE: "error"}


def junit_xml(results: Sequence[LayerResult], *, strict: bool = False) -> str:
    """The document; `strict` makes warnings failures."""
    root = ET.Element("testsuites", name="lords_bench gate")
    for result in results:
        names = list(dict.fromkeys([*result.benchmarks, *(finding.benchmark for finding in result.findings)]))
        suite = ET.SubElement(root, "testsuite", name=result.layer, tests=str(len(names)))
        counts = {"failure": 0, "error": 0}
        for name in names:
            case = ET.SubElement(suite, "testcase", classname=f"gate.{result.layer}", name=name)
            findings = [finding for finding in result.findings if finding.benchmark == name]
            tags = {_tag(finding, strict=strict) for finding in findings} - {None}
            for tag in counts:
                counts[tag] += tag in tags
            for finding in findings:
                _add(case, finding, _tag(finding, strict=strict))
        suite.set("failures", str(counts["failure"]))
        suite.set("errors", str(counts["error"]))
        suite.set("skipped", "0")
    ET.indent(root)
    # A control character is legal in no XML, not even escaped.
    return visible(ET.tostring(root, encoding="unicode", xml_declaration=True)) + "\n"


def _tag(finding: Finding, *, strict: bool) -> str | None:
    return "failure" if strict and finding.level is Level.WARNING else _TAGS.get(finding.level)


def _add(case: ET.Element, finding: Finding, tag: str | None) -> None:
    where = [f"source: {finding.source}"] if finding.source else []
    where += [f"baseline: {finding.record}"] if finding.record else []
    text = "\n".join([finding.what, *finding.detail, *where])
    if tag is None:
        output = case.find("system-out")
        output = ET.SubElement(case, "system-out") if output is None else output
        output.text = f"{output.text}\n" if output.text else ""
        output.text += f"{finding.level}: {text}"
    else:
        ET.SubElement(case, tag, message=finding.what, type=finding.level.value).text = text
