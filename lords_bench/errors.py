"""The ways a user can be told no: one line, the offending value, the remedy.

Everything raised on purpose derives from `LordsBenchError`; the command line prints its message without a
traceback and exits with code 2. Anything else that escapes is a defect and keeps its traceback.

A message is one bounded line whatever went into it: names from files and texts of libraries hold newlines, terminal
codes and whole sources. `reason_of` gives what a library's exception says to a message of our own; without it a long
text would push the remedy out of sight.
"""

import errno

# What frees space mends, and nothing else.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of a message; whatever is longer keeps its beginning, with the value, and its end, with the remedy.
MESSAGE_CHARACTERS = 1000
# Of what another program's exception says inside a message.
FOREIGN_CHARACTERS = 240


class LordsBenchError(Exception):
    """Base of every error raised on purpose; its message is one line with the value and the remedy."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_bounded(message, MESSAGE_CHARACTERS))


class SpecError(LordsBenchError, ValueError):
    """What was asked for cannot be built: unknown method, bits, codebook, block or rank."""


class WeightError(LordsBenchError, ValueError):
    """A weight, Hessian or other tensor cannot be quantized: shape, dtype or non-finite values."""


class ModelError(LordsBenchError):
    """A model directory or checkpoint cannot be used: missing, truncated, or of an unknown kind."""


class RecordError(LordsBenchError, ValueError):
    """A record or record file cannot be believed: malformed line, unknown schema, foreign run."""


class StoreError(LordsBenchError, OSError):
    """A record store cannot be written: disk full, read-only folder, or locked by another run."""


class UsageError(LordsBenchError, ValueError):
    """A command was called with arguments that do not fit together."""


class DeviceError(LordsBenchError):
    """A device cannot be measured on: absent, a problem cannot be set up on it, or it answers nothing any more."""


class EmulationError(LordsBenchError):
    """A compiled kernel cannot be executed in the emulator: an instruction it does not know, or no end in sight."""


def reason_of(error: BaseException, *, limit: int = FOREIGN_CHARACTERS) -> str:
    """What an exception says, as one line of at most `limit` characters to stand inside a message.

    The class stands before a text of one word, such as that of a KeyError, and in place of an empty one. Of an OSError
    it is the reason alone: the message around it names the file. A message of our own is a bounded line already and
    stays as it is.
    """
    if isinstance(error, LordsBenchError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return _bounded(error.strerror, limit)
    kind, text = type(error).__name__, _bounded(error, limit).rstrip(".")
    if not text:
        return kind
    return text if " " in text else _bounded(f"{kind}: {text}", limit)


def is_full(error: OSError) -> bool:
    """Whether the disk has no space left, or the user's share of it is spent."""
    return error.errno in DISK_FULL


def kind_and_ends(error: BaseException) -> str:
    """Class, first and last line of a message, as one line.

    Errors of compilers and of CUDA begin with the place, quote their source, and end with the cause.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    ends = " ".join(lines if len(lines) < 2 else [lines[0], lines[-1]])
    kind = type(error).__name__
    return _bounded(f"{kind}: {ends}" if ends else kind, MESSAGE_CHARACTERS)


def _bounded(message: object, limit: int) -> str:
    """A text on one line without control characters, its middle left out where it is too long."""
    text = " ".join(str(message).split())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 3]} … {text[-end:]}"
