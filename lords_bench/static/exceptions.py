"""What of the shipped kernels is outside its budget, by name and word for word."""

from collections.abc import Mapping
from types import MappingProxyType

from lords_bench.static.budget import COUNTED_WITH_TRITON

_NARROW_LOADS = "packed codes are loaded 8 B at a time < 16"


def _over(instructions: float, limit: float) -> str:
    return f"{instructions:.3f} instructions per 32 weights > {limit:g}"


# (label, target) to what is outside the budget, word for word, each group with its reason.
KNOWN_EXCEPTIONS = MappingProxyType(
    {
        # At 3 bits a K block is 256 wide, so 64 rows of dX's weights, which 16-byte loads need, leave four warps
        # without registers (6 to 3,500 spill instructions in six tilings). dX takes a scratch W and a dense matmul for
        # many tokens anyway.
        ("peft_backward 3 bit dX", "sm_80"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_86"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_89"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_90"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_100"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_120"): _NARROW_LOADS,
        # The rule's tiles per program (3 of 64 on sm_86, 3 to 6 of 224 elsewhere) do not divide N, so the last
        # program's tiles are ragged and every row number is clamped, for a few per cent more instructions.
        ("rank_expanded int4 M=1", "sm_86"): _over(1.531, 1.45),
        ("rank_expanded int4 M=1 N=14336", "sm_90"): _over(1.484, 1.45),
        ("rank_expanded int2 M=1 N=14336", "sm_86"): _over(1.160, 1.13),
        ("rank_expanded int2 M=1 N=14336", "sm_89"): _over(1.166, 1.13),
        ("rank_expanded int2 M=1 N=14336", "sm_90"): _over(1.158, 1.13),
        ("scale_tile 4 bit M≤16 fp16 scale N=14336", "sm_90"): _over(3.824, 3.8),
        ("scale_tile 4 bit M≤16 fp16 scale N=14336", "sm_100"): _over(3.816, 3.8),
        ("scale_tile 4 bit M≤16 fp16 scale N=14336", "sm_120"): _over(3.832, 3.8),
        # With one tile per program; the assembler stays at 96 registers for the price of 8 bytes.
        ("scale_tile 4 bit M≤8 fp16 scale", "sm_100"): "2 spill instructions, 8 B of stack, 0 B local",
        # On CDNA a launch takes more scalar registers than there are, and one to six of them are kept in lanes of
        # vector registers: no memory is touched.
        ("peft_backward 4 bit dX", "gfx950"): "2 registers spilled, 0 B of scratch memory",
        ("peft_backward 2 bit dX", "gfx950"): "3 registers spilled, 0 B of scratch memory",
        ("blockwise_gemm nf4 G=64 M=64 split", "gfx942"): "4 registers spilled, 0 B of scratch memory",
        ("blockwise_gemm nf3 G=64 M=64 split", "gfx942"): "6 registers spilled, 0 B of scratch memory",
        ("blockwise_gemm nf2 G=64 M=64 split", "gfx942"): "6 registers spilled, 0 B of scratch memory",
        ("blockwise_gemm nf4 G=64 M=64 split", "gfx950"): "2 registers spilled, 0 B of scratch memory",
        ("blockwise_gemm nf2 G=64 M=64 split", "gfx950"): "1 registers spilled, 0 B of scratch memory",
        ("qlora fused nf4 G=64 R=16 M=64 split", "gfx942"): "4 registers spilled, 0 B of scratch memory",
        ("qlora fused nf4 G=64 R=16 M=64 split", "gfx950"): "3 registers spilled, 0 B of scratch memory",
        # On RDNA 3 a K block of 256 leaves two kernels without registers: eight tilings of dA dB spill 38 to 150; of
        # the block-wise GEMM's, 32 tokens in two stages do not, 64 do.
        ("peft_backward 3 bit dA dB", "gfx1100"): "38 registers spilled, 124 B of scratch memory",
        ("blockwise_gemm nf3 G=64 M=64 split", "gfx1100"): "74 registers spilled, 300 B of scratch memory",
    }
)


def known_exceptions(triton: str) -> Mapping[tuple[str, str], str]:
    """(label, target) to what is outside the budget, word for word; of another Triton than the budgets' none is known.

    With Triton 3.6.0 and 3.7.1 other kernels spill, above all on gfx1100; nobody has held the code of their launches
    against the budgets case by case.
    """
    return KNOWN_EXCEPTIONS if triton == COUNTED_WITH_TRITON else MappingProxyType({})
