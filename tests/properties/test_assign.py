"""The nearest code is the best code: against all codes tried one by one."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.reference.codebooks import assign_nearest, nearest_values

SCALE_EXPONENTS = st.integers(-45, 8)
# Few numbers are searched, many are counted: both ways of finding a code are to be tried.
WIDTHS = st.sampled_from([9, 1000])


@st.composite
def levels(draw: st.DrawFn) -> torch.Tensor:
    numbers = draw(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=16, unique=True))
    return torch.tensor(sorted(numbers), dtype=torch.float32)


@given(levels_L=levels(), exponent=SCALE_EXPONENTS, seed=st.integers(0, 2**31), columns=WIDTHS, float64=st.booleans())
def test_no_code_is_better_than_the_one_assigned(
    levels_L: torch.Tensor, exponent: int, seed: int, columns: int, float64: bool
) -> None:
    """Scales of both signs, some exactly 0, others down to subnormal numbers."""
    torch_dtype = torch.float64 if float64 else torch.float32
    generator = torch.Generator().manual_seed(seed)
    scale_NK = torch.randn(4, columns, generator=generator, dtype=torch.float64) * 10.0**exponent
    weight_NK = torch.randn(4, columns, generator=generator, dtype=torch.float64) * scale_NK.abs()
    scale_NK[0, :3] = 0.0
    weight_NK[1, :3] = 0.0
    weight_NK, scale_NK = weight_NK.to(torch_dtype), scale_NK.to(torch_dtype)

    codes_NK = assign_nearest(weight_NK, scale_NK, levels_L)

    errors_NKL = (weight_NK.unsqueeze(2) - scale_NK.unsqueeze(2) * levels_L).double().abs()
    chosen_NK = errors_NKL.gather(2, codes_NK.long().unsqueeze(2)).squeeze(2)
    # The quotient and the products are rounded once each, and a scale below the normal numbers counts as the smallest.
    info = torch.finfo(torch_dtype)
    slack_NK = 4 * info.eps * (weight_NK.double().abs() + scale_NK.double().abs()) + 2 * info.tiny
    assert bool((chosen_NK <= errors_NKL.amin(dim=2) + slack_NK).all())


@given(levels_L=levels(), seed=st.integers(0, 2**31), columns=WIDTHS)
def test_nearest_values_agree_with_the_levels_of_nearest_codes(levels_L: torch.Tensor, seed: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight_NK, scale_NK = torch.randn(4, columns, generator=generator), torch.randn(4, columns, generator=generator)

    values_NK = nearest_values(weight_NK, scale_NK, levels_L)

    expected_NK = levels_L[assign_nearest(weight_NK, scale_NK, levels_L).int()]
    torch.testing.assert_close(values_NK, expected_NK, rtol=0.0, atol=2e-6)
