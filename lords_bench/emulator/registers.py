"""Names of registers to numbers, literals among them: what all steps of a program share while they are made."""

import re
from collections.abc import Mapping

import numpy as np

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import U32, U64, immediate, width
from lords_bench.emulator.parse import Instruction, Operand, Program
from lords_bench.emulator.shared_memory import SHARED_BASE
from lords_bench.errors import EmulationError

_SPECIAL = re.compile(r"%(tid|ctaid|nctaid|ntid)\.[xyz]|%(laneid|warpid|clock|clock64|globaltimer|smid|nsmid)")
_SHARED_SYMBOL = "global_smem"
_MEMORY_KIND = re.compile(r"[busf](8|16|32|64)")


class Registers:
    """Numbers of a program's registers, given as they are first named.

    Attributes:
        labels: of the program.
        constants: number of a literal to its value.
        specials: name of a special register to its number.
    """

    def __init__(self, labels: Mapping[str, int], widths: Mapping[str, int]) -> None:
        self.labels, self._widths = labels, widths
        self._numbers: dict[str, int] = {}
        self.constants: dict[int, Bits] = {}
        self.specials: dict[str, int] = {}

    @classmethod
    def of(cls, program: Program) -> "Registers":
        return cls(program.labels, program.widths)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def number(self, name: str, kind: str = "b32") -> int:
        """Of a register, or of a literal of type `kind`."""
        value = self._literal(name, kind)
        if value is not None:
            key = f"{name}:{value.dtype}"
            number = self._numbers.setdefault(key, len(self._numbers))
            self.constants[number] = value
            return number
        number = self._numbers.setdefault(name, len(self._numbers))
        if _SPECIAL.fullmatch(name):
            self.specials[name] = number
        return number

    def _literal(self, name: str, kind: str) -> Bits | None:
        if name.startswith("%"):
            return None
        if name == _SHARED_SYMBOL:
            return np.array([SHARED_BASE], U32 if width(kind) == 32 else U64)
        return immediate(name, kind)

    def numbers(self, operand: Operand, kind: str = "b32") -> list[int]:
        """Of a vector's parts, or of one register."""
        return [self.number(name, kind) for name in (operand if isinstance(operand, tuple) else (operand,))]

    def address(self, operand: Operand) -> tuple[int, int]:
        """Of `[%rd1+16]`: the register's number, and the constant."""
        assert isinstance(operand, str)
        base, _, offset = operand.strip("[]").partition("+")
        return self.number(base, "b32" if base == _SHARED_SYMBOL else "b64"), int(offset, 0) if offset else 0

    def width_of(self, name: str, least: int) -> int:
        """Bits of a register, which may be wider than the `least` that an instruction writes."""
        return max(16, least, self._widths.get(name.rstrip("0123456789"), 0))


def memory_bits(instruction: Instruction) -> int:
    """Bits of one element of a load or store.

    Raises:
        EmulationError: not a type of 8 to 64 bits.
    """
    found = _MEMORY_KIND.fullmatch(instruction.modifiers[-1])
    if found is None:
        raise EmulationError(f"type of {instruction.opcode!r} is not emulated; types of 8 to 64 bits are")
    return int(found[1])


def single(operand: Operand) -> str:
    assert isinstance(operand, str)
    return operand
