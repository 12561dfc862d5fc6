"""`Support`: whether a kernel takes a problem, and if not why, in words for the user."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import is_compiled_on

if TYPE_CHECKING:
    from lords_bench.kernels.common.operands import LevelTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """Answer of a kernel's `supports`; `reason` is empty where `ok`."""

    ok: bool
    reason: str = ""


YES = Support(ok=True)


def no(reason: str) -> Support:
    return Support(ok=False, reason=reason)


def activation_support(dtype: torch.dtype, levels: "LevelTable") -> Support:
    """Activations of the dtype that the weight was prepared for; float32 through the portable decoder only."""
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return no(f"activations are {dtype}; use float16, bfloat16 or float32")
    if dtype == torch.float32 and levels.decoder != "table":
        return no(f"decoder {levels.decoder!r} has no float32 operands; use decoder 'table'")
    if dtype != levels.dtype:
        return no(f"activations are {dtype}, but the weight was prepared for {levels.dtype}; prepare it for {dtype}")
    return YES


def tensor_core_support(dtype: torch.dtype, levels: "LevelTable", device: torch.device) -> Support:
    """As `activation_support`; float32 activations in the interpreter only."""
    if dtype == torch.float32 and is_compiled_on(device):
        return no("float32 products have no tensor core to run on; use dequantize and a dense matmul")
    return activation_support(dtype, levels)


def require_tile(block_m: int, block_n: int, num_warps: int) -> None:
    """Refuses a GEMM tile whose warps would decode the same weights twice.

    Raises:
        UsageError: with the sizes and what they need.
    """
    if block_n < 16 * num_warps or block_n < block_m:
        raise UsageError(
            f"block_n {block_n} needs at least 16 rows per warp ({num_warps} warps) and block_m {block_m}; raise it"
        )


def require_matrix(x: torch.Tensor, columns: int, device: torch.device, *, name: str = "x") -> None:
    """Refuses activations that no launch could take: not two-dimensional, of another width, or on another device.

    Raises:
        UsageError: one line with the shape or device and what was expected.
    """
    if x.dim() != 2 or x.shape[1] != columns:
        raise UsageError(f"{name} has shape {tuple(x.shape)}; the weight takes (tokens, {columns})")
    if x.device != device:
        raise UsageError(f"{name} is on {x.device}, the weight on {device}; move one of them")


def require_fp16_scale(scale_in_fp16: bool, x: torch.Tensor, factor: torch.Tensor) -> None:
    """Refuses fp16 accumulation of S for anything but float16 activations and factors.

    Raises:
        UsageError: naming both dtypes.
    """
    if scale_in_fp16 and (x.dtype != torch.float16 or factor.dtype != torch.float16):
        raise UsageError(
            f"scale_in_fp16 needs float16 activations and factors, not {x.dtype} and {factor.dtype}; turn it off"
        )
