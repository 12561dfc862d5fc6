import re

import pytest
import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.reference.hessian import HessianAccumulator, check_hessian, damped, hessian_error_N

K = 12


def make_inputs(count: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, K, generator=generator, dtype=torch.float64).to(dtype)


def test_the_hessian_is_the_mean_of_outer_products_over_all_batches_of_any_leading_shape() -> None:
    x_MK = make_inputs(30)
    accumulator = HessianAccumulator(K, dtype=torch.float64)

    accumulator.add(x_MK[:24].view(2, 3, 4, K))
    accumulator.add(x_MK[24:])

    expected = sum(torch.outer(x_K, x_K) for x_K in x_MK) / 30
    assert accumulator.count == 30
    torch.testing.assert_close(accumulator.hessian_KK, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_summed_in_float32(dtype: torch.dtype) -> None:
    x_MK = make_inputs(5000, dtype=dtype)
    accumulator = HessianAccumulator(K)

    accumulator.add(x_MK)

    exact = x_MK.double().T @ x_MK.double() / 5000
    # A running sum of 5000 terms in float16 would be off by percents; in float32 by some 5000 rounding units at most.
    torch.testing.assert_close(accumulator.hessian_KK.double(), exact, rtol=1e-4, atol=1e-4)


def test_inputs_of_another_width_are_refused_by_shape() -> None:
    with pytest.raises(WeightError, match=re.escape("input of shape (3, 5) does not end in K = 12")):
        HessianAccumulator(K).add(torch.ones(3, 5))


def test_a_layer_without_inputs_has_no_hessian() -> None:
    with pytest.raises(WeightError, match="no calibration input reached this layer"):
        _ = HessianAccumulator(K).hessian_KK


def good_hessian() -> Tensor:
    x_MK = make_inputs(40)
    return x_MK.T @ x_MK / 40


def with_entry(row: int, column: int, value: float) -> Tensor:
    hessian_KK = good_hessian()
    hessian_KK[row, column] = value
    return hessian_KK


@pytest.mark.parametrize(
    ("hessian_KK", "message"),
    [
        (None, "needs hessian_KK"),
        (torch.ones(3, 3), r"shape \(3, 3\) does not fit a weight with K = 12"),
        (torch.ones(K), r"shape \(12,\) does not fit"),
        (torch.ones(K, K, dtype=torch.int64), "dtype torch.int64"),
        (with_entry(0, 0, float("nan")), "non-finite"),
        (with_entry(1, 1, -0.5), "-0.5 on its diagonal"),
        (torch.zeros(K, K), "all zero"),
        (with_entry(0, 1, 9.0), "not symmetric"),
    ],
    ids=["missing", "other-width", "one-dimension", "integer", "nan", "negative-diagonal", "zero", "asymmetric"],
)
def test_what_cannot_be_a_hessian_is_refused_with_its_reason(hessian_KK: Tensor | None, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        check_hessian(hessian_KK, K)


def test_a_hessian_with_a_dead_input_passes_unchanged() -> None:
    hessian_KK = good_hessian()
    hessian_KK[3], hessian_KK[:, 3] = 0.0, 0.0

    assert check_hessian(hessian_KK, K) is hessian_KK


def test_damping_adds_a_fraction_of_the_mean_diagonal_to_the_diagonal() -> None:
    hessian_KK = torch.tensor([[1.0, 0.5], [0.5, 3.0]])

    torch.testing.assert_close(damped(hessian_KK, 0.1), torch.tensor([[1.2, 0.5], [0.5, 3.2]]))


def test_the_error_of_a_row_is_the_mean_squared_change_of_its_output() -> None:
    x_MK = make_inputs(200)
    weight_NK, quantized_NK = make_inputs(5), make_inputs(5).round()

    error_N = hessian_error_N(weight_NK, quantized_NK, x_MK.T @ x_MK / 200)

    expected = (x_MK @ weight_NK.T - x_MK @ quantized_NK.T).square().mean(dim=0)
    torch.testing.assert_close(error_N, expected, rtol=1e-12, atol=1e-12)
