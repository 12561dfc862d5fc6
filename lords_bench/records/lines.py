"""What files of lines have in common: a line is written whole or not at all, and a torn one is set aside.

Whoever changes a file of lines, by a line or as a whole, holds `folder_lock` of its folder: `store.py` (one writer per
folder) and `journal.py` (several writers of a file) do. Needs a local file system.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from lords_bench.errors import RecordError, StoreError, is_full
from lords_bench.locks import FileLock

LOCK_NAME = ".lords-bench.lock"

# What no run comes near; a file that does is broken, or meant to fill the memory. The largest committed has 1.3 MB.
MOST_LINE_BYTES = 64 * 2**20
MOST_FILE_BYTES = 2**30


def folder_lock(folder: Path, *, wait_s: float = 1.0) -> FileLock:
    """The lock of every file of lines in the folder, which exists.

    Args:
        folder: as its writers name it.
        wait_s: wait for so long for another writer: a journal's row, or what a killed run started, is soon gone.
    """
    what = f"folder {str(folder)!r} is being written"
    return FileLock(folder / LOCK_NAME, what=what, remedy="wait for that run or give another --out", wait_s=wait_s)


def append_line(file: int, line: bytes, path: Path) -> None:
    """Appends `line` to the file that was opened at `path` and forces it to disk; on failure it is as it was before.

    Raises:
        StoreError: the file was deleted or replaced since it was opened, by what does not know of `folder_lock`: the
            line would be lost with it.
        OSError: the disk is full or refuses.
    """
    found = os.fstat(file)
    if not (path.exists() and os.path.samestat(found, path.stat())):
        raise StoreError(f"{str(path)!r} was deleted or replaced while it was written; start again")
    size = found.st_size
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


def add_line(path: Path, line: bytes) -> None:
    """Appends a line to a file that may be there, behind its last whole line; what a killed writer left is set aside.

    Args:
        path: of the file, in a folder that exists and whose lock the caller holds.
        line: with its newline; b"" only sets aside what is torn.

    Raises:
        StoreError: the disk is full or refuses; the file is as it was before.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(file).st_size
            if size == 0:
                sync_folder(path.parent)
            elif os.pread(file, 1, size - 1) != b"\n":
                set_torn_line_aside(file, path)
            append_line(file, line, path)
        finally:
            os.close(file)
    except OSError as error:
        raise store_error("write", path, error) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a file.

    Attributes:
        number: from 1.
        content: without its newline; None of a line longer than `MOST_LINE_BYTES`.
        length: in bytes, without its newline.
        is_torn: whether no newline follows: a killed writer left it.
    """

    number: int
    content: bytes | None
    length: int
    is_torn: bool


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file one by one: no file takes more memory than its longest line may have.

    Raises:
        RecordError: the file is larger than `MOST_FILE_BYTES`.
        OSError: it cannot be read.
    """
    read = 0
    with path.open("rb") as file:
        for number in count(1):
            content = last = file.readline(MOST_LINE_BYTES)
            if not content:
                return
            length = len(content)
            while not last.endswith(b"\n") and read + length <= MOST_FILE_BYTES:
                last = file.readline(MOST_LINE_BYTES)
                if not last:
                    break
                length += len(last)
            read += length
            if read > MOST_FILE_BYTES:
                raise RecordError(f"{str(path)!r} is larger than {MOST_FILE_BYTES >> 20} MiB; no run writes so much")
            whole = content.removesuffix(b"\n") if length <= MOST_LINE_BYTES else None
            yield Line(number=number, content=whole, length=length - bool(last), is_torn=not last)


def read_limited(path: Path, most_bytes: int) -> bytes:
    """A whole file that is never large.

    Raises:
        RecordError: it is larger.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise RecordError(f"{str(path)!r} is larger than {most_bytes >> 10} KiB; nothing that is written there is")
    return content


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
    """The refusal of a disk or folder in one line, with the remedy; what is one already stays as it is."""
    if isinstance(error, StoreError):
        return error
    remedy = "free some space and start again, completed cases are kept, or " if is_full(error) else ""
    return StoreError(f"cannot {verb} {str(path)!r}: {error.strerror or error}; {remedy}give another --out")
