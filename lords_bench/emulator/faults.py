"""`Fault`: something a kernel did that a GPU would not forgive, though its result may look right.

A fault is one kind of wrongdoing at one instruction; it is kept once, with how often it happened and one example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.parse import Instruction


class FaultKind(StrEnum):
    """What was wrong; the value is how it is told."""

    GLOBAL_BOUNDS = "global access out of bounds"
    GLOBAL_ALIGNMENT = "global access misaligned"
    GLOBAL_READ = "global read of another CTA's write that was never published to this one"
    GLOBAL_WRITE = "global write over another CTA's write, in no order with it"
    SHARED_BOUNDS = "shared access out of bounds"
    SHARED_ALIGNMENT = "shared access misaligned"
    SHARED_UNWRITTEN = "shared read of bytes that nobody wrote"
    READ_AFTER_WRITE = "shared race: read after another warp's write, no barrier between"
    WRITE_AFTER_READ = "shared race: write after another warp's read, no barrier between"
    WRITE_AFTER_WRITE = "shared race: write after another warp's write, no barrier between"
    LANES = "shared race in a warp: read after another lane's write, no barrier between"
    COPY_READ = "asynchronous copy read before its wait"
    COPY_OVERWRITTEN = "asynchronous copy overwritten on its way"
    COPY_LEFT = "asynchronous copy never waited for"
    PRODUCT_REGISTER = "register of an asynchronous product touched before its wait"
    PRODUCT_OPERAND = "shared operand of an asynchronous product overwritten before its wait"
    PRODUCT_LEFT = "asynchronous product never waited for"
    PRODUCT_FENCE = "register of an asynchronous product changed after the last wgmma.fence"
    PROXY_FENCE = "asynchronous product reads what was stored, with no proxy fence between"
    COPY_PROXY_FENCE = "asynchronous product reads what was copied, with no proxy fence since the copy's wait"
    BARRIERS = "threads of a CTA wait at different barriers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One kind of wrongdoing at one instruction.

    Attributes:
        kind: what.
        instruction: in PTX.
        line: of the PTX text.
        source: `kernel.py:66:15`, where the compiler says so; otherwise empty.
        accesses: how many threads' accesses were at fault, over the whole launch.
        example: of one of them, such as the byte; empty where there is nothing to add.
    """

    kind: FaultKind
    instruction: str
    line: int
    source: str
    accesses: int
    example: str

    def __str__(self) -> str:
        where = f"{self.source} " if self.source else ""
        example = f"; {self.example}" if self.example else ""
        return f"{self.kind}: {where}ptx:{self.line} {self.instruction} [{self.accesses} accesses{example}]"


class FaultLog:
    """Faults of a launch as they are found."""

    def __init__(self) -> None:
        self._found: dict[tuple[FaultKind, Instruction], tuple[int, str]] = {}

    def report(
        self,
        kind: FaultKind,
        instruction: Instruction,
        wrong: NDArray[np.bool_] | np.bool_,
        example: Callable[[int], str] | None = None,
    ) -> None:
        """Add the accesses where `wrong` holds; none is no fault.

        Args:
            kind: what is wrong with them.
            instruction: that made them.
            wrong: by access.
            example: flat place of the first one to what to say about it.
        """
        count = int(np.count_nonzero(wrong))
        if count:
            said = "" if example is None else example(int(np.argmax(wrong)))
            self.add(kind, instruction, count, said)

    def add(self, kind: FaultKind, instruction: Instruction, count: int = 1, example: str = "") -> None:
        """Add `count` accesses."""
        before, said = self._found.get((kind, instruction), (0, example))
        self._found[(kind, instruction)] = (before + count, said)

    def faults(self) -> tuple[Fault, ...]:
        """All of them, in the order in which they first occurred."""
        return tuple(
            Fault(
                kind=kind, instruction=instruction.text, line=instruction.line, source=instruction.source,
                accesses=count, example=said,
            )
            for (kind, instruction), (count, said) in self._found.items()
        )  # fmt: skip


# Bits of registers and memory: unsigned integers, one element per thread, or one in all where every thread has it.
Bits = NDArray[Any]
