"""Launches of the device probes on the current stream."""

from torch import Tensor

from lords_bench.kernels.device_probe.kernel import read_kernel, stamp_kernel, timer_steps_kernel

# More than any chip has; a table has a place for each, whichever of them a partition of the chip was given.
MULTIPROCESSOR_PLACES = 256
READ_BLOCK = 4096
READ_WARPS = 8
# Programs of a multiprocessor: all resident at once wherever a thread may have 64 registers and 1,024 threads fit, with
# 64 KB under way. More would come in a second wave, and a last wave that does not fill the GPU reads at less than its
# peak.
READ_PROGRAMS_PER_MULTIPROCESSOR = 4


def stamp(table_PC: Tensor, multiprocessors: int) -> None:
    """Write (ns, cycles) of each multiprocessor to its row of the int64 table (`MULTIPROCESSOR_PLACES`, 2)."""
    stamp_kernel[(multiprocessors,)](table_PC, MULTIPROCESSORS=MULTIPROCESSOR_PLACES, num_warps=1)


def timer_steps(times: Tensor) -> None:
    """Fill an int64 vector with readings of the nanosecond timer, one after the other."""
    timer_steps_kernel[(1,)](times, COUNT=times.numel(), num_warps=1)


def read_programs(multiprocessors: int) -> int:
    """Programs of a reading, and so its sums: one full wave."""
    return READ_PROGRAMS_PER_MULTIPROCESSOR * multiprocessors


def read_all(x: Tensor, sums: Tensor) -> int:
    """Read a float32 vector, but for a ragged end, into `read_programs` sums; returns how many bytes were read."""
    programs = sums.numel()
    tiles = x.numel() // (READ_BLOCK * programs)
    read_kernel[(programs,)](x, sums, tiles, BLOCK=READ_BLOCK, num_warps=READ_WARPS)
    return tiles * READ_BLOCK * programs * x.element_size()
