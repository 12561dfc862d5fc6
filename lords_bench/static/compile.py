"""Requests to machine code: in parallel worker processes, each result kept on disk.

A worker never runs Triton's interpreter (the two do not mix in one process) and needs no GPU. A crash or a hang of the
compiler costs the request in flight, which gets its status and reason; a fresh worker goes on with the rest. Compiling
one kernel takes 0.5 to 10 s of one core; a stored result is read in about a millisecond, without importing Triton.
"""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lords_bench.files import write_whole
from lords_bench.records.status import Status
from lords_bench.static.request import CompileRequest, source_digest
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

    def one(request: CompileRequest) -> CompiledKernel:
        path = folder / f"{_key(request, sources)}.json.gz"
        answer = read_stored(path)
        if answer is None:
            if not hasattr(local, "worker"):
                local.worker = _Worker(timeout_s)
                started.append(local.worker)
            answer = local.worker.ask(request)
            if answer["status"] == Status.OK:
                _write(path, answer)
        result = CompiledKernel(
            request=request,
            status=Status(answer["status"]),
            reason=answer["reason"],
            assembly=answer.get("assembly", ""),
            resources=answer.get("resources", ""),
            shared_bytes=answer.get("shared_bytes"),
            layouts=_layouts(answer.get("layouts")),
        )
        if on_result is not None:
            on_result(result)
        return result

    try:
        with ThreadPoolExecutor(pool_size) as pool:
            return tuple(pool.map(one, requests))
    finally:
        for worker in started:
            worker.close()


def _layouts(fields: dict[str, Any] | None) -> LayoutFacts | None:
    if fields is None:
        return None
    as_tuples: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return LayoutFacts(**as_tuples)


def _key(request: CompileRequest, sources: Mapping[str, str]) -> str:
    """Name of a stored result: everything that could have changed it."""
    parts = (version("triton"), sources[_WORKER], sources[request.module], request.to_json())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Worker:
    """One worker process; started at the first question, and again after it died."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process)

    def ask(self, request: CompileRequest) -> dict[str, Any]:
        """The worker's answer, or {"status", "reason"} of how it died."""
        process = self._process or self._start()
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            _kill(process)

        timer = threading.Timer(self._timeout_s, give_up)
        timer.start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request.to_json() + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        exit_code = self._end()
        if timed_out.is_set():
            return {"status": Status.TIMEOUT, "reason": f"the compiler took longer than {self._timeout_s:g} s"}
        return {
            "status": Status.CRASH,
            "reason": f"the compiler ended with exit code {exit_code}: {self._last_error()}",
        }

    def close(self) -> None:
        """End the process."""
        self._end()
        self._errors.close()

    def _end(self) -> int | None:
        """Kill the process if there is one, close its pipes, and give its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        _kill(process)
        exit_code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return exit_code

    def _start(self) -> "subprocess.Popen[str]":
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        # Triton 3.9 warns that 3.10 flips the default; both releases then compile as 3.9 does.
        environment.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        return self._process

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1] if lines else "nothing on standard error"


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a worker and the assembler it may be running: it leads its own process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def read_stored(path: Path) -> dict[str, Any] | None:
    """A stored answer; None if there is none or if it is damaged, which a fresh compile repairs."""
    try:
        answer: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError):
        return None
    return answer


def _write(path: Path, answer: dict[str, Any]) -> None:
    write_whole(path, gzip.compress(json.dumps(answer).encode(), compresslevel=3), remedy="give another --cache")
