"""How often each block of machine code runs: the one flow through its branches that agrees with the emulated run.

What was executed is known of PTX, and what a GPU executes is SASS. The assembler schedules, unrolls and peels, yet
accesses of memory, products, shuffles and barriers go through it one by one. So the flow is sought that is 1 per warp
at the entry, kept at every block, and executes each of those kinds as often as the emulator did. What does not fit is
said (`misfit`).
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lords_bench.errors import RecordError
from lords_bench.static.profile.machine import Scheduled
from lords_bench.static.sass import Instruction

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Smaller than any difference that matters, larger than the solver's tolerance.
_EARLY_END = 1e-4
# Flows below it are rounding.
NOISE = 1e-6
_BITS = re.compile(r"^[a-z]+(\d+)$")
_SASS_KINDS: Mapping[str, str] = {
    "LDSM": "ldmatrix", "STSM": "stmatrix", "LDGSTS": "cp.async", "HMMA": "mma", "IMMA": "mma", "DMMA": "mma",
    "HGMMA": "wgmma", "IGMMA": "wgmma", "QGMMA": "wgmma", "SHFL": "shfl", "REDUX": "redux", "CREDUX": "redux",
    "BAR": "bar", "ATOM": "atom", "ATOMG": "atom", "RED": "atom", "REDG": "atom",
}  # fmt: skip
_SASS_WIDE: Mapping[str, str] = {"LDG": "ld.global", "STG": "st.global", "LDS": "ld.shared", "STS": "st.shared"}
_PTX_KINDS: Mapping[str, str] = {
    "ldmatrix": "ldmatrix", "stmatrix": "stmatrix", "mma": "mma", "shfl": "shfl", "redux": "redux", "bar": "bar",
    "barrier": "bar", "atom": "atom", "red": "atom",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """A program's blocks and how often a warp runs through them, on average over the launch.

    Attributes:
        blocks: instructions of each, by place.
        edges: (from, to) to times; None is the end.
        times: of each block.
        misfit: of the instructions that were matched, the share that was executed more or less often: 0 fits exactly.
            The assembler leaves out what it proves to be idle. At least 1 if a loop runs that nothing leads into.
    """

    blocks: tuple[range, ...]
    edges: Mapping[tuple[int, int | None], float]
    times: tuple[float, ...]
    misfit: float


def flow_of(program: Sequence[Scheduled], executed: Mapping[str, float]) -> Flow:
    """The flow of a program, given PTX opcode to how often a warp executed it on average.

    A linear program: the sum of all differences as shares is least; of flows that fit alike, the one whose warps end
    late, because an early end leaves a loop behind it without an entry.
    """
    from scipy.optimize import linprog

    blocks = _blocks(program)
    edges = _edges(program, blocks)
    found = [Counter(kind for place in block if (kind := sass_kind(program[place].instruction))) for block in blocks]
    wanted = _ptx_kinds(executed)
    kinds = sorted({kind for counts in found for kind in counts} & wanted.keys())
    into, out_of = np.zeros((len(blocks), len(edges))), np.zeros((len(blocks), len(edges)))
    cost = np.zeros(len(edges))
    for number, (source, to) in enumerate(edges):
        out_of[source, number] = 1
        if to is None:
            cost[number] = _EARLY_END * (1 - source / len(blocks))
        else:
            into[to, number] = 1
    entry = np.zeros(len(blocks))
    entry[0] = 1
    counts = np.array([[block[kind] / wanted[kind] for block in found] for kind in kinds]).reshape(-1, len(blocks))
    # Behind the edges: how much more and how much less than wanted is executed of each kind.
    slack = np.eye(len(kinds))
    nothing = np.zeros((len(blocks), 2 * len(kinds)))
    equal = np.vstack([np.hstack([into - out_of, nothing]), np.hstack([counts @ into, -slack, slack])])
    right = np.concatenate([-entry, 1 - counts @ entry])
    solved = linprog(np.concatenate([cost, np.ones(2 * len(kinds))]), A_eq=equal, b_eq=right, method="highs")
    if solved.x is None:
        raise RecordError(f"no flow through {len(blocks)} blocks of machine code: {solved.message}")
    times: NDArray[np.float64] = solved.x[: len(edges)]
    by_block = into @ times + entry
    flow = dict(zip(edges, times.tolist(), strict=True))
    lost = [number for number in range(len(blocks)) if by_block[number] > NOISE and number not in _reached(flow)]
    weights = np.array([wanted[kind] for kind in kinds])
    misfit = float(weights @ np.abs(counts @ by_block - 1) / weights.sum()) if kinds else 0.0
    return Flow(
        blocks=tuple(blocks), edges=flow, times=tuple(by_block.tolist()), misfit=max(misfit, 1.0) if lost else misfit
    )


def _reached(flow: Mapping[tuple[int, int | None], float]) -> set[int]:
    """Blocks that the flow leads to from the entry."""
    found, new = {0}, [0]
    while new:
        source = new.pop()
        ways = {to for (of, to), times in flow.items() if of == source and to is not None and times > NOISE} - found
        found |= ways
        new += ways
    return found


def sass_kind(instruction: Instruction) -> str | None:
    """The kind of an instruction that PTX and SASS have one for one; None for all others."""
    wide = _SASS_WIDE.get(instruction.mnemonic)
    return f"{wide} {instruction.bytes_per_thread}" if wide else _SASS_KINDS.get(instruction.mnemonic)


def ptx_kind(opcode: str) -> str | None:
    """The kind of a PTX opcode, as `sass_kind`."""
    name, *modifiers = opcode.split(".")
    if name in ("ld", "st"):
        space = modifiers[0].partition("::")[0]
        bits = _BITS.match(modifiers[-1])
        if space not in ("global", "shared") or bits is None:
            return None
        count = next((int(part[1:]) for part in modifiers if part in ("v2", "v4", "v8")), 1)
        return f"{name}.{space} {int(bits[1]) * count // 8}"
    if name == "cp":
        return "cp.async" if len(modifiers) > 1 and modifiers[1] in ("ca", "cg") else None
    if name == "wgmma":
        return "wgmma" if modifiers[0] == "mma_async" else None
    return None if modifiers[:1] == ["warp"] else _PTX_KINDS.get(name)


def _ptx_kinds(executed: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for opcode, times in executed.items():
        kind = ptx_kind(opcode)
        if kind is not None and times > 0:
            found[kind] += times
    return dict(found)


def _blocks(program: Sequence[Scheduled]) -> list[range]:
    place_of = {one.instruction.address: place for place, one in enumerate(program)}
    starts = {0, len(program)}
    for place, one in enumerate(program):
        if one.target is not None or one.leaves:
            starts |= {place + 1}
        if one.target in place_of:
            starts |= {place_of[one.target]}
    ordered = sorted(starts)
    return [range(*pair) for pair in itertools.pairwise(ordered)]


def _edges(program: Sequence[Scheduled], blocks: Sequence[range]) -> list[tuple[int, int | None]]:
    """From block to block; a return goes behind every call."""
    block_of = {program[block.start].instruction.address: number for number, block in enumerate(blocks)}
    last = len(blocks) - 1
    behind_calls: list[int] = [
        number + 1
        for number, block in enumerate(blocks)
        if program[block[-1]].instruction.mnemonic == "CALL" and number < last
    ]
    found: dict[tuple[int, int | None], None] = {}
    for number, block in enumerate(blocks):
        end = program[block[-1]]
        # A branch to itself, which the assembler puts behind the last instruction, is none.
        if end.target is not None and end.target != end.instruction.address:
            found[number, block_of.get(end.target)] = None
        if end.instruction.mnemonic == "RET":
            found |= dict.fromkeys((number, to) for to in behind_calls)
        elif end.leaves:
            found[number, None] = None
        if (end.target is None and not end.leaves) or end.is_conditional:
            found[number, number + 1 if number < last else None] = None
    return list(found)
