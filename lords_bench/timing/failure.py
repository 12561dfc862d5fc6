"""What an exception out of a candidate means: a status and one line."""

from lords_bench.errors import kind_and_ends
from lords_bench.records.status import Status
from lords_bench.timing.device import CandidateError

# By class name, so that neither torch nor Triton needs to be imported to recognise them.
_STATUS = {
    "OutOfMemoryError": Status.OUT_OF_MEMORY,
    "OutOfResources": Status.OUT_OF_MEMORY,  # shared memory or registers
    "CompilationError": Status.COMPILE_ERROR,
    "PTXASError": Status.COMPILE_ERROR,
    "TimeoutError": Status.TIMEOUT,
}


def failure_of(error: Exception) -> CandidateError:
    """The failure that an exception out of a candidate stands for; one that is a failure already is kept."""
    if isinstance(error, CandidateError):
        return error
    names = [kind.__name__ for kind in type(error).__mro__]
    status = next((_STATUS[name] for name in names if name in _STATUS), Status.LAUNCH_ERROR)
    return CandidateError(status, kind_and_ends(error))
