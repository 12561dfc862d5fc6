"""No text of a record gets out of the place where it is shown: on no page, in no cell, on no terminal.

Every page is made twice, from records whose texts end in ` x` and in everything that Markdown, HTML, XML, templates and
terminals give a meaning to; both must have the same structure, element for element.
"""

import io
import re
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from cost_builders import make_check, make_ptq, make_step
from gate_builders import make_fingerprint, uncompiled
from hostile import HARMLESS, HOSTILE, filled
from lords_bench.cli.gate import report
from lords_bench.cli.output import complain, say
from lords_bench.cli.report import print_closing
from lords_bench.gate.finding import Finding, LayerResult, Level
from lords_bench.gate.junit import junit_xml
from lords_bench.gate.markdown import markdown
from lords_bench.records import BenchRecord, LifecycleRecord, RejectedLine, Status
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import read_nouns
from lords_bench.report.checks import checks_page
from lords_bench.report.history import history_page
from lords_bench.report.render import page_files
from lords_bench.static.predicted import predicted_page, predicted_times
from lords_bench.suites.accuracy.page import accuracy_page
from lords_bench.suites.cost.page import cost_page
from lords_bench.suites.latency.page import latency_page
from lords_bench.suites.lifecycle.page import lifecycle_page
from lords_bench.terminal import Console
from lords_bench.text import visible
from record_builders import study

GOLDEN = Path(__file__).parent
Make = Callable[[str], dict[str, str]]
# Names that pages look up in tables of their own; with others a page is made, of less.
SUITE = r"record\.suite$"
NAMES = r"record\.(method|suite|methods\[\]|case\.\w+|kernel)$"


def rejected(ending: str) -> tuple[RejectedLine, ...]:
    return (RejectedLine(line=3, reason=f"no{ending}"),)


@cache
def golden(suite: str, noun: type[Any]) -> tuple[Any, ...]:
    return read_nouns(GOLDEN / suite / "records.jsonl", noun).records[:80]


def accuracy(ending: str, but: str = SUITE) -> dict[str, str]:
    return page_files(accuracy_page(filled(golden("accuracy", BenchRecord), ending, but=but), rejected(ending)))


def latency(ending: str, but: str = SUITE) -> dict[str, str]:
    return page_files(latency_page(filled(golden("latency", LatencyRecord), ending, but=but), rejected(ending)))


def lifecycle(ending: str, but: str = SUITE) -> dict[str, str]:
    return page_files(lifecycle_page(filled(golden("lifecycle", LifecycleRecord), ending, but=but), rejected(ending)))


def cost(ending: str, but: str = SUITE) -> dict[str, str]:
    failed = {"status": Status.CRASH, "seconds": None, "reason": "broke"}
    steps = [make_step("lords", 3.0), make_step("qlora-peft", 4.0), make_step("other", 1.0, **failed, measurement=None)]
    return page_files(
        cost_page(filled([make_ptq("a"), make_ptq("b", **failed), *steps], ending, but=but), rejected(ending))
    )


def checks(ending: str, but: str = SUITE) -> dict[str, str]:
    bad = {"status": Status.INCORRECT, "reason": "wrong", "worst": 3.0}
    records = [
        make_check(),
        make_check(case="b", **bad),
        make_check(tool="memcheck", case="c", **{**bad, "worst": None}),
    ]
    return page_files(checks_page(filled(records, ending, but=but), rejected(ending)))


def history(ending: str, but: str = SUITE) -> dict[str, str]:
    return page_files(history_page("kl", filled(golden("accuracy", BenchRecord), ending, but=but)))


def predictions(ending: str, but: str = SUITE) -> dict[str, str]:
    pins = filled([make_fingerprint(), uncompiled()], ending, but=f"{but}|record.target")
    return {"predicted.md": predicted_page(predicted_times(pins))}


def gate_results(ending: str) -> list[LayerResult]:
    findings = tuple(
        Finding(
            benchmark=f"bench{ending}", level=level, what=f"what{ending}", detail=(f"detail{ending}",),
            source=f"kernels/a{ending}", record=f"reports/a.jsonl{ending}#L3",
        )
        for level in Level
    )  # fmt: skip
    return [
        LayerResult(
            layer=f"static{ending}", facts=(f"fact{ending}",), benchmarks=(f"bench{ending}",), same=0, findings=findings
        )
    ]


def gate(ending: str, _but: str = "") -> dict[str, str]:
    results = gate_results(ending)
    return {"gate.md": markdown(results, link_base="https://example.org/"), "gate.xml": junit_xml(results)}


PAGES: dict[str, Callable[..., dict[str, str]]] = {
    "accuracy": accuracy, "latency": latency, "lifecycle": lifecycle, "cost": cost, "checks": checks,
    "history": history, "predictions": predictions, "gate": gate,
}  # fmt: skip


def markdown_structure(text: str) -> list[Any]:
    """Blocks, and in each the marks in its line; texts, and where they are split, are left out."""
    found: list[Any] = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        inner = [
            (child.type, child.tag) for child in token.children or () if child.type not in ("text", "text_special")
        ]
        found.append((token.type, token.tag, token.level, inner))
    return found


class _Tags(HTMLParser):
    """Every tag with the names of its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attributes]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", []))

    def handle_comment(self, data: str) -> None:  # noqa: ARG002  (the parser's method)
        self.found.append(("comment", []))


def html_structure(text: str) -> list[Any]:
    # What a figure draws hangs on the width of its texts; figures are looked at by themselves.
    return _Tags(re.sub(r"<svg.*?</svg>", "<svg></svg>", text, flags=re.DOTALL)).found


def xml_structure(text: str) -> list[Any]:
    return [(element.tag, sorted(element.attrib)) for element in ET.fromstring(text).iter()]  # noqa: S314  (our own)


def svg_structure(text: str) -> list[Any]:
    texts = [tag for tag, _ in xml_structure(text) if tag.endswith(("}text", "}a", "}script"))]
    return [len(texts)]


STRUCTURES = {".md": markdown_structure, ".html": html_structure, ".svg": svg_structure, ".xml": xml_structure}


def assert_shown_alike(pages: Callable[..., dict[str, str]], but: str) -> None:
    harmless, hostile = pages(HARMLESS, but), pages(HOSTILE, but)

    assert harmless.keys() == hostile.keys()
    for name, text in hostile.items():
        structure = STRUCTURES[Path(name).suffix]
        assert visible(text) == text, name
        assert "{{ 49" not in text
        assert structure(text) == structure(harmless[name]), name


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("but", [SUITE, NAMES], ids=["every text", "names stay"])
def test_no_text_gets_out_of_its_place(name: str, but: str) -> None:
    assert_shown_alike(PAGES[name], but)


def test_the_text_is_on_the_pages() -> None:
    """The test above would pass if nothing of the texts was shown."""
    for name, pages in PAGES.items():
        assert any("alert" in text for text in pages(HOSTILE, NAMES).values()), name


def test_an_unescaped_text_is_found() -> None:
    assert markdown_structure(f"- a{HOSTILE}") != markdown_structure(f"- a{HARMLESS}")
    assert markdown_structure("| a |\n|---|\n| <b>x |") != markdown_structure("| a |\n|---|\n| x |")
    assert html_structure("<p>a<b></p>") != html_structure("<p>a</p>")


def assert_one_terminal_line(text: str, lines: int) -> None:
    assert visible(text) == text
    assert len(text.splitlines()) == lines


def test_nothing_acts_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain(f"refused{HOSTILE}")
    assert_one_terminal_line(capsys.readouterr().err, 1)
    say(f"said{HOSTILE}")
    assert visible(text := capsys.readouterr().out) == text


def test_the_closing_table_and_the_gates_lines_act_on_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_closing(filled(study(), HOSTILE, but=NAMES), [Path(f"page{HOSTILE}.md")])
    report(gate_results(HOSTILE), Namespace(strict=False, markdown=None, junit=None, link_base=""))

    text = capsys.readouterr().out
    assert "alert" in text
    assert visible(text) == text


def test_rich_shows_brackets_as_brackets() -> None:
    written = io.StringIO()

    Console(file=written, width=200).print("[bold]a[/nothing] \x1b[31m :smile:")

    assert written.getvalue() == "[bold]a[/nothing] \N{REPLACEMENT CHARACTER}[31m :smile:\n"


def _riches(sources: Iterable[tuple[str, str]]) -> list[str]:
    return [name for name, source in sources if re.search(r"rich\.console import .*\bConsole\b", source)]


def test_every_console_is_this_projects() -> None:
    root = Path(__file__).resolve().parents[2]
    folders = [root / "lords_bench", root / "suites", root / "kernels"]
    paths = [path for folder in folders for path in folder.rglob("*.py")]

    assert _riches((str(path), path.read_text("utf-8")) for path in paths) == []
    assert _riches([("a", "from rich.console import Console, Group")]) == ["a"]
