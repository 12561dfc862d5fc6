"""SASS with what the assembler wrote into each encoding: cycles to stall, scoreboards that are set and waited for.

An instruction of 128 bits ends in its control field (bits 105 to 125, since Volta): 4 bits of cycles until the next one
of the warp may issue, a hint, the scoreboard that its result releases, the one that its operands release (7: none), and
the mask of scoreboards that it waits for. The layout is that of Jia et al., "Dissecting the NVIDIA Volta GPU
Architecture via Microbenchmarking" (2018), section 2.1; Hopper and Ada have kept it.
"""

import re
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.static.sass import Instruction, Pipe, parse_sass

_ADDRESS = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(@!?U?PT?\w*\s)?")
_ENCODING = re.compile(r"/\* (0x[0-9a-f]{16}) \*/")
_TARGET = re.compile(r"0x([0-9a-f]+)")
_CONTROL_BIT = 41  # of the second half
_NO_SCOREBOARD = 7
_SCOREBOARDS = 6
# Branches that the warp takes as one; `BRA.DIV` leads to slow code for warps that have parted, which ours do not.
_BRANCHES = ("BRA", "CALL", "BRX", "JMP")
_NEVER = ("BRA.DIV",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled:
    """An instruction and how the assembler scheduled it.

    Attributes:
        instruction: opcode, operands, pipe.
        is_guarded: under a predicate.
        stall_cycles: before the warp may issue the next one.
        sets: scoreboard that is released when the result is there; None without.
        waits: scoreboards that must be released first.
    """

    instruction: Instruction
    is_guarded: bool
    stall_cycles: int
    sets: int | None
    waits: tuple[int, ...]

    @property
    def target(self) -> int | None:
        """Address that it may jump to."""
        opcode, mnemonic = self.instruction.opcode, self.instruction.mnemonic
        if mnemonic not in _BRANCHES or opcode.startswith(_NEVER):
            return None
        found = _TARGET.findall(self.instruction.operands)
        return int(found[-1], 16) if found else None

    @property
    def is_conditional(self) -> bool:
        """Whether what follows it may be reached: under a predicate, or one among its operands (`BRA.U UP0, …`)."""
        return self.is_guarded or bool(re.match(r"!?U?P\d", self.instruction.operands))

    @property
    def leaves(self) -> bool:
        """Whether a warp may end here, or go back to a caller."""
        return self.instruction.mnemonic in ("EXIT", "RET", "KILL")

    @property
    def is_global_load(self) -> bool:
        """Whether what it brings comes from global memory."""
        return self.instruction.pipe is Pipe.GLOBAL and self.instruction.mnemonic not in ("STG", "ST", "RED", "REDG")


def scheduled(assembly: str) -> tuple[Scheduled, ...]:
    """Instructions of `cuobjdump -sass` output, in order.

    Raises:
        RecordError: no instruction in the text, or encodings that do not belong to the instructions.
    """
    instructions = parse_sass(assembly)
    halves: dict[int, list[int]] = {}
    guarded: set[int] = set()
    address = None
    for line in assembly.splitlines():
        at = _ADDRESS.match(line)
        if at is not None:
            address = int(at[1], 16)
            if at[2]:
                guarded.add(address)
        if address is not None:
            halves.setdefault(address, []).extend(int(text, 16) for text in _ENCODING.findall(line))
    if any(len(halves.get(instruction.address, ())) != 2 for instruction in instructions):
        raise RecordError("SASS without its encodings: the disassembly is not that of cuobjdump -sass")
    return tuple(
        _scheduled(instruction, halves[instruction.address][1] >> _CONTROL_BIT, instruction.address in guarded)
        for instruction in instructions
    )


def _scheduled(instruction: Instruction, control: int, is_guarded: bool) -> Scheduled:
    sets, mask = control >> 5 & 7, control >> 11 & ((1 << _SCOREBOARDS) - 1)
    return Scheduled(
        instruction=instruction,
        is_guarded=is_guarded,
        stall_cycles=max(1, control & 15),
        sets=None if sets == _NO_SCOREBOARD else sets,
        waits=tuple(place for place in range(_SCOREBOARDS) if mask >> place & 1),
    )
