"""Batches shared by threads: on a CPU a small model is read fastest by one thread per batch.

Splitting every operation of a small model over the cores costs a barrier each, which on a busy machine waits for a
descheduled thread; and with one thread per operation the results do not depend on the number of cores. A model whose
batches are too large to be held once per thread is read one batch after the other, each by all threads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch

from lords_bench.reference.workers import PanelWorkers

# What the logits of all batches in flight may take together.
IN_FLIGHT_BYTES = 2**30

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchWorkers:
    """`threads` batches are in flight at a time."""

    threads: int
    panels: PanelWorkers

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of every item, in order; an exception in one of them is raised here."""
        return self.panels.map(function, items)


@contextmanager
def batch_workers(device: torch.device, batch_bytes: int) -> Iterator[BatchWorkers]:
    """Workers for batches that need so much memory each."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads * batch_bytes > IN_FLIGHT_BYTES:
        threads = 1
    panels = PanelWorkers(device)
    with panels if threads > 1 else nullcontext():
        yield BatchWorkers(threads=threads, panels=panels)
