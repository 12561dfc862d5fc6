"""One compiled kernel against what is asked of its machine code: `StaticReport`, one row of the static table."""

from dataclasses import dataclass

from lords_bench.records.status import Status
from lords_bench.static.amdgcn import AmdFacts, parse_amdgcn
from lords_bench.static.bounds import GPU_MODELS, PredictedBound, predict
from lords_bench.static.budget import Budget
from lords_bench.static.compile import CompiledKernel
from lords_bench.static.sass import LoopCounts, Pipe, Resources, main_loop, parse_resources, parse_sass
from lords_bench.static.target import warps_per_sm


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticReport:
    """What the machine code of one kernel on one target says.

    Attributes:
        label: kernel and variant, as people call it.
        status, reason: how compiling ended.
        resources, loop: NVIDIA only; `loop` is None where nothing says how many weights a turn decodes.
        amd: AMD only.
        shared_bytes: shared memory of a block.
        warps_per_sm: NVIDIA only: warps that the register file holds at a time.
        bounds: predictions for the GPU models of this target; empty where rates are unknown.
        violations: one line each; empty means that the budget holds.
    """

    label: str
    target: str
    status: Status
    reason: str | None
    resources: Resources | None
    loop: LoopCounts | None
    amd: AmdFacts | None
    shared_bytes: int | None
    warps_per_sm: int | None
    bounds: tuple[PredictedBound, ...]
    violations: tuple[str, ...]


def analyse(compiled: CompiledKernel, budget: Budget, *, label: str, bits_per_weight: float | None) -> StaticReport:
    """Read the machine code and hold it against the budget.

    Args:
        compiled: outcome of compiling, also a failed one.
        budget: limits of its main loop.
        label: name of the row.
        bits_per_weight: bits read per weight, scale factors included, for the predictions; None for no prediction.

    Raises:
        RecordError: the assembly of a successful compile cannot be read.
    """
    request = compiled.request
    target = request.target
    resources = loop = amd = warps = None
    bounds: tuple[PredictedBound, ...] = ()
    violations = []
    if compiled.status is not Status.OK:
        violations.append(f"{compiled.status}: {compiled.reason}")
    elif target.backend == "hip":
        amd = parse_amdgcn(compiled.assembly)
        violations += _amd_violations(amd, budget)
    else:
        instructions = parse_sass(compiled.assembly)
        resources = parse_resources(compiled.resources)
        warps = warps_per_sm(resources.registers, request.num_warps)
        if request.weights_per_iteration is not None:
            units = request.weights_per_iteration / (32 * request.num_warps)
            loop = LoopCounts(instructions=main_loop(instructions), units=units)
            models = [gpu for gpu in GPU_MODELS if gpu.arch == target.name]
            if bits_per_weight is not None:
                bounds = tuple(predict(loop, gpu, bits_per_weight=bits_per_weight) for gpu in models)
        everything = LoopCounts(instructions=instructions, units=1)
        violations += _nvidia_violations(resources, everything, loop, budget)
    if compiled.shared_bytes is not None and compiled.shared_bytes > target.max_shared_bytes:
        violations.append(f"shared memory {compiled.shared_bytes} B > {target.max_shared_bytes} B of {target.name}")
    return StaticReport(
        label=label,
        target=target.name,
        status=compiled.status,
        reason=compiled.reason,
        resources=resources,
        loop=loop,
        amd=amd,
        shared_bytes=compiled.shared_bytes,
        warps_per_sm=warps,
        bounds=bounds,
        violations=tuple(violations),
    )


def _amd_violations(amd: AmdFacts, budget: Budget) -> list[str]:
    found = []
    if amd.spilled_registers or amd.scratch_bytes:
        found.append(f"{amd.spilled_registers} registers spilled, {amd.scratch_bytes} B of scratch memory")
    if budget.tensor_core and not amd.matrix_opcodes:
        found.append("no matrix instruction")
    return found


def _nvidia_violations(
    resources: Resources, everything: LoopCounts, loop: LoopCounts | None, budget: Budget
) -> list[str]:
    found = []
    spills = sum(instruction.pipe is Pipe.LOCAL for instruction in everything.instructions)
    if spills or resources.stack_bytes or resources.local_bytes:
        found.append(
            f"{spills} spill instructions, {resources.stack_bytes} B of stack, {resources.local_bytes} B local"
        )
    if budget.tensor_core and not (loop or everything).tensor_opcodes:
        found.append("no tensor-core instruction")
    if loop is None:
        if budget.max_instructions_per_32_weights is not None:
            found.append("an instruction budget, but the signature does not say what a turn of the loop decodes")
        return found
    measured, limit = loop.instructions_per_32_weights, budget.max_instructions_per_32_weights
    if limit is not None and measured > limit:
        found.append(f"{measured:.3f} instructions per 32 weights > {limit:g}")
    stored, most = loop.shared_store_bytes_per_weight, budget.max_shared_store_bytes_per_weight
    if most is not None and stored > most:
        found.append(f"{stored:.3f} B per weight stored to shared memory in the loop > {most:g}")
    return found
