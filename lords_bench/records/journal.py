"""`Journal`: an append-only JSONL file that several processes may write at a time; a row is whole or not there.

Each row is one `os.write` of a line followed by `fsync`, under an exclusive `flock` of the file that is held for that
row only (a `NounStore`, by contrast, has one writer for the whole run). Bytes after the last newline are what a killed
writer left: readers report them and never believe them, and the next writer moves them to `<name>.rejected`. Damaged,
edited or foreign rows elsewhere stay where they are, are reported by line number, and are not used.
Needs `fcntl` (Linux, macOS) and a local file system.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from lords_bench.errors import StoreError
from lords_bench.records.codec import encode_line
from lords_bench.records.lines import append_line, set_torn_line_aside, store_error, sync_folder
from lords_bench.records.store import NounFile, read_nouns

Noun = TypeVar("Noun")


def read_journal(path: Path, noun: type[Noun]) -> NounFile[Noun]:
    """Read a journal; needs no lock. A file that is not there is empty.

    Raises:
        StoreError: it cannot be read.
    """
    if not path.exists():
        return NounFile(path=path, records=(), rejected=())
    return read_nouns(path, noun)


class Journal(Generic[Noun]):
    """A writer of a journal, as a context manager; other processes may have the same file open.

        with Journal(folder / "scale_tile.jsonl", Trial) as journal:
            journal.append(trial)

    Entering creates folder and file and sets a torn last line aside.

    Raises:
        StoreError: the folder or the disk refuses.
    """

    def __init__(self, path: Path, noun: type[Noun]) -> None:
        self.path = path
        self.noun = noun
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            sync_folder(self.path.parent)
            with self._locked():
                self._set_torn_line_aside()
        except OSError as error:
            self.close()
            raise store_error("write", self.path, error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; harmless when already closed."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def append(self, noun: Noun) -> None:
        """Write one row and force it to disk; on failure the file is as it was before.

        Raises:
            StoreError: the journal is closed, or the disk is full or refuses.
            RecordError: the noun holds a value that JSON cannot.
        """
        if self._file < 0:
            raise StoreError(f"journal {str(self.path)!r} is closed; append inside its 'with' block")
        line = f"{encode_line(noun)}\n".encode()
        with self._locked():
            # Another writer may have been killed in the middle of a row since this one opened the file.
            try:
                self._set_torn_line_aside()
                append_line(self._file, line)
            except OSError as error:
                raise store_error("write", self.path, error) from None

    def _set_torn_line_aside(self) -> None:
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return
        set_torn_line_aside(self._file, self.path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
