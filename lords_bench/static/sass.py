"""SASS text to instructions, loops and counts: what a cubin costs per weight, read off its machine code.

The main loop is where a kernel spends its time: of the loops that hold tensor-core instructions in no smaller loop,
the one with the most of them. Counts are warp instructions; divided by the weights that a warp decodes in one turn of
that loop they are comparable between kernels, tiles and GPUs ("per 32 weights" is per weight and thread).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from lords_bench.errors import RecordError

_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+\{?\s*(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)\b(.*?);")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_TARGET_ADDRESS = re.compile(r"0x([0-9a-f]+)")


class Pipe(StrEnum):
    """The part of a multiprocessor that an instruction occupies besides its issue slot."""

    TENSOR = "tensor"
    ALU = "alu"
    FMA = "fma"
    CONVERT = "convert"
    SHARED = "shared"
    GLOBAL = "global"
    LOCAL = "local"
    UNIFORM = "uniform"
    CONTROL = "control"
    UNKNOWN = "unknown"


def _pipes(table: dict[Pipe, str]) -> MappingProxyType[str, Pipe]:
    return MappingProxyType({mnemonic: pipe for pipe, mnemonics in table.items() for mnemonic in mnemonics.split()})


_PIPE_OF = _pipes(
    {
        Pipe.TENSOR: "HMMA IMMA QMMA OMMA DMMA BMMA HGMMA IGMMA QGMMA BGMMA UTCHMMA UTCIMMA UTCQMMA UTCOMMA",
        Pipe.ALU: "LOP3 LOP LOP32I SHF SHL SHR PRMT IADD IADD3 IADD64 VIADD LEA ISETP SEL FSEL FSETP FMNMX FMNMX3 "
        "IMNMX VIMNMX VIMNMX3 VIADDMNMX F2FP I2FP PLOP3 P2R R2P MOV IABS BMSK SGXT HSETP2 HMNMX2 VABSDIFF LEPC",
        Pipe.FMA: "FFMA FMUL FADD FFMA2 FMUL2 FADD2 IMAD IMUL HFMA2 HMUL2 HADD2 FSWZADD FHADD FHFMA",
        Pipe.CONVERT: "F2F F2I I2F I2I MUFU POPC BREV FLO FRND",
        Pipe.SHARED: "LDS STS LDSM STSM ATOMS SHFL MATCH",
        Pipe.GLOBAL: "LDG STG LDGSTS RED REDG ATOM ATOMG LD ST UBLKCP UBLKRED UTMALDG UTMASTG CCTL LDTM STTM",
        Pipe.LOCAL: "LDL STL",
        Pipe.UNIFORM: "R2UR S2UR S2R CS2R LDC LDCU VOTEU VOTE REDUX CREDUX UCGABAR_ARV UCGABAR_WAIT ELECT",
        Pipe.CONTROL: "BRA BRX CALL RET EXIT BSSY BSYNC BREAK WARPSYNC BAR DEPBAR LDGDEPBAR MEMBAR ERRBAR FENCE NOP "
        "YIELD NANOSLEEP WARPGROUP WARPGROUPSET SYNCS ARRIVES KILL BPT ACQBULK ACQSHMINIT PREEXIT PMTRIG DPC JMP "
        "CGAERRBAR",
    }
)
_SHARED_STORES = frozenset({"STS", "STSM"})
_WIDE_LOADS = frozenset({"LDG", "LDGSTS", "LD"})
_TENSOR_MEMORY_COPIES = frozenset({"UBLKCP", "UTMALDG"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One SASS instruction; `LDGSTS.E.BYPASS.128` is an opcode with the mnemonic LDGSTS."""

    address: int
    opcode: str
    operands: str

    @property
    def mnemonic(self) -> str:
        """The opcode up to its first dot."""
        return self.opcode.partition(".")[0]

    @property
    def pipe(self) -> Pipe:
        """The pipe it occupies; instructions of the uniform datapath by their leading U."""
        known = _PIPE_OF.get(self.mnemonic)
        if known is None:
            return Pipe.UNIFORM if self.mnemonic.startswith("U") else Pipe.UNKNOWN
        return known

    @property
    def bytes_per_thread(self) -> int:
        """Width of a memory access: 16 for `.128`; LDSM and STSM by their matrices (4 bytes each); 4 without suffix."""
        parts = self.opcode.split(".")
        if self.mnemonic in ("LDSM", "STSM"):
            return {"4": 16, "2": 8}.get(parts[-1], 4)
        widths = {"128": 16, "64": 8, "U16": 2, "S16": 2, "16": 2, "U8": 1, "S8": 1, "8": 1}
        return next((widths[part] for part in parts if part in widths), 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What the hardware reserves per thread and block, as the assembler counted it."""

    registers: int
    stack_bytes: int
    static_shared_bytes: int
    local_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopCounts:
    """Counts over one turn of a loop of one warp.

    Attributes:
        units: 32-weight groups that the warp decodes in one turn: weights of the block / (32 · warps).
        opcodes: opcode (with suffixes) to number of warp instructions.
    """

    instructions: tuple[Instruction, ...]
    units: float

    @property
    def opcodes(self) -> Counter[str]:
        """Opcode with its suffixes to number."""
        return Counter(instruction.opcode for instruction in self.instructions)

    @property
    def instructions_per_32_weights(self) -> float:
        """Issue slots of a warp per 32 weights that it decodes."""
        return len(self.instructions) / self.units

    def pipe_per_32_weights(self) -> dict[Pipe, float]:
        counts = Counter(instruction.pipe for instruction in self.instructions)
        return {pipe: counts[pipe] / self.units for pipe in Pipe if counts[pipe]}

    @property
    def tensor_opcodes(self) -> tuple[str, ...]:
        """Tensor-core opcodes, the most frequent first."""
        counts = Counter(i.opcode for i in self.instructions if i.pipe is Pipe.TENSOR)
        return tuple(opcode for opcode, _ in counts.most_common())

    @property
    def shared_store_bytes_per_weight(self) -> float:
        """Bytes that threads store to shared memory per weight: decoded weights passing through it would be ≥ 1."""
        stored = sum(i.bytes_per_thread for i in self.instructions if i.mnemonic in _SHARED_STORES)
        return stored / self.units

    def global_load_widths(self) -> Counter[int]:
        """Bytes per thread to number of global loads, cp.async included; bulk copies count as 16."""
        widths = (i.bytes_per_thread for i in self.instructions if i.mnemonic in _WIDE_LOADS)
        bulk = (16 for i in self.instructions if i.mnemonic in _TENSOR_MEMORY_COPIES)
        return Counter([*widths, *bulk])


def parse_sass(text: str) -> tuple[Instruction, ...]:
    """Instructions of `cuobjdump -sass` output, in order.

    Raises:
        RecordError: no instruction in the text.
    """
    found = tuple(
        Instruction(address=int(match[1], 16), opcode=match[3], operands=match[4].strip())
        for match in map(_INSTRUCTION.match, text.splitlines())
        if match
    )
    if not found:
        raise RecordError(f"no SASS instruction in {len(text)} characters of disassembly; is it a cubin's?")
    return found


def parse_resources(text: str) -> Resources:
    """Resources of `cuobjdump -res-usage` output.

    Raises:
        RecordError: no resource line in the text.
    """
    match = _RESOURCES.search(text)
    if match is None:
        raise RecordError(f"no REG/STACK/SHARED/LOCAL in resource usage {text.strip()[-80:]!r}")
    registers, stack, shared, local = (int(value) for value in match.groups())
    return Resources(registers=registers, stack_bytes=stack, static_shared_bytes=shared, local_bytes=local)


def loops(instructions: Sequence[Instruction]) -> tuple[range, ...]:
    """Index ranges of the loops: from the target of each backward branch to the branch.

    A branch to itself, which the assembler puts behind the last instruction, is none.
    """
    index_of = {instruction.address: index for index, instruction in enumerate(instructions)}
    found = []
    for end, instruction in enumerate(instructions):
        targets = _TARGET_ADDRESS.findall(instruction.operands) if instruction.mnemonic == "BRA" else []
        start = index_of.get(int(targets[-1], 16)) if targets else None
        if start is not None and start < end:
            found.append(range(start, end + 1))
    return tuple(found)


def main_loop(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Instructions of the main loop; all of them if there is no loop with a tensor-core instruction."""
    with_tensor = [loop for loop in loops(instructions) if _tensor_count(instructions[i] for i in loop)]
    innermost = [loop for loop in with_tensor if not any(_holds(loop, other) for other in with_tensor)]
    if not innermost:
        return tuple(instructions)
    best = max(innermost, key=lambda loop: (_tensor_count(instructions[i] for i in loop), len(loop)))
    return tuple(instructions[i] for i in best)


def _tensor_count(instructions: Iterable[Instruction]) -> int:
    return sum(instruction.pipe is Pipe.TENSOR for instruction in instructions)


def _holds(outer: range, inner: range) -> bool:
    return outer.start < inner.start and inner.stop <= outer.stop
