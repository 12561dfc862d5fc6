"""Which processes there are, as Linux tells it, and waiting for them without depending on how fast the machine is."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from lords_bench.isolate import python_environment

# Only a test that would fail waits for so long.
PATIENCE_S = 300
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)

# A program with a child of its own, both of which ignore what can be ignored; says that they are there, and stays.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"])
open(os.environ["READY"], "w").close()
time.sleep(10**6)
"""


def _stat(pid: int) -> list[str] | None:
    """State, parent, group, …; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid: int) -> bool:
    """Whether it does anything: a zombie has ended, and only nobody has asked how."""
    found = _stat(pid)
    return found is not None and found[0] != "Z"


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on, that run now."""
    parents = {child: int(found[1]) for child in _numbers() if (found := _stat(child)) is not None and found[0] != "Z"}
    tree = {pid}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {pid}


def marked(mark: str) -> set[int]:
    """Running processes that have `mark` in their environment, which children inherit; whoever their parent is now."""
    return {pid for pid in _numbers() if mark.encode() in _environment(pid) and is_running(pid)}


def _numbers() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait for something that comes sooner or later."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Started:
    """A parent that runs, and everything below it once its isolated program is there."""

    def __init__(self, source: str, folder: Path) -> None:
        script, ready, mark = folder / "parent.py", folder / "ready", str(uuid.uuid4())
        script.write_text(source + "\n")
        self.mark = f"MARK={mark}"
        self.process = subprocess.Popen(
            [sys.executable, str(script)], env=python_environment(READY=str(ready), MARK=mark)
        )
        self.tree: set[int] = set()
        self._ready = ready

    def __enter__(self) -> Self:
        try:
            wait_until(lambda: self._ready.exists() or self.process.poll() is not None)
            self.tree = descendants(self.process.pid)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Of a test that has failed, leave nothing."""
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=PATIENCE_S)

    def left(self) -> set[int]:
        """What still runs, whether it was seen before or not."""
        return marked(self.mark) | {pid for pid in self.tree if is_running(pid)}
