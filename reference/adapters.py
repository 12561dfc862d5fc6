"""Additive adapters on a quantized base, the baselines of LoRDS fine-tuning: Y = x · (Q + s · up @ down)ᵀ.

    qlora    Q = quantize(W); up = 0, down Kaiming-uniform (QLoRA, arXiv 2305.14314; LoRA, arXiv 2106.09685)
    loftq    alternate Q = quantize(W - up down), up down = best rank-R approximation of W - Q (arXiv 2310.08659)
    qpissa   up down = the R largest singular directions of W, Q = quantize(W - up down) (PiSSA, arXiv 2404.02948)

`up` is N×R (LoRA calls it B) and `down` R×K (LoRA: A). The scaling s is alpha / R; LoftQ and PiSSA define their start
for s = 1, so here the factors are divided by √s each, and any alpha starts at the same weight.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from lords_bench.errors import SpecError
from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.validate import check_weight
from lords_bench.reference.weights import QuantizedWeight

AdapterMethod = Literal["qlora", "loftq", "qpissa"]

LOFTQ_ITERATIONS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AdaptedWeight:
    """A quantized weight with an additive adapter that is kept beside it; a `QuantizedWeight`.

    Attributes:
        base: what is added to.
        up_NR: N×R, storage dtype.
        down_RK: R×K, storage dtype.
        scaling: alpha / R.
    """

    base: QuantizedWeight
    up_NR: Tensor
    down_RK: Tensor
    scaling: float

    @property
    def spec(self) -> QuantSpec:
        return self.base.spec

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.base.shape

    @property
    def bits_per_weight(self) -> float:
        """Bytes of all stored tensors, adapter included, times 8 / (N·K)."""
        n, k = self.shape
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values()) * 8 / (n * k)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {**self.base.tensors(), "up_NR": self.up_NR, "down_RK": self.down_RK}

    def codes(self) -> Tensor:
        """Codes of the base: uint8, N×K."""
        return self.base.codes()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK = base + scaling · up @ down, in `dtype`."""
        working = compute_dtype(dtype)
        product_NK = self.up_NR.to(working) @ self.down_RK.to(working)
        return self.base.dequantize(working).add_(product_NK, alpha=self.scaling).to(dtype)

    def to(self, device: torch.device | str) -> "AdaptedWeight":
        """The same weight with its tensors on another device."""
        return replace(self, base=self.base.to(device), up_NR=self.up_NR.to(device), down_RK=self.down_RK.to(device))


@torch.no_grad()
def start_adapter(
    weight_NK: Tensor,
    spec: QuantSpec,
    method: AdapterMethod,
    *,
    rank: int,
    alpha: float | None = None,
    iterations: int = LOFTQ_ITERATIONS,
    seed: int = 0,
) -> AdaptedWeight:
    """The base and the adapter that training starts from, the adapter in the compute dtype.

    Args:
        weight_NK: the weight to fine-tune.
        spec: how the base is quantized.
        method: where the adapter starts.
        rank: R.
        alpha: scaling times R; None is R.
        iterations: alternations of LoftQ; peft's default is 1, the paper's 5.
        seed: of the random `down` of qlora.

    Raises:
        SpecError: unknown method, a rank above min(N, K), or options that are not positive.
        WeightError: the weight cannot be quantized.
    """
    weight_NK = check_weight(weight_NK)
    _check_options(method, rank, min(weight_NK.shape), alpha, iterations)
    scaling = 1.0 if alpha is None else alpha / rank
    working_NK = weight_NK.detach().to(compute_dtype(weight_NK.dtype))
    if method == "qlora":
        base = quantize(weight_NK, spec)
        up_NR, down_RK = _lora_start(working_NK, rank, seed)
    elif method == "loftq":
        base, up_NR, down_RK = _loftq_start(working_NK, spec, rank, iterations)
        up_NR, down_RK = up_NR / scaling**0.5, down_RK / scaling**0.5
    else:
        up_NR, down_RK = principal_factors(working_NK, rank)
        base = quantize(working_NK - up_NR @ down_RK, spec)
        up_NR, down_RK = up_NR / scaling**0.5, down_RK / scaling**0.5
    return AdaptedWeight(base=base, up_NR=up_NR.contiguous(), down_RK=down_RK.contiguous(), scaling=scaling)


def _check_options(method: str, rank: int, largest_rank: int, alpha: float | None, iterations: int) -> None:
    if method not in get_args(AdapterMethod):
        raise SpecError(f"unknown adapter {method!r}; known: {', '.join(get_args(AdapterMethod))}")
    if not 1 <= rank <= largest_rank:
        raise SpecError(f"rank={rank} must be from 1 to {largest_rank}, the smaller side of the weight")
    if alpha is not None and not 0 < alpha < float("inf"):
        raise SpecError(f"alpha={alpha} must be a positive number; leave it out for a scaling of 1")
    if iterations < 1:
        raise SpecError(f"iterations={iterations} must be at least 1; the LoftQ paper uses 5")


def principal_factors(weight_NK: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """U√Σ (N×R) and √ΣVᵀ (R×K) of the R largest singular values: the best approximation of that rank."""
    left_NQ, sigma_Q, right_QK = torch.linalg.svd(weight_NK, full_matrices=False)
    root_R = sigma_Q[:rank].sqrt()
    return left_NQ[:, :rank] * root_R, root_R.unsqueeze(1) * right_QK[:rank]


def _lora_start(weight_NK: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Zero for `up`, and `down` uniform in ±1/√K, which is Kaiming's bound for a = √5, as peft has it."""
    n, k = weight_NK.shape
    generator = torch.Generator().manual_seed(seed)
    down_RK = torch.rand(rank, k, generator=generator, dtype=torch.float32).mul_(2).sub_(1).div_(k**0.5)
    return weight_NK.new_zeros(n, rank), down_RK.to(weight_NK)


def _loftq_start(
    weight_NK: Tensor, spec: QuantSpec, rank: int, iterations: int
) -> tuple[QuantizedWeight, Tensor, Tensor]:
    """LoftQ, algorithm 1: Q and the adapter in turn; the pair that is returned fits the last Q."""
    rest_NK = weight_NK
    for _ in range(iterations):
        base = quantize(rest_NK, spec)
        up_NR, down_RK = principal_factors(weight_NK - base.dequantize(weight_NK.dtype), rank)
        rest_NK = weight_NK - up_NR @ down_RK
    return base, up_NR, down_RK
