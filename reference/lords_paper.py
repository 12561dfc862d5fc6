"""LoRDS scales by the recipe of the paper (arXiv 2601.22716), as far as it is public.

Public, from the paper's abstract and the summaries of it that could be read: scales of absmax blocks, expanded to
S_NK; truncated SVD, B = U√Σ and A = √ΣVᵀ; then alternating refinement, codes = nearest level of W/S and gradient steps
of AdamW on B and A for ‖W - levels[codes]·(B A)‖²; rank at equal storage, floor(N·K / (G (N+K))).

Not public, and chosen here by a grid on the weights of the shipped model (docs/log.md, 2026-11-20): the number of
steps, the learning rate and its schedule, weight decay 0, one step per assignment of codes, and the weight divided by
its root mean square first, so that one learning rate means the same for every weight.
"""

import torch
from torch import Tensor

from lords_bench.reference.blocks import absmax_field
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.lowrank import LowRankFit, balanced, rounded, truncated_svd, zero_fit
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.scale_gradient import ScaleGradient
from lords_bench.reference.workers import PanelWorkers

STEPS = 200
LEARNING_RATE = 0.1


@torch.no_grad()
def fit_paper(
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
    """B_NR and A_RK by absmax blocks, truncated SVD and AdamW; arguments and errors as in `fit_refined`.

    `learn_levels` and `input_weight_K` are not the paper's; they are offered so that every choice can be crossed with
    every other.
    """
    weight_NK = weight_NK.detach().to(compute_dtype(weight_NK.dtype))
    levels_L = levels_L.to(weight_NK)
    k = weight_NK.shape[1]
    largest = weight_NK.abs().max()
    if not largest > 0:
        return zero_fit(weight_NK, levels_L, rank)
    unit = largest * (weight_NK / largest).square().mean().sqrt()
    unit_NK = weight_NK / unit
    blocks = absmax_field(torch.nn.functional.pad(unit_NK, (0, -k % block)), block)
    start = truncated_svd(blocks, rank, seed=seed)
    with PanelWorkers(weight_NK.device) as workers:
        gradient = ScaleGradient(
            unit_NK,
            start.b_NR,
            start.a_RK[:, :k],
            levels_L,
            row_weight_N=torch.ones_like(unit_NK[:, 0]),
            column_weight_K=torch.ones_like(unit_NK[0]) if input_weight_K is None else input_weight_K.to(unit_NK),
            workers=workers,
        )
        gradient.b_NR.grad, gradient.a_RK.grad = gradient.b_grad_NR, gradient.a_grad_RK
        optimizer = torch.optim.AdamW([gradient.b_NR, gradient.a_RK], lr=LEARNING_RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            gradient()
            optimizer.step()
            schedule.step()
            if learn_levels:
                gradient.learn_levels()
    field = balanced(LowRankField(b_NR=gradient.b_NR * unit, a_RK=gradient.a_RK))
    return LowRankFit(field=rounded(field, scale_dtype), levels_L=gradient.levels_L)
