"""Renews the golden accuracy report: `PYTHONPATH=tests python tests/golden/renew_accuracy.py [--records]`.

Without an argument the pages are rebuilt from the fixed records, to be read in a diff before they are committed. With
`--records` the records themselves are made anew: ten made-up methods, and one of everything a report must be honest
about (a failure, a case without a record, an older record, a partial one, uncommitted code, other settings, an edited
line).
"""

import sys
from pathlib import Path

from lords_bench.records import BenchRecord, Status, read_records
from lords_bench.records.codec import encode_line
from lords_bench.report.render import page_files, write_report
from lords_bench.suites.accuracy.page import accuracy_page
from record_builders import changed, make_environment, make_inputs, study

FOLDER = Path(__file__).parent / "accuracy"
METHODS = ("unquantized", "nf", "block-opt", "lords", "lords-gptq", "gptq", "block-gptq", "int-rtn", "nf4+nf2")


def golden_lines() -> list[str]:
    """Lines of the record file; the last one was edited by hand."""
    shown = [r for r in study(windows=10, items=24) if r.bits != 4 and r.method.replace(f"nf{r.bits}", "nf") in METHODS]
    planned = tuple(record.case_id for record in shown)
    records = {record.case_id: changed(record, planned_case_ids=planned) for record in shown}
    del records["lords-gptq-b2-g64"]
    lords = records["lords-b3-g64"]
    failed = {"status": Status.UNSUPPORTED, "samples": None, "reason": "block 64 does not divide K = 100"}
    uncommitted = make_environment(source_sha256="6" * 64, git_dirty=True)
    other_settings = make_inputs(settings=(("choice_items", 24), ("window_tokens", 128)))
    records["int-rtn-b2-g64"] = changed(records["int-rtn-b2-g64"], **failed)
    records["block-gptq-b3-g64"] = changed(records["block-gptq-b3-g64"], environment=uncommitted)
    records["gptq-b3-g64"] = changed(records["gptq-b3-g64"], complete=False)
    older = changed(lords, created_utc="2026-01-01T00:00:00Z", run_id="run-0")
    elsewhere = [changed(records[name], inputs=other_settings) for name in ("nf3-b3-g64", "lords-b3-g64")]
    elsewhere = [changed(record, created_utc="2026-01-02T00:00:00Z") for record in elsewhere]
    written: list[BenchRecord] = [older, *records.values(), *elsewhere]
    return [*map(encode_line, written), encode_line(lords).replace('"seed":0', '"seed":9')]


def main() -> None:
    """Write the records if asked, and the pages."""
    path = FOLDER / "records.jsonl"
    if "--records" in sys.argv:
        path.write_text("".join(f"{line}\n" for line in golden_lines()), encoding="utf-8")
    found = read_records(path)
    for written in write_report(FOLDER, page_files(accuracy_page(found.records, found.rejected))):
        sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main()
