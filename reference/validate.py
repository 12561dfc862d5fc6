"""What a weight and its per-input weights must be before anything is fitted to them."""

import torch
from torch import Tensor

from lords_bench.errors import WeightError

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_weight(weight_NK: Tensor) -> Tensor:
    """The weight itself, detached from any graph, if it can be quantized.

    Args:
        weight_NK: candidate weight.

    Raises:
        WeightError: not a dense two-dimensional float tensor with data, empty or non-finite.
    """
    if not isinstance(weight_NK, Tensor):
        raise WeightError(f"weight is a {type(weight_NK).__name__}; give a torch tensor of shape (N, K)")
    if weight_NK.ndim != 2:
        raise WeightError(f"weight has shape {tuple(weight_NK.shape)}; give two dimensions (out features, in features)")
    if weight_NK.numel() == 0:
        raise WeightError(f"weight of shape {tuple(weight_NK.shape)} is empty; leave this layer out")
    if weight_NK.dtype not in FLOAT_DTYPES:
        offered = ", ".join(_name(dtype) for dtype in FLOAT_DTYPES)
        raise WeightError(f"weight has dtype {_name(weight_NK.dtype)}; convert it to one of {offered}")
    if weight_NK.layout != torch.strided or weight_NK.is_meta:
        kind = "on the meta device" if weight_NK.is_meta else f"in {weight_NK.layout} layout"
        raise WeightError(f"weight is {kind}; give a dense tensor with data")
    weight_NK = weight_NK.detach()
    finite_NK = torch.isfinite(weight_NK)
    if not bool(finite_NK.all()):
        row, column = (~finite_NK).nonzero()[0].tolist()
        count = int((~finite_NK).sum())
        value = float(weight_NK[row, column])
        raise WeightError(f"weight has {count} non-finite values, the first {value} at [{row}, {column}]; repair them")
    return weight_NK


def check_input_weight(input_weight_K: Tensor, k: int) -> Tensor:
    """Per-input weights of the squared error, scaled to a mean of 1 (only their ratios matter).

    Raises:
        WeightError: not K finite, non-negative floats, or all zero.
    """
    shape = tuple(input_weight_K.shape)
    if shape != (k,):
        raise WeightError(f"input_weight_K has shape {shape}; give one number per in feature ({k})")
    if input_weight_K.dtype not in FLOAT_DTYPES:
        raise WeightError(f"input_weight_K has dtype {_name(input_weight_K.dtype)}; convert it to float32")
    wide_K = input_weight_K.detach().to(torch.float64)
    if not bool(torch.isfinite(wide_K).all()) or float(wide_K.min()) < 0.0:
        lowest, highest = (float(value) for value in wide_K.aminmax())
        raise WeightError(f"input_weight_K goes from {lowest} to {highest}; give finite numbers, none negative")
    mean = float(wide_K.mean())
    if mean == 0.0:
        raise WeightError("input_weight_K is all zero; leave it out to weigh all inputs alike")
    return wide_K / mean


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
