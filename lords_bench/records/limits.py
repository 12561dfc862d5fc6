"""What no measured time can be: faster than memory and tensor cores were measured to be on the device."""

from lords_bench.records.measurement import Measurement, Peaks

# What rounding of timer and peak may add before a number is called impossible.
CEILING_SLACK = 1.02


def above_ceiling(measured: Measurement, peaks: Peaks, *, bytes_moved: int | None, flops: int | None) -> str | None:
    """Why the time cannot be true; None where nothing speaks against it."""
    if bytes_moved is not None and peaks.memory_gbps is not None and measured.regime == "cold":
        reached = bytes_moved / measured.median_ns
        if reached > CEILING_SLACK * peaks.memory_gbps:
            return f"{reached:.0f} GB/s is more than the {peaks.memory_gbps:.0f} GB/s that memory was measured to give"
    if flops is not None and peaks.matmul_tflops is not None:
        reached = flops / measured.median_ns / 1e3
        if reached > CEILING_SLACK * peaks.matmul_tflops:
            return f"{reached:.0f} TFLOP/s is more than the {peaks.matmul_tflops:.0f} that a large product reached"
    return None
