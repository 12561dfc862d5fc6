"""Checkpoints of a training, whole or not at all.

    OUT/checkpoints/unfinished/checkpoint-N/   where transformers writes, file by file
    OUT/checkpoints/checkpoint-N/              moved there by one rename when every file is on disk, with `files.json`
    OUT/checkpoints/set-aside-checkpoint-N/    what is not whole after all: a damaged disk, a copy that was cut off

`files.json` has the size and the SHA-256 of every file, and only a checkpoint that agrees with it is believed. That
reads every checkpoint once when it is written (from memory, as a rule) and the newest one when a training goes on.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lords_bench.errors import LordsBenchError, StoreError, reason_of
from lords_bench.files import REFUSALS, force_to_disk, settle_folder
from lords_bench.json_object import read_object
from lords_bench.text import one_line
from lords_bench.training.processes import is_first, on_first, wait_for_all

KEPT = 2
UNFINISHED = "unfinished"
MANIFEST = "files.json"
# Of a file, in bytes, for the file systems of Linux and macOS.
_LONGEST_NAME = 255
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


class WholeCheckpoints(TrainerCallback):
    """Moves what the trainer has saved below `unfinished` to its place; in every process of a training.

    Args:
        folder: `OUT/checkpoints`; the trainer's output folder is `UNFINISHED` in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """After every checkpoint.

        Raises:
            StoreError: the disk refuses; earlier checkpoints are as they were.
        """
        del args, control, named
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        # Every process writes the state of its own random generators.
        wait_for_all()
        on_first(lambda: publish(self._folder / UNFINISHED / name, self._folder / name))


def publish(part: Path, place: Path) -> None:
    """Move a checkpoint to its place when all of it is on disk, and remove all but the newest `KEPT`.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        files = {path.relative_to(part).as_posix(): _listed(path) for path in sorted(part.rglob("*")) if path.is_file()}
        (part / MANIFEST).write_text(json.dumps(files, indent=1) + "\n", "utf-8")
        settle_folder(part)
        # Of the same training and step, and not whole: else it would have been gone on from.
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)
        force_to_disk(place.parent)
    except OSError as error:
        raise refusal(reason_of(error), place.parent) from error
    for old in checkpoints_in(place.parent)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints that are in their place, whole or not, the newest first."""
    found = (
        [path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)] if folder.is_dir() else []
    )
    return sorted(found, key=_step, reverse=True)


def newest_whole(folder: Path, notice: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; None where there is none. Others that are newer are set aside.

    Args:
        folder: `OUT/checkpoints`.
        notice: is told in one line each what is set aside or left out, why, and what the training goes on from.

    Raises:
        StoreError: the disk refuses.
    """
    left = sorted(path.name for path in (folder / UNFINISHED).glob("*"))
    if left:
        notice(f"{left[-1]} was being written when its process ended; what there is of it is removed")
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    was_refused = bool(left)
    for path in checkpoints_in(folder):
        why = fault_of(path)
        if why is None:
            notice(f"going on from {path.name}")
            return path
        was_refused = True
        aside = folder / f"set-aside-{path.name}"
        notice(f"{path.name} is set aside as {aside.name}: {why}")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        except OSError as error:
            raise refusal(reason_of(error), folder) from error
    if was_refused:
        notice("no whole checkpoint is left; beginning from the first step")
    return None


def train_from(last: Path | None, trainer: Trainer, folder: Path) -> float:
    """Trains from a whole checkpoint, or from the first step; the mean loss of a step.

    Args:
        last: the checkpoint.
        trainer: has `WholeCheckpoints` among its callbacks.
        folder: `OUT/checkpoints`.

    Raises:
        StoreError: the disk refuses a checkpoint; earlier ones are as they were.
    """
    try:
        return float(trainer.train(resume_from_checkpoint=None if last is None else str(last)).training_loss)
    except LordsBenchError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = refusal_reason(error)
        if reason is None:
            raise
        raise refusal(reason, folder) from error
    finally:
        if is_first():
            # What a full disk left of a checkpoint makes room again.
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def fault_of(checkpoint: Path) -> str | None:
    """Why a checkpoint is not whole, in words; None where it is."""
    try:
        listed = _manifest(checkpoint / MANIFEST)
    except FileNotFoundError:
        return f"it has no {MANIFEST}, which is written last"
    except (OSError, ValueError) as error:
        return f"its {MANIFEST} is damaged: {reason_of(error)}"
    for name, (size, sha256) in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
        if _sha256(path) != sha256:
            return f"{name} is not what was written"
    return None


def _manifest(path: Path) -> dict[str, tuple[int, str]]:
    """Size and hash by name, of files in the checkpoint's folder.

    Raises:
        OSError, ValueError: there is none, or it is not as it was written.
    """
    files = read_object(path)
    if not files:
        raise ValueError("it lists no file")
    listed: dict[str, tuple[int, str]] = {}
    for name, about in files.items():
        parts = PurePosixPath(name).parts
        # Surrogates, which no name can be made of, are not printable.
        is_name = name.isprintable() and all(len(part.encode()) <= _LONGEST_NAME for part in parts)
        if not is_name or not parts or ".." in parts or name.startswith("/"):
            raise ValueError(f"{one_line(name, most=60)!r} is no file of a checkpoint")
        size, sha256 = (about.get("bytes"), about.get("sha256")) if isinstance(about, dict) else (None, None)
        if type(size) is not int or size < 0 or not isinstance(sha256, str):
            raise ValueError(f"no size and hash of {name}")
        listed[name] = size, sha256
    return listed


def refusal_reason(error: Exception) -> str | None:
    """Why the disk refused a checkpoint, in words; None if something else failed.

    Args:
        error: safetensors and torch have exceptions of their own for a full disk.
    """
    if isinstance(error, OSError):
        return error.strerror if error.errno in REFUSALS else None
    if isinstance(error, SafetensorError):
        return " ".join(str(error).split())
    # torch.save says at which place of its own source it found that not all was written.
    is_writer = "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
    return "not all of it could be written, as on a full disk" if is_writer else None


def refusal(reason: str, folder: Path) -> StoreError:
    """That a checkpoint could not be written below `folder`, why, and how to go on."""
    last = next((path.name for path in checkpoints_in(folder)), None)
    then = f"goes on from {last}" if last else "begins again"
    return StoreError(
        f"cannot write a checkpoint in {str(folder)!r}: {reason}; free some space: the same command then {then}"
    )


def _listed(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
