"""A device report is a pure function of its records: fixed records give these pages, byte for byte.

Renew them with `PYTHONPATH=tests python tests/golden/renew_latency.py` and read the difference before committing it.
"""

from pathlib import Path

import pytest

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import read_nouns
from lords_bench.report.render import page_files
from lords_bench.suites.latency.page import latency_page

FOLDER = Path(__file__).parent / "latency"
COMMITTED = Path(__file__).parents[2] / "reports"


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    found = read_nouns(FOLDER / "records.jsonl", LatencyRecord)
    return page_files(latency_page(found.records, found.rejected))


def test_the_golden_folder_holds_the_report_and_its_records_only(report: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*report, "records.jsonl"])


@pytest.mark.parametrize(
    "name", [path.name for path in sorted(FOLDER.iterdir()) if path.suffix in (".md", ".html", ".svg")]
)
def test_fixed_records_give_the_committed_bytes(name: str, report: dict[str, str]) -> None:
    assert report[name].encode() == (FOLDER / name).read_bytes()


def test_a_page_of_a_fake_device_says_so_in_its_title(report: dict[str, str]) -> None:
    assert report["latency.md"].startswith("# Made-up numbers of a fake device")
    assert "<title>Made-up numbers of a fake device" in report["latency.html"]


def test_the_golden_records_hold_everything_a_report_must_be_honest_about(report: dict[str, str]) -> None:
    page = report["latency.md"]

    for sign in (
        "slower at M = ",
        "not resolved",
        "within the noise",
        "is not used: checksum",
        "uncommitted code",
        "older comparison is not shown",
        "no record of dense-again",
        "planned comparisons have no record",
        "unsupported",
        "incorrect",
        "gemlite not installed",
        "the dense product cross",
        "Noise floor",
    ):
        assert sign in page


def test_the_html_page_needs_nothing_else(report: dict[str, str]) -> None:
    page = report["latency.html"]

    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    "records", sorted((COMMITTED / "records").glob("*/latency.jsonl")), ids=lambda p: p.parent.name
)
def test_committed_pages_are_rebuilt_byte_for_byte(records: Path) -> None:
    found = read_nouns(records, LatencyRecord)

    for name, text in page_files(latency_page(found.records, found.rejected)).items():
        assert text.encode() == (COMMITTED / records.parent.name / name).read_bytes()
