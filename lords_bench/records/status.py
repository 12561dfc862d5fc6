"""`Status`: how a case ended. Failure is data, and always comes with a reason."""

from enum import StrEnum


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
