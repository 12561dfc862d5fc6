"""Triton's interpreter with what it lacks: inline PTX (emulated), bfloat16 rounding, arithmetic and dots, loop bounds.

Without `repair`, bfloat16 tensors are multiplied as raw integers, and a cast to bfloat16 cuts the low bits off instead
of rounding to nearest; both silently. Packing follows the last axis, which is
what the layouts on a GPU give the byte decoders; the 16-bit decoders are elementwise and do not care.
"""

from typing import Any

import numpy as np
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle

from lords_bench.emulator.formats import bfloat16_to_float32, float32_to_bfloat16
from lords_bench.emulator.inline import run_block

_UNSIGNED = {8: np.uint8, 16: np.uint16}


class _Results:
    def __init__(self, handles: list[TensorHandle]) -> None:
        self._handles = handles

    def get_result(self, index: int) -> TensorHandle:
        return self._handles[index]


def _to_registers(array: NDArray[Any], bits: int, pack: int) -> list[NDArray[np.uint32]]:
    groups = np.ascontiguousarray(array).reshape(-1, pack)
    if bits == 32:
        return [groups[:, i].copy().view(np.uint32) for i in range(pack)]
    elements = groups.view(_UNSIGNED[bits])
    per_register = 32 // bits
    registers = []
    for first in range(0, pack, per_register):
        register = np.zeros(len(groups), np.uint32)
        for i in range(per_register):
            register |= elements[:, first + i].astype(np.uint32) << np.uint32(bits * i)
        registers.append(register)
    return registers


def _from_registers(registers: list[NDArray[np.uint32]], bits: int) -> NDArray[Any]:
    if bits == 32:
        return np.stack(registers, axis=1).view(np.int32)
    mask = np.uint32((1 << bits) - 1)
    parts = [(register >> np.uint32(bits * i)) & mask for register in registers for i in range(32 // bits)]
    return np.stack(parts, axis=1).astype(_UNSIGNED[bits])


def _inline_asm(
    _self: Any, asm: str, _constraints: str, values: Any, types: Any, _is_pure: bool, pack: int
) -> _Results:
    arrays = np.broadcast_arrays(*[value.data for value in values])
    inputs: list[NDArray[np.uint32]] = []
    for value, array in zip(values, arrays, strict=True):
        inputs += _to_registers(array, value.dtype.scalar.primitive_bitwidth, pack)
    result_types = [kind.scalar for kind in (types if isinstance(types, (list, tuple)) else [types])]
    counts = [pack * kind.primitive_bitwidth // 32 for kind in result_types]
    outputs = run_block(asm, inputs, sum(counts))
    handles = []
    for kind, count in zip(result_types, counts, strict=True):
        mine, outputs = outputs[:count], outputs[count:]
        mine = [np.broadcast_to(register, inputs[0].shape) for register in mine]
        data = _from_registers(mine, kind.primitive_bitwidth)
        if kind == tl.float16:
            data = data.view(np.float16)
        elif kind == tl.int8:
            data = data.view(np.int8)
        handles.append(TensorHandle(data.reshape(arrays[0].shape), kind))
    return _Results(handles)


def _numbers(handle: TensorHandle) -> NDArray[Any]:
    if handle.dtype.scalar == tl.bfloat16:
        return bfloat16_to_float32(handle.data)
    return handle.data


def _dot(_self: Any, a: TensorHandle, b: TensorHandle, d: TensorHandle, *_rest: Any) -> TensorHandle:
    kind = d.data.dtype
    exact = np.int32 if kind.kind == "i" else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        product = _matmul(_numbers(a).astype(exact), _numbers(b).astype(exact))
        return TensorHandle((product + d.data.astype(exact)).astype(kind), d.dtype.scalar)


def _matmul(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """The product, term after term: the bits that a library's matmul gives hang on the processor, shape and address."""
    total = np.zeros((*left.shape[:-1], right.shape[-1]), left.dtype)
    for k in range(left.shape[-1]):
        total += left[..., :, k, None] * right[..., None, k, :]
    return total


def repair() -> None:
    """Install the replacements; calling it twice does no harm."""
    builder = interpreter.InterpreterBuilder
    if getattr(builder, "is_repaired", False):
        return
    plain_binary_op = builder.binary_op

    def binary_op(self: Any, lhs: TensorHandle, rhs: TensorHandle, op: Any) -> TensorHandle:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            if lhs.dtype.scalar != tl.bfloat16:
                return plain_binary_op(self, lhs, rhs, op)
            result = op(_numbers(lhs), _numbers(rhs))
            if result.dtype == np.bool_:
                return TensorHandle(result, tl.int1)
            return TensorHandle(float32_to_bfloat16(result), tl.bfloat16)

    plain_cast, plain_float_cast = builder.cast_impl, builder.create_fp_to_fp

    def cast(self: Any, src: TensorHandle, dst_type: Any) -> TensorHandle:
        if dst_type.scalar == tl.bfloat16 and src.dtype.scalar == tl.float32:
            return TensorHandle(float32_to_bfloat16(src.data), tl.bfloat16)
        with np.errstate(over="ignore"):
            return plain_cast(self, src, dst_type)

    def float_cast(self: Any, src: TensorHandle, dst_type: Any, rounding_mode: Any) -> TensorHandle:
        if dst_type.scalar == tl.bfloat16 and src.dtype.scalar == tl.float32:
            return cast(self, src, dst_type)
        with np.errstate(over="ignore"):
            return plain_float_cast(self, src, dst_type, rounding_mode)

    plain_patch = interpreter._patch_lang_tensor  # noqa: SLF001 - the interpreter has no public seam

    def patch_tensor(tensor: Any, scope: Any) -> None:
        plain_patch(tensor, scope)
        # Triton 3.6 converts an array of one element, which NumPy 2 refuses: `range(0, runtime argument)` fails.
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_tensor  # noqa: SLF001
    builder.cast_impl, builder.create_fp_to_fp = cast, float_cast
    builder.binary_op = binary_op
    builder.create_inline_asm = _inline_asm
    builder.create_dot = _dot
    builder.is_repaired = True
