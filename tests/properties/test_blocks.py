"""What the search of block scales promises for any weight: never worse than what it starts from."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.quant import named_codebook
from lords_bench.reference.blocks import (
    NEAR_FACTORS,
    absmax_field,
    assign_blocks,
    optimised_field,
    optimised_field_and_levels,
)
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.fields import BlockField

# Candidates are compared by sums of up to 64 squares in float32; each may be off by a few roundings of the block's sum.
ROUNDING = 1e-5

CODEBOOKS = st.sampled_from(["nf4", "nf3", "nf2", "fp4", "int4", "int2"])


def make_weight(seed: int, n: int, k: int, power: int) -> torch.Tensor:
    weight_NK = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    weight_NK[0, : k // 2] = 0.0
    return weight_NK.sign() * weight_NK.abs() ** power


def block_errors(
    weight_NK: torch.Tensor, field: BlockField, levels_L: torch.Tensor, input_weight_K: torch.Tensor
) -> torch.Tensor:
    quantized_NK = levels_L[assign_blocks(weight_NK, field, levels_L).int()] * field.expand()
    error_NK = input_weight_K * (weight_NK - quantized_NK).double().square()
    return error_NK.view(*field.scale_NG.shape, -1).sum(dim=2)


def block_norms(weight_NK: torch.Tensor, block: int, input_weight_K: torch.Tensor) -> torch.Tensor:
    return (input_weight_K * weight_NK.double().square()).view(weight_NK.shape[0], -1, block).sum(dim=2)


@given(
    seed=st.integers(0, 2**31),
    power=st.integers(1, 3),
    block=st.sampled_from([4, 16, 32]),
    codebook=CODEBOOKS,
    weighted=st.booleans(),
)
def test_no_block_is_worse_off_than_with_its_largest_magnitude(
    seed: int, power: int, block: int, codebook: str, weighted: bool
) -> None:
    weight_NK = make_weight(seed, 60, 64, power)
    levels_L = levels_tensor(named_codebook(codebook))
    input_weight_K = torch.rand(64, generator=torch.Generator().manual_seed(seed)) if weighted else torch.ones(64)

    field = optimised_field(weight_NK, block, levels_L, input_weight_K=input_weight_K if weighted else None)

    absmax_NG = block_errors(weight_NK, absmax_field(weight_NK, block), levels_L, input_weight_K)
    optimised_NG = block_errors(weight_NK, field, levels_L, input_weight_K)
    slack_NG = ROUNDING * block_norms(weight_NK, block, input_weight_K)
    assert bool((optimised_NG <= absmax_NG + slack_NG).all())


@given(seed=st.integers(0, 2**31), codebook=CODEBOOKS)
def test_a_search_around_a_field_is_never_worse_than_that_field(seed: int, codebook: str) -> None:
    weight_NK = make_weight(seed, 60, 64, 2)
    levels_L = levels_tensor(named_codebook(codebook))
    ones_K = torch.ones(64)
    start = BlockField(scale_NG=torch.randn(60, 4, generator=torch.Generator().manual_seed(seed)), block=16)

    field = optimised_field(weight_NK, 16, levels_L, around=start, factors=NEAR_FACTORS)

    start_NG = block_errors(weight_NK, start, levels_L, ones_K)
    found_NG = block_errors(weight_NK, field, levels_L, ones_K)
    assert bool((found_NG <= start_NG + ROUNDING * (start_NG + block_norms(weight_NK, 16, ones_K))).all())


@given(seed=st.integers(0, 2**31), bits=st.sampled_from([4, 3, 2]), weighted=st.booleans(), rounds=st.integers(1, 5))
def test_learning_levels_never_increases_the_error(seed: int, bits: int, weighted: bool, rounds: int) -> None:
    weight_NK = make_weight(seed, 8, 64, 2)
    levels_L = levels_tensor(named_codebook(f"nf{bits}"))
    input_weight_K = torch.rand(64, generator=torch.Generator().manual_seed(seed)) if weighted else torch.ones(64)

    field = optimised_field(weight_NK, 16, levels_L, input_weight_K=input_weight_K)
    learned, learned_L = optimised_field_and_levels(
        weight_NK, 16, levels_L, input_weight_K=input_weight_K, rounds=rounds
    )

    before = float(block_errors(weight_NK, field, levels_L, input_weight_K).sum())
    after = float(block_errors(weight_NK, learned, learned_L, input_weight_K).sum())
    assert after <= before + ROUNDING * float(block_norms(weight_NK, 16, input_weight_K).sum())
