"""A training goes on from its newest whole checkpoint, whatever stopped it; one process writes its folder."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from transformers import TrainerCallback

from lords_bench.errors import StoreError
from lords_bench.records.lines import LOCK_NAME, folder_lock
from lords_bench.training import checkpoints as module
from lords_bench.training import trainer
from lords_bench.training.checkpoints import MANIFEST, checkpoints_in, fault_of, newest_whole, publish, refusal_reason
from lords_bench.training.folder import TRAINING_FILE
from lords_bench.training.settings import TrainSettings
from lords_bench.training.trainer import train_model
from tiny_models import save_tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")

LOOKING_AWAY = "ignore:.*lr_scheduler.step.*:UserWarning"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 15


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


def settings_in(folder: Path, base: Path) -> TrainSettings:
    (folder / "text.txt").write_text(TEXT)
    return TrainSettings(
        mode="peft",
        model=str(base),
        out=str(folder / "out"),
        data=(str(folder / "text.txt"),),
        learning_rate=3e-3,
        steps=6,
        batch=2,
        window_tokens=32,
        warmup_steps=1,
        save_steps=2,
        use_cpu=True,
    )


@pytest.fixture
def settings(base: Path, tmp_path: Path) -> TrainSettings:
    return settings_in(tmp_path, base)


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a training that nothing stopped."""
    settings = settings_in(tmp_path_factory.mktemp("undisturbed"), base)
    train_model(settings)
    return losses(settings)


def losses(settings: TrainSettings) -> list[float]:
    finished = json.loads((Path(settings.out) / TRAINING_FILE).read_text())["finished"]
    return [entry["loss"] for entry in finished["log"] if "loss" in entry]


def command(settings: TrainSettings) -> list[str]:
    options = {
        "--out": settings.out, "--lr": settings.learning_rate, "--steps": settings.steps, "--batch": settings.batch,
        "--window": settings.window_tokens, "--warmup-steps": settings.warmup_steps, "--device": "cpu",
        "--save-steps": settings.save_steps,
    }  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    return ["train", settings.mode, settings.model, "--data", *settings.data, *words]


def run(settings: TrainSettings, before: str = "", **options: Any) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, after a piece of Python."""
    program = f"{before}\nimport sys\nfrom lords_bench.cli import main\nsys.exit(main({command(settings)!r}))\n"
    return subprocess.run(
        [sys.executable, "-W", LOOKING_AWAY, "-c", program], capture_output=True, text=True, check=False, **options
    )


def refusals(errors: str) -> list[str]:
    """The lines of a refusal among those of a progress bar."""
    return [line for line in errors.splitlines() if line.startswith("lords-bench: cannot write a checkpoint in ")]


class Stop(TrainerCallback):
    """Ends the process, as it were, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        del args, control, named
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped after its fifth step."""
    settings = settings_in(tmp_path_factory.mktemp("stopped"), base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "FiniteGradients", lambda: Stop(5))
        with pytest.raises(KeyboardInterrupt):
            train_model(settings)
    return Path(settings.out)


@pytest.fixture
def interrupted(settings: TrainSettings, stopped: Path) -> TrainSettings:
    """Settings of a training that was stopped after its fifth step, with checkpoints of the second and fourth."""
    earlier = json.loads((stopped / TRAINING_FILE).read_text())
    earlier["settings"]["data"] = list(settings.data)
    shutil.copytree(stopped, settings.out)
    (Path(settings.out) / TRAINING_FILE).write_text(json.dumps(earlier))
    assert names(Path(settings.out) / "checkpoints") == ["checkpoint-2", "checkpoint-4"]
    return settings


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What a checkpoint's files are written by, and the kill in the middle of the second checkpoint's.
KILLS = {
    "weights": """
import safetensors.torch, transformers.modeling_utils as writer
name = "safe_save_file"
""",
    "state": """
from transformers import TrainerState as writer
name = "save_to_json"
""",
    "manifest": """
import lords_bench.training.checkpoints as writer
name = "settle_folder"
""",
}
KILL = """
import os, signal, pathlib
whole = getattr(writer, name)
def half(*arguments, **named):
    path = next((pathlib.Path(a) for a in arguments if isinstance(a, (str, os.PathLike))), None)
    if path is None or "checkpoint-4" not in str(path):
        return whole(*arguments, **named)
    if path.is_dir():
        os.kill(os.getpid(), signal.SIGKILL)
    whole(*arguments, **named)
    os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(writer, name, half)
"""


@pytest.mark.parametrize("writer", KILLS)
def test_a_kill_in_the_middle_of_a_checkpoint_costs_that_checkpoint(
    writer: str, settings: TrainSettings, undisturbed: list[float]
) -> None:
    killed = run(settings, KILLS[writer] + KILL)
    left = names(Path(settings.out) / "checkpoints")
    said: list[str] = []

    train_model(settings, notice=said.append)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert left == ["checkpoint-2", "unfinished"]
    assert said == [
        "checkpoint-4 was being written when its process ended; what there is of it is removed",
        "going on from checkpoint-2",
    ]
    assert losses(settings) == undisturbed
    assert names(Path(settings.out)) == [LOCK_NAME, "adapter.safetensors", "merged", TRAINING_FILE]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (lambda folder: cut(folder / "model.safetensors"), r"model\.safetensors has [\d,]+ of [\d,]+ bytes"),
    "flipped": (lambda folder: flip(folder / "optimizer.pt"), r"optimizer\.pt is not what was written"),
    "gone": (lambda folder: (folder / "scheduler.pt").unlink(), r"scheduler\.pt is missing"),
    "no list": (lambda folder: (folder / MANIFEST).unlink(), r"it has no files\.json, which is written last"),
    "cut list": (lambda folder: cut(folder / MANIFEST), r"its files\.json is damaged: .+"),
    "no file": (lambda folder: become_folder(folder / MANIFEST), r"its files\.json is damaged: Is a directory"),
}
# What a list may say that json takes, and no checkpoint has.
ODD_LISTS = {
    "a list": "[5]",
    "of nothing": "{}",
    "nested": "[" * 100_000,
    "no size": '{"a": {"bytes": [], "sha256": ""}}',
    "a truth": '{"a": {"bytes": true, "sha256": ""}}',
    "endless": '{"a": {"bytes": Infinity, "sha256": ""}}',
    "no number": '{"a": {"bytes": NaN, "sha256": ""}}',
    "of 5,000 digits": '{"a": {"bytes": %s, "sha256": ""}}' % ("9" * 5000),
    "no hash": '{"a": {"bytes": 1}}',
    "a long name": '{"%s": {"bytes": 1, "sha256": ""}}' % ("a" * 300),
    "no name": '{"": {"bytes": 1, "sha256": ""}}',
    "half a pair": '{"\\ud800": {"bytes": 1, "sha256": ""}}',
    "a zero byte": '{"a\\u0000": {"bytes": 1, "sha256": ""}}',
    "above": '{"../../x": {"bytes": 1, "sha256": ""}}',
    "elsewhere": '{"/dev/zero": {"bytes": 0, "sha256": ""}}',
}


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("odd", ODD_LISTS)
def test_an_odd_list_of_files_is_damage_and_says_so_in_one_line(odd: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(ODD_LISTS[odd])

    fault = fault_of(tmp_path)

    assert fault is not None
    assert fault.startswith("its files.json is damaged: ")
    assert fault.isprintable()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_set_aside_with_its_reason(damage: str, interrupted: TrainSettings) -> None:
    harm, why = DAMAGES[damage]
    checkpoints = Path(interrupted.out) / "checkpoints"
    harm(checkpoints / "checkpoint-4")
    said: list[str] = []

    found = newest_whole(checkpoints, said.append)

    assert found == checkpoints / "checkpoint-2"
    assert names(checkpoints) == ["checkpoint-2", "set-aside-checkpoint-4"]
    assert re.fullmatch(rf"checkpoint-4 is set aside as set-aside-checkpoint-4: {why}", said[0])
    assert said[1:] == ["going on from checkpoint-2"]


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    interrupted: TrainSettings, undisturbed: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    cut(Path(interrupted.out) / "checkpoints" / "checkpoint-4" / "model.safetensors")

    train_model(interrupted)

    assert losses(interrupted) == undisturbed
    assert "going on from checkpoint-2" in caplog.text


def test_a_training_without_a_whole_checkpoint_begins_again(
    interrupted: TrainSettings, undisturbed: list[float]
) -> None:
    for checkpoint in checkpoints_in(Path(interrupted.out) / "checkpoints"):
        cut(checkpoint / "optimizer.pt")
    said: list[str] = []

    train_model(interrupted, notice=said.append)

    assert said[-1] == "no whole checkpoint is left; beginning from the first step"
    assert losses(interrupted) == undisturbed


def test_the_last_two_checkpoints_are_kept_with_the_hash_of_every_file(settings: TrainSettings) -> None:
    settings = replace(settings, steps=9)
    kept: list[list[str]] = []

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            del args, control, named
            if state.global_step == 7:
                kept.append([path.name for path in checkpoints_in(Path(settings.out) / "checkpoints")])
                kept.append([str(fault_of(path)) for path in checkpoints_in(Path(settings.out) / "checkpoints")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "FiniteGradients", Look)
        train_model(settings)

    assert kept == [["checkpoint-6", "checkpoint-4"], ["None", "None"]]


def test_a_checkpoint_is_as_readable_as_any_other_file(interrupted: TrainSettings) -> None:
    folder = Path(interrupted.out) / "checkpoints" / "checkpoint-4"
    mode = (Path(interrupted.out) / TRAINING_FILE).stat().st_mode

    assert {path.stat().st_mode for path in folder.iterdir()} == {mode}


def refuse_second(patch: pytest.MonkeyPatch, error: Exception) -> None:
    """Makes the disk full for the last file of the second checkpoint."""
    original = module.settle_folder

    def settle(folder: Path) -> None:
        if folder.name == "checkpoint-4":
            raise error
        original(folder)

    patch.setattr(module, "settle_folder", settle)


FULL_DISKS: dict[str, tuple[Exception, str]] = {
    "Python": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
    "safetensors": (SafetensorError("I/O error:\nNo space left on device"), "I/O error: No space left on device"),
    "torch": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        "not all of it could be written, as on a full disk",
    ),
}


@pytest.mark.parametrize("library", FULL_DISKS)
def test_a_full_disk_is_one_line_and_the_training_goes_on_when_there_is_room(
    library: str, settings: TrainSettings, undisturbed: list[float]
) -> None:
    error, reason = FULL_DISKS[library]
    checkpoints = Path(settings.out) / "checkpoints"

    with pytest.MonkeyPatch.context() as patch:
        refuse_second(patch, error)
        with pytest.raises(StoreError) as raised:
            train_model(settings)
    left = names(checkpoints)
    train_model(settings)

    assert str(raised.value) == (
        f"cannot write a checkpoint in {str(checkpoints)!r}: {reason}; free some space: the same command then goes on "
        "from checkpoint-2"
    )
    assert left == ["checkpoint-2"]
    assert losses(settings) == undisturbed


def test_what_no_disk_refuses_keeps_its_class(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_second(monkeypatch, RuntimeError("CUDA error"))

    with pytest.raises(RuntimeError, match="CUDA error"):
        train_model(settings)
    assert refusal_reason(OSError(errno.ENOTDIR, "Not a directory")) is None


def test_a_file_that_may_not_grow_is_one_line_and_exit_code_2(settings: TrainSettings) -> None:
    """The kernel's own refusal, which needs no full disk: every writer of a checkpoint meets it."""
    done = run(settings, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))")

    (line,) = refusals(done.stderr)
    assert done.returncode == 2, done.stderr
    assert line.endswith("free some space: the same command then begins again")
    assert "Traceback" not in done.stderr
    assert names(Path(settings.out) / "checkpoints") == []


# A disk of its own for the folder, filled up to the last 20 kB; what is there at the end is copied back.
ON_A_FULL_DISK = """
set -e
mount -t tmpfs -o size=8m tmpfs "$1"
cp -r "$2" "$1/out"
dd if=/dev/zero of="$1/ballast" bs=1k 2>/dev/null || true
truncate -s -20k "$1/ballast"
code=0
"$3" -W "$4" -m lords_bench "${@:5}" || code=$?
cp -r "$1/out" "$2-after"
exit $code
"""


def test_a_really_full_disk_is_one_line_and_costs_no_checkpoint(
    interrupted: TrainSettings, undisturbed: list[float], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--mount", "bash", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own, f"mount -t tmpfs none {disk}"], check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    cut(Path(interrupted.out) / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    words = [sys.executable, LOOKING_AWAY, *command(replace(interrupted, out=str(disk / "out")))]

    done = subprocess.run(
        [*own, ON_A_FULL_DISK, "bash", str(disk), interrupted.out, *words], capture_output=True, text=True, check=False
    )
    after = replace(interrupted, out=f"{interrupted.out}-after")
    left = names(Path(after.out) / "checkpoints")
    train_model(after)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = refusals(done.stderr)
    assert line.endswith("free some space: the same command then goes on from checkpoint-2")
    assert left == ["checkpoint-2", "set-aside-checkpoint-4"]
    assert losses(after) == undisturbed


def test_a_folder_that_another_process_trains_in_is_refused_with_its_id(interrupted: TrainSettings) -> None:
    out = Path(interrupted.out)
    before = names(out / "checkpoints")

    with (
        folder_lock(out),
        pytest.raises(StoreError, match=rf"'{out}' is being written by process {os.getpid()}; .* give another --out"),
    ):
        train_model(interrupted)

    assert names(out / "checkpoints") == before


def test_a_folder_that_another_process_took_while_the_model_was_loaded_is_refused(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(settings.out)
    prepare = trainer._prepare  # noqa: SLF001  (the last step before the folder is taken)
    with ExitStack() as other:

        def meanwhile(*arguments: Any) -> None:
            prepare(*arguments)
            out.mkdir()
            other.enter_context(folder_lock(out))

        monkeypatch.setattr(trainer, "_prepare", meanwhile)

        with pytest.raises(StoreError, match=f"is being written by process {os.getpid()}"):
            train_model(settings)
    assert names(out) == [LOCK_NAME]


def test_of_three_processes_in_one_folder_one_trains_and_the_others_are_refused(
    settings: TrainSettings, undisturbed: list[float]
) -> None:
    program = [sys.executable, "-W", LOOKING_AWAY, "-m", "lords_bench", *command(settings)]
    processes = [subprocess.Popen(program, stdout=-3, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]

    codes = [process.returncode for process in processes]
    winner = processes[codes.index(0)].pid
    refused = [error.splitlines()[-1] for error, code in zip(errors, codes, strict=True) if code]
    assert sorted(codes) == [0, 2, 2], errors
    for line in refused:
        # The second may come while the first trains, or after it.
        assert f"is being written by process {winner}; " in line or "holds a finished training" in line
    assert losses(settings) == undisturbed


def test_a_checkpoint_takes_the_place_of_a_torn_one(tmp_path: Path) -> None:
    part, place = tmp_path / "unfinished" / "checkpoint-2", tmp_path / "checkpoint-2"
    for folder, text in ((part, "new"), (place, "torn")):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(text)

    publish(part, place)

    assert fault_of(place) is None
    assert (place / "state.json").read_text() == "new"


# The first of two processes is killed while the second checkpoint is written, where the environment asks for it.
TWO = """
import os
if os.environ.get("KILLED") and os.environ["RANK"] == "0":
    {kill}
from lords_bench.cli import main
raise SystemExit(main({words!r}))
"""


def test_two_processes_go_on_together_from_one_checkpoint(settings: TrainSettings, tmp_path: Path) -> None:
    kill = (KILLS["manifest"] + KILL).replace("\n", "\n    ")
    program = tmp_path / "two.py"
    program.write_text(TWO.format(kill=kill, words=command(settings)))
    start = [sys.executable, "-W", LOOKING_AWAY, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]

    def together(**environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*start, str(program)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )

    killed = together(KILLED="1")
    left = names(Path(settings.out) / "checkpoints")
    done = together()

    assert killed.returncode != 0
    assert left == ["checkpoint-2", "unfinished"]
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("going on from checkpoint-2") == 1
    assert len(losses(settings)) == 3
    assert names(Path(settings.out)) == [LOCK_NAME, "adapter.safetensors", "merged", TRAINING_FILE]
