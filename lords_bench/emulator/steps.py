"""`Step` and `Executable`: what a decoded program is made of.

A register is an array with one element per thread, or of one element where every thread has the same value. A mask is
an array of booleans by thread, and None where all take part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.parse import Instruction

Mask = NDArray[np.bool_] | None
Threads = NDArray[np.intp]
# Takes a `machine.Machine`, which is made of steps.
Run = Callable[[Any, Mask], None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """An instruction ready to run.

    Attributes:
        run: what it does to a machine, for the threads of a mask.
        reads, writes: numbers of registers.
        watched: those of them that asynchronous products use.
        instruction: the instruction.
    """

    run: Run
    instruction: Instruction
    reads: frozenset[int] = field(default=frozenset())
    writes: frozenset[int] = field(default=frozenset())
    watched: frozenset[int] = field(default=frozenset())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Executable:
    """A program whose registers have numbers and whose instructions are steps; made once, run for any launch.

    Attributes:
        steps: in order of the text.
        blocks: basic blocks, first step to the one behind the last.
        registers: names by number.
        constants: registers that hold literals.
        specials: registers that hold `%tid.x` and its like, by name.
        threads: of a CTA.
    """

    steps: tuple[Step, ...]
    blocks: Mapping[int, int]
    registers: tuple[str, ...]
    constants: Mapping[int, Bits]
    specials: Mapping[str, int]
    threads: int
