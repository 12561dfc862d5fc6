"""What of the shipped kernels is outside its budget, by name and word for word."""

from types import MappingProxyType

_NARROW_LOADS = "packed codes are loaded 8 B at a time < 16"

# (label, target) to what is outside the budget, word for word, although several designs were tried. At 3 bits a K block
# is 256 wide, so 64 rows of dX's weights, which 16-byte loads need, leave four warps without registers (6 to 3,500
# spill instructions in six tilings). dX takes a scratch W and a dense matmul for many tokens anyway.
# On RDNA 3 a K block of 256 leaves two kernels without registers: eight tilings of dA dB spill 42 to 150; of the
# block-wise GEMM's, 32 tokens in two stages do not, 64 do.
KNOWN_EXCEPTIONS = MappingProxyType(
    {
        ("peft_backward 3 bit dX", "sm_80"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_86"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_89"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_90"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_100"): _NARROW_LOADS,
        ("peft_backward 3 bit dX", "sm_120"): _NARROW_LOADS,
        ("peft_backward 3 bit dA dB", "gfx1100"): "42 registers spilled, 140 B of scratch memory",
        ("blockwise_gemm nf3 G=64 M=64 split", "gfx1100"): "82 registers spilled, 332 B of scratch memory",
    }
)


# The same for releases of Triton that differ, instead of the above where both name a case: 3.6.0 comes with torch 2.11
# from PyPI, 3.7.1 with torch 2.13. With 3.7.1 nothing more is outside on sm_90, with 3.6.0 the GEMM at 3 bits: its
# tile of 64 tokens in 2, 3 or 4 stages spills alike; one of 32 does not, but decodes twice as often.
_DX_SPILLS = "9 spill instructions, 16 B of stack, 0 B local; packed codes are loaded 8 B at a time < 16"
_MORE_EXCEPTIONS = MappingProxyType(
    {
        "3.6.0": MappingProxyType(
            {
                ("scale_tile 4 bit M≤8 bfloat16", "sm_80"): "2 spill instructions, 8 B of stack, 0 B local",
                ("scale_tile 4 bit M≤8 float32", "sm_120"): "2 spill instructions, 8 B of stack, 0 B local",
                ("scale_tile 4 bit M≤8 bfloat16", "gfx1100"): (
                    "189 registers spilled, 760 B of scratch memory; 8 of 16 products without tensor cores"
                ),
                ("scale_tile 2 bit M≤8 bfloat16", "gfx1100"): (
                    "189 registers spilled, 760 B of scratch memory; 8 of 16 products without tensor cores"
                ),
                ("scale_tile_gemm 3 bit M=128 joined", "sm_90"): "5 spill instructions, 8 B of stack, 0 B local",
                ("scale_tile_gemm 3 bit M=64 split", "sm_120"): "2 spill instructions, 8 B of stack, 0 B local",
                ("peft_backward 3 bit dX", "sm_80"): _DX_SPILLS,
                ("peft_backward 4 bit dA dB float32", "sm_100"): "34 spill instructions, 72 B of stack, 0 B local",
                ("peft_backward 3 bit dA dB", "sm_100"): "66 spill instructions, 136 B of stack, 0 B local",
                ("peft_backward 2 bit dA dB float32", "sm_100"): "34 spill instructions, 72 B of stack, 0 B local",
                ("peft_backward 3 bit dX", "sm_120"): _DX_SPILLS,
                ("peft_backward 4 bit dX", "gfx950"): "7 registers spilled, 0 B of scratch memory",
                ("peft_backward 2 bit dX", "gfx950"): "7 registers spilled, 0 B of scratch memory",
                ("peft_backward 4 bit dA dB", "gfx1100"): "107 registers spilled, 304 B of scratch memory",
                ("peft_backward 3 bit dA dB", "gfx1100"): "467 registers spilled, 1188 B of scratch memory",
                ("peft_backward 2 bit dA dB", "gfx1100"): "107 registers spilled, 304 B of scratch memory",
                ("blockwise nf3 G=64 M≤8", "gfx1100"): "87 registers spilled, 352 B of scratch memory",
                ("blockwise_gemm nf4 G=64 M=64 split", "gfx1100"): "72 registers spilled, 292 B of scratch memory",
                ("blockwise_gemm nf3 G=64 M=64 split", "gfx1100"): "370 registers spilled, 1368 B of scratch memory",
                ("blockwise_gemm nf2 G=64 M=64 split", "gfx1100"): "74 registers spilled, 300 B of scratch memory",
                ("qlora fused nf4 G=64 R=16 M=64 split", "gfx1100"): "75 registers spilled, 304 B of scratch memory",
            }
        ),
        "3.7.1": MappingProxyType(
            {
                ("rank_expanded 3 bit M=1", "sm_86"): "8 spill instructions, 16 B of stack, 0 B local",
                ("rank_expanded 3 bit M=1", "sm_89"): "8 spill instructions, 16 B of stack, 0 B local",
                ("scale_tile 4 bit M≤8 bfloat16", "gfx1100"): (
                    "235 registers spilled, 944 B of scratch memory; 8 of 16 products without tensor cores"
                ),
                ("scale_tile 2 bit M≤8 bfloat16", "gfx1100"): (
                    "238 registers spilled, 956 B of scratch memory; 8 of 16 products without tensor cores"
                ),
                ("peft_backward 3 bit dX", "sm_80"): _DX_SPILLS,
                ("peft_backward 3 bit dX", "sm_120"): (
                    "15 spill instructions, 24 B of stack, 0 B local; packed codes are loaded 8 B at a time < 16"
                ),
                ("peft_backward 4 bit dA dB", "gfx1100"): "115 registers spilled, 336 B of scratch memory",
                ("peft_backward 3 bit dA dB", "gfx1100"): "441 registers spilled, 1028 B of scratch memory",
                ("peft_backward 2 bit dA dB", "gfx1100"): "115 registers spilled, 336 B of scratch memory",
                ("blockwise_gemm nf3 G=64 M=64 split", "gfx1100"): "80 registers spilled, 324 B of scratch memory",
                ("qlora fused nf4 G=64 R=16 M=64 split", "sm_100"): "8 spill instructions, 16 B of stack, 0 B local",
            }
        ),
    }
)


def known_exceptions(triton: str) -> dict[tuple[str, str], str]:
    """(label, target) to what is outside the budget with that version of Triton, word for word."""
    return {**KNOWN_EXCEPTIONS, **_MORE_EXCEPTIONS.get(triton, {})}
