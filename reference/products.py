"""Products with a packed LoRDS weight and their gradients, in plain PyTorch: the meaning of the kernels.

W_NK = levels[codes_NK] · (B_NR @ A_RK) is never whole in memory on a CPU: rows are unpacked, scaled and used in groups
of at most 4 MiB, large enough that a group's product costs what it does within the whole, and neither is dS. Float32
arithmetic, float64 where an argument is float64. Works on any device; on a CPU it is what `ops` runs.

    y_MN  = x_MK @ Wᵀ + bias          dx_MK = dy_MN @ W
    dS_NK = (dyᵀ x) · levels[codes]   dB_NR = dS @ Aᵀ    dA_RK = Bᵀ @ dS
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lords_bench.reference.packing import unpack_codes
from lords_bench.reference.panels import PANEL_ELEMENTS_GPU, compute_dtype, row_panels

# On a CPU, products with the 20 rows at a time that stay in the nearest cache take twice as long (measured, one core).
GROUP_ELEMENTS_CPU = 1 << 20


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
    for group, level_GK in _level_groups(packed, levels_L, bits, a_RK.shape[1], dtype):
        w_GK = level_GK.mul_(b_NR[group].to(dtype) @ a_RK.to(dtype))
        torch.mm(x, w_GK.t(), out=y_MN[:, group])
    if bias_N is not None:
        y_MN += bias_N.to(dtype)
    return y_MN.to(x_MK.dtype)


def matmul_grad_input(dy_MN: Tensor, packed: Tensor, b_NR: Tensor, a_RK: Tensor, levels_L: Tensor, bits: int) -> Tensor:
    """dx_MK in the dtype of dy."""
    dtype = compute_dtype(dy_MN.dtype)
    dy = dy_MN.to(dtype)
    dx_MK = torch.zeros(dy.shape[0], a_RK.shape[1], dtype=dtype, device=dy.device)
    for group, level_GK in _level_groups(packed, levels_L, bits, a_RK.shape[1], dtype):
        dx_MK.addmm_(dy[:, group], level_GK.mul_(b_NR[group].to(dtype) @ a_RK.to(dtype)))
    return dx_MK.to(dy_MN.dtype)


def matmul_grad_factors(
    dy_MN: Tensor, x_MK: Tensor, packed: Tensor, b_NR: Tensor, a_RK: Tensor, levels_L: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """dB_NR and dA_RK in the dtypes of B and A. dS exists one group of rows at a time."""
    dtype = compute_dtype(dy_MN.dtype)
    dy, x, a = dy_MN.to(dtype), x_MK.to(dtype), a_RK.to(dtype)
    db_NR = torch.empty(b_NR.shape, dtype=dtype, device=dy.device)
    da_RK = torch.zeros(a_RK.shape, dtype=dtype, device=dy.device)
    for group, level_GK in _level_groups(packed, levels_L, bits, a_RK.shape[1], dtype):
        ds_GK = level_GK.mul_(dy[:, group].t() @ x)
        torch.mm(ds_GK, a.t(), out=db_NR[group])
        da_RK.addmm_(b_NR[group].to(dtype).t(), ds_GK)
    return db_NR.to(b_NR.dtype), da_RK.to(a_RK.dtype)


def _level_groups(
    packed: Tensor, levels_L: Tensor, bits: int, k: int, dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """Row slices and levels[codes] of those rows, each a fresh tensor."""
    levels, n = levels_L.to(dtype), packed.shape[0]
    rows = max(1, (PANEL_ELEMENTS_GPU if packed.is_cuda else GROUP_ELEMENTS_CPU) // k)
    for first in range(0, n, rows):
        group = slice(first, min(first + rows, n))
        codes_GK = unpack_codes(packed[group], bits, k)
        level_GK = torch.empty(codes_GK.shape, dtype=dtype, device=packed.device)
        for panel in row_panels(*_shape(codes_GK), packed.device):
            torch.index_select(levels, 0, codes_GK[panel].flatten().int(), out=level_GK[panel].view(-1))
        yield group, level_GK


def _shape(matrix_NK: Tensor) -> tuple[int, int]:
    n, k = matrix_NK.shape
    return n, k
