"""Launch of the fake-quantize kernel."""

from dataclasses import dataclass

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import gpu_of
from lords_bench.kernels.fake_quantize.kernel import INSIDE_FLAG, fake_quantize_kernel
from lords_bench.kernels.fake_quantize.space import FakeQuantizeConfig, default_config


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FakeQuantized:
    """Ŵ, and per weight one byte with its code and its straight-through mask."""

    weight_NK: torch.Tensor
    flagged_codes_NK: torch.Tensor

    @property
    def codes_NK(self) -> torch.Tensor:
        """uint8 codes."""
        return self.flagged_codes_NK & (INSIDE_FLAG.value - 1)

    @property
    def inside_NK(self) -> torch.Tensor:
        """Where W/S lies between the lowest and the highest level."""
        return self.flagged_codes_NK >= INSIDE_FLAG.value


def launch(
    weight_NK: torch.Tensor,
    b_NR: torch.Tensor,
    a_RK: torch.Tensor,
    levels_L: torch.Tensor,
    *,
    config: FakeQuantizeConfig | None = None,
    out: FakeQuantized | None = None,
) -> FakeQuantized:
    """Ŵ = (B A) · nearest level of W/(B A), in the dtype of W.

    Args:
        weight_NK: float, last dimension contiguous.
        b_NR: factor B, of any rank.
        a_RK: factor A, of the same dtype.
        levels_L: 2 to 16 sorted float32 levels.
        config: None is the default.
        out: contiguous tensors to write to; None allocates them.

    Raises:
        UsageError: shapes, strides or levels that do not fit.
    """
    n, k = weight_NK.shape
    if b_NR.shape[0] != n or a_RK.shape[1] != k or b_NR.shape[1] != a_RK.shape[0]:
        raise UsageError(f"B {tuple(b_NR.shape)} and A {tuple(a_RK.shape)} do not fit a {n}×{k} weight")
    if not 2 <= levels_L.numel() <= 16:
        raise UsageError(f"{levels_L.numel()} levels; give 2 to 16")
    if k > 1 and weight_NK.stride(1) != 1:
        raise UsageError(f"weight has strides {weight_NK.stride()}; its last dimension must be contiguous")
    if out is None:
        out = FakeQuantized(
            weight_NK=torch.empty(n, k, dtype=weight_NK.dtype, device=weight_NK.device),
            flagged_codes_NK=torch.empty(n, k, dtype=torch.uint8, device=weight_NK.device),
        )
    if weight_NK.numel() == 0:
        return out
    config = config or default_config(gpu=gpu_of(weight_NK.device))
    fake_quantize_kernel[(triton.cdiv(n, config.block_n), triton.cdiv(k, config.block_k))](
        weight_NK, a_RK.contiguous(), b_NR.contiguous(), levels_L.float().contiguous(), out.weight_NK,
        out.flagged_codes_NK, n, k, b_NR.shape[1], weight_NK.stride(0),
        BLOCK_N=config.block_n, BLOCK_K=config.block_k, LEVELS=levels_L.numel(),
        EVEN_N=n % config.block_n == 0, num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return out
