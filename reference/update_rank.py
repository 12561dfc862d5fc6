"""How many directions an update of a weight has: the paper's claim of high rank, as numbers.

A LoRDS adapter changes W by levels[codes] · (B'A' - BA), element by element. A product with a matrix of full rank may
have full rank itself, though only R(N+K) numbers were trained; up @ down of LoRA has rank R at most. A rank says
nothing of sizes, so the spread of the singular values σ is told as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateRank:
    """Rank of an N×K update.

    Attributes:
        full: min(N, K).
        numerical: singular values above the largest · max(N, K) · 2^-52, the rounding of a float64 matrix.
        effective: exp of the entropy of σ / Σσ (Roy and Vetterli, EUSIPCO 2007): 1 for one direction, `full` for equal
            ones.
        energy_rank_90: smallest number of directions that hold 90 % of Σσ².
    """

    full: int
    numerical: int
    effective: float
    energy_rank_90: int


def update_rank(update_NK: Tensor) -> UpdateRank:
    """Singular values in float64. An update of zeros has rank 0."""
    wide_NK = update_NK.detach().to(torch.float64)
    sigma_Q = torch.linalg.svdvals(wide_NK)
    full = len(sigma_Q)
    largest = float(sigma_Q[0])
    if largest == 0.0:
        return UpdateRank(full=full, numerical=0, effective=0.0, energy_rank_90=0)
    numerical = int((sigma_Q > largest * max(wide_NK.shape) * torch.finfo(torch.float64).eps).sum())
    share_Q = sigma_Q / sigma_Q.sum()
    entropy = -(share_Q * share_Q.clamp_min(torch.finfo(torch.float64).tiny).log()).sum()
    energy_Q = sigma_Q.square().cumsum(0)
    needed = int((energy_Q < 0.9 * energy_Q[-1]).sum()) + 1
    return UpdateRank(full=full, numerical=numerical, effective=float(entropy.exp()), energy_rank_90=needed)
