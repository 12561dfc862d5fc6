"""What a visit's archive may hold, and reading one that may be anything: within limits, and whole or not at all.

Everything is read in one pass as it is decompressed, so that a small file which promises a large content costs no more
than the limits say; the checksum at the end of the compressed stream is asked for too. A folder of a visit is read by
the same rules.
"""

import contextlib
import gzip
import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from lords_bench.errors import StoreError, UsageError, reason_of
from lords_bench.visit.plan import MODEL_FOLDER
from lords_bench.visit.steps import LOG_NAME, MOST_LOG_BYTES

TRAINING = f"{MODEL_FOLDER}/training.json"

# A part of a path: no `..`, no hidden file, nothing that a file system takes for more than a name.
_PART = r"\w[\w.+-]{0,99}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """Files of one kind: the whole name as a pattern, and the most bytes of one."""

    pattern: "re.Pattern[str]"
    most_bytes: int


# All limits of an archive stand here; docs/measuring/visit.md has them in words. A visit of half an hour comes to a few
# per cent of each.
MOST_MEMBERS = 1000
MOST_SUM_BYTES = 256 * 2**20
# Headers and padding of the archive itself.
_MOST_STREAM_BYTES = MOST_SUM_BYTES + 4 * tarfile.BLOCKSIZE * MOST_MEMBERS
_KINDS = (
    _Kind(pattern=re.compile(rf"reports(/{_PART}){{1,3}}\.jsonl"), most_bytes=128 * 2**20),
    _Kind(pattern=re.compile(rf"tuned(/{_PART}){{1,2}}\.jsonl"), most_bytes=128 * 2**20),
    _Kind(pattern=re.compile(re.escape(LOG_NAME)), most_bytes=MOST_LOG_BYTES),
    _Kind(pattern=re.compile(re.escape(TRAINING)), most_bytes=4 * 2**20),
    _Kind(pattern=re.compile(rf"logs/{_PART}\.log"), most_bytes=2**20),
)


def most_bytes_of(name: str) -> int | None:
    """How large a file of that name may be; None where no visit writes one."""
    return next((kind.most_bytes for kind in _KINDS if kind.pattern.fullmatch(name)), None)


class Budget:
    """What is left of the limits while an archive is read or written."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._names: set[str] = set()
        self._bytes = 0

    def take(self, name: str, size: int) -> None:
        """Count a file.

        Raises:
            StoreError: no visit writes it, or it goes beyond a limit.
        """
        self.check(name, size)
        self._names.add(name)
        self._bytes += size
        if len(self._names) > MOST_MEMBERS:
            raise self._refusal(f"holds more than {MOST_MEMBERS} files")
        if self._bytes > MOST_SUM_BYTES:
            raise self._refusal(f"holds more than {MOST_SUM_BYTES} bytes")

    def check(self, name: str, size: int) -> None:
        """Refuse, as `take` does, a file that could not be counted whatever came before it."""
        most = most_bytes_of(name)
        if most is None:
            raise self._refusal(f"holds {name[:200]!r}, which no visit writes")
        if name in self._names:
            raise self._refusal(f"holds {name!r} twice")
        if size > most:
            raise self._refusal(f"holds {name!r} of {size} bytes; at most {most} are read")

    def _refusal(self, why: str) -> StoreError:
        return StoreError(f"{str(self._source)!r} {why}; nothing of it is used")


def content_of(path: Path) -> bytes:
    """A file's bytes; of one that is written line by line only whole lines, for the last may be on its way."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1] if path.suffix == ".jsonl" else content


def unpack(source: Path, target: Path) -> None:
    """An archive, or what belongs to a visit in a folder, into a new folder of one's own, such as a temporary one.

    Raises:
        UsageError: there is neither.
        StoreError: it is damaged, holds what no visit writes, goes beyond a limit, or cannot be read or copied.
    """
    if not source.is_dir() and not source.is_file():
        raise UsageError(f"{str(source)!r} is no folder and no archive; give what an earlier visit wrote")
    members = _members_of_folder(source) if source.is_dir() else _members_of_archive(source)
    try:
        for name, content in members:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with (target / name).open("xb") as file:
                shutil.copyfileobj(content, file)
    except StoreError:
        raise
    # The last is what tarfile gives for numbers and texts in a header that are none.
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        why = reason_of(error)
        raise StoreError(f"{str(source)!r} is no archive of a visit, or damaged: {why}") from None
    except OSError as error:
        why = f"{error.filename or source}: {reason_of(error)}"
        raise StoreError(f"{str(source)!r} cannot be unpacked: {why}") from None


def _members_of_folder(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    budget = Budget(source)
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if most_bytes_of(name) is None or path.is_symlink() or not path.is_file():
            continue
        # Before it is read, and again for what was read: it may be growing.
        budget.check(name, path.stat().st_size)
        content = content_of(path)
        budget.take(name, len(content))
        yield name, io.BytesIO(content)


def _members_of_archive(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    budget = Budget(source)
    with contextlib.ExitStack() as stack:
        stream = _Stream(source, stack.enter_context(gzip.open(source)))
        archive = stack.enter_context(tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|"))
        for member in archive:
            is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None
            if not is_plain:
                raise StoreError(f"{str(source)!r} holds {member.name[:200]!r}, which no visit writes: it is no file")
            budget.take(member.name, member.size)
            content = archive.extractfile(member)
            assert content is not None
            yield member.name, content
        stream.finish()


class _Stream:
    """The decompressed bytes, counted; `finish` reads to the checksum behind the last of them."""

    def __init__(self, source: Path, file: gzip.GzipFile) -> None:
        self._source, self._file, self._left = source, file, _MOST_STREAM_BYTES

    def read(self, size: int) -> bytes:
        content = self._file.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise StoreError(f"{str(self._source)!r} holds more than {MOST_SUM_BYTES} bytes; nothing of it is used")
        return content

    def finish(self) -> None:
        while content := self.read(tarfile.RECORDSIZE):
            if content.strip(b"\0"):
                raise StoreError(f"{str(self._source)!r} goes on behind its end; nothing of it is used")
