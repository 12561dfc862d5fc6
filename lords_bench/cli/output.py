"""Lines for the user: results on standard output, refusals on standard error; and what becomes of a closed one."""

import io
import os
import select
import sys
from pathlib import Path

from lords_bench.errors import StoreError, reason_of
from lords_bench.text import one_line, visible


def prepare_output() -> None:
    """Makes both streams take any line: one that is closed swallows it, `?` stands for what an encoding has not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (open until the end)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(line: object) -> None:
    """One line of a result.

    Raises:
        BrokenPipeError: nobody reads any more.
        StoreError: the disk is full.
    """
    try:
        sys.stdout.write(f"{visible(str(line))}\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _refused(error) from None


def complain(line: object) -> None:
    """Why a command was refused or stopped."""
    sys.stderr.write(f"lords-bench: {one_line(str(line))}\n")


def finish_output() -> None:
    """Sends what is still buffered; raises as `say`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _refused(error) from None


def is_reader_gone() -> bool:
    """Whether standard output is a pipe that nobody reads; what is left for it is dropped then."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    is_gone = any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    if is_gone:
        _drop_rest()
    return is_gone


def _refused(error: OSError) -> StoreError:
    _drop_rest()
    return StoreError(f"standard output cannot be written: {reason_of(error)}; send it elsewhere")


def _drop_rest() -> None:
    # The interpreter writes what is left in the buffer when it ends; it must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
