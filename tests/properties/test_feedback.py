"""No refit and no sweep over the codes ever raises the output error, whatever the weight, scales and inputs."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lords_bench.reference.codebooks import assign_nearest
from lords_bench.reference.feedback import FeedbackPlan, assign_feedback, improve_codes, plan_feedback
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.hessian import hessian_error_N
from lords_bench.reference.refit import refit_a_hessian, refit_b_hessian, refit_blocks

# Rounding allowance on the error, relative to that of quantizing to zero: products with H are in the compute dtype.
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-12}

Problem = tuple[Tensor, Field, Tensor, FeedbackPlan]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """(weight, field, levels, plan) with the traps that calibration brings."""
    n, groups, block = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 4, 32]))
    k = groups * block
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight_NK = normal(n, k) * draw(st.sampled_from([1e-3, 1.0, 100.0]))
    x_MK = normal(draw(st.sampled_from([1, k, 4 * k])), k)
    traps = draw(st.sets(st.sampled_from(["correlated", "dead input", "huge input", "zero row", "zero scale"])))
    if "correlated" in traps:
        x_MK += 3.0 * normal(len(x_MK), 1)
    if "dead input" in traps and k > 1:
        x_MK[:, 0] = 0.0
    if "huge input" in traps:
        x_MK[:, -1] *= 100.0
    if "zero row" in traps:
        weight_NK[0] = 0.0
    field: Field
    if draw(st.booleans()):
        rank = draw(st.integers(1, 4))
        a_RK = normal(rank, k)
        if "zero scale" in traps:
            a_RK[0] = 0.0
        field = LowRankField(b_NR=(normal(n, rank) * weight_NK.std(correction=0)).to(dtype), a_RK=a_RK.to(dtype))
    else:
        scale_NG = weight_NK.view(n, groups, block).abs().amax(dim=2) * draw(st.sampled_from([-1.0, 0.3, 1.0]))
        if "zero scale" in traps:
            scale_NG[0] = 0.0
        field = BlockField(scale_NG=scale_NG.to(dtype), block=block)
    levels_L = torch.linspace(-1, 1, draw(st.sampled_from([2, 4, 15])), dtype=torch.float64)
    plan = plan_feedback((x_MK.T @ x_MK / len(x_MK)).to(dtype), dtype=dtype)
    return weight_NK.to(dtype), field, levels_L.to(dtype), plan


def row_errors(weight_NK: Tensor, quantized_NK: Tensor, plan: FeedbackPlan) -> Tensor:
    """In float64 throughout, so that the judge is finer than the judged."""
    return hessian_error_N(weight_NK.double(), quantized_NK.double(), plan.hessian_KK.double())


def allowance(weight_NK: Tensor, quantized_NK: Tensor, plan: FeedbackPlan) -> Tensor:
    size_N = row_errors(weight_NK, torch.zeros_like(weight_NK), plan)
    size_N = size_N + row_errors(quantized_NK, torch.zeros_like(weight_NK), plan)
    return ROUNDING[weight_NK.dtype] * size_N


@given(problems())
def test_exact_refits_never_raise_the_error_of_a_row(problem: Problem) -> None:
    weight_NK, field, levels_L, plan = problem
    values_NK = levels_L[assign_nearest(weight_NK, field.expand(), levels_L).int()]
    before_NK = values_NK * field.expand()

    refit = refit_blocks if isinstance(field, BlockField) else refit_b_hessian
    after_NK = values_NK * refit(weight_NK, values_NK, field, plan.hessian_KK).expand()  # type: ignore[arg-type]

    limit_N = row_errors(weight_NK, before_NK, plan) + allowance(weight_NK, before_NK, plan)
    assert bool((row_errors(weight_NK, after_NK, plan) <= limit_N).all())


@given(problems(), st.integers(0, 12))
def test_conjugate_gradients_on_a_never_raise_the_error(problem: Problem, steps: int) -> None:
    weight_NK, field, levels_L, plan = problem
    if isinstance(field, BlockField):
        field = LowRankField(b_NR=field.scale_NG[:, :1], a_RK=torch.ones_like(weight_NK[:1]))
    values_NK = levels_L[assign_nearest(weight_NK, field.expand(), levels_L).int()]
    before_NK = values_NK * field.expand()

    after_NK = values_NK * refit_a_hessian(weight_NK, values_NK, field, plan.hessian_KK, steps=steps).expand()

    limit = (row_errors(weight_NK, before_NK, plan) + allowance(weight_NK, before_NK, plan)).sum()
    assert bool(row_errors(weight_NK, after_NK, plan).sum() <= limit)


@given(problems(), st.booleans())
def test_a_sweep_never_raises_the_error_of_a_row(problem: Problem, from_feedback: bool) -> None:
    weight_NK, field, levels_L, plan = problem
    scale_NK = field.expand()
    if from_feedback:
        codes_NK = assign_feedback(weight_NK, scale_NK, levels_L, plan)
    else:
        codes_NK = assign_nearest(weight_NK, scale_NK, levels_L)
    before_NK = levels_L[codes_NK.int()] * scale_NK

    after_NK = levels_L[improve_codes(weight_NK, scale_NK, levels_L, codes_NK, plan).int()] * scale_NK

    limit_N = row_errors(weight_NK, before_NK, plan) + allowance(weight_NK, before_NK, plan)
    assert bool((row_errors(weight_NK, after_NK, plan) <= limit_N).all())
