"""Panels shared by threads, each thread running its tensor operations alone.

A fit walks a matrix in panels that fit the cache, some ten short operations per panel. Splitting every one of those
over all cores costs a barrier per operation; on a machine that is busy otherwise a barrier waits for a descheduled
thread (measured: 16 to 60 ms for an operation of 20 µs). Here a thread takes a whole panel instead, and threads meet
once per pass. Results do not depend on the number of threads: panels are cut by the caller, and results come back in
the order of the panels.

A product, a singular value decomposition or a Cholesky factor that torch itself splits over threads is rounded
otherwise for every number of them, and a fit started from it ends elsewhere (measured: KL of `lords-paper` at 3 bits
0.0180 with two threads, 0.0172 with one). `single_threaded` keeps those operations to one thread too.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


# Threads that torch had before `single_threaded` took them away: panels may still share them.
_THREADS_FOR_PANELS: ContextVar[int | None] = ContextVar("threads_for_panels", default=None)


@contextmanager
def single_threaded(device: torch.device) -> Iterator[None]:
    """Within it each of torch's own operations on the CPU uses one thread; panels are shared by all as before.

    On another device it does nothing.
    """
    if device.type != "cpu":
        yield
        return
    threads = torch.get_num_threads()
    token = _THREADS_FOR_PANELS.set(_THREADS_FOR_PANELS.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _THREADS_FOR_PANELS.reset(token)


class PanelWorkers:
    """As many threads as torch was given; within the `with` block torch's own operations use one thread each.

    On a GPU, or with one thread, or outside the `with` block, `map` runs in the calling thread.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._threads_before = 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._device.type != "cpu":
            return self
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        threads = _THREADS_FOR_PANELS.get() or self._threads_before
        if threads > 1:
            self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._device.type == "cpu":
            torch.set_num_threads(self._threads_before)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of every item, in order; an exception in one of them is raised here."""
        if self._pool is None or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))
