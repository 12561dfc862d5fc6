"""PTX around a few statements, and its execution: what a test of the emulator needs, without a compiler."""

from collections.abc import Sequence

import torch

from lords_bench.emulator import EmulationOptions, FaultKind, Launch, execute

# Each thread has its number in %r0, its CTA's in %r1, and the parameters, pointers first, in %rd0, %rd1, …
_HEAD = """\
.version 8.0
.target {target}
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry sample(
{parameters}
)
{directives}.reqntid {threads}
{{
	.reg .pred %p<99>;
	.reg .b16 %rs<99>;
	.reg .b32 %r<99>;
	.reg .b64 %rd<99>;
{loads}
	mov.u32 %r0, %tid.x;
	mov.u32 %r1, %ctaid.x;
{body}
	ret;
}}
"""


def text(body: str, *, pointers: int = 1, threads: int = 32, directives: str = "", target: str = "sm_80") -> str:
    """A kernel of `pointers` pointers; statements of the body end with semicolons."""
    return _HEAD.format(
        target=target,
        parameters=",\n".join(f"\t.param .u64 .ptr .global .align 1 sample_param_{i}" for i in range(pointers)),
        loads="\n".join(f"\tld.param.b64 %rd{i}, [sample_param_{i}];" for i in range(pointers)),
        directives=directives,
        threads=threads,
        body=body,
    )


def run(
    body: str,
    *tensors: torch.Tensor,
    threads: int = 32,
    ctas: int = 1,
    shared_bytes: int = 0,
    options: EmulationOptions | None = None,
) -> Launch:
    """Execute the statements on the tensors, in place."""
    arguments = [(f"t{i}", tensor) for i, tensor in enumerate(tensors)]
    found = text(body, pointers=len(tensors), threads=threads)
    return execute(found, (ctas, 1, 1), arguments, shared_bytes=shared_bytes, options=options)


def kinds(launch: Launch) -> Sequence[FaultKind]:
    """The faults' kinds, in order."""
    return [fault.kind for fault in launch.faults]


# %rd9 is the address of this thread's 4 bytes of the first tensor, and %r9 that of its 4 bytes of shared memory.
OWN_WORD = """
	mul.wide.u32 %rd8, %r0, 4;
	add.s64 %rd9, %rd0, %rd8;
"""
OWN_SHARED_WORD = """
	mov.b32 %r8, global_smem;
	shl.b32 %r7, %r0, 2;
	add.s32 %r9, %r8, %r7;
"""
