"""`Journal`: an append-only JSONL file that several processes may write at a time; a row is whole or not there.

Each row is one `os.write` of a line followed by `fsync`, under the folder's lock, which is held for that row only (a
`NounStore`, by contrast, has one writer for the whole run). The file is opened anew for every row, so that a row never
goes to a file that was replaced meanwhile. Bytes after the last newline are what a killed writer left: readers report
them and never believe them, and the next writer moves them to `<name>.rejected`. Damaged, edited or foreign rows
elsewhere stay where they are, are reported by line number, and are not used.
"""

from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from lords_bench.errors import StoreError
from lords_bench.records.codec import encode_line
from lords_bench.records.lines import add_line, folder_lock, store_error
from lords_bench.records.store import NounFile, read_nouns

Noun = TypeVar("Noun")

# A row takes milliseconds; who holds the folder for longer is named.
WAIT_SECONDS = 60.0


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
        StoreError: the folder or the disk refuses, or another process holds the folder for long; it is named.
    """

    def __init__(self, path: Path, noun: type[Noun]) -> None:
        self.path = path
        self.noun = noun
        self._is_open = False

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error("write", self.path, error) from None
        self._write(b"")
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more rows; harmless when already closed."""
        self._is_open = False

    def append(self, noun: Noun) -> None:
        """Write one row and force it to disk; on failure the file is as it was before.

        Raises:
            StoreError: the journal is closed, or the disk is full or refuses.
            RecordError: the noun holds a value that JSON cannot.
        """
        if not self._is_open:
            raise StoreError(f"journal {str(self.path)!r} is closed; append inside its 'with' block")
        self._write(f"{encode_line(noun)}\n".encode())

    def _write(self, line: bytes) -> None:
        with folder_lock(self.path.parent, wait_s=WAIT_SECONDS):
            add_line(self.path, line)
