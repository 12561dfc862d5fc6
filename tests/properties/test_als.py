"""Exact alternating least squares never raises the error, whatever the data."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lords_bench.reference.als import refit_a, refit_b

Problem = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]

# Rounding allowance on the squared error, relative to Σ h w²: the residual is formed in the compute dtype.
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-14}


@st.composite
def least_squares_problems(draw: st.DrawFn) -> Problem:
    """(weight, values, b, a, input weights) with the traps a real fit meets."""
    n, k, rank = draw(st.integers(1, 24)), draw(st.integers(1, 40)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight, b, a = normal(n, k), normal(n, rank), normal(rank, k)
    levels = torch.linspace(-1, 1, draw(st.sampled_from([2, 4, 15])), dtype=torch.float64)
    values = levels[torch.randint(len(levels), (n, k), generator=generator)]
    traps = draw(
        st.sets(st.sampled_from(["zero row", "zero column", "dead codes", "equal ranks", "zero rank", "outlier"]))
    )
    if "zero row" in traps:
        weight[0] = 0.0
    if "zero column" in traps:
        weight[:, 0] = 0.0
    if "dead codes" in traps:
        values[:, : k // 2 + 1] = 0.0
    if "equal ranks" in traps:
        a[-1], b[:, -1] = a[0], b[:, 0]
    if "zero rank" in traps:
        a[0], b[:, 0] = 0.0, 0.0
    if "outlier" in traps:
        weight[n // 2, k // 2] = 1000.0 * (1.0 if draw(st.booleans()) else -1.0)
    magnitude = draw(st.sampled_from([1e-30, 1e-6, 1.0, 1e30]))
    # The start may be far from the size of the weight.
    weight, b = weight * magnitude, b * magnitude * draw(st.sampled_from([1e-4, 1.0, 1e4]))
    input_weight = draw(st.sampled_from(["none", "ordinary", "some zero", "wide"]))
    h = {
        "none": None,
        "ordinary": normal(k).square(),
        "some zero": normal(k).clamp(min=0.0),
        "wide": torch.exp(5.0 * normal(k)),
    }[input_weight]
    return weight.to(dtype), values.to(dtype), b.to(dtype), a.to(dtype), None if h is None else h.to(dtype)


def weighted_error(weight: Tensor, values: Tensor, b: Tensor, a: Tensor, h: Tensor | None) -> float:
    """Σ h (w - v (b a))² in float64."""
    square = (weight.double() - values.double() * (b.double() @ a.double())).square()
    return float((square if h is None else square * h.double()).sum())


def allowance(weight: Tensor, values: Tensor, b: Tensor, a: Tensor, h: Tensor | None) -> float:
    """Rounding of the error: relative to the sizes that cancel in the residual."""
    size = weight.double().abs() + values.double().abs() * (b.double().abs() @ a.double().abs())
    return ROUNDING[weight.dtype] * float((size.square() if h is None else size.square() * h.double()).sum())


@settings(max_examples=5 * settings().max_examples)
@given(least_squares_problems())
def test_refitting_b_never_raises_the_weighted_error(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
) -> None:
    weight, values, b, a, h = problem

    fitted = refit_b(weight, values, a, b_NR=b, input_weight_K=h)

    assert torch.isfinite(fitted).all()
    before = weighted_error(weight, values, b, a, h)
    after = weighted_error(weight, values, fitted, a, h)
    assert after <= before + allowance(weight, values, fitted, a, h)


HUGE_OVER_TINY = tuple(torch.tensor([[value]]) for value in (1.5e30, 5.6e-17, -2.9e25, -2.2))


@settings(max_examples=5 * settings().max_examples)
@example((*HUGE_OVER_TINY, None))  # the coefficient is representable, the coefficient in units of the weight is not
@given(least_squares_problems())
def test_refitting_a_never_raises_the_weighted_error(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
) -> None:
    weight, values, b, a, h = problem

    fitted = refit_a(weight, values, b, a_RK=a)

    assert torch.isfinite(fitted).all()
    before = weighted_error(weight, values, b, a, h)
    after = weighted_error(weight, values, b, fitted, h)
    assert after <= before + allowance(weight, values, b, fitted, h)


@settings(max_examples=2 * settings().max_examples)
@given(st.integers(0, 2**31), st.integers(1, 5), st.booleans())
def test_a_refit_reaches_the_least_squares_optimum(seed: int, rank: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, 48, generator=generator, dtype=torch.float64)
    values = torch.randn(7, 48, generator=generator, dtype=torch.float64)
    a = torch.randn(rank, 48, generator=generator, dtype=torch.float64)
    b = torch.randn(7, rank, generator=generator, dtype=torch.float64)
    h = torch.rand(48, generator=generator, dtype=torch.float64) if weighted else None

    fitted = refit_b(weight, values, a, b_NR=b, input_weight_K=h)

    root = torch.ones(48, dtype=torch.float64) if h is None else h.sqrt()
    for row in range(7):
        design = (values[row] * a * root).T
        optimum = torch.linalg.lstsq(design, (weight[row] * root).unsqueeze(1)).solution[:, 0]
        torch.testing.assert_close(fitted[row], optimum, rtol=1e-6, atol=1e-9)
