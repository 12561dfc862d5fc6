"""Weights as they are stored, scales in 8 bits and a partial last K block, through every kernel.

Preparing reads what they expand to: numbers of the dtype that kernels read, and whole K blocks.
"""

from dataclasses import replace

import pytest
import torch

from lords_bench.kernel_check import CHECKED, CheckCase, check_kernels, make_case
from lords_bench.quant import QuantSpec
from lords_bench.records.status import Status
from lords_bench.reference.fields import BlockField, LowRankField
from lords_bench.reference.storage import stored_field, weight_of_field
from lords_bench.reference.weights import BlockwiseWeight, LordsWeight, QuantizedWeight, weight_from_tensors


def reloaded(weight: QuantizedWeight) -> QuantizedWeight:
    """The weight of its stored tensors alone."""
    return weight_from_tensors(weight.spec, weight.shape, weight.tensors())


def in_8_bits(case: CheckCase) -> CheckCase:
    """The case with the scales of weights that were stored so."""
    assert case.scale_NG is not None
    n, k = case.codes_NK.shape
    lords = QuantSpec(method="lords", bits=case.bits, levels="learned", rank=case.b_NR.shape[1], scale_bits=8)
    blocks = QuantSpec(method="block-opt", bits=case.bits, levels="learned", block=case.block, scale_bits=8)
    factors = stored_field(LowRankField(b_NR=case.b_NR.float(), a_RK=case.a_RK.float()), lords)
    scales = stored_field(BlockField(scale_NG=case.scale_NG.float(), block=case.block), blocks)
    low_rank = reloaded(weight_of_field(lords, case.packed, k, factors, case.levels_L))
    block = reloaded(weight_of_field(blocks, case.packed, k, scales, case.levels_L))
    assert isinstance(low_rank, LordsWeight)
    assert isinstance(block, BlockwiseWeight)
    assert {low_rank.b_NR.dtype, low_rank.a_RK.dtype, block.scales().dtype} == {torch.float16}
    assert low_rank.shape == block.shape == (n, k)
    assert torch.equal(low_rank.packed, case.packed)
    return replace(case, packed=low_rank.packed, b_NR=low_rank.b_NR, a_RK=low_rank.a_RK, scale_NG=block.scales())


@pytest.mark.parametrize(("m", "bits"), [(1, 4), (1, 3), (20, 2)])
def test_every_kernel_serves_them(m: int, bits: int) -> None:
    case = make_case(m, 24, 140, bits=bits, rank=5, dtype=torch.float32, device=torch.device("cpu"), seed=2)

    results = check_kernels([in_8_bits(case)], decoder="table")

    assert [result.kernel for result in results] == list(CHECKED)
    assert all(result.status in (Status.OK, Status.UNSUPPORTED) for result in results), results
    assert m > 1 or all(result.status is Status.OK for result in results)
