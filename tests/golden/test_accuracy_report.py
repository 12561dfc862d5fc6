"""A report is a pure function of its records: fixed records give these pages, byte for byte.

Renew them with `PYTHONPATH=tests python tests/golden/renew_accuracy.py` and read the difference before committing it.
The bytes of the plots depend on matplotlib's version, which `pyproject.toml` therefore pins.
"""

from pathlib import Path

import pytest

from lords_bench.records import read_records
from lords_bench.report.render import page_files
from lords_bench.suites.accuracy.page import accuracy_page

FOLDER = Path(__file__).parent / "accuracy"


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    found = read_records(FOLDER / "records.jsonl")
    return page_files(accuracy_page(found.records, found.rejected))


def test_the_golden_folder_holds_the_report_and_its_records_only(report: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*report, "records.jsonl"])


@pytest.mark.parametrize(
    "name", [path.name for path in sorted(FOLDER.iterdir()) if path.suffix in (".md", ".html", ".svg")]
)
def test_fixed_records_give_the_committed_bytes(name: str, report: dict[str, str]) -> None:
    assert report[name].encode() == (FOLDER / name).read_bytes()


def test_the_golden_records_hold_everything_a_report_must_be_honest_about(report: dict[str, str]) -> None:
    page = report["accuracy.md"]

    for sign in (
        "not resolved",
        "2 evaluations that differ",
        "is not used: checksum",
        "uncommitted code",
        "partial",
        "older case is not shown",
        "no record",
        "unsupported",
        "Not compared: no other case stores equal bits",
    ):
        assert sign in page
