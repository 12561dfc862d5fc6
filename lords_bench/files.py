"""Files and folders that are written whole or not at all: the one way in which this project replaces what is on disk.

    with whole_file(path) as part:      # beside the path; any library may write to it
        save_file(tensors, part)
    with whole_folder(path) as part:
        model.save_pretrained(part)

What is written lies beside its place, is forced to disk, and then takes the name: a reader sees the old file or the new
one. Whatever goes wrong before (a full disk, an interrupt, a defect), what had been written is removed. A kill leaves
it; the next writer of the same path removes it, for a lock that every writer holds on its own part tells the dead from
the living. Modes follow the umask, also where a library makes files that only their owner may read.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from glob import escape
from pathlib import Path

from lords_bench.errors import DISK_FULL, LordsBenchError, StoreError, is_full
from lords_bench.locks import hold

REMEDY = "give another place"
# By what a disk refuses to be written, and by what a path that somebody gave is refused.
REFUSALS = (*DISK_FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
PATH_REFUSALS = (*REFUSALS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)


@contextlib.contextmanager
def whole_file(path: Path, *, parents: bool = False, remedy: str = REMEDY) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` when the block ends well.

    Args:
        path: what is replaced, if it is there.
        parents: whether folders that are not there are made, or are a reason to refuse.
        remedy: what a refusal advises, besides to free space where the disk is full.

    Raises:
        StoreError: the disk or the folder refuses; what was there before is untouched.
    """
    with _beside(path, remedy, Path.touch, parents=parents) as part:
        mode = part.stat().st_mode
        yield part
        # A library may have put a file of its own in the place of this one.
        part.chmod(mode)
        force_to_disk(part)
        part.replace(path)
        force_to_disk(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path, *, remedy: str = REMEDY) -> Iterator[Path]:
    """A folder to fill, which takes the place of `path` when the block ends well; that must not be there, or be empty.

    The folders above are made. Arguments are those of `whole_file`.

    Raises:
        StoreError: the disk refuses, or the folder is taken; what was there before is untouched.
    """
    with _beside(path, remedy, Path.mkdir, parents=True) as part:
        yield part
        settle_folder(part)
        part.replace(path)
        force_to_disk(path.parent)


@contextlib.contextmanager
def whole_files(folder: Path, *, last: str, remedy: str = REMEDY) -> Iterator[Path]:
    """A folder to fill, whose files go into `folder` beside what is there when the block ends well.

    Args:
        folder: is made, with the folders above, where it is missing.
        last: name of the file that takes its place after all others, and so says that they are there.
        remedy: as of `whole_file`.

    Raises:
        StoreError: the disk or the folder refuses.
    """
    with _beside(folder / last, remedy, Path.mkdir, parents=True) as part:
        yield part
        settle_folder(part)
        for path in sorted(part.iterdir(), key=lambda path: path.name == last):
            path.replace(folder / path.name)
        force_to_disk(folder)


def settle_folder(folder: Path) -> None:
    """Give every file below a folder the mode that the umask asks for, and force everything to disk.

    Raises:
        OSError: the disk is full or refuses.
    """
    probe = folder / f".{secrets.token_hex(4)}.mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for written in (*folder.rglob("*"), folder):
        if written.is_file():
            written.chmod(mode)
        force_to_disk(written)


def write_whole(path: Path, content: str | bytes, *, remedy: str = REMEDY) -> None:
    """Replace a file's content, and make its folders; text becomes UTF-8, its newlines stay as they are.

    Raises:
        StoreError: as `whole_file`.
    """
    with whole_file(path, parents=True, remedy=remedy) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def _beside(path: Path, remedy: str, make: Callable[[Path], None], *, parents: bool) -> Iterator[Path]:
    part, lock = path, -1
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        while lock < 0:
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            make(part)
            # -1 where another writer took it for an orphan before it was locked, and removes it.
            lock = hold(part)
        yield part
    except LordsBenchError:
        raise
    except OSError as error:
        raise _refused(path, error, remedy) from error
    finally:
        if part is not path:
            remove(part)
        if lock >= 0:
            os.close(lock)


def _refused(path: Path, error: OSError, remedy: str) -> StoreError:
    advice = f"free some space, or {remedy}" if is_full(error) else remedy
    return StoreError(f"cannot write {str(path)!r}: {error.strerror or error}; {advice}")


def _remove_orphans(path: Path) -> None:
    """Remove what killed writers of the path have left."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        # One that vanishes or is locked belongs to a writer that lives.
        with contextlib.suppress(OSError):
            if (lock := hold(part)) >= 0:
                remove(part)
                os.close(lock)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all below, as far as the disk lets it; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable.

    Raises:
        OSError: the disk is full or refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
