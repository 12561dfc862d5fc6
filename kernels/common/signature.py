"""`KernelSignature`: one specialisation of a kernel, enough to compile it for a GPU that is not there."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import triton.language as tl

_POINTER = MappingProxyType(
    {
        torch.float16: "*fp16",
        torch.bfloat16: "*bf16",
        torch.float32: "*fp32",
        torch.int8: "*i8",
        torch.uint8: "*u8",
        torch.int16: "*i16",
        torch.int32: "*i32",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSignature:
    """A kernel with everything that its machine code depends on; `launch` of the same folder runs the same code.

    Attributes:
        kernel: the `@triton.jit` function.
        types: argument name to Triton type (`*bf16`, `i32`, …) for every argument that is no constexpr, in order.
        constexprs: argument name to value.
        divisible_by_16: integer arguments that compile as multiples of 16; pointers always are.
        ones: integer arguments that compile as the constant 1 (strides of contiguous tensors).
        num_warps, num_stages: launch options.
        weights_per_iteration: weights decoded by one program in one turn of its main loop, None without such a loop.
    """

    kernel: Any
    types: Mapping[str, str]
    constexprs: Mapping[str, Any]
    divisible_by_16: frozenset[str]
    ones: frozenset[str] = frozenset()
    num_warps: int
    num_stages: int
    weights_per_iteration: int | None = None


def pointer(dtype: torch.dtype) -> str:
    """Triton's name of a pointer to `dtype`."""
    return _POINTER[dtype]


def triton_dtype(dtype: torch.dtype) -> Any:
    """Triton's dtype object, for a constexpr."""
    return {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}[dtype]


def decode_dtype(dtype: torch.dtype, decoder: str) -> torch.dtype:
    """Dtype that levels are decoded to for results or activations of `dtype`."""
    if decoder != "table" and dtype == torch.float32:
        return torch.bfloat16
    return dtype


def table_pointer(dtype: torch.dtype, decoder: str) -> str:
    """Type of a decoder's table: levels in `dtype` for the portable one, else 32-bit words."""
    return pointer(dtype) if decoder == "table" else "*i32"
