"""Low-rank scales by annealing: steps of a set size through a landscape full of local minima.

With its codes re-assigned at every step, the squared error of a row is a smooth valley overlaid by ripples: each time
S moves by about the distance between two levels, every weight has found another level and the error has changed by
chance. The valley floor is nearly flat (at 4 bits more than at 2), so what can be gained beyond it lies in choosing
among the ripples, which is what the exhaustive search of block scales does in one dimension. Plain gradient descent
stops in the first ripple. Steps that change S by a fixed share cross ripples, and as the share shrinks rows settle in
deep ones.

A step is preconditioned so that it means the same in any basis: the change of row n of B is P⁻¹ g_n with P = A Wₖ Aᵀ,
which changes S by √(g_nᵀ P⁻¹ g_n), and it is divided by the running size of that number. So `step` is the share of S
that moves, whatever the size of the weight, N, K, R, and how S is split between B and A. Columns of A likewise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.fields import LowRankField
from lords_bench.reference.scale_gradient import ScaleGradient
from lords_bench.reference.workers import PanelWorkers

# Relative to the mean eigenvalue of P: a direction of S weaker than that takes no larger steps.
METRIC_DAMPING = 0.03

# Relative to the median over rows or columns: mean square size of a step below which it is no longer scaled up.
SMALLEST_SIZE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How to anneal.

    Attributes:
        steps: passes over the weight.
        step: share of S that one pass changes, at first; it falls to 0 along a quarter circle.
        momentum: share of the last step's direction that is kept.
        size_memory: share of the last step's mean square size that is kept.
    """

    steps: int
    step: float
    momentum: float = 0.25
    size_memory: float = 0.9


@torch.no_grad()
def anneal(
    weight_NK: Tensor,
    start: LowRankField,
    levels_L: Tensor,
    *,
    row_weight_N: Tensor,
    column_weight_K: Tensor,
    schedule: Schedule,
    learn_levels: bool,
    workers: PanelWorkers,
) -> tuple[LowRankField, Tensor]:
    """B and A (and levels, if they are to be learned) of low Σ r_n c_k (w - levels[code]·(B A))².

    Args:
        weight_NK: rows and columns of about one size (see `sinkhorn.normalise`), float32 or float64.
        start: where to start.
        levels_L: sorted, in [-1, 1].
        row_weight_N: weights r of the squared error.
        column_weight_K: weights c of the squared error.
        schedule: how long and how hot.
        learn_levels: let the levels follow.
        workers: threads to share the rows.
    """
    gradient = ScaleGradient(
        weight_NK,
        start.b_NR,
        start.a_RK,
        levels_L,
        row_weight_N=row_weight_N,
        column_weight_K=column_weight_K,
        workers=workers,
    )
    b_NR, a_RK = gradient.b_NR, gradient.a_RK
    b_steps = _Steps(b_NR, schedule, dim=1)
    a_steps = _Steps(a_RK, schedule, dim=0)
    row_share_N1 = (row_weight_N / row_weight_N.sum()).unsqueeze(1)
    column_share_K = column_weight_K / column_weight_K.sum()
    for done in range(schedule.steps):
        gradient()
        a_metric_RR = (a_RK * column_share_K) @ a_RK.T
        b_metric_RR = (b_NR * row_share_N1).T @ b_NR
        size = schedule.step * _fall(done / schedule.steps) * (a_metric_RR * b_metric_RR).sum().sqrt()
        b_steps.take(gradient.b_grad_NR @ _inverse(a_metric_RR), gradient.b_grad_NR, size)
        a_steps.take(_inverse(b_metric_RR) @ gradient.a_grad_RK, gradient.a_grad_RK, size)
        if learn_levels:
            gradient.learn_levels()
    return LowRankField(b_NR=b_NR, a_RK=a_RK), gradient.levels_L


class _Steps:
    """Normalised steps of one factor, whose vectors (rows of B, columns of A) lie along `dim`."""

    def __init__(self, factor: Tensor, schedule: Schedule, *, dim: int) -> None:
        self._factor, self._schedule, self._dim = factor, schedule, dim
        self._direction = torch.zeros_like(factor)
        self._square = torch.zeros_like(factor.sum(dim=dim, keepdim=True))
        self._taken = 0

    def take(self, preconditioned: Tensor, gradient: Tensor, size: Tensor) -> None:
        """Moves the factor against `preconditioned`, a change of S by about `size`."""
        self._taken += 1
        square = (preconditioned * gradient).sum(dim=self._dim, keepdim=True).clamp_min_(0.0)
        self._square.lerp_(square, 1 - self._schedule.size_memory)
        mean = self._square / (1 - self._schedule.size_memory**self._taken)
        # A vector whose values are all zero has hardly a gradient; dividing by its size would drive S away for good.
        mean = torch.maximum(mean, SMALLEST_SIZE * mean.median())
        # A vector whose gradient has always been zero (a zero row, an input that does not count) does not move.
        direction = preconditioned * torch.where(mean > 0, mean, torch.inf).rsqrt_()
        self._direction.lerp_(direction, 1 - self._schedule.momentum)
        self._factor -= self._direction * (size / (1 - self._schedule.momentum**self._taken))


def _fall(done: float) -> float:
    """From 1 to 0 while `done` goes from 0 to 1: hot for most of the way, then a quick freeze."""
    return math.sqrt(1 - done * done)


def _inverse(metric_RR: Tensor) -> Tensor:
    """Inverse of a positive semidefinite matrix, damped; in float64 inside."""
    damped_RR = metric_RR.to(torch.float64, copy=True)
    diagonal_R = damped_RR.diagonal()
    diagonal_R += METRIC_DAMPING * diagonal_R.mean() + torch.finfo(torch.float64).tiny
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(damped_RR).L).to(metric_RR.dtype)
