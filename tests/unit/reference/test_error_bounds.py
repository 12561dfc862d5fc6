"""The bound that every kernel is held to: as large as honest rounding can be, and hardly larger."""

from math import inf, nan

import pytest
import torch
from torch import Tensor

from lords_bench.reference.error_bounds import FP32_STEP, Magnitudes, error_bound, in_units_of_bound

ONE = torch.ones(1, dtype=torch.float64)


def bound(
    expected: Tensor = ONE,
    terms: Tensor = ONE,
    *,
    steps: int = 16,
    rank: int = 0,
    roundings: int = 1,
    compute: torch.dtype = torch.bfloat16,
    result: torch.dtype = torch.float32,
) -> float:
    magnitudes = Magnitudes(terms=terms, factors=terms, inputs=terms)
    return float(
        error_bound(
            expected, magnitudes, steps=steps, rank=rank, roundings=roundings, compute=compute, result=result
        ).max()
    )


def test_the_bound_of_a_small_case_by_hand() -> None:
    # one rounding of terms to bfloat16 2^-8, 16 + 16 steps and 4 of S at 2^-23, the result to fp32 twice 2^-24
    by_hand = 2**-8 + 36 * 2**-23
    by_hand += 2 * 2**-24 * (1 + by_hand)

    assert bound() == pytest.approx(by_hand, rel=1e-12)


def test_every_step_term_of_the_scale_and_rounding_adds_its_part() -> None:
    exact = {"result": torch.float64, "compute": torch.float32}

    assert bound(steps=4096, **exact) - bound(steps=96, **exact) == pytest.approx(4000 * FP32_STEP, rel=1e-6)
    assert bound(rank=64, **exact) - bound(rank=0, **exact) == pytest.approx(64 * FP32_STEP, rel=1e-6)
    assert bound(roundings=2) - bound(roundings=1) == pytest.approx(2**-8 * (1 + 2**-8), rel=1e-3)
    assert bound(result=torch.float16) - bound(result=torch.float64) == pytest.approx(2**-10, rel=0.01)


def test_the_bound_follows_the_terms_and_not_their_sum() -> None:
    cancelled = bound(0 * ONE, 1000 * ONE)

    assert cancelled == pytest.approx(1000 * bound(0 * ONE, ONE), rel=1e-6)


def test_terms_that_all_round_the_same_way_nearly_reach_the_bound() -> None:
    # 1 + 2^-8 lies in the middle between two bfloat16 numbers and is rounded to the even one, always down.
    term = torch.tensor(1 + 2.0**-8, dtype=torch.float64)
    exact, computed = 256 * term, 256 * term.to(torch.bfloat16).double()

    share = float((exact - computed).abs()) / bound(exact.reshape(1), exact.reshape(1), steps=256)

    assert 0.95 < share < 1


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_product_in_fp32_stays_within_the_bound_and_one_lost_term_does_not(seed: int) -> None:
    torch.manual_seed(seed)
    x, w = torch.randn(512, dtype=torch.float64), torch.randn(512, dtype=torch.float64)
    terms = (x.bfloat16().double() * w).abs().sum().reshape(1)
    exact = (x.bfloat16().double() * w).sum().reshape(1)
    limit = bound(exact, terms, steps=512, roundings=1)

    honest = (x.bfloat16().float() * w.bfloat16().float()).sum().double()
    products = x.bfloat16().double() * w
    without_one = exact - products[products.abs().argmax()]

    assert float((honest - exact).abs()) <= limit
    assert float((without_one - exact).abs()) > limit


OVERFLOWS = {torch.float16: 65520.0, torch.bfloat16: (2 - 2**-8) * 2.0**127, torch.float32: (2 - 2**-24) * 2.0**127}


def shares(computed: list[float], expected: list[float], bound: float, dtype: torch.dtype) -> list[float]:
    found = torch.tensor(computed, dtype=torch.float64).to(dtype)
    limits = torch.full((len(expected),), bound, dtype=torch.float64)
    return in_units_of_bound(found, torch.tensor(expected, dtype=torch.float64), limits).tolist()


def test_an_error_is_counted_in_units_of_its_bound() -> None:
    assert shares([1.5, -2.0, 0.0], [1.0, -2.0, 0.25], 0.5, torch.float16) == [1.0, 0.0, 0.5]


def test_no_error_is_right_where_none_is_allowed() -> None:
    assert shares([1.0, 1.5], [1.0, 1.0], 0.0, torch.float32) == [0.0, inf]


def test_nan_is_wrong_unless_it_is_expected() -> None:
    assert shares([nan, nan, 1.0], [1.0, nan, nan], 1.0, torch.float16) == [inf, 0.0, inf]


def test_an_expected_infinity_allows_only_itself() -> None:
    assert shares([inf, -inf, 60000.0, -inf], [inf, inf, inf, -inf], 10.0, torch.float16) == [0.0, inf, inf, 0.0]


@pytest.mark.parametrize("dtype", OVERFLOWS, ids=str)
def test_a_number_that_lies_within_its_bound_of_overflow_may_become_infinite(dtype: torch.dtype) -> None:
    limit, largest = OVERFLOWS[dtype], torch.finfo(dtype).max
    bound = (limit - largest) * 4

    assert shares([inf, -inf], [limit - bound / 2, -limit + bound / 2], bound, dtype) == pytest.approx([0.5, 0.5])
    assert shares([inf], [limit - 2 * bound], bound, dtype) == pytest.approx([2.0])
    assert shares([-inf], [limit], bound, dtype) == [inf]


@pytest.mark.parametrize("dtype", OVERFLOWS, ids=str)
def test_a_number_far_beyond_overflow_must_become_infinite(dtype: torch.dtype) -> None:
    limit, largest = OVERFLOWS[dtype], torch.finfo(dtype).max
    bound = limit - largest

    assert shares([inf, largest], [limit + 4 * bound, limit], bound, dtype) == pytest.approx([0.0, 1.0])
    assert shares([largest], [limit + 4 * bound], bound, dtype) == pytest.approx([5.0])


def test_float16_overflows_where_the_bound_says() -> None:
    below, at = torch.tensor([65519.0, 65520.0], dtype=torch.float64).to(torch.float16).tolist()

    assert (below, at) == (65504.0, inf)
