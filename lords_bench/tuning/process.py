"""The tuner's side of the evaluation process: ask, wait no longer than agreed, kill the group, start another.

A hang, a crash or a device that a configuration has made unusable costs that configuration and the time to start anew.
"""

import sys
from types import TracebackType
from typing import Any, Self

from lords_bench.errors import DeviceError
from lords_bench.isolate import LostWorkerError, Worker, python_environment
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.tuning.bench import STICKY, Attempt, Duel

_COMMAND = (sys.executable, "-m", "lords_bench.tuning.worker")


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
        self._worker: Worker | None = None
        self._opened: tuple[str, Problem] | None = None
        self._wanted: tuple[str, Problem] | None = None
        self.started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

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
        return None if self._worker is None else self._worker.pid

    def stop(self) -> None:
        """Kill the worker and whatever it started."""
        worker, self._worker, self._opened = self._worker, None, None
        if worker is not None:
            worker.close()

    def _ask(self, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any] | Attempt:
        assert self._wanted is not None
        if self._worker is None or self._opened != self._wanted:
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
        if self._worker is None:
            self._worker = Worker(_COMMAND, environment=python_environment())
            self.started += 1
        try:
            answer: dict[str, Any] = self._worker.ask(request, timeout_s)
        except LostWorkerError as lost:
            self.stop()
            if lost.status is Status.TIMEOUT:
                return Attempt(status=Status.TIMEOUT, reason=f"no answer within {timeout_s:g} s; killed")
            told = f": {lost.words}" if lost.words and lost.exit_code >= 0 else ""
            return Attempt(status=Status.CRASH, reason=f"the evaluation process ended with {lost.how}{told}"[:300])
        return answer
