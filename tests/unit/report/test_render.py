"""The pages: self-contained, well-formed, safe against odd names, and honest about what is missing."""

import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lords_bench.errors import RecordError, StoreError
from lords_bench.markdown import escape
from lords_bench.records import BenchRecord, RejectedLine, Status
from lords_bench.report.render import page_files, terminal_rows, write_report
from lords_bench.suites.accuracy.judge import bits_groups, select_evaluations
from lords_bench.suites.accuracy.page import accuracy_page, result_table
from record_builders import changed, make_environment, make_inputs, make_record, study

VOID = {"meta", "br", "img", "hr", "input", "link"}


class _Page(HTMLParser):
    """Checks that tags are balanced; collects ids, references and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.loads: list[str] = []
        self.headers_without_scope = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "th" and "scope" not in found:
            self.headers_without_scope += 1
        self.ids += [found["id"] or ""] if "id" in found else []
        self.references += [found["aria-labelledby"] or ""] if "aria-labelledby" in found else []
        self.references += [
            link[1:] for link in (found.get("href"), found.get("xlink:href")) if link and link[0] == "#"
        ]
        self.loads += [tag] if tag in ("script", "link", "iframe", "img") or "src" in found else []

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _three_bits(**changes: Any) -> list[BenchRecord]:
    """The study at 3 bits only: enough for what these tests are about, and quick."""
    records = [record for record in study(**changes) if record.bits in (None, 3)]
    planned = tuple(record.case_id for record in records)
    return [changed(record, planned_case_ids=planned) for record in records]


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    return page_files(accuracy_page(study()))


def _both(records: list[BenchRecord], rejected: tuple[RejectedLine, ...] = ()) -> tuple[str, str]:
    files = page_files(accuracy_page(records, rejected))
    return files["accuracy.md"], files["accuracy.html"]


def test_a_report_is_a_page_for_github_one_for_the_browser_and_its_figures(report: dict[str, str]) -> None:
    assert list(report) == [
        "accuracy.md",
        "accuracy.html",
        "accuracy-pareto.svg",
        "accuracy-changes.svg",
        "accuracy-layers.svg",
    ]


def test_shuffled_records_give_the_same_bytes(report: dict[str, str]) -> None:
    records = study()
    random.Random(1).shuffle(records)

    assert page_files(accuracy_page(records)) == report


def test_the_html_page_is_well_formed_and_loads_nothing(report: dict[str, str]) -> None:
    page = _Page(report["accuracy.html"])

    assert page.open == []
    assert page.loads == []
    assert not re.search(r"@import|url\((?!#)", report["accuracy.html"])


def test_ids_are_unique_and_every_reference_has_a_target(report: dict[str, str]) -> None:
    page = _Page(report["accuracy.html"])

    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_every_table_header_says_what_it_heads(report: dict[str, str]) -> None:
    assert _Page(report["accuracy.html"]).headers_without_scope == 0


def test_the_verdict_comes_before_everything_else(report: dict[str, str]) -> None:
    for name in ("accuracy.md", "accuracy.html"):
        text = report[name]
        assert text.index("At equal measured bits, LoRDS is") < text.index("Where the numbers come from")
        assert text.index("Where the numbers come from") < text.index("Bits per weight")


def test_every_figure_of_the_markdown_page_is_a_file(report: dict[str, str]) -> None:
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", report["accuracy.md"])

    assert len(figures) == 3
    assert set(figures) <= set(report)


def test_tables_of_the_markdown_page_have_equal_columns(report: dict[str, str]) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", report["accuracy.md"], flags=re.MULTILINE)

    assert len(blocks) >= 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_names_from_records_cannot_break_a_page() -> None:
    bad = "<script>alert(1)</script>|a*b"
    records = [make_record(bad, status=Status.CRASH, reason=bad, planned_case_ids=(bad,)), *_three_bits()]

    markdown, html = _both(records)

    assert "<script>" not in html
    assert "<script>" not in markdown
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|a\*b" in markdown


def test_failed_and_vanished_cases_are_listed_with_reasons() -> None:
    planned = ("lords-b4-g64", "gptq-b4-g64", "nf4-b4-g64")
    records = [
        make_record("lords-b4-g64", planned_case_ids=planned),
        make_record("gptq-b4-g64", status=Status.OUT_OF_MEMORY, reason="needs 9 GiB", planned_case_ids=planned),
    ]

    markdown, html = _both(records)

    assert "| gptq-b4-g64 | out_of_memory | needs 9 GiB |" in markdown.replace("\\", "")
    assert "| nf4-b4-g64 | no record |" in markdown
    assert "needs 9 GiB" in html
    assert html.count("no record") == 1


def test_weights_left_unquantized_are_named_with_their_share(report: dict[str, str]) -> None:
    assert "left unquantized: 13.3 % (lm\\_head (tied to the embedding))" in report["accuracy.md"]


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"environment": make_environment(git_dirty=True)}, "All cases were measured with uncommitted code"),
        ({"environment": make_environment(git_dirty=None, git_commit=None)}, "outside a git checkout"),
        ({"complete": False}, "All cases were partial"),
    ],
)
def test_what_weakens_the_numbers_is_said_at_the_top(changes: dict[str, Any], notice: str) -> None:
    for text in _both(_three_bits(**changes)):
        assert notice in text
        assert text.index(notice) < text.index("Where the numbers come from")


def test_several_runs_put_together_are_named_with_their_commits() -> None:
    other = make_environment(source_sha256="6" * 64, git_commit="f" * 40)
    records = [changed(r, environment=other) if r.method == "lords" else r for r in _three_bits()]

    markdown, _ = _both(records)

    assert "The cases come from 2 runs" in markdown
    assert "0123456789ab (clean)" in markdown
    assert "ffffffffffff (clean)" in markdown


def test_other_models_get_a_section_of_their_own_and_the_page_says_so() -> None:
    records = [*_three_bits(), *_three_bits(inputs=make_inputs(model_name="other", model_sha256="d" * 64))]

    files = page_files(accuracy_page(records))

    assert "The records hold 2 evaluations that differ in model" in files["accuracy.html"]
    assert files["accuracy.md"].count("\n## ") == 3
    assert "accuracy-pareto-2.svg" in files
    page = _Page(files["accuracy.html"])
    assert len(page.ids) == len(set(page.ids))


def test_lines_that_were_not_believed_are_named() -> None:
    markdown, html = _both(_three_bits(), (RejectedLine(line=7, reason="checksum does not fit"),))

    assert "Line 7 of the record file is not used: checksum does not fit." in markdown
    assert "Line 7 of the record file is not used: checksum does not fit." in html


def test_a_report_of_failures_only_can_be_made() -> None:
    for text in _both([make_record(status=Status.CRASH)]):
        assert "No verdict" in text


def test_no_record_is_an_error_not_an_empty_page() -> None:
    with pytest.raises(RecordError, match="no record of suite 'accuracy'"):
        page_files(accuracy_page([]))


def test_files_are_written_whole_and_nothing_else(tmp_path: Path) -> None:
    paths = write_report(tmp_path / "cpu", {"a.md": "text\n", "b.svg": "<svg/>"})

    assert [path.read_bytes() for path in paths] == [b"text\n", b"<svg/>"]
    assert sorted(path.name for path in (tmp_path / "cpu").iterdir()) == ["a.md", "b.svg"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("a file")

    with pytest.raises(StoreError, match=r"cannot write '.*a.md': .*; give another --out"):
        write_report(tmp_path / "cpu", {"a.md": "text"})


def test_markdown_escapes_lose_no_text() -> None:
    assert escape("a_b|c\nd") == r"a\_b\|c d"


def test_a_table_for_the_terminal_has_every_case_with_its_intervals() -> None:
    records = study()
    evaluation = select_evaluations(records, suite="accuracy")[0]
    table = result_table(evaluation, bits_groups(evaluation))

    rows = [row for _, found in terminal_rows(table) for row in found]

    assert len(rows) == len(records)
    assert {len(row) for row in rows} == {len(table.columns_in("html"))}
    assert rows[0][:2] == ("unquantized", "16.000")
    assert all("…" in cell for cell in rows[1][2:])
    assert sum(row[0].endswith(" *") for row in rows) == 3
