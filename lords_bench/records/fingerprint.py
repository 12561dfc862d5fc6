"""`Fingerprint`: what the machine code of one kernel, in one shipped configuration, on one target, looks like.

Read off assembly text by `lords_bench.static.fingerprint`, pinned as JSON lines in `reports/static/<target>.jsonl`,
compared by `lords_bench.gate`. Counts of opcodes are kept, not only sums, so that a difference can be explained.
"""

from dataclasses import dataclass
from math import isfinite

from lords_bench.errors import RecordError
from lords_bench.records.status import Status

Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain:
    """The programs that decide the bytes of machine code.

    Attributes:
        triton: version of Triton, whose wheel brings the assembler and LLVM.
        assembler: version of the ptxas that serves the target; None for AMD, where LLVM is part of Triton.
        disassembler: version of cuobjdump; None for AMD.
    """

    triton: str
    assembler: str | None
    disassembler: str | None

    @property
    def label(self) -> str:
        """In words: `triton 3.9.0, ptxas 12.9.86, cuobjdump 13.1.80`."""
        names = (("triton", self.triton), ("ptxas", self.assembler), ("cuobjdump", self.disassembler))
        return ", ".join(f"{name} {version}" for name, version in names if version is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineCode:
    """Facts of one kernel's machine code; the loop is its main loop, or the whole program where it has none.

    Attributes:
        sha256: of the instructions with their encodings, names and comments left out.
        registers: per thread.
        spills: instructions that access local memory (NVIDIA), or registers kept in scratch memory (AMD).
        stack_bytes: stack, local and scratch memory per thread.
        shared_bytes: shared memory of a block.
        warps: warps of a block.
        resident_warps: warps that one multiprocessor holds at a time, by registers, shared memory and its own limit;
            on AMD waves of a compute unit, of RDNA's workgroup processor, by registers and shared memory. None where
            that is not known.
        matrix_opcodes: tensor-core opcode to number in the loop, sorted; on AMD in the whole program.
        load_bytes: (bytes per thread, number) of the loop's global loads, widest first; on AMD of the whole program's.
        loop_opcodes: opcode to number in the loop, sorted.
        pipes: (pipe, instructions) of the loop, sorted.
        loop_units: groups of 32 weights that a warp decodes in one turn; None where the loop decodes no weights.

    Raises:
        RecordError: a value that no code has.
    """

    sha256: str
    registers: int
    spills: int
    stack_bytes: int
    shared_bytes: int
    warps: int
    resident_warps: int | None
    matrix_opcodes: Counts
    load_bytes: tuple[tuple[int, int], ...]
    loop_opcodes: Counts
    pipes: Counts
    loop_units: float | None

    def __post_init__(self) -> None:
        if self.loop_units is not None and not (isfinite(self.loop_units) and self.loop_units > 0):
            raise RecordError(
                f"machine code: loop_units is {self.loop_units}; a turn decodes some weights, or it is None"
            )
        for name in ("registers", "spills", "stack_bytes", "shared_bytes"):
            if getattr(self, name) < 0:
                raise RecordError(f"machine code: {name} is {getattr(self, name)}; it is at least 0")
        for name in ("matrix_opcodes", "loop_opcodes", "pipes", "load_bytes"):
            counts = getattr(self, name)
            if len(dict(counts)) < len(counts) or any(count < 1 for _, count in counts):
                raise RecordError(f"machine code: {name} is {counts!r:.80}; each stands there once, counted from 1")

    @property
    def instructions_per_32_weights(self) -> float | None:
        """Issue slots of a warp per 32 weights that it decodes; None where the loop decodes no weights."""
        if self.loop_units is None or not self.loop_opcodes:
            return None
        return sum(count for _, count in self.loop_opcodes) / self.loop_units

    @property
    def mean_load_bytes(self) -> float | None:
        """Width of a global load, averaged over bytes: half the bytes by 16-byte loads, half by 4-byte ones are 10."""
        moved = sum(width * count for width, count in self.load_bytes)
        return sum(width * width * count for width, count in self.load_bytes) / moved if moved else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """One kernel, configuration and target: its machine code, or why there is none.

    Attributes:
        kernel: folder in `kernels/`.
        variant: what sets the specialisation apart from others of the kernel, such as `4 bit M=1`.
        target: architecture, `sm_90` or `gfx942`.
        toolchain: what compiled it.
        config: (name, value) of every compile-time constant, warps and stages, sorted by name.
        bits_per_weight: bits read per weight, for predictions; None where memory does not bound the kernel.
        status: how compiling ended.
        reason: one line, None exactly when the status is ok.
        code: present exactly when the status is ok.

    Raises:
        RecordError: fields that contradict each other.
    """

    kernel: str
    variant: str
    target: str
    toolchain: Toolchain
    config: tuple[tuple[str, str], ...]
    bits_per_weight: float | None
    status: Status
    reason: str | None
    code: MachineCode | None

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != (self.code is not None) or (self.status is Status.OK) != (self.reason is None):
            raise RecordError(f"fingerprint {self.name!r} is {self.status}; ok has machine code, all others a reason")
        names = [name for name, _ in self.config]
        if names != sorted(set(names)):
            raise RecordError(f"fingerprint {self.name!r}: config {names} must be sorted by name, each once")

    @property
    def name(self) -> str:
        """Kernel, variant and target: unique among pins."""
        return f"{self.kernel} {self.variant} on {self.target}"
