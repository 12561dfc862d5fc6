"""Integer groups with zero points whose codes are assigned by error feedback, as GPTQ does it."""

import pytest
import torch
from torch import Tensor

from lords_bench.quant import QuantSpec
from lords_bench.reference.affine import affine_field
from lords_bench.reference.fields import BlockField
from lords_bench.reference.hessian import damped, hessian_error_N
from lords_bench.reference.methods import quantize
from lords_bench.reference.refit import refit_affine_to_targets
from lords_bench.reference.weights import AffineWeight

N, K, BLOCK = 24, 96, 16


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_weight() -> Tensor:
    """Groups that lie to one side of zero, where a zero point pays."""
    return 0.05 * (normal(N, K) + 0.8 * normal(N, K // BLOCK, seed=1).repeat_interleave(BLOCK, dim=1))


def make_hessian() -> Tensor:
    x_MK = normal(4 * K, K, seed=2) + normal(4 * K, 1, seed=3)
    return x_MK.T @ x_MK / len(x_MK)


def run(method: str, bits: int, hessian_KK: Tensor | None = None, **fields: object) -> AffineWeight:
    spec = QuantSpec(method=method, bits=bits, block=BLOCK, **fields)  # type: ignore[arg-type]
    weight = quantize(make_weight(), spec, hessian_KK=make_hessian() if hessian_KK is None else hessian_KK)
    assert isinstance(weight, AffineWeight)
    return weight


def error(weight: AffineWeight) -> float:
    """Under the Hessian that the codes were assigned with."""
    return float(hessian_error_N(make_weight(), weight.dequantize(torch.float64), damped(make_hessian(), 0.01)).sum())


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_inputs_that_do_not_mix_get_the_codes_of_rounding_to_nearest(bits: int) -> None:
    diagonal_KK = torch.diag(torch.linspace(0.5, 2.0, K, dtype=torch.float64))

    fed_back, nearest = run("gptq-int", bits, diagonal_KK), run("int-rtn", bits)

    assert torch.equal(fed_back.scales(), nearest.scales())
    assert torch.equal(fed_back.zeros(), nearest.zeros())
    assert torch.equal(fed_back.codes(), nearest.codes())


@pytest.mark.parametrize("scale_bits", [None, 8])
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_each_step_of_the_recipe_pays_and_refits_never_harm(bits: int, scale_bits: int | None) -> None:
    nearest, fed_back, refitted = (
        run(method, bits, scale_bits=scale_bits) for method in ("int-rtn", "gptq-int", "int-gptq")
    )

    assert error(fed_back) < 0.8 * error(nearest)
    assert error(refitted) < error(fed_back)
    assert refitted.bits_per_weight == fed_back.bits_per_weight == nearest.bits_per_weight


@pytest.mark.parametrize("bits", [3, 2])
def test_a_zero_point_is_worth_more_than_its_bits_on_lopsided_groups(bits: int) -> None:
    without = quantize(
        make_weight(), QuantSpec(method="gptq", bits=bits, block=BLOCK // 2, levels="int"), hessian_KK=make_hessian()
    )
    weight = run("gptq-int", bits)

    assert weight.bits_per_weight < without.bits_per_weight
    lost = float(hessian_error_N(make_weight(), without.dequantize(torch.float64), damped(make_hessian(), 0.01)).sum())
    assert error(weight) < lost


def grid_error(targets_NK: Tensor, codes_NK: Tensor, field: BlockField, pivot_K: Tensor) -> Tensor:
    """Σ d (t - low - code · s)² of every block."""
    low_NK = field.expand_low()
    assert low_NK is not None
    error_NK = targets_NK - low_NK - codes_NK * field.expand()
    return (error_NK.square() * pivot_K).view(N, -1, BLOCK).sum(dim=2)


@pytest.mark.parametrize("top", [3, 15])
def test_no_integer_zero_point_fits_the_targets_better(top: int) -> None:
    targets_NK, pivot_K = make_weight(), normal(K, seed=4).square()
    codes_NK = torch.randint(top + 1, (N, K), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    codes_NK[0, :BLOCK] = 2

    field = refit_affine_to_targets(targets_NK, codes_NK, affine_field(targets_NK, BLOCK, 4), pivot_K, top=top)

    found_NG = grid_error(targets_NK, codes_NK, field, pivot_K)
    for zero in range(top + 1):
        # Any scale beside the best is worse, so the best for each zero point by a dense solver.
        values_NK = codes_NK.double() - zero
        root_K = pivot_K.sqrt()
        for group in range(K // BLOCK):
            part = slice(group * BLOCK, (group + 1) * BLOCK)
            design_NJ1 = (values_NK * root_K)[:, part].unsqueeze(2)
            target_NJ1 = (targets_NK * root_K)[:, part].unsqueeze(2)
            scale_N11 = torch.linalg.lstsq(design_NJ1, target_NJ1, driver="gelsd").solution
            least_N = (target_NJ1 - design_NJ1 @ scale_N11).square().sum(dim=(1, 2))
            assert bool((found_NG[:, group] <= least_N * (1 + 1e-9) + 1e-15).all())


def test_a_block_of_zeros_keeps_its_grid() -> None:
    start = affine_field(torch.zeros(N, K), BLOCK, 2)

    field = refit_affine_to_targets(
        torch.zeros(N, K), torch.zeros(N, K, dtype=torch.uint8), start, torch.ones(K), top=3
    )

    assert torch.equal(field.scale_NG, start.scale_NG)
    assert field.low_NG is not None
    assert not bool(field.low_NG.any())
