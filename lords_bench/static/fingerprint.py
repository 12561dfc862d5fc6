"""Compiled kernels to `Fingerprint`s: every fact that the gate compares, read off the assembly.

The hash covers each instruction's text and encoding, which holds the assembler's scheduling as well; names, comments
and addresses are left out, so that moving a line of source changes nothing.
"""

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from lords_bench.errors import UsageError
from lords_bench.kernels.common.static_case import StaticCase
from lords_bench.records.fingerprint import Fingerprint, MachineCode, Toolchain
from lords_bench.static.amdgcn import parse_amdgcn, pipe_of, resident_waves
from lords_bench.static.compile import CompiledLaunch, CompileResult, compile_all
from lords_bench.static.launches import compile_request, weights_per_turn
from lords_bench.static.sass import LoopCounts, Pipe, main_loop, parse_resources, parse_sass
from lords_bench.static.target import REGISTER_GRANULE, REGISTERS_PER_SM, Target, named_target

# `/*0a10*/  @P0 LDG.E.128 R4, [R2.64] ;   /* 0x… */` and, on the next line, the other half of the encoding.
_SASS_TEXT = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(.*?;)?")
_SASS_ENCODING = re.compile(r"/\* (0x[0-9a-f]{16}) \*/")
_VERSION = re.compile(r"V(\d+\.\d+\.\d+)")
# Blocks get no more than this of a multiprocessor's shared memory; the system keeps 1 KiB of it for each.
_RESERVED_SHARED_BYTES = 1024
_MOST_WARPS = {"86": 48, "89": 48, "120": 48}
_FIRST_BLACKWELL = 100


def fingerprints(
    cases: Sequence[StaticCase],
    *,
    workers: int | None = None,
    cache_dir: Path | None = None,
    on_result: Callable[[CompileResult], None] | None = None,
) -> tuple[Fingerprint, ...]:
    """Compile each case and read its machine code, in the order given. Other arguments as for `compile_all`.

    Raises:
        UsageError: an unknown target, or no Triton to compile with.
    """
    requests = [compile_request(case.launched, named_target(case.target)) for case in cases]
    chains = {name: toolchain(named_target(name)) for name in {case.target for case in cases}}
    compiled = compile_all(requests, cache_dir=cache_dir, workers=workers, on_result=on_result)
    return tuple(
        fingerprint_of(case, result, chains[case.target]) for case, result in zip(cases, compiled, strict=True)
    )


def toolchain(target: Target) -> Toolchain:
    """Versions of what compiles for the target here; asks the programs in Triton's wheel.

    Raises:
        UsageError: Triton is not installed.
    """
    spec = find_spec("triton")
    if spec is None or spec.origin is None:
        raise UsageError("no Triton to compile kernels with; it exists for Linux: pip install triton")
    if target.backend == "hip":
        return Toolchain(triton=version("triton"), assembler=None, disassembler=None)
    tools = Path(spec.origin).parent / "backends" / "nvidia" / "bin"
    ptxas = (
        "ptxas-blackwell" if int(target.arch) >= _FIRST_BLACKWELL and (tools / "ptxas-blackwell").exists() else "ptxas"
    )
    return Toolchain(
        triton=version("triton"),
        assembler=_program_version(tools / ptxas),
        disassembler=_program_version(tools / "cuobjdump"),
    )


def fingerprint_of(case: StaticCase, compiled: CompileResult, chain: Toolchain) -> Fingerprint:
    """The fingerprint of one compiled case.

    Raises:
        RecordError: the assembly of a successful compile cannot be read.
    """
    target = compiled.request.target
    code = None
    config: tuple[tuple[str, str], ...] = ()
    if compiled.reason is None:
        read = _amd_code if target.backend == "hip" else _nvidia_code
        code, config = read(compiled.main, target), _config(compiled.main)
    return Fingerprint(
        kernel=case.kernel,
        variant=case.variant,
        target=target.name,
        toolchain=chain,
        config=config,
        bits_per_weight=case.bits_per_weight,
        status=compiled.status,
        reason=compiled.reason,
        code=code,
    )


def resident_warps(target: Target, *, registers: int, shared_bytes: int, warps: int) -> int:
    """Warps of whole blocks that one NVIDIA multiprocessor holds: by registers, shared memory and its own limit."""
    granules = -(-registers // REGISTER_GRANULE)
    by_registers = REGISTERS_PER_SM // (granules * REGISTER_GRANULE * 32 * warps)
    all_shared = target.max_shared_bytes + _RESERVED_SHARED_BYTES
    by_shared = all_shared // (shared_bytes + _RESERVED_SHARED_BYTES)
    by_slots = _MOST_WARPS.get(target.arch, 64) // warps
    return min(by_registers, by_shared, by_slots) * warps


def code_sha256(assembly: str) -> str:
    """Hash of the instructions of `cuobjdump -sass` output, or of AMD assembly."""
    total = hashlib.sha256()
    encoded = False
    for line in assembly.splitlines():
        encodings = _SASS_ENCODING.findall(line)
        if not encodings:
            continue
        encoded = True
        match = _SASS_TEXT.match(line)
        text = match[1] if match and match[1] else ""
        total.update(" ".join([*text.split(), *encodings, "\n"]).encode())
    if not encoded:
        for line in assembly.splitlines():
            text = line.partition(";")[0].strip()
            if text and (not text.startswith(".") or text.startswith(".LBB")):
                total.update(f"{' '.join(text.split())}\n".encode())
    return total.hexdigest()


def _nvidia_code(launch: CompiledLaunch, target: Target) -> MachineCode:
    instructions = parse_sass(launch.code.assembly)
    resources = parse_resources(launch.code.resources)
    units = _units(launch)
    loop = LoopCounts(instructions=main_loop(instructions), units=units or 1)
    shared = max(launch.code.shared_bytes, resources.static_shared_bytes)
    return MachineCode(
        sha256=code_sha256(launch.code.assembly),
        registers=resources.registers,
        spills=sum(instruction.mnemonic in ("LDL", "STL") for instruction in instructions),
        stack_bytes=resources.stack_bytes + resources.local_bytes,
        shared_bytes=shared,
        warps=launch.num_warps,
        resident_warps=resident_warps(
            target, registers=resources.registers, shared_bytes=shared, warps=launch.num_warps
        ),
        matrix_opcodes=_sorted(i.opcode for i in loop.instructions if i.pipe is Pipe.TENSOR),
        load_bytes=tuple(sorted(loop.global_load_widths().items(), reverse=True)),
        loop_opcodes=_sorted(loop.opcodes.elements()),
        pipes=_sorted(instruction.pipe.value for instruction in loop.instructions),
        loop_units=units,
    )


def _amd_code(launch: CompiledLaunch, target: Target) -> MachineCode:
    facts = parse_amdgcn(launch.code.assembly)
    shared = max(facts.shared_bytes, launch.code.shared_bytes)
    return MachineCode(
        sha256=code_sha256(launch.code.assembly),
        registers=facts.vector_registers,
        spills=facts.spilled_registers,
        stack_bytes=facts.scratch_bytes,
        shared_bytes=shared,
        warps=launch.num_warps,
        resident_warps=resident_waves(
            target, waves_per_simd=facts.waves_per_simd, shared_bytes=shared, warps=launch.num_warps
        ),
        matrix_opcodes=tuple(sorted(facts.matrix_opcodes.items())),
        load_bytes=facts.load_bytes,
        loop_opcodes=_sorted(facts.loop),
        pipes=_sorted(pipe_of(opcode).value for opcode in facts.loop),
        loop_units=_units(launch),
    )


def _config(launch: CompiledLaunch) -> tuple[tuple[str, str], ...]:
    values = {name: str(value) for name, value in launch.constants}
    values |= {"num_warps": str(launch.num_warps), "num_stages": str(launch.num_stages)}
    return tuple(sorted(values.items()))


def _units(launch: CompiledLaunch) -> float | None:
    """Groups of 32 weights that a warp decodes in a turn of the main loop."""
    decoded = weights_per_turn(launch)
    return None if decoded is None else decoded / (32 * launch.num_warps)


def _sorted(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(names).items()))


def _program_version(program: Path) -> str:
    text = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    match = _VERSION.search(text)
    return match[1] if match else text.strip().splitlines()[-1]
