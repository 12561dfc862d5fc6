"""Append-only JSONL file of records: one writer per folder, every finished case survives a kill or a full disk.

Each record is one `os.write` of a whole line, then `fsync`. A writer holds the folder's lock, which ends with its
process, so a killed run leaves nothing to clean up. Bytes after the last newline are a torn line: readers report it by
number and never believe it, and the next writer moves it to `<name>.rejected`. Damaged or edited lines elsewhere stay
where they are, are reported by number, and are not used.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from lords_bench.errors import RecordError, StoreError
from lords_bench.records.bench import BenchRecord
from lords_bench.records.codec import decode_noun, encode_line, noun_of_line
from lords_bench.records.lifecycle import LifecycleRecord
from lords_bench.records.lines import (
    Line,
    append_line,
    folder_lock,
    lines_of,
    set_torn_line_aside,
    store_error,
    sync_folder,
)
from lords_bench.records.status import Status
from lords_bench.text import one_line

# Above this a file is something else than a record file; and of a reason as much as a reader needs.
MOST_REJECTED = 10_000
MOST_REASON = 300

Noun = TypeVar("Noun")
CaseRecord = TypeVar("CaseRecord", BenchRecord, LifecycleRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedLine:
    """A line that is not believed: its number in the file (from 1), why, and whether a killed writer left it."""

    line: int
    reason: str
    is_torn: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NounFile(Generic[Noun]):
    """What a file of one kind of noun holds: believable ones in file order, and the lines that are not."""

    path: Path
    records: tuple[Noun, ...]
    rejected: tuple[RejectedLine, ...]


def read_records(path: Path) -> NounFile[BenchRecord]:
    """Read a file of accuracy records; see `read_nouns`."""
    return read_nouns(path, BenchRecord)


def read_nouns(path: Path, noun: type[Noun]) -> NounFile[Noun]:
    """Read a file of one kind of noun; needs no lock, so a report can be made while a run writes.

    Raises:
        RecordError: there is no such file, or it is something else: larger than `MOST_FILE_BYTES`, or more than
            `MOST_REJECTED` lines of it are not believed.
        StoreError: it cannot be read.
    """
    with _reading(path):
        return _parse(path, noun)


def read_any(path: Path) -> NounFile[Any]:
    """Read a file of whichever kind of noun its first line with a known schema holds.

    Raises:
        RecordError: there is no such file, or no line of it names a schema that is known.
        StoreError: it cannot be read.
    """
    why = "it is empty"
    with _reading(path):
        for line in islice(lines_of(path), MOST_REJECTED):
            try:
                noun = noun_of_line((line.content or b"").decode(errors="replace"))
            except RecordError as error:
                why = one_line(str(error), most=MOST_REASON)
            else:
                return _parse(path, noun)
    raise RecordError(f"{str(path)!r} holds no record: {why}; give a .jsonl file of 'lords-bench'")


class NounStore(Generic[Noun]):
    """The one writer of a file of one kind of noun, as a context manager.

        with NounStore(folder / "latency.jsonl", LatencyRecord) as store:
            store.append(record)

    Entering creates the folder, takes its lock and sets a torn last line aside (`store.rejected` then names it, with
    every other line that is not believed).

    Raises:
        StoreError: another run holds the folder (its process id is named), or the folder or disk refuses the write.
    """

    def __init__(self, path: Path, noun: type[Noun]) -> None:
        self.path = path
        self.rejected: tuple[RejectedLine, ...] = ()
        self._noun = noun
        self._records: list[Noun] = []
        self._file = -1
        self._lock = folder_lock(path.parent)

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.__enter__()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            sync_folder(self.path.parent)
            found = self._recover()
        except RecordError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise store_error("write", self.path, error) from None
        self._records, self.rejected = list(found.records), found.rejected
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and the lock; harmless when already closed."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._lock.close()

    @property
    def records(self) -> tuple[Noun, ...]:
        """Every believable record of the file, those appended here included."""
        return tuple(self._records)

    def append(self, record: Noun) -> None:
        """Write one record and force it to disk; on failure the file is as it was before.

        Raises:
            StoreError: the store is closed, or the disk is full or refuses.
            RecordError: the record holds a value that JSON cannot.
        """
        if self._file < 0:
            raise StoreError(f"record store {str(self.path)!r} is closed; append inside its 'with' block")
        self._write(f"{encode_line(record)}\n".encode())
        self._records.append(record)

    def _write(self, line: bytes) -> None:
        try:
            append_line(self._file, line, self.path)
        except OSError as error:
            raise store_error("write", self.path, error) from None

    def _recover(self) -> NounFile[Noun]:
        """Read the file; complete or set aside what follows its last newline."""
        found = _parse(self.path, self._noun)
        if any(item.is_torn for item in found.rejected):
            set_torn_line_aside(self._file, self.path)
            return found
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write(b"\n")
        return found


class RecordStore(NounStore[BenchRecord]):
    """The one writer of a file of accuracy records."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, BenchRecord)


def completed(records: Iterable[CaseRecord], run_key: str) -> dict[str, CaseRecord]:
    """The latest record of each case of that run that need not be run again: ok and complete. Failures are."""
    return {
        record.case_id: record
        for record in records
        if record.status is Status.OK and record.complete and record.run_key == run_key
    }


def _parse(path: Path, noun: type[Noun]) -> NounFile[Noun]:
    records: list[Noun] = []
    rejected: list[RejectedLine] = []
    for line in lines_of(path):
        try:
            records.append(_decoded(line, noun))
        except RecordError as error:
            reason = one_line(str(error), most=MOST_REASON)
            if line.is_torn:
                reason = f"torn line of {line.length} bytes, left by a run that was killed"
            rejected.append(RejectedLine(line=line.number, reason=reason, is_torn=line.is_torn))
        if len(rejected) > MOST_REJECTED:
            first = rejected[0]
            raise RecordError(
                f"{str(path)!r} has more than {MOST_REJECTED} lines that are not believed; "
                f"line {first.line}: {first.reason}; restore the file, or move it away"
            )
    return NounFile(path=path, records=tuple(records), rejected=tuple(rejected))


def _decoded(line: Line, noun: type[Noun]) -> Noun:
    if line.content is None:
        raise RecordError(f"not a record: {line.length} bytes in one line")
    try:
        text = line.content.decode()
    except UnicodeDecodeError:
        raise RecordError("not a record: it is not UTF-8 text") from None
    return decode_noun(text, noun)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except RecordError:
        raise
    except FileNotFoundError:
        raise RecordError(f"no record file {str(path)!r}; run 'lords-bench bench' first") from None
    except OSError as error:
        raise store_error("read", path, error) from None
