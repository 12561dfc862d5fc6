"""Where the tuner's rows lie, and the lock that keeps two tuners off one device."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lords_bench.locks import FileLock
from lords_bench.records.journal import Journal, read_journal
from lords_bench.records.lines import store_error
from lords_bench.records.trial import Evidence, RunOff, Trial, TuningRecord, key_digest
from lords_bench.records.tuned import TunedKey

if TYPE_CHECKING:
    from lords_bench.records.store import RejectedLine


class Rows:
    """The rows of one kernel on one device: `<kernel>.trials.jsonl` and `<kernel>.runoffs.jsonl`, as a context manager.

    Rows that are not believed are in `rejected`, with their file and line.

    Raises:
        StoreError: the folder or the disk refuses.
    """

    def __init__(self, folder: Path, kernel: str) -> None:
        self._trial_journal = Journal(folder / f"{kernel}.trials.jsonl", Trial)
        self._run_off_journal = Journal(folder / f"{kernel}.runoffs.jsonl", RunOff)
        self._trials: dict[str, list[Trial]] = {}
        self._run_offs: dict[str, list[RunOff]] = {}
        self.rejected: list[tuple[Path, RejectedLine]] = []

    def __enter__(self) -> Self:
        trials = read_journal(self._trial_journal.path, Trial)
        run_offs = read_journal(self._run_off_journal.path, RunOff)
        self._trial_journal.__enter__()
        self._run_off_journal.__enter__()
        for trial in trials.records:
            self._trials.setdefault(trial.key_digest, []).append(trial)
        for run_off in run_offs.records:
            self._run_offs.setdefault(run_off.key_digest, []).append(run_off)
        self.rejected = [(trials.path, line) for line in trials.rejected]
        self.rejected += [(run_offs.path, line) for line in run_offs.rejected]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._trial_journal.close()
        self._run_off_journal.close()

    def record(self, key: TunedKey, evidence: Evidence) -> TuningRecord:
        """The believable rows of one problem."""
        digest = key_digest(key, evidence)
        return TuningRecord(
            key=key,
            evidence=evidence,
            trials=tuple(self._trials.get(digest, ())),
            run_offs=tuple(self._run_offs.get(digest, ())),
        )

    def add(self, row: Trial | RunOff) -> None:
        """Append a row, on disk before this returns."""
        if isinstance(row, Trial):
            self._trial_journal.append(row)
            self._trials.setdefault(row.key_digest, []).append(row)
        else:
            self._run_off_journal.append(row)
            self._run_offs.setdefault(row.key_digest, []).append(row)


def lock_path(device: str, folder: Path) -> Path:
    """One lock per CPU and per GPU of this machine; fake devices are as many as there are folders."""
    if device == "fake":
        return folder / ".tune.lock"
    name = device
    if device == "cuda":
        import torch

        # The number of a GPU depends on the environment of the process, its identifier does not.
        name = f"cuda-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    return Path(tempfile.gettempdir()) / f"lords-bench-tune-{name}.lock"


def device_lock(path: Path) -> FileLock:
    """At most one tuner measures on a device.

    Args:
        path: `lock_path` of it.

    Raises:
        StoreError: the folder of the lock cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error("write", path, error) from None
    remedy = f"two would disturb each other's times: wait for it (lock {str(path)!r})"
    # Whoever else uses this machine must be able to take it later.
    return FileLock(path, what="this device is being tuned on", remedy=remedy, mode=0o666)
