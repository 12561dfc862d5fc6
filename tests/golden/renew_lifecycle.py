"""Renews the golden lifecycle report: `PYTHONPATH=tests python tests/golden/renew_lifecycle.py [--records]`.

Without an argument the pages are rebuilt from the fixed records, to be read in a diff before they are committed. With
`--records` the records themselves are made anew: eight made-up groups, and one of everything a report must be honest
about (a run that diverged, a case without a record, an older record, uncommitted code, another budget, an edited line).
"""

import sys
from pathlib import Path

from lifecycle_builders import changed_run, lifecycle_study
from lords_bench.records import LifecycleRecord, Status, read_nouns
from lords_bench.records.codec import encode_line
from lords_bench.report.render import page_files, write_report
from lords_bench.suites.lifecycle.page import lifecycle_page
from record_builders import make_environment, make_inputs

FOLDER = Path(__file__).parent / "lifecycle"


def golden_lines() -> list[str]:
    """Lines of the record file; the last one was edited by hand."""
    records = {record.case_id: record for record in lifecycle_study()}
    lords = records["qat-lords-b3-lr0.0001"]
    del records["peft-qpissa-b4-seed2"]
    diverged = {"status": Status.INCORRECT, "samples": None, "reason": "step 3: loss nan, weight of x is not finite"}
    records["peft-lords-b4-lr0.1"] = changed_run(records["peft-lords-b4-lr0.1"], **diverged)
    uncommitted = make_environment(source_sha256="6" * 64, git_dirty=True)
    records["qat-int-b3-seed1"] = changed_run(records["qat-int-b3-seed1"], environment=uncommitted)
    older = changed_run(lords, created_utc="2026-01-01T00:00:00Z", run_id="run-0")
    budget = make_inputs(settings=(("qat_steps", 5),))
    elsewhere = changed_run(lords, inputs=budget, created_utc="2026-01-02T00:00:00Z")
    written = [older, *records.values(), elsewhere]
    return [*map(encode_line, written), encode_line(lords).replace('"is_search":true', '"is_search":false')]


def main() -> None:
    """Write the records if asked, and the pages."""
    path = FOLDER / "records.jsonl"
    if "--records" in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in golden_lines()), encoding="utf-8")
    found = read_nouns(path, LifecycleRecord)
    for written in write_report(FOLDER, page_files(lifecycle_page(found.records, found.rejected))):
        sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main()
