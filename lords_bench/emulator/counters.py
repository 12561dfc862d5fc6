"""What a launch executed: instructions by class, sectors of global memory, passes through shared memory's banks.

Counted while the kernel runs, from addresses that it really used. A warp's access to global memory moves whole sectors
of 32 bytes. Its access to shared memory takes one pass per 128 bytes, and more where lanes want different words of one
bank. Address patterns repeat (a loop moves them by a constant), so each is counted once and then looked up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.parse import Instruction

WARP = 32
SECTOR_BYTES = 32
_BANKS, _BANK_BYTES = 32, 4
_MOST_PATTERNS = 4096


class InstructionClass(StrEnum):
    """Kinds of instructions, by what executes them; the machine code may merge or split what PTX writes."""

    INTEGER = "integer and logic"
    FLOAT = "float32"
    HALF = "16-bit float"
    DOUBLE = "float64"
    CONVERT = "conversion"
    SPECIAL = "special function"
    MOVE = "move and select"
    TENSOR = "tensor core"
    GLOBAL = "global memory"
    SHARED = "shared memory"
    COPY = "asynchronous copy"
    ATOMIC = "atomic"
    WARP = "shuffle and warp reduction"
    BARRIER = "barrier, wait and fence"
    BRANCH = "branch"
    PARAMETER = "parameter"


_BY_NAME: Mapping[str, InstructionClass] = {
    **dict.fromkeys(("mov", "selp", "slct"), InstructionClass.MOVE),
    **dict.fromkeys(("ex2", "rcp", "sqrt", "rsqrt", "lg2", "div", "rem"), InstructionClass.SPECIAL),
    **dict.fromkeys(("mma", "wgmma"), InstructionClass.TENSOR),
    **dict.fromkeys(("ldmatrix", "stmatrix"), InstructionClass.SHARED),
    **dict.fromkeys(("shfl", "redux", "vote"), InstructionClass.WARP),
    **dict.fromkeys(("bar", "barrier", "fence", "membar"), InstructionClass.BARRIER),
    **dict.fromkeys(("bra", "ret", "exit"), InstructionClass.BRANCH),
    **dict.fromkeys(("atom", "red"), InstructionClass.ATOMIC),
    "cvt": InstructionClass.CONVERT,
    "cp": InstructionClass.COPY,
}
AccessKind = Literal["load", "store", "copy", "atomic"]
_ACCESS_KINDS: Mapping[str, AccessKind] = {
    "ld": "load", "ldmatrix": "load", "cp": "copy", "atom": "atomic", "red": "atomic",
}  # fmt: skip
_WAITS = ("wait_group", "wait_all", "commit_group", "fence")


def instruction_class(instruction: Instruction) -> InstructionClass:
    name, modifiers = instruction.name, instruction.modifiers
    if name in ("ld", "st"):
        space = modifiers[0].partition("::")[0]
        return {"param": InstructionClass.PARAMETER, "shared": InstructionClass.SHARED}.get(
            space, InstructionClass.GLOBAL
        )
    if name in ("wgmma", "cp") and any(part in _WAITS for part in modifiers[:2]):
        return InstructionClass.BARRIER
    if name in _BY_NAME:
        return _BY_NAME[name]
    kind = modifiers[-1] if modifiers else ""
    if kind in ("f16", "bf16", "f16x2", "bf16x2"):
        return InstructionClass.HALF
    if kind.startswith("f64"):
        return InstructionClass.DOUBLE
    return InstructionClass.FLOAT if kind.startswith("f") else InstructionClass.INTEGER


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessCount:
    """How one instruction used memory, over the whole launch.

    Attributes:
        instruction: the instruction.
        requests: warps that executed it with a lane at work.
        bytes_asked: by all lanes together.
        units: sectors of 32 bytes (global memory) or passes through the banks (shared memory).
        fewest_units: that so many bytes need where lanes stand side by side.
        tensor: name of the argument that lies there, by the first address of each access; None for shared memory.
    """

    instruction: Instruction
    requests: int
    bytes_asked: int
    units: int
    fewest_units: int
    tensor: str | None = None

    @property
    def kind(self) -> AccessKind:
        """What the instruction does."""
        return _ACCESS_KINDS.get(self.instruction.name, "store")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorCount:
    """What a launch touched of one tensor, in whole sectors, each counted once, whatever was moved again.

    Attributes:
        name: of the argument; of several, divided by slashes, where they overlap.
        size_bytes: of the tensor.
    """

    name: str
    size_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchCounts:
    """What a launch executed.

    Attributes:
        warp_instructions: issued, by class; a predicated one counts though no lane took part.
        opcodes: the same by opcode of PTX.
        thread_instructions: of the lanes that a branch led to them.
        global_accesses, shared_accesses: by instruction and tensor, in order of the text.
        tensors: in order of the arguments.
    """

    warp_instructions: Mapping[InstructionClass, int]
    opcodes: Mapping[str, int]
    thread_instructions: int
    global_accesses: tuple[AccessCount, ...]
    shared_accesses: tuple[AccessCount, ...]
    tensors: tuple[TensorCount, ...]

    @property
    def global_bytes_read(self) -> int:
        """In sectors that were touched at least once, whatever was moved again."""
        return sum(tensor.read_bytes for tensor in self.tensors)

    @property
    def global_bytes_written(self) -> int:
        """In sectors that were touched at least once, whatever was moved again."""
        return sum(tensor.written_bytes for tensor in self.tensors)


Units = tuple[int, int, int]  # requests, units, fewest units


class _Tally:
    """Requests and units of the accesses of one space, by instruction and tensor."""

    def __init__(self) -> None:
        self._found: dict[tuple[Instruction, str | None], NDArray[np.int64]] = {}
        self._known: dict[tuple[int, int, int, bytes, bytes], Units] = {}

    def add(
        self, instruction: Instruction, addresses: Bits, lanes: NDArray[np.intp], width: int, period: int,
        tensor: str | None = None,
    ) -> None:  # fmt: skip
        """Count the accesses of `width` bytes by the threads `lanes`; the units depend on addresses modulo `period`."""
        first = int(addresses[0])
        moved = (addresses - addresses.dtype.type(first)).astype(np.int64)
        # Threads come in order, so that those without a gap are known by their first.
        without_gap = int(lanes[-1]) - int(lanes[0]) == len(lanes) - 1
        who = int(lanes[0]).to_bytes(8, "little") if without_gap else lanes.tobytes()
        key = (width, period, first % period, moved.tobytes(), who)
        units = self._known.get(key)
        if units is None:
            counter = sectors if period == SECTOR_BYTES else passes
            units = counter(moved + first % period, lanes // WARP, width)
            if len(self._known) >= _MOST_PATTERNS:
                self._known.clear()
            self._known[key] = units
        total = self._found.setdefault((instruction, tensor), np.zeros(4, np.int64))
        total += (units[0], len(addresses) * width, units[1], units[2])

    def counts(self) -> tuple[AccessCount, ...]:
        return tuple(
            AccessCount(
                instruction=instruction,
                requests=int(total[0]),
                bytes_asked=int(total[1]),
                units=int(total[2]),
                fewest_units=int(total[3]),
                tensor=tensor,
            )
            for (instruction, tensor), total in sorted(
                self._found.items(), key=lambda item: (item[0][0].line, item[0][1] or "")
            )
        )


def sectors(addresses: NDArray[np.int64], warps: NDArray[np.intp], width: int) -> Units:
    """Requests, sectors that they touch, and the fewest for so many bytes; aligned accesses of at most 32 bytes."""
    keys = warps.astype(np.int64) << 48 | (addresses // SECTOR_BYTES + (1 << 40))
    active, counts = np.unique(warps, return_counts=True)
    fewest = -(-counts * width // SECTOR_BYTES)
    return len(active), len(np.unique(keys)), int(fewest.sum())


def passes(addresses: NDArray[np.int64], warps: NDArray[np.intp], width: int) -> Units:
    """Requests, passes through the banks, and the fewest for so many bytes.

    Lanes go together in groups of 128 bytes: all of a warp up to 4 bytes a lane, 16 at 8 bytes, 8 at 16 bytes. A pass
    serves one word of each bank, to as many lanes as want it.
    """
    words = max(1, width // _BANK_BYTES)
    active, place, counts = np.unique(warps, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    # Lanes come in order, warp by warp.
    rank = np.arange(len(warps)) - starts[place]
    group = place.astype(np.int64) * words + rank // (WARP // words)
    first = addresses // _BANK_BYTES + (1 << 32)
    wanted = np.unique((group[:, None] << 40 | (first[:, None] + np.arange(words))).ravel())
    in_bank = (wanted >> 40) * _BANKS + wanted % _BANKS
    groups = len(active) * words
    taken = np.bincount(in_bank, minlength=groups * _BANKS).reshape(groups, _BANKS).max(1)
    fewest = -(-counts * width // (_BANKS * _BANK_BYTES))
    return len(active), int(taken.sum()), int(np.maximum(fewest, 1).sum())


class Counters:
    """Counts of a launch while it runs."""

    def __init__(self) -> None:
        self._blocks: Counter[int] = Counter()
        self.thread_instructions = 0
        self._global, self._shared = _Tally(), _Tally()

    def block(self, first: int, instructions: int, mask: NDArray[np.bool_] | None, threads: int) -> None:
        """The basic block that begins at `first` was executed by the threads of `mask` (None: all of them)."""
        if mask is None:
            self._blocks[first] += threads // WARP
            self.thread_instructions += instructions * threads
        else:
            self._blocks[first] += int(np.count_nonzero(mask.reshape(-1, WARP).any(1)))
            self.thread_instructions += instructions * int(np.count_nonzero(mask))

    def global_access(
        self, instruction: Instruction, addresses: Bits, lanes: NDArray[np.intp], width: int, tensor: str | None
    ) -> None:
        """Lanes (thread numbers) accessed `width` bytes each of a tensor."""
        if len(addresses):
            self._global.add(instruction, addresses, lanes, width, SECTOR_BYTES, tensor)

    def shared_access(self, instruction: Instruction, addresses: Bits, lanes: NDArray[np.intp], width: int) -> None:
        """Lanes (thread numbers) accessed `width` bytes each."""
        if len(addresses):
            self._shared.add(instruction, addresses, lanes, width, _BANKS * _BANK_BYTES)

    def executed(self, blocks: Mapping[int, int]) -> int:
        """Warp instructions so far, given the basic blocks, first instruction to the one behind the last."""
        return sum(times * (blocks[first] - first) for first, times in self._blocks.items())

    def counts(
        self, instructions: Sequence[Instruction], blocks: Mapping[int, int], tensors: tuple[TensorCount, ...]
    ) -> LaunchCounts:
        """All counts, given the program and its basic blocks, first instruction to the one behind the last."""
        warp_instructions: Counter[InstructionClass] = Counter()
        opcodes: Counter[str] = Counter()
        for first, times in self._blocks.items():
            for instruction in instructions[first : blocks[first]]:
                warp_instructions[instruction_class(instruction)] += times
                opcodes[instruction.opcode] += times
        return LaunchCounts(
            warp_instructions=dict(warp_instructions.most_common()),
            opcodes=dict(opcodes.most_common()),
            thread_instructions=self.thread_instructions,
            global_accesses=self._global.counts(),
            shared_accesses=self._shared.counts(),
            tensors=tensors,
        )
