"""Runs `lords-bench tune` in forked children, so that a start costs milliseconds: one JSON request per line in and out.

    {"argv": […], "kill_after_s": 0.1 or null, "first": "worker" or null, "in_try": 3 or null, "log": path}
    {"signal": 9 or null, "exit": 0 or null, "seconds": …}

A child is a real process, and so is its evaluation process, which it forks instead of starting a new interpreter. It is
killed by SIGKILL, `kill_after_s` after a line of the log that begins with `first`, or in its try of that number. `log`
gets a line `try <config>` before each try and `worker <pid>` for each evaluation process.
"""

import json
import os
import select
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import lords_bench.cli.tune.progress
import lords_bench.timing.fake
import lords_bench.timing.protocol  # noqa: F401
from lords_bench.cli import main
from lords_bench.isolate import ProcessGroup, join_group
from lords_bench.tuning import plan, tuner, worker  # noqa: F401
from lords_bench.tuning.process import EvaluationProcess


class Forked:
    """What `ProcessGroup` and `Worker` need of a Popen."""

    returncode = 0
    stderr = None

    def __init__(self, group: int) -> None:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            join_group(group, parent)
            os.close(request_write)
            os.close(answer_read)
            sys.stdin = os.fdopen(request_read)
            os.dup2(answer_write, 1)
            worker.main()
            os._exit(0)
        os.close(request_read)
        os.close(answer_write)
        self.stdin, self.stdout = os.fdopen(request_write, "wb"), os.fdopen(answer_read, "rb")
        self._is_over = False

    def wait(self, timeout: float | None = None) -> int:
        del timeout
        if not self._is_over:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._is_over = True
        return self.returncode


def run_child(argv: list[str], log: str, in_try: int | None) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    attempt = EvaluationProcess.attempt
    numbers = count(1)

    def logged_attempt(self: EvaluationProcess, config: Any, *, stop_above_ns: float | None) -> Any:
        os.write(descriptor, f"try {json.dumps(config)}\n".encode())
        if next(numbers) == in_try:
            os.kill(os.getpid(), signal.SIGKILL)
        return attempt(self, config, stop_above_ns=stop_above_ns)

    def forked_start(self: ProcessGroup, *_: Any, **__: Any) -> Any:
        process = Forked(self.number)
        self._started.append(process)  # type: ignore[arg-type]
        os.write(descriptor, f"worker {process.pid}\n".encode())
        return process

    EvaluationProcess.attempt = logged_attempt
    ProcessGroup.start = forked_start
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os._exit(main(argv))


def logged(log: str) -> set[str]:
    """First words of the lines."""
    path = Path(log)
    return {line.partition(" ")[0] for line in path.read_text().splitlines()} if path.exists() else set()


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_child(request["argv"], request["log"], request["in_try"])
        handle = os.pidfd_open(pid)
        while request["first"] is not None and request["first"] not in logged(request["log"]):
            if select.select([handle], [], [], 0.002)[0]:
                break
        ended, _, _ = select.select([handle], [], [], request["kill_after_s"])
        if not ended:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(handle)
        answer = {
            "signal": -code if code < 0 else None,
            "exit": code if code >= 0 else None,
            "seconds": time.monotonic() - begin,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
