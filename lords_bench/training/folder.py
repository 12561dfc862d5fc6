"""The folder of a training: one process writes it, and it remembers what it was begun with, so that a call can go on.

OUT/training.json       what was asked for, and what came out once it is finished
OUT/.lords-bench.lock   held while a process trains here; the kernel lets go of it when that process dies
"""

import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lords_bench.errors import StoreError, UsageError, reason_of
from lords_bench.files import write_whole
from lords_bench.json_object import read_object
from lords_bench.records.lines import LOCK_NAME, folder_lock
from lords_bench.training.settings import TrainSettings

if TYPE_CHECKING:
    from lords_bench.locks import FileLock

TRAINING_FILE = "training.json"


class TrainingFolder:
    """The folder of a training, as a context manager that holds its lock once it is taken.

    Args:
        settings: of the training.
        out: the folder; nothing is made before `take`.
    """

    def __init__(self, settings: TrainSettings, out: Path) -> None:
        self._settings, self._out = settings, out
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def check(self) -> None:
        """Refuses a folder that holds something else, and takes the lock of one that a training was begun in.

        Raises:
            UsageError: the folder was begun with other settings.
            StoreError: it is taken, its training is finished, or another process trains in it.
        """
        if self._is_begun and self._lock is None:
            self._take_lock()
        if not self._out.exists():
            return
        if not self._out.is_dir() or (not self._is_begun and any(not _is_ours(path) for path in self._out.iterdir())):
            raise StoreError(f"{str(self._out)!r} exists already and is no training folder; choose another --out")
        if self._is_begun:
            _check_same(self._settings, self._out)

    def take(self) -> None:
        """Makes the folder this training's, with its lock.

        Raises:
            UsageError, StoreError: as `check`, as another process may have been here meanwhile; or the disk refuses.
        """
        if self._lock is None:
            try:
                self._out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"cannot write {str(self._out)!r}: {reason_of(error)}; give another --out") from error
            self._take_lock()
            self.check()
        if not self._is_begun:
            self.write({"settings": plain_settings(self._settings)})

    def write(self, content: dict[str, Any]) -> None:
        """Replaces `training.json`, whole or not at all.

        Raises:
            StoreError: the disk refuses.
        """
        text = json.dumps(content, indent=1) + "\n"
        write_whole(self._out / TRAINING_FILE, text, remedy="give another --out")

    @property
    def _is_begun(self) -> bool:
        return (self._out / TRAINING_FILE).is_file()

    def _take_lock(self) -> None:
        self._lock = folder_lock(self._out).__enter__()


def _is_ours(path: Path) -> bool:
    """Whether a call that was stopped before it began left this."""
    return path.name == LOCK_NAME or path.name.startswith(f".{TRAINING_FILE}.")


def _check_same(settings: TrainSettings, out: Path) -> None:
    try:
        earlier = read_object(out / TRAINING_FILE)
        before = earlier["settings"]
        if not isinstance(before, dict):
            raise ValueError("settings are no object")  # noqa: TRY004  (as for any bad file)
    except (OSError, ValueError, KeyError) as error:
        why = reason_of(error)
        raise StoreError(f"{str(out / TRAINING_FILE)!r} is damaged ({why}); choose another --out") from error
    if "finished" in earlier:
        raise StoreError(f"{str(out)!r} holds a finished training; choose another --out")
    for name, value in plain_settings(settings).items():
        if before.get(name) != value:
            raise UsageError(
                f"{str(out)!r} was begun with {name} = {before.get(name)!r:.60}, now it is {value!r}; "
                "give the same options to go on, or another --out"
            )


def plain_settings(settings: TrainSettings) -> dict[str, Any]:
    """Settings as JSON gives them back; the folder may be moved."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    del found["out"]
    return found
