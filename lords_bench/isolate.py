"""A program in a process of its own: its crash, its hang and its hunger cost that process, and none outlives this one.

Every program is started into a process group that a guard leads: a shell that does nothing but wait for the end of a
pipe which this process holds. However this process ends (an exception, SIGTERM, SIGHUP, SIGKILL, a crash), the kernel
closes the pipe, and the guard kills its whole group: the program, what it started, itself. What a program isolates in
turn has a guard that waits for that program, so the end runs down the tree. It needs no help from the program, which
may be anybody's, none from the dying process, and holds whichever thread started it (Linux' parent-death signal comes
when the *thread* ends, and to the child alone). A guard costs about a millisecond and a megabyte.

The group is there before the program is, which joins it before it runs: there is no instant at which the end of this
process would miss it. Linux kills what is isolated first when memory runs out.

    ProcessGroup  the group, in which any number of programs may be started
    run           a program to its end, within a time limit
    Worker        a program that is asked line by line; how it was lost is told as an outcome
    answer_all    the program's side, where questions and answers are JSON
    side_by_side  several of the above at a time, in threads; an interrupt ends them all
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lords_bench.locks import close_in_forks, forget_in_forks
from lords_bench.records.status import Status
from lords_bench.text import one_line

Item = TypeVar("Item")
Result = TypeVar("Result")

# The traps: a signal to the group is for the program, and the guard stays.
_GUARD = ("/bin/sh", "-c", "trap '' HUP INT QUIT TERM; read -r _; kill -KILL 0")
_OOM_SCORE = "800"
_CHUNK = 1 << 16
# What has closed its output is given so long to end by itself.
_END_SECONDS = 60.0
_WORDS_BYTES = 1 << 16


class _Threads:
    """What the threads of one `side_by_side` share."""

    def __init__(self) -> None:
        self.groups: set[ProcessGroup] = set()
        self.stopped = threading.Event()
        self.cause: BaseException | None = None

    def stop(self, cause: BaseException) -> None:
        if not self.stopped.is_set():
            self.cause = cause
        self.stopped.set()
        for group in tuple(self.groups):
            group.signal(signal.SIGKILL)


class _Local(threading.local):
    threads: _Threads | None = None


_local = _Local()


class ProcessGroup:
    """A process group that ends with this process, and at the end of its context.

    Raises:
        concurrent.futures.CancelledError: the `side_by_side` that this thread belongs to was left.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []
        self._threads = _local.threads
        # It holds none of what its starter may wait for: no output, no folder, no other guard's pipe.
        self._guard: subprocess.Popen[bytes] | None = subprocess.Popen(
            _GUARD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env={},
            process_group=0,
        )  # fmt: skip
        close_in_forks(self, self._leave)
        if self._threads is not None:
            self._threads.groups.add(self)
            self.require_wanted()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def number(self) -> int:
        """Of the process group.

        Raises:
            ProcessLookupError: it is closed.
        """
        if self._guard is None:
            raise ProcessLookupError("the process group is closed")
        return self._guard.pid

    def start(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """A program in the group; options are those of `subprocess.Popen`, and its input is empty unless given.

        Raises:
            OSError: it cannot be started.
        """
        options = {"stdin": subprocess.DEVNULL, **options}
        process = subprocess.Popen(command, process_group=self.number, **options)
        self._started.append(process)
        with suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text(_OOM_SCORE, "ascii")
        return process

    def require_wanted(self) -> None:
        """Close it and raise if nobody waits for its programs any more: what became of them is no outcome of theirs.

        Raises:
            concurrent.futures.CancelledError: the `side_by_side` that made it was left.
        """
        if self._threads is not None and self._threads.stopped.is_set():
            self.close()
            raise CancelledError

    def signal(self, number: signal.Signals) -> None:
        """To every process of the group; one that is gone is none."""
        # macOS refuses a group of which all have ended.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.number, number)

    def close(self) -> None:
        """Kill what is left of the group and wait for it; harmless when closed."""
        if self._guard is None:
            return
        self.signal(signal.SIGKILL)
        # Until its leader is waited for, nobody else is given the group's number.
        for process in (*self._started, self._guard):
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._guard = None
        forget_in_forks(self)
        if self._threads is not None:
            self._threads.groups.discard(self)

    def _leave(self) -> None:
        """In a forked child: the group ends with the process that made it, and is none of the child's business."""
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()


def join_group(number: int, starter: int) -> None:
    """The first act of a process that something else than `ProcessGroup.start` starts: it joins the group, or ends.

    Args:
        number: of the group.
        starter: process id of who made the group and started this process.
    """
    with suppress(OSError):
        os.setpgid(0, number)
        # Once in the group: where the starter still lives, its guard's kill is yet to come. The number alone proves
        # nothing, as a killed guard keeps it until somebody waits for it.
        if os.getppid() == starter:
            return
    os._exit(1)


def run(command: Sequence[str], *, seconds: float | None = None, **options: Any) -> "subprocess.CompletedProcess[Any]":
    """A program to its end; it and all that it started are gone when this returns or raises.

    Args:
        command: program and arguments.
        seconds: time limit; None is none.
        options: of `subprocess.Popen`.

    Raises:
        subprocess.TimeoutExpired: it ran into the limit.
        OSError: it cannot be started.
    """
    with ProcessGroup() as group:
        process = group.start(command, **options)
        output, errors = process.communicate(timeout=seconds)
        group.require_wanted()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """`work` of every item, in their order.

    If it is left early (an exception in any thread, an interrupt), no other item is begun, the groups that its threads
    made are killed, and none of them becomes an outcome.

    Args:
        work: called in several threads.
        items: what for.
        threads: how many at a time.
    """
    shared = _Threads()

    def one(item: Item) -> Result:
        try:
            if shared.stopped.is_set():
                raise CancelledError
            return work(item)
        except BaseException as error:
            shared.stop(error)
            raise

    with ThreadPoolExecutor(threads, initializer=setattr, initargs=(_local, "threads", shared)) as pool:
        try:
            yield from pool.map(one, items)
        except BaseException as error:  # noqa: BLE001  (it is raised again, or what caused it)
            pool.shutdown(wait=False, cancel_futures=True)
            shared.stop(error)
            # An item that was cancelled for another's sake may come before it.
            raise shared.cause or error from None


def python_environment(**changes: str) -> dict[str, str]:
    """This process' environment for another Python, which then imports from where this one does."""
    path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {**os.environ, "PYTHONPATH": path, **changes}


class LostWorkerError(Exception):
    """How a worker ended that should not have.

    Attributes:
        status: `timeout` or `crash`.
        exit_code: negative is a signal; of one that hung, what killing it gave.
        how: `signal SIGABRT`, or `exit code 1`.
        words: last line that it wrote to its standard error, "" where there is none.
    """

    def __init__(self, *, status: Status, exit_code: int, words: str) -> None:
        self.status, self.exit_code, self.words = status, exit_code, words
        self.how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"{status}, {self.how}: {words}")


class Worker:
    """A program that reads lines and writes lines, as a context manager; what it warns of goes to a file.

    Args:
        command: program and arguments.
        environment: None is this process'.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self._read = b""
        self._group = ProcessGroup()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as this object)
        try:
            self._process = self._group.start(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
            )
        except BaseException:
            self.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill it and what it started; harmless when it is gone."""
        self._group.close()
        self._errors.close()

    def send(self, line: str) -> None:
        """A line for it; that it is gone is told by `receive`."""
        with suppress(BrokenPipeError):
            self._input.write(f"{line}\n".encode())
            self._input.flush()

    def receive(self, seconds: float) -> str:
        """Its next line, without the newline.

        Raises:
            LostWorkerError: there is none within `seconds`, or it ended; in both cases it is closed.
            concurrent.futures.CancelledError: the `side_by_side` that made it was left.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._lost(Status.TIMEOUT)
                chunk = os.read(self._output.fileno(), _CHUNK)
                if not chunk:
                    raise self._lost(Status.CRASH)
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")

    def ask(self, question: object, seconds: float) -> Any:
        """The answer of a program that is one call of `answer_all`; raises what `receive` does."""
        self.send(json.dumps(question))
        return json.loads(self.receive(seconds))

    def _lost(self, status: Status) -> LostWorkerError:
        self._group.require_wanted()
        if status is Status.CRASH:
            # It has closed its output: it is about to end, and in its own way.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_END_SECONDS)
        self._group.close()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _WORDS_BYTES))
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        self.close()
        return LostWorkerError(
            status=status, exit_code=self._process.returncode, words=one_line(lines[-1], most=300) if lines else ""
        )


def answer_all(answer: Callable[[Any], object]) -> None:
    """What a program does for `Worker.ask`: answer until standard input ends.

    Answers leave on a private copy of standard output: compilers and drivers print to the real one.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()
