"""AMD assembly text to the facts that matter: spills, registers, occupancy, matrix instructions, the main loop.

The compiler's own metadata (AMDGPU code object, `.amdhsa` and note records) carries the resources, its remarks behind
the code how many waves of one SIMD the registers leave room for, and its comments at labels which block belongs to
which loop. Matrix instructions are those of the MFMA (CDNA) and WMMA (RDNA) families. Compiled, not measured: nothing
here predicts a time.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.static.sass import Pipe
from lords_bench.static.target import Target

_FIELD = re.compile(r"^\s*\.(\w+):\s+(\d+)\s*$", re.MULTILINE)
_MATRIX = re.compile(r"^\s*(v_(?:smfmac|mfma|wmma|swmmac)_\w+)", re.MULTILINE)
_OCCUPANCY = re.compile(r"^; Occupancy: (\d+)", re.MULTILINE)
# `.LBB0_19:   ; =>This Inner Loop Header: Depth=1`, `; %bb.20:   ;   in Loop: Header=BB0_19 Depth=1`; of a nested loop
# the header's comment goes on in lines of its own.
_BLOCK = re.compile(r"^(?:\.L(BB\d+_\d+):|; %bb\.\d+:)(.*)$")
_IN_LOOP = re.compile(r"in Loop: Header=(BB\d+_\d+)")
_HEADER = re.compile(r"^\s*;?\s*=>\s*This (?:Inner )?Loop Header")
_INSTRUCTION = re.compile(r"^\s+([a-z]+_[a-z0-9_]+)\b(.*)$")
_LOAD = re.compile(
    r"^\s*(?:global|buffer|flat)_load_(?:lds_)?(?:dwordx(?P<words>\d)|(?P<word>dword)|b(?P<bits>\d+)|(?P<narrow>\w+))\b",
    re.MULTILINE,
)
# A compute unit of CDNA has four SIMDs, as has a workgroup processor of RDNA, which is two compute units and runs a
# workgroup by default (instruction set guides of CDNA 3, CDNA 4 and RDNA 3, chapters on the organisation of the chip).
SIMDS = 4
_RDNA_SHARED_BYTES = 128 * 1024
_PIPES = (
    ("scratch_", Pipe.LOCAL),
    ("ds_", Pipe.SHARED),
    ("global_", Pipe.GLOBAL),
    ("flat_", Pipe.GLOBAL),
    ("buffer_load", Pipe.GLOBAL),
    ("buffer_store", Pipe.GLOBAL),
    ("buffer_atomic", Pipe.GLOBAL),
    ("buffer_", Pipe.CONTROL),
    ("v_", Pipe.ALU),
    *((f"s_{name}", Pipe.CONTROL) for name in ("cbranch", "branch", "barrier", "wait", "nop", "delay_alu", "endpgm")),
    *((f"s_{name}", Pipe.CONTROL) for name in ("clause", "sched", "setprio", "sleep", "inst_prefetch", "sendmsg")),
    ("s_", Pipe.UNIFORM),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AmdFacts:
    """What the assembly of one kernel says.

    Attributes:
        vector_registers: VGPRs, accumulation registers included where the architecture shares the file.
        spilled_registers: vector and scalar registers kept in scratch memory.
        scratch_bytes: private memory per work item.
        matrix_opcodes: matrix instruction to number, over the whole program.
        load_bytes: (bytes per lane, number) of loads from global memory over the whole program, widest first.
        waves_per_simd: waves that the registers of one SIMD hold, as the compiler counts them.
        loop: opcodes of the main loop, in order: of the innermost loops the one with the most matrix instructions; of
            the whole program where none has any.
    """

    vector_registers: int
    spilled_registers: int
    scratch_bytes: int
    shared_bytes: int
    matrix_opcodes: dict[str, int]
    load_bytes: tuple[tuple[int, int], ...]
    waves_per_simd: int
    loop: tuple[str, ...]


def parse_amdgcn(text: str) -> AmdFacts:
    """Facts of AMD assembly as Triton keeps it.

    Raises:
        RecordError: the kernel metadata is missing.
    """
    fields = {name: int(value) for name, value in _FIELD.findall(text)}
    needed = ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
    missing = [name for name in needed if name not in fields]
    occupancy = _OCCUPANCY.search(text)
    if occupancy is None:
        missing.append("occupancy")
    if missing:
        raise RecordError(f"AMD assembly of {len(text)} characters lacks {', '.join(missing)}; is it a code object's?")
    assert occupancy is not None
    return AmdFacts(
        vector_registers=fields["vgpr_count"],
        spilled_registers=fields["vgpr_spill_count"] + fields["sgpr_spill_count"],
        scratch_bytes=fields["private_segment_fixed_size"],
        shared_bytes=fields.get("group_segment_fixed_size", 0),
        matrix_opcodes=dict(Counter(_MATRIX.findall(text))),
        load_bytes=tuple(sorted(Counter(map(_load_bytes, _LOAD.finditer(text))).items(), reverse=True)),
        waves_per_simd=int(occupancy[1]),
        loop=main_loop_opcodes(text),
    )


def main_loop_opcodes(text: str) -> tuple[str, ...]:
    """Opcodes of the main loop of a kernel's assembly; `AmdFacts.loop` says which that is."""
    every: list[str] = []
    loops: defaultdict[str, list[str]] = defaultdict(list)
    label, loop = "", ""
    for line in text.splitlines():
        if line.startswith(".Lfunc_end"):
            break
        block = _BLOCK.match(line)
        if block:
            label = block[1] or ""
            inside = _IN_LOOP.search(line)
            loop = inside[1] if inside else ""
        if label and _HEADER.match(block[2] if block else line):
            loop = label
        instruction = _INSTRUCTION.match(line)
        if instruction:
            every.append(instruction[1])
            loops[loop].append(instruction[1])
    loops.pop("", None)
    best = max(loops.values(), key=lambda opcodes: (_matrix_count(opcodes), len(opcodes)), default=[])
    return tuple(best if _matrix_count(best) else every)


def _is_matrix(opcode: str) -> bool:
    """Whether a matrix core executes it."""
    return _MATRIX.match(opcode) is not None


def pipe_of(opcode: str) -> Pipe:
    """The pipe that an instruction occupies; `alu` is the vector unit, `uniform` the scalar one with its loads."""
    if _is_matrix(opcode):
        return Pipe.TENSOR
    return next((pipe for prefix, pipe in _PIPES if opcode.startswith(prefix)), Pipe.UNKNOWN)


def resident_waves(target: Target, *, waves_per_simd: int, shared_bytes: int, warps: int) -> int:
    """Waves of whole workgroups that a compute unit (RDNA: workgroup processor) holds, by registers and LDS.

    Limits on the number of workgroups, and granules in which LDS is given out, are not counted.
    """
    all_shared = _RDNA_SHARED_BYTES if target.warp_size == 32 else target.max_shared_bytes
    by_registers = waves_per_simd * SIMDS // warps
    by_shared = all_shared // shared_bytes if shared_bytes else by_registers
    return min(by_registers, by_shared) * warps


def _matrix_count(opcodes: Iterable[str]) -> int:
    return sum(map(_is_matrix, opcodes))


def _load_bytes(match: re.Match[str]) -> int:
    if match["words"]:
        return 4 * int(match["words"])
    if match["word"]:
        return 4
    if match["bits"]:
        return int(match["bits"]) // 8
    return 2 if any(part in match["narrow"] for part in ("short", "16")) else 1
