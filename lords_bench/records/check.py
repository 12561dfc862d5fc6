"""`CheckRecord`: what a check of a kernel on a device gave: its result against float64, or a memory checker's word."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from lords_bench.errors import RecordError
from lords_bench.records.bench import digest
from lords_bench.records.environment import Environment
from lords_bench.records.status import Status, require_created, require_outcome

# float64: every result element against its bound. memcheck: accesses out of bounds. racecheck: races in shared memory.
CheckTool = Literal["float64", "memcheck", "racecheck"]
TOOLS: tuple[CheckTool, ...] = get_args(CheckTool)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRecord:
    """One kernel on one case.

    Attributes:
        tool: what judged.
        kernel: name of the kernel.
        case: name of the problem.
        status: ok, incorrect, unsupported (the kernel refuses the case, or the tool does not work), or how it ended.
        reason: why it is not ok, in one line, of a tool in its own words; None exactly when the status is ok.
        worst: largest error in units of its bound, of float64 only; at most 1 if the status is ok.
        environment: machine, versions and source.
        created_utc: when it ended, as `2026-01-31T12:00:00Z`.
        command: the command line.
        emulated: the target, as `sm_90`, that the kernel was compiled for and emulated as; None if a GPU ran it.
        planned: how many checks against float64 the command was to make or had made; None where that is not known.
        not_counted: kinds of the emulator's faults that were not held against the kernel, each with the reason.

    Raises:
        RecordError: fields that contradict each other.
    """

    tool: CheckTool
    kernel: str
    case: str
    status: Status
    reason: str | None = None
    worst: float | None = None
    environment: Environment
    created_utc: str
    command: str
    emulated: str | None = field(default=None, metadata={"since": 2})
    planned: int | None = field(default=None, metadata={"since": 2})
    not_counted: tuple[str, ...] = field(default=(), metadata={"since": 2})

    def __post_init__(self) -> None:
        where = f"{self.tool} of {self.kernel} {self.case}"
        if self.tool not in TOOLS:
            raise RecordError(f"check tool is {self.tool!r}; it must be one of {', '.join(TOOLS)}")
        require_outcome(where, self.status, self.reason)
        if self.status is Status.OK and self.worst is not None and not 0 <= self.worst <= 1:
            raise RecordError(f"{where}: worst error is {self.worst}; above its bound the status is incorrect")
        if self.emulated is not None and self.tool != "float64":
            raise RecordError(f"{where}: {self.tool} does not run on the emulated {self.emulated}")
        if self.planned is not None and self.planned < 1:
            raise RecordError(f"{where}: {self.planned} checks were planned, but this one was made")
        if self.not_counted and self.emulated is None:
            raise RecordError(f"{where}: faults are not counted of the emulator alone; name what is emulated")
        require_created(self.created_utc)

    @property
    def run_key(self) -> str:
        """What must be equal for the check to hold still: source, compiler, device."""
        return check_key(self.environment, self.emulated)


def check_key(environment: Environment, emulated: str | None = None) -> str:
    """Under which a killed run finds what is checked already."""
    versions = [environment.python, environment.torch, environment.triton]
    place = [environment.device, environment.device_name] if emulated is None else ["emulated", emulated]
    return digest(["check", environment.source_sha256, *versions, *place])


def check_folder(environment: Environment, emulated: str | None = None) -> str:
    """Folder of the records below `records/`: an emulated target's is named after the compiler too."""
    return environment.device_slug if emulated is None else f"emulated-{emulated}-triton-{environment.triton}"


def checked(records: Iterable[CheckRecord], run_key: str) -> frozenset[tuple[CheckTool, str, str]]:
    """(tool, kernel, case) that need no second check: those that are right, and those that a kernel refuses.

    What failed is tried again, and so is a tool that did not work: another machine of the same kind may have it.
    """
    return frozenset(
        (record.tool, record.kernel, record.case)
        for record in records
        if record.run_key == run_key
        and (record.status is Status.OK or (record.status is Status.UNSUPPORTED and record.tool == "float64"))
    )
