"""The ways a user can be told no: one line, the offending value, the remedy.

Everything raised on purpose derives from `LordsBenchError`; the command line prints its message without a
traceback and exits with code 2. Anything else that escapes is a defect and keeps its traceback.
"""


class LordsBenchError(Exception):
    """Base of every error raised on purpose; its message is one line with the value and the remedy."""


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
