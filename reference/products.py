"""Products with a packed LoRDS weight and their gradients, in plain PyTorch: the meaning of the kernels.

W_NK = levels[codes_NK] · (B_NR @ A_RK) is never whole in memory: rows are unpacked, scaled and used in panels. Float32
arithmetic, float64 where an argument is float64. Works on any device; on a CPU it is what `ops` runs.

    y_MN  = x_MK @ Wᵀ + bias          dx_MK = dy_MN @ W
    dS_NK = (dyᵀ x) · levels[codes]   dB_NR = dS @ Aᵀ    dA_RK = Bᵀ @ dS
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lords_bench.reference.packing import unpack_codes
from lords_bench.reference.panels import compute_dtype, row_panels


def matmul(
    x_MK: Tensor,
    packed: Tensor,
    b_NR: Tensor,
    a_RK: Tensor,
    levels_L: Tensor,
    bits: int,
    *,
    bias_N: Tensor | None = None,
) -> Tensor:
    """y_MN in the dtype of x, rounded once from the compute dtype.

    `packed` is int16 (N, K blocks, planes, 16), as `packing.pack_codes` gives it; `levels_L` has 2^bits levels.
    """
    dtype = compute_dtype(x_MK.dtype)
    x = x_MK.to(dtype)
    y_MN = torch.empty(x.shape[0], packed.shape[0], dtype=dtype, device=x.device)
    for panel, level_PK in _level_panels(packed, levels_L, bits, a_RK.shape[1], dtype):
        w_PK = level_PK.mul_(b_NR[panel].to(dtype) @ a_RK.to(dtype))
        torch.mm(x, w_PK.t(), out=y_MN[:, panel])
    if bias_N is not None:
        y_MN += bias_N.to(dtype)
    return y_MN.to(x_MK.dtype)


def matmul_grad_input(dy_MN: Tensor, packed: Tensor, b_NR: Tensor, a_RK: Tensor, levels_L: Tensor, bits: int) -> Tensor:
    """dx_MK in the dtype of dy."""
    dtype = compute_dtype(dy_MN.dtype)
    dy = dy_MN.to(dtype)
    dx_MK = torch.zeros(dy.shape[0], a_RK.shape[1], dtype=dtype, device=dy.device)
    for panel, level_PK in _level_panels(packed, levels_L, bits, a_RK.shape[1], dtype):
        dx_MK.addmm_(dy[:, panel], level_PK.mul_(b_NR[panel].to(dtype) @ a_RK.to(dtype)))
    return dx_MK.to(dy_MN.dtype)


def matmul_grad_factors(
    dy_MN: Tensor, x_MK: Tensor, packed: Tensor, b_NR: Tensor, a_RK: Tensor, levels_L: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """dB_NR and dA_RK in the dtypes of B and A. dS exists one panel at a time."""
    dtype = compute_dtype(dy_MN.dtype)
    dy, x, a = dy_MN.to(dtype), x_MK.to(dtype), a_RK.to(dtype)
    db_NR = torch.empty(b_NR.shape, dtype=dtype, device=dy.device)
    da_RK = torch.zeros(a_RK.shape, dtype=dtype, device=dy.device)
    for panel, level_PK in _level_panels(packed, levels_L, bits, a_RK.shape[1], dtype):
        ds_PK = level_PK.mul_(dy[:, panel].t() @ x)
        torch.mm(ds_PK, a.t(), out=db_NR[panel])
        da_RK.addmm_(b_NR[panel].to(dtype).t(), ds_PK)
    return db_NR.to(b_NR.dtype), da_RK.to(a_RK.dtype)


def _level_panels(
    packed: Tensor, levels_L: Tensor, bits: int, k: int, dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """Row slices and levels[codes] of those rows, each a fresh tensor."""
    levels = levels_L.to(dtype)
    for panel in row_panels(packed.shape[0], k, packed.device):
        yield panel, levels[unpack_codes(packed[panel], bits, k).int()]
