"""`KernelAccesses`: how the launches of one kernel use memory, counted in an emulator.

Made by `lords_bench.static.profile.accesses`, pinned as JSON lines in `reports/static/accesses/<target>.jsonl`,
compared by `lords_bench.gate`.
"""

from dataclasses import dataclass
from typing import Literal

from lords_bench.errors import RecordError
from lords_bench.records.status import Status

Space = Literal["global", "shared"]
AccessKind = Literal["load", "store", "copy", "atomic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Accesses of one kind, of one tensor or of shared memory, over all launches of a function.

    Attributes:
        function: the `@triton.jit` function.
        space: of memory.
        tensor: name of the argument; None for shared memory.
        kind: of access.
        requests: warps that made one.
        units: sectors of 32 bytes (global memory) or passes through the banks (shared memory).
        fewest_units: that so many bytes need where lanes stand side by side.

    Raises:
        RecordError: numbers that no launch has.
    """

    function: str
    space: Space
    tensor: str | None
    kind: AccessKind
    requests: int
    units: int
    fewest_units: int

    def __post_init__(self) -> None:
        if min(self.requests, self.units, self.fewest_units) < 1:
            raise RecordError(f"memory use: {self.what} has a count below 1; what was not accessed has no line")
        if (self.space == "shared") != (self.tensor is None):
            raise RecordError(f"memory use: {self.space} memory of tensor {self.tensor}; only global memory has one")

    @property
    def what(self) -> str:
        """In words: `load of packed_ptr in scale_tile_kernel`."""
        return f"{self.kind} of {self.tensor or 'shared memory'} in {self.function}"

    @property
    def excess(self) -> float:
        """Units over the fewest: 1 has no sector too many and no bank conflict."""
        return self.units / self.fewest_units


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelAccesses:
    """One kernel on one target.

    Attributes:
        kernel: that was checked, of the registry or of training.
        problem: in words.
        target: architecture, such as `sm_90`.
        triton: version of Triton.
        status: how the check in the emulator ended.
        reason: one line, None exactly when the status is ok.
        uses: sorted; none unless the status is ok.

    Raises:
        RecordError: fields that contradict each other.
    """

    kernel: str
    problem: str
    target: str
    triton: str
    status: Status
    reason: str | None
    uses: tuple[MemoryUse, ...]

    def __post_init__(self) -> None:
        is_ok = self.status is Status.OK
        if is_ok != (self.reason is None) or (self.uses and not is_ok):
            raise RecordError(f"accesses of {self.name} are {self.status}; ok has counts, all others a reason")
        names = [use.what for use in self.uses]
        if names != sorted(set(names)):
            raise RecordError(f"accesses of {self.name}: {names} must be sorted, each once")

    @property
    def name(self) -> str:
        """Unique among pins."""
        return f"{self.kernel} on {self.target}"
