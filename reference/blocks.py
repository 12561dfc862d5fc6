"""Block scales: one number per row and block of consecutive inputs.

`absmax_field` is QLoRA's choice (arXiv 2305.14314): the largest magnitude of the block, so the largest weight is exact.
`optimised_field` searches the scale that minimises the squared error for the same storage: multiples of the largest
magnitude with either sign, each moved to the least-squares scale of its codes, then the best; clipping a few large
weights makes the grid finer for all others. With p = Σ h·w·v and q = Σ h·v² over a block with values v, the
least-squares scale is p/q and lowers the error by p²/q, so a candidate costs one rounding and two sums.

Letters beside the usual ones: P rows of a panel, G blocks of a row, J inputs of a block.
"""

import torch
from torch import Tensor

from lords_bench.reference.codebooks import assign_nearest, normalise_levels, refit_levels, round_to_levels
from lords_bench.reference.fields import BlockField
from lords_bench.reference.panels import compute_dtype, row_panels

# 1.00 is among them, so the search starts from absmax. The low end matters at 2 bits only: against 0.60…1.10 it takes
# 3 % off the squared error of NF2 on Gaussian weights, and nothing at 3 and 4 bits. Negative factors mirror the levels:
# normal-float levels are lopsided, so the sign of a scale chooses between two codebooks and costs no storage (5 to 6 %
# off the squared error at 4, 3 and 2 bits; low-rank scales have that choice anyway).
_MAGNITUDES = tuple((31 + 3 * step) / 100 for step in range(27))
SEARCH_FACTORS = (*_MAGNITUDES, *(-magnitude for magnitude in _MAGNITUDES))

# Learning alternates a narrow search around the present scales with a level refit taken 1.7 times too far: the error is
# a parabola in every level, so any factor below 2 still lowers it, and 1.7 halves the number of rounds.
NEAR_FACTORS = (1.0, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2)
LEARNING_ROUNDS = 16
RELAXATION = 1.7


def absmax_field(weight_NK: Tensor, block: int) -> BlockField:
    """Largest magnitude of every block, in the compute dtype. K must be a multiple of `block`."""
    n, k = weight_NK.shape
    scale_NG = weight_NK.reshape(n, k // block, block).abs().amax(dim=2)
    return BlockField(scale_NG=scale_NG.to(compute_dtype(weight_NK.dtype)), block=block)


def assign_blocks(weight_NK: Tensor, field: BlockField, levels_L: Tensor) -> Tensor:
    """`assign_nearest(weight_NK, field.expand(), levels_L)` without expanding the field."""
    blocks_BJ = weight_NK.reshape(-1, field.block)
    return assign_nearest(blocks_BJ, field.scale_NG.reshape(-1, 1), levels_L).view(weight_NK.shape)


@torch.no_grad()
def optimised_field(
    weight_NK: Tensor,
    block: int,
    levels_L: Tensor,
    *,
    input_weight_K: Tensor | None = None,
    around: BlockField | None = None,
    factors: tuple[float, ...] = SEARCH_FACTORS,
) -> BlockField:
    """Block scales by search on Σ h_k (W - S·level)², in the compute dtype.

    Never worse than any of its candidates, so never worse than `absmax_field` by default, up to rounding of the
    arithmetic.

    Args:
        weight_NK: any float dtype; K a multiple of `block`.
        block: inputs per scale.
        levels_L: sorted levels.
        input_weight_K: non-negative weight h of the squared error per input; None is 1.
        around: the candidates are `factors` times this field; None is `absmax_field`.
        factors: a negative one mirrors the levels.
    """
    dtype = compute_dtype(weight_NK.dtype)
    centre_NG = (absmax_field(weight_NK, block) if around is None else around).scale_NG.to(dtype)
    importance_GJ = None if input_weight_K is None else input_weight_K.to(dtype).view(-1, block)
    scale_NG = torch.empty_like(centre_NG)
    n, k = weight_NK.shape
    for panel in row_panels(n, k, weight_NK.device):
        weight_PGJ = weight_NK[panel].to(dtype).reshape(-1, k // block, block)
        scale_NG[panel] = _best_scale(weight_PGJ, centre_NG[panel], factors, levels_L.to(dtype), importance_GJ)
    return BlockField(scale_NG=scale_NG, block=block)


@torch.no_grad()
def optimised_field_and_levels(
    weight_NK: Tensor,
    block: int,
    levels_L: Tensor,
    *,
    input_weight_K: Tensor | None = None,
    rounds: int = LEARNING_ROUNDS,
) -> tuple[BlockField, Tensor]:
    """Block scales and learned levels, alternating the search with the closed-form refit of the levels.

    No round increases Σ h_k (W - S·level)². Starts from `levels_L`; the levels come back sorted, in [-1, 1].
    """
    field = optimised_field(weight_NK, block, levels_L, input_weight_K=input_weight_K)
    for done in range(rounds):
        field, levels_L = _learn_levels(weight_NK, field, levels_L, input_weight_K, last=done == rounds - 1)
        field = optimised_field(
            weight_NK, block, levels_L, input_weight_K=input_weight_K, around=field, factors=NEAR_FACTORS
        )
    return field, levels_L


@torch.no_grad()
def absmax_field_and_levels(
    weight_NK: Tensor,
    block: int,
    levels_L: Tensor,
    *,
    input_weight_K: Tensor | None = None,
    rounds: int = LEARNING_ROUNDS,
) -> tuple[BlockField, Tensor]:
    """Levels learned for absmax scales: the codes and the levels alternate, the scales change by one common factor.

    No round increases Σ h_k (W - S·level)². Starts from `levels_L`; the levels come back sorted, in [-1, 1].
    """
    field = absmax_field(weight_NK, block)
    for done in range(rounds):
        field, levels_L = _learn_levels(weight_NK, field, levels_L, input_weight_K, last=done == rounds - 1)
    return field, levels_L


def _learn_levels(
    weight_NK: Tensor, field: BlockField, levels_L: Tensor, input_weight_K: Tensor | None, *, last: bool
) -> tuple[BlockField, Tensor]:
    codes_NK = assign_blocks(weight_NK, field, levels_L)
    fitted_L = refit_levels(weight_NK, field.expand(), codes_NK, levels_L, input_weight_K=input_weight_K)
    moved_L = torch.lerp(levels_L, fitted_L, 1.0 if last else RELAXATION).sort().values
    levels_L, factor = normalise_levels(moved_L)
    return field.scaled(factor), levels_L


def _best_scale(
    weight_PGJ: Tensor,
    centre_PG: Tensor,
    factors: tuple[float, ...],
    levels_L: Tensor,
    input_weight_GJ: Tensor | None,
) -> Tensor:
    """Per block the least-squares scale that lowers the error most; the centre where none lowers it (a zero block).

    Works in units of the centre, so that squares of very large or small weights neither overflow nor vanish.
    """
    tiny = torch.finfo(centre_PG.dtype).tiny
    guarded_PG = centre_PG.abs().clamp_min(tiny).copysign(centre_PG)
    relative_PGJ = weight_PGJ * guarded_PG.reciprocal().unsqueeze(2)
    weighted_PGJ = relative_PGJ if input_weight_GJ is None else relative_PGJ * input_weight_GJ
    best_ratio_PG = torch.ones_like(centre_PG)
    best_gain_PG = torch.zeros_like(centre_PG)
    for factor in factors:
        value_PGJ = round_to_levels(relative_PGJ * (1.0 / factor), levels_L)
        product_PG = (weighted_PGJ * value_PGJ).sum(dim=2)
        square_PGJ = value_PGJ.square_()
        square_PG = (square_PGJ if input_weight_GJ is None else square_PGJ * input_weight_GJ).sum(dim=2)
        ratio_PG = product_PG / square_PG.clamp_min(tiny)
        gain_PG = product_PG * ratio_PG
        better_PG = gain_PG > best_gain_PG
        best_gain_PG = torch.where(better_PG, gain_PG, best_gain_PG)
        best_ratio_PG = torch.where(better_PG, ratio_PG, best_ratio_PG)
    return best_ratio_PG * centre_PG
