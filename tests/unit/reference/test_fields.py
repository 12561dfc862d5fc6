"""The two scale fields, expanded by hand."""

import pytest
import torch

from lords_bench.errors import WeightError
from lords_bench.reference.fields import BlockField, LowRankField

BLOCK_FIELD = BlockField(scale_NG=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), block=2)
LOW_RANK_FIELD = LowRankField(b_NR=torch.tensor([[1.0], [-2.0]]), a_RK=torch.tensor([[3.0, 0.5, 0.0]]))


def test_a_block_field_repeats_each_scale_over_its_block() -> None:
    assert BLOCK_FIELD.expand().tolist() == [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]
    assert BLOCK_FIELD.shape == (2, 4)


def test_a_low_rank_field_is_the_product_of_its_factors() -> None:
    assert LOW_RANK_FIELD.expand().tolist() == [[3.0, 0.5, 0.0], [-6.0, -1.0, 0.0]]
    assert (LOW_RANK_FIELD.shape, LOW_RANK_FIELD.rank) == ((2, 3), 1)


@pytest.mark.parametrize("field", [BLOCK_FIELD, LOW_RANK_FIELD], ids=["block", "low-rank"])
@pytest.mark.parametrize("factor", [4.0, -9.0])
def test_a_scaled_field_expands_to_the_scaled_expansion(field: BlockField | LowRankField, factor: float) -> None:
    torch.testing.assert_close(field.scaled(factor).expand(), factor * field.expand())


@pytest.mark.parametrize("field", [BLOCK_FIELD, LOW_RANK_FIELD], ids=["block", "low-rank"])
def test_rounding_a_field_to_a_storage_dtype_changes_nothing_twice(field: BlockField | LowRankField) -> None:
    third = field.scaled(1 / 3)

    once = third.to_dtype(torch.float16)

    assert not torch.equal(once.expand(), third.expand())
    assert torch.equal(once.to_dtype(torch.float16).expand(), once.expand())
    assert once.expand().dtype == torch.float32


def test_a_scale_beyond_the_storage_dtype_is_refused_with_the_remedy() -> None:
    with pytest.raises(WeightError, match=r"scale 4e\+05 does not fit float16; use scale_dtype='bfloat16' or"):
        BLOCK_FIELD.scaled(1e5).to_dtype(torch.float16)


def test_gradients_reach_the_factors_through_the_expansion() -> None:
    b_NR = LOW_RANK_FIELD.b_NR.clone().requires_grad_()

    LowRankField(b_NR=b_NR, a_RK=LOW_RANK_FIELD.a_RK).expand().sum().backward()

    assert b_NR.grad is not None
    assert b_NR.grad.tolist() == [[3.5], [3.5]]
