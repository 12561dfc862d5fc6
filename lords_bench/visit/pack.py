"""One archive of everything that a visit found: records, tables, logs. No page, no model.

It is written whole, so that a visit killed at any moment leaves the last one. The same files give the same bytes.
"""

import gzip
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lords_bench.errors import StoreError, reason_of
from lords_bench.files import whole_file, write_whole
from lords_bench.visit.archive import Budget, content_of, most_bytes_of, unpack

# A log tells its story at its end.
LOG_BYTES = 200_000
# Above this an archive may not travel; logs are left out first.
MOST_BYTES = 15 * 2**20


def pack(out: Path, target: Path) -> Path:
    """Write the archive of a visit's folder.

    Raises:
        StoreError: the disk refuses, or the folder holds more than an archive may.
    """
    try:
        content = _archive(out, with_logs=True)
        if len(content) > MOST_BYTES:
            content = _archive(out, with_logs=False)
    except OSError as error:
        raise StoreError(f"cannot read {str(out)!r}: {reason_of(error)}; give another --out") from None
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
    budget = Budget(out)
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        is_log = path.suffix == ".log"
        if most_bytes_of(name) is None or (is_log and not with_logs) or path.is_symlink() or not path.is_file():
            continue
        content = _end_of(path) if is_log else content_of(path)
        budget.take(name, len(content))
        yield name, content


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read(LOG_BYTES)


def go_on_from(earlier: Path, out: Path) -> None:
    """Take over what an earlier visit found, where the folder has nothing of its own yet; of a broken archive nothing.

    Raises:
        UsageError: there is no such folder or archive.
        StoreError: it is damaged, holds what no visit writes or too much of it, or cannot be copied.
    """
    with tempfile.TemporaryDirectory() as folder:
        unpack(earlier, Path(folder))
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            with path.open("rb") as content:
                _place(out / path.relative_to(folder), content)


def _place(path: Path, content: IO[bytes]) -> None:
    if path.exists():
        return
    with whole_file(path, parents=True, remedy="give another --out") as part, part.open("wb") as file:
        shutil.copyfileobj(content, file)
