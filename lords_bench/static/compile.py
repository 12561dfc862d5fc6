"""Requests to machine code: in parallel worker processes, each result kept on disk.

A worker never runs Triton's interpreter (the two do not mix in one process) and needs no GPU. A crash or a hang of the
compiler costs the request in flight, which gets its status and reason; a fresh worker goes on with the rest. Compiling
one kernel takes 0.5 to 10 s of one core; a stored result is read in about a millisecond, without importing Triton.
"""

import hashlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lords_bench.isolate import LostWorkerError, Worker, python_environment, side_by_side
from lords_bench.records.status import Status
from lords_bench.static.request import CompileRequest, source_digest
from lords_bench.static.stored import FORMAT, code_from_answer, read_stored, write_stored
from lords_bench.static.ttgir import LayoutFacts

_WORKER = "lords_bench.static.worker"
DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledKernel:
    """A request and what the compiler made of it.

    Attributes:
        status: `ok`, `compile_error`, `crash` or `timeout`.
        reason: one line, None if and only if the status is `ok`.
        assembly: SASS of a cubin, or GCN assembly, as text; empty unless `ok`.
        resources: the disassembler's resource line; empty for AMD, whose assembly carries them.
        shared_bytes: dynamic shared memory of one block; None unless `ok`.
        layouts: what Triton decided on layouts; None unless `ok`.
    """

    request: CompileRequest
    status: Status
    reason: str | None
    assembly: str
    resources: str
    shared_bytes: int | None
    layouts: LayoutFacts | None


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/lords_bench/static`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lords_bench" / "static"


def compile_all(
    requests: Sequence[CompileRequest],
    *,
    cache_dir: Path | None = None,
    workers: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_result: Callable[[CompiledKernel], None] | None = None,
) -> tuple[CompiledKernel, ...]:
    """Compile every request, in the order given.

    Args:
        requests: what to compile; several modules and targets may be mixed.
        cache_dir: where results are kept; None is `default_cache_dir()`.
        workers: processes at a time; None is one per core that this process may use.
        timeout_s: wall-clock limit of one request.
        on_result: called once per request as results come in, from worker threads; for a progress bar.

    Raises:
        UsageError: a request names a module that does not exist.
    """
    folder = default_cache_dir() if cache_dir is None else cache_dir
    folder.mkdir(parents=True, exist_ok=True)
    sources = {module: source_digest(module) for module in {_WORKER, *(request.module for request in requests)}}
    local = threading.local()
    pool_size = max(1, min(len(requests), workers or len(os.sched_getaffinity(0))))
    started: list[_Worker] = []
    damaged: list[Path] = []

    def one(request: CompileRequest) -> CompiledKernel:
        path = folder / f"{_key(request, sources)}.json.gz"
        code, status, reason = read_stored(path, damaged.append), Status.OK, None
        if code is None:
            if not hasattr(local, "worker"):
                local.worker = _Worker(timeout_s)
                started.append(local.worker)
            answer = local.worker.ask(request)
            status, reason = Status(answer.pop("status")), answer.pop("reason")
            if status is Status.OK:
                code = code_from_answer(answer)
                write_stored(path, code)
        result = CompiledKernel(
            request=request,
            status=status,
            reason=reason,
            assembly="" if code is None else code.assembly,
            resources="" if code is None else code.resources,
            shared_bytes=None if code is None else code.shared_bytes,
            layouts=None if code is None else code.layouts,
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


def _key(request: CompileRequest, sources: Mapping[str, str]) -> str:
    """Name of a stored result: everything that could have changed it."""
    parts = (FORMAT, version("triton"), sources[_WORKER], sources[request.module], request.to_json())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Worker:
    """One worker process; started at the first question, and again after it died."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: Worker | None = None

    def ask(self, request: CompileRequest) -> dict[str, Any]:
        """The worker's answer, or {"status", "reason"} of how it died."""
        self._process = process = self._process or _start()
        process.send(request.to_json())
        try:
            answer: dict[str, Any] = json.loads(process.receive(self._timeout_s))
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
