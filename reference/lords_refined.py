"""LoRDS scales by the refined recipe: the default of this project.

    1  rows and columns brought to unit size (Sinkhorn): W = ρ Ŵ γ                         `sinkhorn`
    2  block scales of Ŵ by a short search, their SVD cut to rank R: the start             `blocks`, `lowrank`
    3  annealed, preconditioned steps on B and A, error weighted by (ργ)² h                `annealing`
    4  ρ and γ folded into B and A; the start is kept should it be better
    5  levels (if learned), B and A by exact least squares for the codes that resulted     `als`
    6  B and A rounded to the storage dtype

Levels follow at every step of 3 if they are learned. Cost: `STEPS` passes of 2 to 3 ns per weight and core; memory
about five copies of the weight. Figures: docs/log.md, 2026-11-20.
"""

import torch
from torch import Tensor

from lords_bench.reference.als import refit_a, refit_b
from lords_bench.reference.annealing import Schedule, anneal
from lords_bench.reference.blocks import optimised_field
from lords_bench.reference.codebooks import assign_nearest, normalise_levels, refit_levels
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.lowrank import (
    LowRankFit,
    balanced,
    nearest_field_values,
    rounded,
    squared_error,
    truncated_svd,
    zero_fit,
)
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.sinkhorn import NormalisedWeight, normalise
from lords_bench.reference.workers import PanelWorkers

__all__ = ["LowRankFit", "fit_refined"]

STEPS = 300

# Multiples of the largest magnitude of a block. The start needs the size of S right, not every block.
START_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# Share of S that a step changes at first. Ripples of the error are as wide as the distance between levels, so fewer
# levels bear larger steps.
STEP_PER_LEVEL_GAP = 0.9
LARGEST_STEP = 0.15


@torch.no_grad()
def fit_refined(
    weight_NK: Tensor,
    levels_L: Tensor,
    rank: int,
    *,
    block: int,
    learn_levels: bool = False,
    input_weight_K: Tensor | None = None,
    scale_dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> LowRankFit:
    """B_NR and A_RK of low Σ h_k (W - levels[code] · (B A))², codes nearest.

    Args:
        weight_NK: finite, two-dimensional; float64 is fitted in float64, any other float in float32. Any device.
        levels_L: sorted levels in [-1, 1]; the start, where levels are learned.
        rank: R, from 1 to min(N, K).
        block: inputs per block scale of the start; it need not divide K.
        learn_levels: fit the levels to this weight too.
        input_weight_K: non-negative weight h of each input's squared error; None is one.
        scale_dtype: storage dtype that B and A are rounded to.
        seed: of the start of ranks beyond what block scales have; nothing else is random.

    Raises:
        WeightError: the scales do not fit `scale_dtype`; the message names a wider one.
    """
    weight_NK = weight_NK.detach().to(compute_dtype(weight_NK.dtype))
    levels_L = levels_L.to(weight_NK)
    importance_K = None if input_weight_K is None else input_weight_K.to(weight_NK)
    if not weight_NK.any():
        return zero_fit(weight_NK, levels_L, rank)
    with PanelWorkers(weight_NK.device) as workers:
        normal = normalise(weight_NK)
        start = _start(normal.unit_NK, levels_L, rank, block, seed)
        field, learned_L = anneal(
            normal.unit_NK,
            start,
            levels_L,
            row_weight_N=(normal.row_N / normal.row_N.max()).square(),
            column_weight_K=_column_weight(normal, importance_K),
            schedule=Schedule(steps=STEPS, step=min(STEP_PER_LEVEL_GAP / (len(levels_L) - 1), LARGEST_STEP)),
            learn_levels=learn_levels,
            workers=workers,
        )
        fits = ((_folded(normal, field), learned_L), (_folded(normal, start), levels_L))
        field, levels_L = min(fits, key=lambda fit: squared_error(weight_NK, *fit, input_weight_K=importance_K))
        if learn_levels:
            field, levels_L = _with_fitted_levels(weight_NK, field, levels_L, importance_K)
        values_NK = nearest_field_values(weight_NK, field, levels_L)
        b_NR = refit_b(weight_NK, values_NK, field.a_RK, b_NR=field.b_NR, input_weight_K=importance_K, workers=workers)
        a_RK = refit_a(weight_NK, values_NK, b_NR, a_RK=field.a_RK, workers=workers)
    field = balanced(LowRankField(b_NR=b_NR, a_RK=a_RK))
    return LowRankFit(field=rounded(field, scale_dtype), levels_L=levels_L)


def _start(unit_NK: Tensor, levels_L: Tensor, rank: int, block: int, seed: int) -> LowRankField:
    k = unit_NK.shape[1]
    padded_NK = torch.nn.functional.pad(unit_NK, (0, -k % block))
    blocks = optimised_field(padded_NK, block, levels_L, factors=START_FACTORS)
    start = truncated_svd(blocks, rank, seed=seed)
    return LowRankField(b_NR=start.b_NR, a_RK=start.a_RK[:, :k])


def _column_weight(normal: NormalisedWeight, importance_K: Tensor | None) -> Tensor:
    weight_K = (normal.column_K / normal.column_K.max()).square()
    return weight_K if importance_K is None else weight_K * (importance_K / importance_K.max())


def _folded(normal: NormalisedWeight, field: LowRankField) -> LowRankField:
    return LowRankField(b_NR=field.b_NR * normal.row_N.unsqueeze(1), a_RK=field.a_RK * normal.column_K)


def _with_fitted_levels(
    weight_NK: Tensor, field: LowRankField, levels_L: Tensor, importance_K: Tensor | None
) -> tuple[LowRankField, Tensor]:
    """Levels by least squares on the whole weight; what they are divided by to stay in [-1, 1] goes into the field."""
    scale_NK = field.expand()
    codes_NK = assign_nearest(weight_NK, scale_NK, levels_L)
    fitted_L = refit_levels(weight_NK, scale_NK, codes_NK, levels_L, input_weight_K=importance_K)
    levels_L, factor = normalise_levels(fitted_L)
    return field.scaled(factor), levels_L
