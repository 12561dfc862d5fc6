"""One noun of every kind that has lines of its own, with as many fields filled as go together."""

from dataclasses import replace
from typing import Any

from cost_builders import make_check, make_ptq, make_step
from gate_builders import make_accesses, make_fingerprint, uncompiled
from latency_builders import make_latency, make_measurement
from lifecycle_builders import make_run
from lords_bench.quant import Codebook, QuantSpec
from lords_bench.records import Status
from lords_bench.records.codec import KINDS
from lords_bench.records.measurement import Measurement
from lords_bench.records.trial import MachineCode, RunOff, Trial
from lords_bench.records.tuning_table import TableRow, TuningTable
from record_builders import make_record, make_samples
from tuned_builders import KEY, make_entry

SETTINGS = (("block_n", 64), ("last_sums", True), ("order", "rows"))
OTHER = (("block_n", 32), ("last_sums", False), ("order", "rows"))
LEVELS = Codebook(name="mine", levels=(-1.0, -0.25, 0.3, 1.0))


def _measurement() -> Measurement:
    return replace(make_measurement(100.0, 101.5, 99.0), dropped=((1, "slow clock"),), energy_mj=2.5)


def _bench() -> tuple[Any, ...]:
    mixed = (("a", QuantSpec(method="nf4")), ("b", QuantSpec(method="lords", bits=2, levels=LEVELS)))
    documents = {"window_documents": (0, 0, 1), "choice_documents": ()}
    return (
        make_record(samples=make_samples(**documents, peak_rss_bytes=5)),
        make_record("mixed", spec=None, mixed=mixed, status=Status.CRASH, reason="it crashed"),
    )


def _tuning() -> tuple[Any, ...]:
    shared = {"key": KEY, "evidence": "measured", "run_id": "r", "created_utc": "2026-01-31T12:00:00Z"}
    code = MachineCode(sha256="ab" * 32, registers=40, spill_bytes=0, shared_bytes=1024, atomics=True)
    trial = Trial(
        **shared, config=SETTINGS, status=Status.OK, measurement=_measurement(), code=code, same_code_as=OTHER,
        compile_ns=10**9, strategy="plain",
    )  # fmt: skip
    run_off = RunOff(
        **shared, stage="final", configs=(SETTINGS, OTHER), baseline=OTHER, measurements=(_measurement(), None),
        reasons=(None, "crashed"), noise_floor=0.01,
    )  # fmt: skip
    rows = (
        TableRow(values=(64, True, "rows"), status=Status.OK, samples_ns=(10.0, 11.0)),
        TableRow(values=(32, False, "rows"), status=Status.TIMEOUT, reason="too slow"),
    )
    table = TuningTable(
        key=KEY, evidence="fake", fields=("block_n", "last_sums", "order"), rows=rows, regime="cold", timer="fake",
        command="lords-bench tune", created_utc="2026-01-31T12:00:00Z", commit=None,
    )  # fmt: skip
    return trial, run_off, table


def every_noun() -> tuple[Any, ...]:
    """Nouns of every kind; where one way to end excludes fields, one that ended well and one that did not."""
    failed = {"status": Status.TIMEOUT, "reason": "too slow"}
    nouns = (
        *_bench(),
        make_latency(measurement=_measurement(), notes=("another process",), worst_error=0.5, bytes_moved=9, flops=7),
        make_latency(**failed, measurement=None),
        make_run(),
        make_check(),
        make_ptq(shape=(4, 8), held_bytes=1, peak_bytes=2),
        make_step("lords", 4.0),
        make_fingerprint(),
        make_accesses(),
        uncompiled(),
        make_entry(),
        *_tuning(),
    )
    missing = set(KINDS.values()) - {type(noun) for noun in nouns}
    assert not missing, f"no noun of {missing}"
    return nouns
