"""The tuner's side of the evaluation process: ask, wait no longer than agreed, kill the group, start another.

A hang, a crash or a device that a configuration has made unusable costs that configuration and the time to start anew.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lords_bench.errors import DeviceError
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.tuning.bench import STICKY, Attempt, Duel

_CHUNK = 1 << 16


class EvaluationProcess:
    """One worker at a time for one device, as a context manager.

    Args:
        device: `fake`, `cpu` or `cuda`.
        regime: of all measurements.
        timeout_s: wall-clock limit of one try; a run-off has ten times as much.
        start_timeout_s: limit of starting a worker and opening a problem, imports and warm-up included.
    """

    def __init__(
        self, device: str, *, regime: Regime = "cold", timeout_s: float = 30.0, start_timeout_s: float = 300.0
    ) -> None:
        self._device, self._regime = device, regime
        self._timeout_s, self._start_timeout_s = timeout_s, start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._opened: tuple[str, Problem] | None = None
        self._wanted: tuple[str, Problem] | None = None
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (open as long as this object)
        self.started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._errors.close()

    def open(self, kernel: str, problem: Problem) -> None:
        """What follows is about this problem; nothing is started before it is needed."""
        self._wanted = (kernel, problem)

    def attempt(self, config: Settings, *, stop_above_ns: float | None) -> Attempt:
        """Try one configuration; whatever happens to the worker is the outcome.

        Raises:
            DeviceError: the problem cannot be set up on the device at all.
        """
        answer = self._ask({"op": "try", "config": config, "stop_above_ns": stop_above_ns}, timeout_s=self._timeout_s)
        if isinstance(answer, Attempt):
            return answer
        found: Attempt = from_plain(Attempt, answer, path="attempt")
        if found.poisoned:
            self.stop()
        return found

    def run_off(self, configs: tuple[Settings, ...], *, quick: bool) -> Duel:
        """Time configurations in the same rounds, the baseline first; if the worker fails, none has a measurement.

        Raises:
            DeviceError: the problem cannot be set up on the device at all.
        """
        answer = self._ask({"op": "run-off", "configs": configs, "quick": quick}, timeout_s=10 * self._timeout_s)
        if isinstance(answer, Attempt):
            reason = f"{answer.status}: {answer.reason}"
            return Duel(measurements=(None,) * len(configs), reasons=(reason,) * len(configs), noise_floor=None)
        duel: Duel = from_plain(Duel, answer, path="run-off")
        if any(text in reason for reason in duel.reasons if reason for text in STICKY):
            self.stop()
        return duel

    @property
    def pid(self) -> int | None:
        """Of the worker; None where there is none."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Kill the worker and whatever it started."""
        process, self._process, self._opened = self._process, None, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any] | Attempt:
        assert self._wanted is not None
        if self._process is None or self._opened != self._wanted:
            kernel, problem = self._wanted
            opened = self._exchange(
                {
                    "op": "open",
                    "device": self._device,
                    "regime": self._regime,
                    "kernel": kernel,
                    "problem": to_plain(problem),
                },
                timeout_s=self._start_timeout_s,
            )
            refused = opened.reason if isinstance(opened, Attempt) else opened["refused"]
            if refused is not None:
                self.stop()
                raise DeviceError(f"{kernel} cannot be set up on device {self._device!r}: {refused}")
            self._opened = self._wanted
        return self._exchange(request, timeout_s=timeout_s)

    def _exchange(self, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any] | Attempt:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = b""
        with suppress(BrokenPipeError):
            process.stdin.write((json.dumps(request) + "\n").encode())
            process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.stop()
                    return Attempt(status=Status.TIMEOUT, reason=f"no answer within {timeout_s:g} s; killed")
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    return self._died(process)
                line += chunk
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self, process: "subprocess.Popen[bytes]") -> Attempt:
        code = process.wait()
        self.stop()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        told = f": {lines[-1]}" if lines and code >= 0 else ""
        return Attempt(status=Status.CRASH, reason=f"the evaluation process ended with {how}{told}"[:300])

    def _start(self) -> "subprocess.Popen[bytes]":
        self._errors.seek(0)
        self._errors.truncate()
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lords_bench.tuning.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )
        self.started += 1
        return self._process
