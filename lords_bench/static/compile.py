"""Requests to machine code: in parallel worker processes, each result kept on disk.

A worker never runs Triton's interpreter (the two do not mix in one process) and needs no GPU. A crash or a hang of the
compiler costs the request in flight, which gets its status and reason; a fresh worker goes on with the rest. Compiling
one kernel takes 0.5 to 10 s of one core; of what is stored, a request costs its worker a few milliseconds.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lords_bench.errors import StoreError
from lords_bench.isolate import LostWorkerError, Worker, python_environment, side_by_side
from lords_bench.records.codec import from_plain
from lords_bench.records.status import Status
from lords_bench.static.request import CompileRequest
from lords_bench.static.stored import StoredCode

_WORKER = "lords_bench.static.worker"
DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledLaunch:
    """One launch of a kernel, as Triton specialised it from its arguments, and its machine code.

    Attributes:
        kernel: `package.module:name` of the `@triton.jit` function.
        grid: programs along each axis.
        integers: (parameter, value) of the integers that it is given at run time.
        types: (parameter, Triton type); `constexpr` is compiled in.
        constants: (parameter, value) of what is compiled in, integers that are 1 included; dtypes by name.
        key: Triton's own key of the compiled code.
        code: what the compiler made of it.
    """

    kernel: str
    grid: tuple[int, int, int]
    integers: tuple[tuple[str, int], ...]
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, int | float | bool | str | None], ...]
    num_warps: int
    num_stages: int
    key: str
    code: StoredCode

    @property
    def name(self) -> str:
        return self.kernel.partition(":")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileResult:
    """A request and what the compiler made of it.

    Attributes:
        status: `ok`, `unsupported` (the call refused what it was asked), `compile_error`, `crash` or `timeout`.
        reason: one line, None if and only if the status is `ok`.
        launches: in order; empty unless `ok`.
    """

    request: CompileRequest
    status: Status
    reason: str | None
    launches: tuple[CompiledLaunch, ...]

    @property
    def main(self) -> CompiledLaunch:
        """The launch that does the work: the first one; what follows it sums up."""
        return self.launches[0]


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/lords_bench/static`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lords_bench" / "static"


def compile_all(
    requests: Sequence[CompileRequest],
    *,
    cache_dir: Path | None = None,
    workers: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    for_launch: bool = False,
    on_result: Callable[[CompileResult], None] | None = None,
) -> tuple[CompileResult, ...]:
    """Compile every request, in the order given.

    Args:
        requests: what to compile; several functions and targets may be mixed.
        cache_dir: where machine code is kept; None is `default_cache_dir()`.
        workers: processes at a time; None is one per core that this process may use.
        timeout_s: wall-clock limit of one request.
        for_launch: see to it that Triton's own cache has what is compiled, so that a launch compiles nothing.
        on_result: called once per request as results come in, from worker threads; for a progress bar.

    Raises:
        StoreError: the folder refuses.
    """
    folder = default_cache_dir() if cache_dir is None else cache_dir
    folder.mkdir(parents=True, exist_ok=True)
    local = threading.local()
    pool_size = max(1, min(len(requests), workers or len(os.sched_getaffinity(0))))
    started: list[_Worker] = []
    damaged: list[str] = []

    def one(request: CompileRequest) -> CompileResult:
        if not hasattr(local, "worker"):
            local.worker = _Worker(timeout_s)
            started.append(local.worker)
        answer = local.worker.ask({"request": request.to_json(), "folder": str(folder), "for_launch": for_launch})
        if "refused" in answer:
            raise StoreError(answer["refused"])
        damaged.extend(answer.get("damaged", ()))
        result = CompileResult(
            request=request,
            status=Status(answer["status"]),
            reason=answer["reason"],
            launches=tuple(map(_launch, answer.get("launches", ()))),
        )
        if on_result is not None:
            on_result(result)
        return result

    try:
        return tuple(side_by_side(one, requests, threads=pool_size))
    finally:
        for worker in started:
            worker.close()
        if damaged:
            others = f" and {len(damaged) - 1} others" if damaged[1:] else ""
            warnings.warn(f"stored machine code was damaged, and is compiled again: {damaged[0]}{others}", stacklevel=2)


def _launch(fields: dict[str, Any]) -> CompiledLaunch:
    found: CompiledLaunch = from_plain(CompiledLaunch, fields, path="launch")
    return found


class _Worker:
    """One worker process; started at the first question, and again after it died."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: Worker | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, or {"status", "reason"} of how it died."""
        self._process = process = self._process or _start()
        try:
            answer: dict[str, Any] = process.ask(question, self._timeout_s)
        except LostWorkerError as lost:
            self._process = None
            reason = f"the compiler ended with exit code {lost.exit_code}: {lost.words or 'nothing on standard error'}"
            if lost.status is Status.TIMEOUT:
                reason = f"the compiler took longer than {self._timeout_s:g} s"
            return {"status": lost.status, "reason": reason}
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()


def _start() -> Worker:
    environment = python_environment()
    environment.pop("TRITON_INTERPRET", None)
    # Triton 3.9 warns that 3.10 flips the default; both releases then compile as 3.9 does.
    environment.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    return Worker([sys.executable, "-m", _WORKER], environment=environment)
