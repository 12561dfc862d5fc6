"""The check of a kernel on a GPU that is not there: compiled for it, and executed in the emulator.

Cases, bounds and repeats are those of a real device, and rules for untuned shapes see the GPU that is pretended. A
result within its bound is right only if the emulator found no fault in any of its launches.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from lords_bench.emulator import EmulatedDevice, Fault, FaultKind, emulated
from lords_bench.emulator.target import emulated_gpu
from lords_bench.kernel_check import isolated
from lords_bench.kernel_check.cases import CheckCase
from lords_bench.kernel_check.check import CheckResult, check_named
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.records.status import Status

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

# Faults of a reason that are named; the rest are counted.
_NAMED_FAULTS = 3
_FENCES_COPIES = (3, 7)


@contextmanager
def emulated_target(name: str) -> Iterator[EmulatedDevice]:
    """Within it launches are emulated for the GPU of that name, and the rules of this project see it.

    Raises:
        UsageError: unknown name.
    """
    gpu = emulated_gpu(name)
    with pretended_gpu(Gpu(arch=gpu.name, sm_count=gpu.sm_count)), emulated(gpu.name) as device:
        yield device


def check_emulated(name: str, case: CheckCase, device: EmulatedDevice, decoder: "Decoder | None" = None) -> CheckResult:
    """As `check_named`, where a fault makes the result incorrect.

    Args:
        name: of `CHECKED`.
        case: on the CPU.
        device: in whose context this is called.
        decoder: None is the fastest that fits.
    """
    device.launches.clear()
    result = check_named(name, case, decoder)
    faults = counted_faults(device)
    if result.status is not Status.OK or not faults:
        return result
    return replace(result, status=Status.INCORRECT, reason=_told(faults))


def counted_faults(device: EmulatedDevice) -> tuple[Fault, ...]:
    """Distinct faults of a device's launches, without those that `excuse` names."""
    found = {str(fault): fault for launch in device.launches for fault in launch.faults}
    return tuple(fault for fault in found.values() if excuse(fault.kind) is None)


def excuse(kind: FaultKind) -> str | None:
    """Why a kind of fault is not counted with the installed compiler; None if it is."""
    release = tuple(int(part) for part in version("triton").split(".")[:2])
    if kind is FaultKind.COPY_PROXY_FENCE and release < _FENCES_COPIES:
        return (
            f"Triton {version('triton')} leaves the proxy fence between cp.async and wgmma out, "
            "which the PTX ISA asks for and Triton 3.7 emits"
        )
    return None


def _told(faults: tuple[Fault, ...]) -> str:
    named = " | ".join(map(str, faults[:_NAMED_FAULTS]))
    more = len(faults) - _NAMED_FAULTS
    return named + (f" | and {more} more faults" if more > 0 else "")


def emulated_command(target: str) -> list[str]:
    """The command of a worker that checks on that GPU, for `isolated.check_isolated`."""
    return isolated.worker_command(target, module="lords_bench.kernel_check.emulated")


def main(jobs: Iterable[str], target: str) -> int:
    """The worker, as `isolated.main`."""
    with emulated_target(target) as device:

        def judge(name: str, case: CheckCase, decoder: "Decoder | None") -> CheckResult:
            return check_emulated(name, case, device, decoder)

        return isolated.main(jobs, device=torch.device("cpu"), judge=judge)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:] or sys.stdin, sys.argv[1]))
