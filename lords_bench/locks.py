"""`FileLock`: at most one process does a thing, and the one that comes second is told who does it.

`hold` is the same lock on what is there anyway, for whoever need not wait nor be told.

The lock is the kernel's (`flock`), not the file's existence: it ends when its process dies, however it dies, so that a
killed run leaves nothing to clean up. It belongs to the process that took it and to none that this one starts: the
file is closed on exec, and a fork closes its copies, which would else hold the lock for as long as the child lives.
Needs `fcntl` (Linux, macOS) and a local file system.
"""

import fcntl
import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lords_bench.errors import StoreError, is_full

_POLL_SECONDS = 0.005


class FileLock:
    """An exclusive lock as a context manager; the lock file is made where it is missing, and is left behind.

        with FileLock(folder / ".lock", what=f"folder {str(folder)!r} is being written", remedy="wait for that run"):
            ...

    Args:
        path: the lock file, which holds its holder's process id; its folder exists.
        what: what its holder does, in the message before "by process 123".
        remedy: ends the message.
        wait_s: wait for so long for another holder to let go; 0 refuses at once.
        mode: permission bits of a new lock file, whatever the umask; 0o666 serves every user of the machine.

    Raises:
        StoreError: another process holds it (its id is named), or the folder or disk refuses the file.
    """

    def __init__(self, path: Path, *, what: str, remedy: str, wait_s: float = 0.0, mode: int = 0o644) -> None:
        self.path = path
        self._what, self._remedy, self._wait_s, self._mode = what, remedy, wait_s, mode
        self._file = -1

    def __enter__(self) -> Self:
        until = time.monotonic() + self._wait_s
        while not self._take():
            if time.monotonic() >= until:
                raise StoreError(f"{self._what} by process {self._holder()}; {self._remedy}")
            time.sleep(_POLL_SECONDS)
        # Who waits is told this number; a disk too full to hold it is no reason to refuse.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go; harmless when the lock is not held."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        forget_in_forks(self)

    def _take(self) -> bool:
        try:
            self._file = self._open()
            close_in_forks(self, self.close)
            is_ours = _is_locked(self._file, self.path)
        except OSError as error:
            self.close()
            raise _refusal(self.path, error) from None
        if not is_ours:
            self.close()
        return is_ours

    def _open(self) -> int:
        # Not by O_CREAT alone: Linux refuses that for another user's file in a folder such as /tmp.
        with suppress(FileNotFoundError):
            return os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, self._mode)
        with suppress(OSError):
            os.fchmod(file, self._mode)
        return file

    def _holder(self) -> str:
        with suppress(OSError, ValueError):
            return str(int(self.path.read_bytes()[:32]))
        return "unknown"


def _refusal(path: Path, error: OSError) -> StoreError:
    full = "free some space and start again" if is_full(error) else "give another place"
    return StoreError(f"cannot write {str(path)!r}: {error.strerror or error}; {full}")


def hold(path: Path) -> int:
    """The open and locked file or folder at `path`, to be closed; -1 where it is gone, or another process holds it."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return -1
    is_ours = False
    try:
        is_ours = _is_locked(file, path)
    finally:
        if not is_ours:
            os.close(file)
    return file if is_ours else -1


def _is_locked(file: int, path: Path) -> bool:
    """Locks the open file unless another process has; the lock of one that was deleted meanwhile keeps nobody out."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def close_in_forks(thing: Hashable, close: Callable[[], None]) -> None:
    """Call `close` in every process that is forked from this one while `thing` is not forgotten.

    What is closed on exec needs this too: a fork alone, as `multiprocessing` and data loaders make, keeps every
    descriptor open for as long as the child lives.
    """
    global _hooked  # noqa: PLW0603  (once per process, and not when this module is imported)
    _in_forks[thing] = close
    if not _hooked:
        os.register_at_fork(after_in_child=_close_all)
        _hooked = True


def forget_in_forks(thing: Hashable) -> None:
    """No longer call what `close_in_forks` was given; harmless where that was nothing."""
    _in_forks.pop(thing, None)


_in_forks: dict[Hashable, Callable[[], None]] = {}
_hooked = False


def _close_all() -> None:
    for close in tuple(_in_forks.values()):
        close()
    _in_forks.clear()
