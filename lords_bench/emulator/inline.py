"""A block of inline assembly by itself: registers in, registers out, without threads, memory or branches.

For whatever runs a kernel's surroundings in another way, such as Triton's interpreter, which knows no assembly.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.floats import operation
from lords_bench.emulator.formats import U32, immediate
from lords_bench.emulator.opcode import unknown
from lords_bench.emulator.parse import parse_block
from lords_bench.emulator.registers import single

Register = NDArray[np.uint32]


def run_block(text: str, inputs: Sequence[Register], outputs: int) -> list[Register]:
    """Registers `$0`, `$1` and so on after the block, given those behind them before it.

    Args:
        text: of the block, arithmetic only; `%laneid` is 0.
        inputs: `$outputs` and the ones behind it, arrays of the same length or of one element.
        outputs: how many registers the block writes.

    Raises:
        EmulationError: an instruction that is not known, or a register that was never written.
    """
    registers: dict[str, Bits] = {f"${outputs + place}": register for place, register in enumerate(inputs)}
    registers["%laneid"] = np.zeros(1, U32)

    def value(name: str, kind: str) -> Bits:
        found = immediate(name, kind)
        if found is None:
            found = registers.get(name)
        if found is None:
            raise unknown(f"{instruction.text} with {name}, which was never written,")
        return found

    for instruction in parse_block(text):
        target, *sources = map(single, instruction.operands)
        found = operation(instruction.opcode, len(sources))
        if found is None or instruction.guard is not None:
            raise unknown(instruction.opcode)
        operands = [value(name, kind) for name, kind in zip(sources, found.kinds, strict=True)]
        registers[target] = found.function(*operands)
    return [registers[f"${place}"] for place in range(outputs)]
