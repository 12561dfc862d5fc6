"""Compiled kernels executed without a GPU: the PTX that Triton makes, thread by thread, in numpy.

What it finds besides results: accesses out of bounds or misaligned, races, missing waits and fences, and what the
target would refuse. It knows nothing of what kernels compute. docs/emulator.md says what is checked, and what is not.

Read `device.py` (Triton's launches, sent here) and `launch.py`, then `parse.py` and `decode.py` (text to steps),
`machine.py` (threads, branches, barriers), the steps in `memory_steps.py`, `warp_steps.py` and `product_steps.py`, and
the two memories, where the faults are found.
"""

from lords_bench.emulator.device import EmulatedDevice, emulated
from lords_bench.emulator.faults import Fault, FaultKind
from lords_bench.emulator.launch import EmulationOptions, Launch, execute

__all__ = ["EmulatedDevice", "EmulationOptions", "Fault", "FaultKind", "Launch", "emulated", "execute"]
