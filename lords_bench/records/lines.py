"""What files of lines have in common: a line is written whole or not at all, and a torn one is set aside.

Used by `store.py` (one writer per folder) and `journal.py` (several writers of a file). Needs a local file system.
"""

import contextlib
import errno
import os
from pathlib import Path

from lords_bench.errors import StoreError
from lords_bench.files import is_full


def append_line(file: int, line: bytes) -> None:
    """Appends `line` to the open file and forces it to disk; on failure the file is as it was before.

    Raises:
        OSError: the disk is full or refuses.
    """
    size = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, f"disk full after {written} of {len(line)} bytes")
        os.fsync(file)
    except OSError:
        # Where even this fails, the torn line is set aside by the next writer.
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def split_torn(content: bytes) -> tuple[bytes, bytes]:
    """The whole lines, and what a killed writer left behind the last newline."""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def set_torn_line_aside(file: int, path: Path) -> None:
    """Moves what follows the last newline of the open file at `path` to `<name>.rejected`, and forces both to disk.

    Raises:
        OSError: the disk is full or refuses.
    """
    whole, torn = split_torn(path.read_bytes())
    with path.with_name(f"{path.name}.rejected").open("ab") as aside:
        aside.write(torn + b"\n")
        aside.flush()
        os.fsync(aside.fileno())
    os.ftruncate(file, len(whole))
    os.fsync(file)


def sync_folder(folder: Path) -> None:
    """Make a newly created file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_error(verb: str, path: Path, error: OSError) -> StoreError:
    """The refusal of a disk or folder in one line, with the remedy."""
    remedy = "free some space and start again, completed cases are kept, or " if is_full(error) else ""
    return StoreError(f"cannot {verb} {str(path)!r}: {error.strerror or error}; {remedy}give another --out")
