"""A report is a pure function of its records: fixed records give these pages, byte for byte.

Renew them with `PYTHONPATH=tests python tests/golden/renew_lifecycle.py` and read the difference before committing it.
"""

from pathlib import Path

import pytest

from lords_bench.records import LifecycleRecord, read_nouns
from lords_bench.report.render import page_files
from lords_bench.suites.lifecycle.page import lifecycle_page

FOLDER = Path(__file__).parent / "lifecycle"


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    found = read_nouns(FOLDER / "records.jsonl", LifecycleRecord)
    return page_files(lifecycle_page(found.records, found.rejected))


def test_the_golden_folder_holds_the_report_and_its_records_only(report: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*report, "records.jsonl"])


@pytest.mark.parametrize(
    "name", [path.name for path in sorted(FOLDER.iterdir()) if path.suffix in (".md", ".html", ".svg")]
)
def test_fixed_records_give_the_committed_bytes(name: str, report: dict[str, str]) -> None:
    assert report[name].encode() == (FOLDER / name).read_bytes()


def test_the_order_of_the_records_does_not_matter(report: dict[str, str]) -> None:
    found = read_nouns(FOLDER / "records.jsonl", LifecycleRecord)

    assert page_files(lifecycle_page(reversed(found.records), found.rejected)) == report


def test_the_golden_records_hold_everything_a_report_must_be_honest_about(report: dict[str, str]) -> None:
    page = report["lifecycle.md"]

    for sign in (
        "No, it is worse",
        "not resolved",
        "2 evaluations that differ",
        "is not used: checksum",
        "uncommitted",
        "older case is not shown",
        "no record",
        "loss nan",
        "failed",
    ):
        assert sign in page
