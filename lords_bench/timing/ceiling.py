"""The physical ceiling: a number above what the device was measured to give is false, whatever the cause."""

from lords_bench.records.measurement import Measurement, Peaks, above_ceiling
from lords_bench.timing.candidate import Candidate


def impossible(candidate: Candidate, measured: Measurement, peaks: Peaks) -> str | None:
    """Why the number cannot be true; None where nothing speaks against it."""
    return above_ceiling(measured, peaks, bytes_moved=candidate.bytes_moved, flops=candidate.flops)
