"""A lock keeps a second process out, names the first, and ends with the process that took it, whatever that started."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lords_bench.errors import StoreError
from lords_bench.locks import FileLock

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
# For a test that would else hang; no claim is about time.
LONG_S = 120

HOLDER = """
import multiprocessing, os, subprocess, sys, time
from pathlib import Path
from lords_bench.locks import FileLock
def lock(path): return FileLock(path, what="the thing is being done", remedy="wait")
with lock(Path(sys.argv[1])):
    {start}
    print("held", flush=True)
    sys.stdin.read()
"""
# Each leaves a process behind that outlives the holder and keeps what it inherited.
CHILDREN = {
    "none": "pass",
    "forked": "os.fork() or time.sleep(10**6)",
    "multiprocessing fork": (
        "multiprocessing.get_context('fork').Process(target=time.sleep, args=(10**6,), daemon=False).start()"
    ),
    "another program": "subprocess.Popen(['sleep', '1000000'])",
    "another program with every descriptor": "subprocess.Popen(['sleep', '1000000'], close_fds=False)",
}


def make_lock(path: Path, wait_s: float = 0.0) -> FileLock:
    return FileLock(path, what="the thing is being done", remedy="wait for it", wait_s=wait_s)


@contextmanager
def holder(path: Path, start: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock; it and what it started are gone at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(start=start), str(path)], env=ENVIRONMENT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=LONG_S)


def test_a_second_process_is_refused_in_one_line_with_the_first_one_s_id_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with (
        holder(path) as child,
        pytest.raises(StoreError, match=rf"^the thing is being done by process {child.pid}; wait for it$"),
        make_lock(path),
    ):
        pass


def test_a_second_lock_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with make_lock(tmp_path / "lock"), pytest.raises(StoreError, match=f"by process {os.getpid()}; wait for it"):
        make_lock(tmp_path / "lock").__enter__()


def test_a_refusal_leaves_the_lock_with_its_holder(tmp_path: Path) -> None:
    with make_lock(tmp_path / "lock"):
        for _ in range(2):
            with pytest.raises(StoreError):
                make_lock(tmp_path / "lock").__enter__()


def test_a_lock_that_was_let_go_is_taken_again(tmp_path: Path) -> None:
    lock = make_lock(tmp_path / "lock")

    for _ in range(2):
        with lock:
            assert int(lock.path.read_text()) == os.getpid()


@pytest.mark.parametrize("start", CHILDREN.values(), ids=CHILDREN)
def test_a_killed_holder_s_lock_is_gone_though_what_it_started_lives(tmp_path: Path, start: str) -> None:
    with holder(tmp_path / "lock", start) as child:
        child.kill()
        child.wait(timeout=LONG_S)

        # A child that was just forked may not have run its first line yet.
        with make_lock(tmp_path / "lock", wait_s=LONG_S):
            pass


def test_a_fork_does_not_take_the_lock_from_its_parent(tmp_path: Path) -> None:
    with make_lock(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

        with pytest.raises(StoreError):
            make_lock(tmp_path / "lock").__enter__()


def test_one_that_waits_goes_on_when_the_holder_dies(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as child:
        child.kill()

        with make_lock(tmp_path / "lock", wait_s=LONG_S):
            pass


def test_one_that_waits_in_vain_names_the_holder(tmp_path: Path) -> None:
    with (
        make_lock(tmp_path / "lock"),
        pytest.raises(StoreError, match=f"by process {os.getpid()}"),
        make_lock(tmp_path / "lock", wait_s=0.02),
    ):
        pass


def test_a_deleted_lock_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with make_lock(path):
        path.unlink()

        with make_lock(path), pytest.raises(StoreError):
            make_lock(path).__enter__()


def test_a_lock_whose_file_was_deleted_while_it_was_taken_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    taken = fcntl.flock

    def delete_first(file: int, operation: int) -> None:
        path.unlink()
        monkeypatch.setattr(fcntl, "flock", taken)
        taken(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)

    with make_lock(path, wait_s=LONG_S), pytest.raises(StoreError):
        make_lock(path).__enter__()


def test_a_link_in_the_lock_s_place_is_refused_and_its_target_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "target")

    with pytest.raises(StoreError, match=r"cannot write .*lock'"):
        make_lock(tmp_path / "lock").__enter__()

    assert (tmp_path / "target").read_text() == "precious"


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^cannot write .*none/lock': No such file or directory; give another place$"):
        make_lock(tmp_path / "none" / "lock").__enter__()


def test_a_lock_for_every_user_may_be_written_by_every_user(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", what="it is done", remedy="wait", mode=0o666) as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o666
