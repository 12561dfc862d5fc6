"""The physical ceiling: a number above what the device was measured to give is false, whatever the cause."""

from lords_bench.records.measurement import Measurement, Peaks
from lords_bench.timing.candidate import Candidate

# What rounding of timer and peak may add before a number is called impossible.
CEILING_SLACK = 1.02


def impossible(candidate: Candidate, measured: Measurement, peaks: Peaks) -> str | None:
    """Why the number cannot be true; None where nothing speaks against it."""
    if candidate.bytes_moved is not None and peaks.memory_gbps is not None and measured.regime == "cold":
        reached = candidate.bytes_moved / measured.median_ns
        if reached > CEILING_SLACK * peaks.memory_gbps:
            return f"{reached:.0f} GB/s is more than the {peaks.memory_gbps:.0f} GB/s that memory was measured to give"
    if candidate.flops is not None and peaks.matmul_tflops is not None:
        reached = candidate.flops / measured.median_ns / 1e3
        if reached > CEILING_SLACK * peaks.matmul_tflops:
            return f"{reached:.0f} TFLOP/s is more than the {peaks.matmul_tflops:.0f} that a large product reached"
    return None
