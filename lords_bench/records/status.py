"""How a case ended, and when. Failure is data: it always comes with a reason, and never with a result."""

from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from lords_bench.errors import ModelError, RecordError, SpecError, WeightError


class Status(StrEnum):
    """How a case ended; everything but `OK` carries a reason and no samples."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    INCORRECT = "incorrect"
    COMPILE_ERROR = "compile_error"
    LAUNCH_ERROR = "launch_error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    CRASH = "crash"
    INVALID = "invalid"


# What an error raised on purpose says about a case; every other error of the package ends the run.
_STATUS_OF: MappingProxyType[type[Exception], Status] = MappingProxyType(
    {
        SpecError: Status.UNSUPPORTED,
        WeightError: Status.UNSUPPORTED,
        ModelError: Status.INCORRECT,
        MemoryError: Status.OUT_OF_MEMORY,
    }
)


def status_of_error(error: Exception) -> Status | None:
    """How a case ended that raised this; None where the run must end with it."""
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)


def require_outcome(where: str, status: Status, reason: str | None, result: tuple[str, object] | None = None) -> None:
    """Refuses an outcome that contradicts itself.

    Args:
        where: the record in words, for the message.
        status: how it ended.
        reason: why not well; None exactly when the status is ok.
        result: what belongs to status ok alone, in words with their verb, and the result or None.

    Raises:
        RecordError: status, reason and result do not fit each other, or the reason is not one line.
    """
    is_ok = status is Status.OK
    if result is not None and is_ok != (result[1] is not None):
        raise RecordError(f"{where}: status is {status}; {result[0]} to status ok and only to it")
    if is_ok != (reason is None):
        raise RecordError(f"{where}: status is {status}; a reason belongs to every other than ok")
    if reason is not None and (not reason.strip() or "\n" in reason):
        raise RecordError(f"{where}: reason {reason!r} must be one line that says why")


_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def created_now() -> str:
    """The present time as a record has it."""
    return created_at(datetime.now(UTC))


def created_at(moment: datetime) -> str:
    """A time in UTC as a record has it."""
    return moment.strftime(_FORMAT)


def require_created(created_utc: str) -> None:
    """Refuses any other way to write a time.

    Raises:
        RecordError: it is not written so.
    """
    try:
        is_so = created_at(datetime.strptime(created_utc, _FORMAT).replace(tzinfo=UTC)) == created_utc
    except ValueError:
        is_so = False
    # `strptime` takes `2026-1-3` and blanks as well, and pages sort the text.
    if not is_so:
        raise RecordError(f"created_utc is {created_utc!r}; write it as 2026-01-31T12:00:00Z")
