"""Renews the golden device report: `PYTHONPATH=tests python tests/golden/renew_latency.py [--records]`.

Without an argument the pages are rebuilt from the fixed records, to be read in a diff before they are committed. With
`--records` the records themselves are made anew by the fake device, with one of everything that a report must be honest
about (failures of every kind, an older comparison, a torn one, uncommitted code, planned but missing comparisons, an
edited line).
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

from latency_builders import fake_records, make_case
from lords_bench.records.codec import encode_line
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import read_nouns
from lords_bench.report.render import page_files, write_report
from lords_bench.suites.latency.fake import DEVICE_NAME
from lords_bench.suites.latency.page import latency_page
from record_builders import make_environment

FOLDER = Path(__file__).parent / "latency"
LAYERS = (("q_proj+o_proj", 4096, 4096), ("down_proj", 4096, 14336))
LADDER = (1, 16, 64, 256, 1024)
CREATED = "2026-01-31T12:00:00Z"


def golden_lines() -> list[str]:
    """Lines of the record file; the last one was edited after it was written."""
    cases = tuple(make_case(layer=name, n=n, k=k, m=m) for name, n, k in LAYERS for m in LADDER)
    three_bits = (make_case(bits=3, m=1, layer="q_proj+o_proj"), make_case(bits=3, m=256, layer="q_proj+o_proj"))
    with tempfile.TemporaryDirectory() as folder:
        shown = fake_records(Path(folder) / "a", cases, planned_comparisons=len(cases) + 5)
        others = fake_records(Path(folder) / "b", three_bits, planned_comparisons=len(cases) + 5)
        eager = fake_records(Path(folder) / "c", cases[:2], regimes=("eager",), planned_comparisons=len(cases) + 5)
        older = fake_records(Path(folder) / "d", cases[:1])
    records = [
        *(at(record, "2026-01-01T00:00:00Z", f"older/{record.comparison_id}") for record in older),
        *(at(record, CREATED, record.comparison_id) for record in (*shown, *others, *eager)),
    ]
    dirty = make_environment(device="cuda", gpu_name=DEVICE_NAME, git_dirty=True)
    # The last comparison lost a record to a kill, and was made with uncommitted code.
    last = [record for record in records if record.comparison_id == records[-1].comparison_id]
    records = [record for record in records if record not in last[-1:]]
    changed = [
        dataclasses.replace(record, run=dataclasses.replace(record.run, environment=dirty))
        if record in last
        else record
        for record in records
    ]
    return [*map(encode_line, changed), encode_line(changed[0]).replace('"seed":0', '"seed":9')]


def at(record: LatencyRecord, created_utc: str, comparison_id: str) -> LatencyRecord:
    """The record with a fixed time, and an id without the moment it was really made."""
    fixed = comparison_id.rsplit("/", 1)[0]
    return dataclasses.replace(record, created_utc=created_utc, comparison_id=fixed)


def main() -> None:
    """Write the records if asked, and the pages."""
    path = FOLDER / "records.jsonl"
    FOLDER.mkdir(exist_ok=True)
    if "--records" in sys.argv:
        path.write_text("".join(f"{line}\n" for line in golden_lines()), encoding="utf-8")
    found = read_nouns(path, LatencyRecord)
    for written in write_report(FOLDER, page_files(latency_page(found.records, found.rejected))):
        sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main()
