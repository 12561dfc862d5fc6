"""One archive of everything that a visit found: records, tables, logs. No page, no model.

It is written beside its name and renamed, so that a visit killed at any moment leaves the last whole one. The same
files give the same bytes.
"""

import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from lords_bench.errors import StoreError, UsageError
from lords_bench.files import write_whole
from lords_bench.visit.plan import MODEL_FOLDER
from lords_bench.visit.steps import LOG_NAME

# A log tells its story at its end.
LOG_BYTES = 200_000
# Above this an archive may not travel; logs are left out first.
MOST_BYTES = 15 * 2**20
# Nothing in a visit is larger: an archive that says so is broken, or meant to fill a disk.
MOST_MEMBER_BYTES = 2**30
TRAINING = f"{MODEL_FOLDER}/training.json"


def pack(out: Path, target: Path) -> Path:
    """Write the archive of a visit's folder.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        content = _archive(out, with_logs=True)
        if len(content) > MOST_BYTES:
            content = _archive(out, with_logs=False)
    except OSError as error:
        raise StoreError(f"cannot read {str(out)!r}: {error.strerror or error}; give another --out") from None
    write_whole(target, content, remedy="give another --pack")
    return target


def _archive(out: Path, *, with_logs: bool) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in _members(out, with_logs=with_logs):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _members(out: Path, *, with_logs: bool) -> Iterator[tuple[str, bytes]]:
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and (path.suffix == ".jsonl" or name == TRAINING):
            yield name, _whole(path)
        elif with_logs and path.is_file() and name.startswith("logs/") and path.suffix == ".log":
            yield name, path.read_bytes()[-LOG_BYTES:]


def _whole(path: Path) -> bytes:
    """A file's bytes; of one that is written line by line only whole lines, for the last may be on its way."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1] if path.suffix == ".jsonl" else content


def go_on_from(earlier: Path, out: Path) -> None:
    """Take over what an earlier visit found, where the folder has nothing of its own yet; of a broken archive nothing.

    Raises:
        UsageError: there is no such folder or archive.
        StoreError: it is damaged, or cannot be copied.
    """
    with tempfile.TemporaryDirectory() as folder:
        unpack(earlier, Path(folder))
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            _place(out / path.relative_to(folder), path.read_bytes)


def unpack(source: Path, target: Path) -> None:
    """An archive, or the folder of a visit, into a folder of one's own; nothing that is there is overwritten.

    Raises:
        UsageError: there is neither.
        StoreError: it is damaged, holds what no visit writes, or cannot be copied.
    """
    if source.is_dir():
        files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
        for name, path in files.items():
            if _belongs(name):
                _place(target / name, partial(_whole, path))
        return
    if not source.is_file():
        raise UsageError(f"{str(source)!r} is no folder and no archive; give what an earlier visit wrote")
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            for member in archive:
                _unpack_member(source, archive, member, target)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise StoreError(f"{str(source)!r} is no archive of a visit, or damaged: {error}") from None


def _unpack_member(source: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if not member.isfile() or not _belongs(member.name) or member.size > MOST_MEMBER_BYTES:
        raise StoreError(f"{str(source)!r} holds {member.name!r}, which no visit writes; nothing of it is used")
    content = archive.extractfile(member)
    assert content is not None
    _place(target / member.name, content.read)


def _belongs(name: str) -> bool:
    """Whether a visit writes a file of that name, and it lies below the visit's folder."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        return False
    known = parts[0] in ("reports", "tuned") and name.endswith(".jsonl")
    return known or name in (LOG_NAME, TRAINING) or (parts[0] == "logs" and name.endswith(".log") and len(parts) == 2)


def _place(path: Path, read: Callable[[], bytes]) -> None:
    if path.exists():
        return
    write_whole(path, read(), remedy="give another --out")
