"""Launches of real kernels, recorded once and executed again with their PTX changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from lords_bench.emulator import Launch, execute
from lords_bench.emulator.launch import Argument
from lords_bench.kernel_check.emulated import emulated_target

Arguments = list[tuple[str, Argument]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedLaunch:
    """What a kernel was launched with."""

    ptx: str
    grid: tuple[int, int, int]
    arguments: Arguments
    shared_bytes: int

    def run(self, ptx: str | None = None) -> tuple[Launch, list[torch.Tensor]]:
        """Execute it, or another text in its place, on copies of its tensors; these as they are then."""
        arguments = _copied(self.arguments)
        launch = execute(ptx or self.ptx, self.grid, arguments, shared_bytes=self.shared_bytes)
        return launch, [value for _, value in arguments if isinstance(value, torch.Tensor)]


def _copied(arguments: Arguments) -> Arguments:
    return [(name, value.clone() if isinstance(value, torch.Tensor) else value) for name, value in arguments]


@dataclass(kw_only=True, slots=True)
class Recorder:
    """Launches in order, while it records."""

    launches: list[RecordedLaunch] = field(default_factory=list)

    def of(self, kernel: str) -> RecordedLaunch:
        """The first launch of a kernel."""
        return next(launch for launch in self.launches if f".entry {kernel}(" in launch.ptx)


@contextmanager
def recorded(target: str) -> Iterator[Recorder]:
    """Within it kernels compile for the target, run in the emulator, and are recorded before they run."""
    recorder = Recorder()
    with emulated_target(target) as device:
        launch: Callable[..., None] = device.launch

        def record(ptx: str, grid: tuple[int, int, int], arguments: Arguments, shared_bytes: int) -> None:
            recorder.launches.append(
                RecordedLaunch(ptx=ptx, grid=grid, arguments=_copied(arguments), shared_bytes=shared_bytes)
            )
            launch(ptx, grid, arguments, shared_bytes)

        device.launch = record  # type: ignore[method-assign]
        yield recorder


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Whether all bits of all tensors are, NaN like any other."""
    return all(torch.equal(_bytes(a), _bytes(b)) for a, b in zip(first, second, strict=True))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
