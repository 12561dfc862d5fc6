"""Where the times come from: the device report's header, and notices of what a reader must know to judge them."""

from collections.abc import Iterable
from statistics import median

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import RejectedLine
from lords_bench.report.latency.comparisons import Section
from lords_bench.report.origin import (
    commit,
    date_span,
    each_once,
    machine,
    platform,
    rejected_notices,
    short,
    versions,
)
from lords_bench.report.views import Fact

# An A/A difference above this is worth a notice.
NOISY = 0.05


def provenance(section: Section) -> tuple[Fact, ...]:
    """Device, clocks, peaks, noise floor, versions, commit, command, dates and amount of evidence."""
    newest = section.newest
    environment, run = newest.run.environment, newest.run
    records = section.records
    return (
        Fact(label="Device", value=machine(environment, last=f"activations in {run.dtype}")),
        Fact(label="SM clock", value=_clock(records)),
        Fact(label="Measured peaks", value=_peaks(newest)),
        Fact(label="Noise floor", value=_noise(section)),
        Fact(label="Said by the machine", value=_facts(newest)),
        Fact(label="Versions", value=versions(environment, without=("transformers",))),
        Fact(label="Tuned tables", value=_tables(records)),
        Fact(label="Baselines' packages", value=_libraries(newest)),
        Fact(label="Commit", value=each_once(commit(record.run.environment) for record in records)),
        Fact(label="Source hash", value=each_once(short(record.run.environment.source_sha256) for record in records)),
        Fact(label="Command", value=run.command),
        Fact(label="Sampling", value=_sampling(records)),
        Fact(label="Measured", value=date_span(record.created_utc for record in records)),
        Fact(label="Seed", value=each_once(str(record.run.seed) for record in records)),
        Fact(label="Platform", value=platform(environment)),
    )


def section_notices(section: Section) -> tuple[str, ...]:
    """What weakens the section: made-up numbers, a CPU, uncommitted code, several runs, a noisy machine."""
    notices = []
    newest = section.newest
    if newest.run.is_fake:
        notices.append("A fake device made these numbers up. They try the software and say nothing about any hardware.")
    elif newest.run.environment.device == "cpu":
        notices.append(
            "PyTorch reference timings on a CPU: they say nothing about GPU kernels. LoRDS and its block formats run "
            "readable reference code here; none of the fused kernels does."
        )
    dirty = sum(record.run.environment.git_dirty is True for record in section.records)
    unknown = sum(record.run.environment.git_dirty is None for record in section.records)
    if dirty:
        notices.append(
            f"{dirty} of {len(section.records)} records were made with uncommitted code: provisional, never a baseline."
        )
    if unknown:
        notices.append(f"{unknown} of {len(section.records)} records were made outside a git checkout.")
    runs = len({record.run.run_key for record in section.records})
    if runs > 1:
        notices.append(
            f"The comparisons come from {runs} runs with different source, versions or sampling; each was made in one "
            "run, and the newest of each case is shown."
        )
    if section.superseded:
        plural = "s are" if section.superseded > 1 else " is"
        notices.append(f"{section.superseded} older comparison{plural} not shown: the case was timed again.")
    floors = [match.noise_floor for match in section.matches if match.noise_floor is not None]
    noisy = sum(floor > NOISY for floor in floors)
    if noisy:
        notices.append(
            f"In {noisy} of {len(floors)} comparisons the dense product differed from itself by more than "
            f"{100 * NOISY:.0f} %: the machine was not quiet, and only larger differences are resolved there."
        )
    words = dict.fromkeys(note for record in section.records for note in record.notes)
    return (*notices, *words)


def page_notices(sections: tuple[Section, ...], rejected: Iterable[RejectedLine]) -> tuple[str, ...]:
    """What concerns the page as a whole."""
    notices = []
    if len(sections) > 1:
        notices.append(
            f"The records are of {len(sections)} devices or dtypes; each has a section of its own and nothing is "
            "compared across them."
        )
    return (*notices, *rejected_notices(rejected))


def _clock(records: tuple[LatencyRecord, ...]) -> str:
    clocks = [
        clock
        for record in records
        if record.measurement is not None and (clock := record.measurement.median_clock_mhz) is not None
    ]
    if not clocks:
        return "not known"
    return f"median {median(clocks):.0f} MHz; medians of single measurements {min(clocks):.0f} to {max(clocks):.0f} MHz"


def _peaks(record: LatencyRecord) -> str:
    peaks = record.run.peaks
    shown = (
        ("copy", peaks.copy_gbps, "GB/s"),
        ("read", peaks.read_gbps, "GB/s"),
        ("bf16 matmul", peaks.matmul_tflops, "TFLOP/s"),
    )
    return ", ".join(
        f"{name} {'not measured' if value is None else f'{value:,.0f} {unit}'}" for name, value, unit in shown
    )


def _noise(section: Section) -> str:
    floors = [match.noise_floor for match in section.matches if match.noise_floor is not None]
    if not floors:
        return "not measured: no verdict is given"
    unknown = len(section.matches) - len(floors)
    missing = f"; not known in {unknown}" if unknown else ""
    return (
        f"median {100 * median(floors):.2f} %, worst {100 * max(floors):.2f} % over {len(floors)} comparisons"
        f" (A/A: the dense product against itself in the same rounds){missing}"
    )


def _facts(record: LatencyRecord) -> str:
    shown = [f"{name}: {_value(value)}" for name, value in record.run.facts]
    return "; ".join(shown) or "nothing"


def _value(value: object) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _libraries(record: LatencyRecord) -> str:
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in record.run.libraries)


def _tables(records: tuple[LatencyRecord, ...]) -> str:
    known = each_once(short(record.run.tables_sha256 or "none") for record in records)
    return "none: every configuration is the kernel's own rule" if known == "none" else f"sha256 {known}"


def _sampling(records: tuple[LatencyRecord, ...]) -> str:
    measured = [record.measurement for record in records if record.measurement is not None]
    if not measured:
        return "no samples"
    counts = [item.n for item in measured]
    dropped = sum(len(item.dropped) for item in measured)
    timers = each_once(item.timer for item in measured)
    policies = each_once(record.run.policy for record in records)
    return (
        f"{policies} policy, {len(measured)} measurements of {min(counts)} to {max(counts)} samples by {timers}, "
        f"{sum(counts):,} samples kept, {dropped} dropped for a cause"
    )
